// SPDX-License-Identifier: Apache-2.0
//
// Every rule for an argument, one row each: the status, the argument's name in the error text, and
// nothing written, neither to the tensor at fault (the last) nor to the good ones before it.
#include "adamw_scenario.hpp"

namespace steepest_test {
namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();
template <class Real>
class bad_input : public testing::Test {};
using types = testing::Types<float, double>;
TYPED_TEST_SUITE(bad_input, types);

TYPED_TEST(bad_input, the_call_is_valid_unspoiled) {
  scenario<TypeParam> call;
  const auto before = call.arrays;
  EXPECT_OK(call.run());
  EXPECT_EQ(call.skipped, 0);
  EXPECT_FALSE(same_bits(call.arrays, before));
}

TYPED_TEST(bad_input, pointers) {
  using call = scenario<TypeParam>;
  std::vector<bad_row<TypeParam>> rows = {
      {STEEPEST_E_INVALID_ARGUMENT, "tensors", [](call& c) { c.call_tensors = nullptr; }},
      {STEEPEST_E_INVALID_ARGUMENT, "config", [](call& c) { c.call_config = nullptr; }},
      {STEEPEST_E_INVALID_ARGUMENT, "tensors[2].grad", [](call& c) { c.last().grad = nullptr; }},
      {STEEPEST_E_INVALID_ARGUMENT, "tensors[2].grad",
       [](call& c) { c.last().grad = static_cast<const char*>(c.last().grad) + 1; }},
      {STEEPEST_E_SHAPE, "tensors[2].grad",
       [](call& c) { c.last().grad = reinterpret_cast<void*>(UINTPTR_MAX - 39); }},
  };
  for (const auto& [name, member] : written_buffers) {
    const std::string argument = std::string("tensors[2].") + name;
    const auto with = [buffer = member](void* (*change)(void*)) {
      return [buffer, change](call& c) {
        c.config.flags = all_buffers;
        c.last().*buffer = change(c.last().*buffer);
      };
    };
    rows.push_back(
        {STEEPEST_E_INVALID_ARGUMENT, argument, with([](void*) -> void* { return nullptr; })});
    rows.push_back({STEEPEST_E_INVALID_ARGUMENT, argument, with([](void* p) -> void* {
                      return static_cast<char*>(p) + sizeof(TypeParam) / 2;
                    })});
    rows.push_back({STEEPEST_E_SHAPE, argument, with([](void*) -> void* {
                      return reinterpret_cast<void*>(UINTPTR_MAX - 39);
                    })});
  }
  check_rows(rows);
}

TYPED_TEST(bad_input, counts) {
  using call = scenario<TypeParam>;
  std::vector<bad_row<TypeParam>> rows;
  for (const std::int64_t count : {std::int64_t{-1}, INT64_MIN, INT64_MAX, INT64_MAX - 1}) {
    rows.push_back(
        {STEEPEST_E_SHAPE, "tensors[2].count", [count](call& c) { c.last().count = count; }});
    rows.push_back({STEEPEST_E_SHAPE, "count", [count](call& c) { c.call_count = count; }});
  }
  // Each for itself would fit.
  constexpr std::int64_t most = INT64_MAX / sizeof(TypeParam);
  constexpr std::size_t too_many = sizeof(TypeParam) + 1;
  rows.push_back(
      {STEEPEST_E_SHAPE, "tensors[" + std::to_string(too_many - 1) + "].count", [](call& c) {
         c.last().count = most;
         c.tensors.assign(too_many, c.last());
         c.call_tensors = c.tensors.data();
         c.call_count = too_many;
         c.stats.assign(too_many, STEEPEST_STEP_STATS_INIT);
       }});
  check_rows(rows);
}

TYPED_TEST(bad_input, element_types) {
  using call = scenario<TypeParam>;
  using member = steepest_dtype steepest_adamw_tensor::*;
  const std::pair<const char*, member> members[] = {
      {"param_dtype", &steepest_adamw_tensor::param_dtype},
      {"grad_dtype", &steepest_adamw_tensor::grad_dtype},
      {"exp_avg_dtype", &steepest_adamw_tensor::exp_avg_dtype},
      {"exp_avg_sq_dtype", &steepest_adamw_tensor::exp_avg_sq_dtype},
      {"delta_dtype", &steepest_adamw_tensor::delta_dtype},
  };
  constexpr steepest_dtype other = sizeof(TypeParam) == 4 ? STEEPEST_F64 : STEEPEST_F32;
  std::vector<bad_row<TypeParam>> rows;
  for (const auto& [name, which] : members) {
    for (const steepest_dtype dtype :
         {STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED, 0, 7, -1, INT32_MAX, INT32_MIN}) {
      // The moments may have these: see narrow_storage.
      const bool moment = std::strncmp(name, "exp_avg", 7) == 0;
      if (moment && sizeof(TypeParam) == 4 &&
          (dtype == STEEPEST_Q8_DYNAMIC || dtype == STEEPEST_Q8_COMPANDED))
        continue;
      rows.push_back(
          {STEEPEST_E_DTYPE, std::string("tensors[2].") + name, [field = which, dtype](call& c) {
             c.config.flags = all_buffers;
             c.last().*field = dtype;
           }});
    }
    // A mix names one of the types that differ from the rest.
    rows.push_back({STEEPEST_E_DTYPE, "tensors[2]", [field = which](call& c) {
                      c.config.flags = all_buffers;
                      c.last().*field = other;
                    }});
  }
  check_rows(rows);
}

TYPED_TEST(bad_input, hyper_parameters) {
  using call = scenario<TypeParam>;
  using member = double steepest_adamw_config::*;
  struct rule {
    const char* name;
    member which;
    std::vector<double> bad;
  };
  const double above_one = std::nextafter(1.0, 2.0);
  const std::vector<double> not_negative{-1, -1e-300, not_a_number, infinity, -infinity};
  const std::vector<double> fraction{1, above_one, -1e-300, not_a_number, infinity, -infinity};
  const rule rules[] = {
      {"lr", &steepest_adamw_config::lr, not_negative},
      {"beta1", &steepest_adamw_config::beta1, fraction},
      {"beta2", &steepest_adamw_config::beta2, fraction},
      {"eps", &steepest_adamw_config::eps, not_negative},
      {"weight_decay", &steepest_adamw_config::weight_decay, not_negative},
      {"grad_scale", &steepest_adamw_config::grad_scale, {not_a_number, infinity, -infinity}},
  };
  std::vector<bad_row<TypeParam>> rows;
  const auto add = [&](const std::string& name, steepest_status status,
                       std::function<void(steepest_adamw_config&)> change) {
    rows.push_back({status, "config." + name, [change](call& c) { change(c.config); }});
    rows.push_back(
        {status, "tensors[1].config." + name, [change](call& c) { change(c.own_config); }});
  };
  for (const rule& r : rules) {
    for (const double value : r.bad) {
      add(r.name, STEEPEST_E_INVALID_ARGUMENT,
          [which = r.which, value](steepest_adamw_config& c) { c.*which = value; });
    }
  }
  for (const std::int64_t step : {std::int64_t{0}, std::int64_t{-5}, INT64_MIN}) {
    add("step", STEEPEST_E_INVALID_ARGUMENT, [step](auto& c) { c.step = step; });
  }
  for (const int bit : {7, 31, 33, 63}) {
    add("flags", STEEPEST_E_UNSUPPORTED, [bit](auto& c) { c.flags = std::uint64_t{1} << bit; });
  }
  add("flags", STEEPEST_E_INVALID_ARGUMENT,
      [](auto& c) { c.flags = STEEPEST_ADAMW_COUPLED_L2 | STEEPEST_ADAMW_CAUTIOUS_DECAY; });
  check_rows(rows);
}

TYPED_TEST(bad_input, reserved) {
  using call = scenario<TypeParam>;
  check_rows<TypeParam>({{STEEPEST_E_INVALID_ARGUMENT, "tensors[2].reserved",
                          [](call& c) { c.last().reserved = 1; }}});
}

// A valid tensor with everything that is narrow, and rows that spoil it.
struct narrow_call {
  alignas(64) unsigned char residual[128] = {}, copy[128] = {}, m_scales[64] = {},
                            v_scales[64] = {};
};

TEST(bad_input, narrow_storage) {
  using call = scenario<float>;
  static narrow_call memory;
  const auto narrow = [](call& c) {
    steepest_adamw_tensor& x = c.last();
    x.param_dtype = STEEPEST_BF16;
    x.residual_kind = STEEPEST_RESIDUAL_LOW16;
    x.residual = memory.residual;
    x.param_copy = memory.copy;
    x.exp_avg_dtype = STEEPEST_Q8_DYNAMIC;
    x.exp_avg_sq_dtype = STEEPEST_Q8_COMPANDED;
    x.exp_avg_scales = memory.m_scales;
    x.exp_avg_sq_scales = memory.v_scales;
  };
  std::vector<bad_row<float>> rows;
  const auto add = [&](steepest_status status, const char* argument,
                       std::function<void(call&, steepest_adamw_tensor&)> spoil) {
    rows.push_back({status, std::string("tensors[2]") + argument, [narrow, spoil](call& c) {
                      narrow(c);
                      spoil(c, c.last());
                    }});
  };
  const auto shifted = [](void* p, int bytes) -> void* { return static_cast<char*>(p) + bytes; };
  const auto outside = reinterpret_cast<void*>(UINTPTR_MAX - 7);
  for (const std::int32_t kind : {-1, 5, INT32_MAX, INT32_MIN})
    add(STEEPEST_E_INVALID_ARGUMENT, ".residual_kind",
        [=](auto&, auto& x) { x.residual_kind = kind; });
  for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F16})
    add(STEEPEST_E_DTYPE, ".param_dtype", [=](auto&, auto& x) { x.param_dtype = dtype; });
  add(STEEPEST_E_DTYPE, ".param_dtype", [](auto&, auto& x) {
    x.param_dtype = STEEPEST_F32;
    x.residual_kind = STEEPEST_RESIDUAL_KAHAN;
  });
  for (const steepest_dtype dtype : {STEEPEST_F64, STEEPEST_Q8_DYNAMIC, 0, 7, -1})
    add(STEEPEST_E_DTYPE, ".param_copy_dtype", [=](auto&, auto& x) { x.param_copy_dtype = dtype; });
  add(STEEPEST_E_INVALID_ARGUMENT, ".residual", [](auto&, auto& x) { x.residual = nullptr; });
  add(STEEPEST_E_INVALID_ARGUMENT, ".residual",
      [=](auto&, auto& x) { x.residual = shifted(x.residual, 1); });
  add(STEEPEST_E_INVALID_ARGUMENT, ".param_copy",
      [=](auto&, auto& x) { x.param_copy = shifted(x.param_copy, 1); });
  add(STEEPEST_E_INVALID_ARGUMENT, ".exp_avg_scales",
      [](auto&, auto& x) { x.exp_avg_scales = nullptr; });
  add(STEEPEST_E_INVALID_ARGUMENT, ".exp_avg_scales",
      [=](auto&, auto& x) { x.exp_avg_scales = shifted(x.exp_avg_scales, 2); });
  add(STEEPEST_E_INVALID_ARGUMENT, ".exp_avg_sq_scales",
      [](auto&, auto& x) { x.exp_avg_sq_scales = nullptr; });
  add(STEEPEST_E_INVALID_ARGUMENT, ".exp_avg_sq_scales",
      [=](auto&, auto& x) { x.exp_avg_sq_scales = shifted(x.exp_avg_sq_scales, 1); });
  using buffer = void* steepest_adamw_tensor::*;
  const std::pair<const char*, buffer> buffers[] = {
      {".residual", &steepest_adamw_tensor::residual},
      {".param_copy", &steepest_adamw_tensor::param_copy},
      {".exp_avg_sq_scales", &steepest_adamw_tensor::exp_avg_sq_scales}};
  for (const auto& [name, member] : buffers) {
    add(STEEPEST_E_SHAPE, name,
        [=, which = member](auto&, auto& x) { x.*which = shifted(outside, 6); });
    // What this tensor, or another, has already.
    for (const buffer other : {&steepest_adamw_tensor::param, &steepest_adamw_tensor::exp_avg,
                               &steepest_adamw_tensor::exp_avg_scales}) {
      add(STEEPEST_E_INVALID_ARGUMENT, "",
          [=, which = member](auto&, auto& x) { x.*which = x.*other; });
    }
  }
  add(STEEPEST_E_INVALID_ARGUMENT, ".residual_kind",
      [](call& c, auto&) { c.config.flags = STEEPEST_ADAMW_EMIT_DELTA; });
  add(STEEPEST_E_INVALID_ARGUMENT, ".param_copy", [](call& c, auto& x) {
    c.config.flags = STEEPEST_ADAMW_EMIT_DELTA;
    x.residual_kind = STEEPEST_RESIDUAL_NONE;
  });
  for (const steepest_dtype dtype : {STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED})
    add(STEEPEST_E_UNSUPPORTED, ".exp_avg_sq_dtype", [=](call& c, auto& x) {
      c.config.flags = STEEPEST_ADAMW_AMSGRAD;
      x.exp_avg_sq_dtype = dtype;
    });
  for (const std::int64_t index : {std::int64_t{-1}, INT64_MIN, INT64_MAX, INT64_MAX - 39})
    add(STEEPEST_E_SHAPE, ".first_index", [=](auto&, auto& x) { x.first_index = index; });
  check_rows(rows);
  const narrow_call untouched;
  EXPECT_EQ(std::memcmp(&memory, &untouched, sizeof(memory)), 0);

  call c;
  narrow(c);
  c.last().first_index = INT64_MAX - 40;
  EXPECT_OK(c.run());
  EXPECT_NE(std::memcmp(&memory, &untouched, sizeof(memory)), 0);
}

TEST(bad_input, nothing_narrow_beside_f64) {
  using call = scenario<double>;
  static narrow_call memory;
  check_rows<double>({{STEEPEST_E_DTYPE, "tensors[2].param_dtype",
                       [](call& c) {
                         c.last().residual_kind = STEEPEST_RESIDUAL_LOW16;
                         c.last().residual = memory.residual;
                       }},
                      {STEEPEST_E_DTYPE, "tensors[2].param_copy_dtype",
                       [](call& c) { c.last().param_copy = memory.copy; }},
                      {STEEPEST_E_DTYPE, "tensors[2].param_copy is set",
                       [](call& c) {
                         c.last().param_copy = memory.copy;
                         c.last().param_copy_dtype = STEEPEST_F64;
                       }},
                      {STEEPEST_E_DTYPE, "tensors[2].exp_avg_dtype", [](call& c) {
                         c.last().exp_avg_dtype = STEEPEST_Q8_DYNAMIC;
                         c.last().exp_avg_scales = memory.m_scales;
                       }}});
}

// What the arithmetic's type cannot hold would make NaN of zero gradients.
TEST(bad_input, hyper_parameters_beyond_f32) {
  using member = double steepest_adamw_config::*;
  for (const member which : {&steepest_adamw_config::lr, &steepest_adamw_config::eps,
                             &steepest_adamw_config::grad_scale}) {
    scenario<float> narrow;
    narrow.config.*which = 1e100;
    const auto before = narrow.arrays;
    EXPECT_EQ(narrow.run(), STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_TRUE(same_bits(narrow.arrays, before));
    EXPECT_EQ(narrow.skipped, -7);
    scenario<double> wide;
    wide.config.*which = 1e100;
    EXPECT_OK(wide.run());
  }
}

TYPED_TEST(bad_input, what_is_allowed) {
  using call = scenario<TypeParam>;
  const std::function<void(call&)> rows[] = {
      [](call& c) { c.tensors[2].grad = c.tensors[0].grad; },
      [](call& c) { c.tensors[2].grad = static_cast<const TypeParam*>(c.tensors[0].grad) + 3; },
      [](call& c) {  // neither flag: these are not looked at
        c.last().delta = c.last().param;
        c.last().max_exp_avg_sq = reinterpret_cast<void*>(7);
        c.last().delta_dtype = 99;
      },
      [](call& c) {  // param is only read
        c.config.flags = STEEPEST_ADAMW_EMIT_DELTA;
        c.tensors[2].param = c.tensors[0].param;
      },
      [](call& c) { c.last() = STEEPEST_ADAMW_TENSOR_INIT; },  // no elements
      [](call& c) { c.config.grad_scale = -0.0; },
      [](call& c) { c.config.lr = c.config.eps = c.config.weight_decay = 0; },
      [](call& c) { c.config.beta1 = c.config.beta2 = 0; },
      [](call& c) {
        c.call_config = nullptr;
        for (auto& tensor : c.tensors) tensor.config = &c.own_config;
      },
      [](call& c) {
        c.call_config = nullptr;
        c.call_tensors = nullptr;
        c.call_count = 0;
      },
      [](call& c) { c.config.seed = UINT64_MAX; },
  };
  int number = 0;
  for (const auto& change : rows) {
    call c;
    change(c);
    EXPECT_OK(c.run()) << "row " << number;
    ++number;
  }
}

TEST(bad_input, reads_like_a_sentence) {
  scenario<float> c;
  c.last().exp_avg = nullptr;
  EXPECT_EQ(c.run(), STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_STREQ(steepest_last_error(), "adamw_step: tensors[2].exp_avg is null (count = 40)");
}

TEST(bad_input, grad_norm) {
  const double values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  struct row {
    steepest_status status;
    const char* argument;
    void (*spoil)(steepest_vector&);
  };
  const row rows[] = {
      {STEEPEST_E_INVALID_ARGUMENT, "vectors[1].data", [](auto& v) { v.data = nullptr; }},
      {STEEPEST_E_INVALID_ARGUMENT, "vectors[1].data",
       [](auto& v) { v.data = static_cast<const char*>(v.data) + 4; }},
      {STEEPEST_E_SHAPE, "vectors[1].data",
       [](auto& v) { v.data = reinterpret_cast<const void*>(UINTPTR_MAX - 31); }},
      {STEEPEST_E_SHAPE, "vectors[1].count", [](auto& v) { v.count = -1; }},
      {STEEPEST_E_SHAPE, "vectors[1].count", [](auto& v) { v.count = INT64_MIN; }},
      {STEEPEST_E_SHAPE, "vectors[1].count", [](auto& v) { v.count = INT64_MAX; }},
      {STEEPEST_E_DTYPE, "vectors[1].dtype", [](auto& v) { v.dtype = STEEPEST_Q8_DYNAMIC; }},
      {STEEPEST_E_DTYPE, "vectors[1].dtype", [](auto& v) { v.dtype = 0; }},
      {STEEPEST_E_DTYPE, "vectors[1].dtype", [](auto& v) { v.dtype = -1; }},
      {STEEPEST_E_INVALID_ARGUMENT, "vectors[1].reserved", [](auto& v) { v.reserved = 1; }},
  };
  const auto refuse = [](const steepest_vector* vectors, std::int64_t count, steepest_status status,
                         const std::string& argument) {
    double norm = -7;
    std::int64_t nonfinite = -7;
    EXPECT_EQ(steepest_grad_norm(nullptr, vectors, count, &norm, &nonfinite), status) << argument;
    EXPECT_EQ(std::string(steepest_last_error()).rfind("grad_norm: " + argument, 0), 0u)
        << steepest_last_error();
    EXPECT_EQ(norm, -7);
    EXPECT_EQ(nonfinite, -7);
  };
  steepest_vector good = STEEPEST_VECTOR_INIT;
  good.count = 8;
  good.data = values;
  good.dtype = STEEPEST_F64;
  for (const row& r : rows) {
    steepest_vector vectors[] = {good, good};
    r.spoil(vectors[1]);
    refuse(vectors, 2, r.status, r.argument);
  }
  refuse(nullptr, 1, STEEPEST_E_INVALID_ARGUMENT, "vectors");
  refuse(&good, -1, STEEPEST_E_SHAPE, "count");
  refuse(&good, INT64_MAX, STEEPEST_E_SHAPE, "count");
}

}  // namespace
}  // namespace steepest_test
