// SPDX-License-Identifier: Apache-2.0
//
// Every rule for an argument, one row each: the status, the argument's name in the error text, and
// nothing written, neither to the tensor at fault (the last) nor to the good ones before it.
#include <functional>
#include <regex>

#include "adamw_support.hpp"

namespace steepest_test {
namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr std::size_t tensor_count = 3;
constexpr std::size_t element_count = 40;

// A valid call on three tensors, which a row then spoils.
template <class Real>
struct scenario {
  adamw_arrays<Real> arrays;
  steepest_adamw_config config = make_config(), own_config = make_config();
  std::vector<steepest_adamw_tensor> tensors;
  std::vector<steepest_step_stats> stats;
  const steepest_adamw_config* call_config = &config;
  const steepest_adamw_tensor* call_tensors = nullptr;
  std::int64_t call_count = tensor_count;
  std::int32_t skipped = -7;

  scenario() {
    random_source random(111);
    // The space after the last tensor is for rows that shift its buffers.
    arrays = random_arrays<Real>(random, (tensor_count + 1) * element_count, true);
    for (std::size_t i = 0; i < tensor_count; ++i) {
      tensors.push_back(make_tensor(arrays, i * element_count, element_count));
    }
    stats.assign(tensor_count, STEEPEST_STEP_STATS_INIT);
    config.skipped = own_config.skipped = &skipped;
    tensors[1].config = &own_config;
    call_tensors = tensors.data();
  }
  scenario(const scenario&) = delete;
  scenario& operator=(const scenario&) = delete;

  steepest_adamw_tensor& last() { return tensors.back(); }
  steepest_status run() {
    return steepest_adamw_step(nullptr, call_config, call_tensors, call_count, stats.data());
  }
};

template <class Real>
struct bad_row {
  steepest_status status;
  std::string argument;
  std::function<void(scenario<Real>&)> spoil;
};

template <class Real>
void check_rows(const std::vector<bad_row<Real>>& rows) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    scenario<Real> call;
    rows[i].spoil(call);
    const auto arrays = call.arrays;
    const auto stats = call.stats;
    SCOPED_TRACE(testing::Message() << "row " << i << ", " << rows[i].argument);
    EXPECT_EQ(call.run(), rows[i].status);
    const std::string text = steepest_last_error();
    EXPECT_EQ(text.rfind("adamw_step: " + rows[i].argument, 0), 0u) << text;
    EXPECT_FALSE(std::isalnum(text[12 + rows[i].argument.size()])) << text;
    EXPECT_TRUE(same_bits(call.arrays, arrays));
    EXPECT_TRUE(same_bits(call.stats, stats));
    EXPECT_EQ(call.skipped, -7);
  }
}

template <class Real>
class bad_input : public testing::Test {};
using types = testing::Types<float, double>;
TYPED_TEST_SUITE(bad_input, types);

using buffer = void* steepest_adamw_tensor::*;
const std::pair<const char*, buffer> written_buffers[] = {
    {"param", &steepest_adamw_tensor::param},
    {"exp_avg", &steepest_adamw_tensor::exp_avg},
    {"exp_avg_sq", &steepest_adamw_tensor::exp_avg_sq},
    {"max_exp_avg_sq", &steepest_adamw_tensor::max_exp_avg_sq},
    {"delta", &steepest_adamw_tensor::delta},
};
constexpr std::uint64_t all_buffers = STEEPEST_ADAMW_AMSGRAD | STEEPEST_ADAMW_EMIT_DELTA;

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
    const auto with = [member = member](void* (*change)(void*)) {
      return [member, change](call& c) {
        c.config.flags = all_buffers;
        c.last().*member = change(c.last().*member);
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
  const steepest_dtype other = sizeof(TypeParam) == 4 ? STEEPEST_F64 : STEEPEST_F32;
  std::vector<bad_row<TypeParam>> rows;
  for (const auto& [name, which] : members) {
    for (const steepest_dtype dtype : {STEEPEST_BF16, STEEPEST_F16, STEEPEST_Q8_DYNAMIC,
                                       STEEPEST_Q8_COMPANDED, 0, 7, -1, INT32_MAX, INT32_MIN}) {
      rows.push_back(
          {STEEPEST_E_DTYPE, std::string("tensors[2].") + name, [which = which, dtype](call& c) {
             c.config.flags = all_buffers;
             c.last().*which = dtype;
           }});
    }
    // A mix names one of the types that differ from the rest.
    rows.push_back({STEEPEST_E_DTYPE, "tensors[2]", [which = which, other](call& c) {
                      c.config.flags = all_buffers;
                      c.last().*which = other;
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
  for (const int bit : {6, 31, 33, 63}) {
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

// Any two buffers of one tensor, sharing their last and first element.
TYPED_TEST(bad_input, overlap_within_a_tensor) {
  using call = scenario<TypeParam>;
  std::vector<bad_row<TypeParam>> rows;
  for (const auto& [name, member] : written_buffers) {
    for (const auto& [other_name, other] : written_buffers) {
      if (member == other) continue;
      rows.push_back(
          {STEEPEST_E_INVALID_ARGUMENT, "tensors[2].", [member = member, other = other](call& c) {
             c.config.flags = all_buffers;
             c.last().*member = static_cast<TypeParam*>(c.last().*other) + (element_count - 1);
           }});
    }
    rows.push_back({STEEPEST_E_INVALID_ARGUMENT, "tensors[2].", [member = member](call& c) {
                      c.config.flags = all_buffers;
                      c.last().grad = static_cast<TypeParam*>(c.last().*member) + 1;
                    }});
  }
  for (bad_row<TypeParam>& row : rows) {
    scenario<TypeParam> one;
    row.spoil(one);
    const auto before = one.arrays;
    EXPECT_EQ(one.run(), row.status);
    EXPECT_TRUE(same_bits(one.arrays, before));
    EXPECT_TRUE(std::regex_search(steepest_last_error(),
                                  std::regex("^adamw_step: tensors\\[2\\]\\.[a-z_]+ overlaps its "
                                             "[a-z_]+")))
        << steepest_last_error();
  }
}

// What one tensor writes, another may neither write nor read; far apart in the list, and in either
// order.
TYPED_TEST(bad_input, overlap_across_tensors) {
  for (const auto& [name, member] : written_buffers) {
    if (member == &steepest_adamw_tensor::param) continue;  // only read with EMIT_DELTA: see below
    for (const std::size_t writer : {0u, 2u}) {
      for (int reader = -1; reader < 5; ++reader) {
        scenario<TypeParam> c;
        c.config.flags = c.own_config.flags = all_buffers;
        steepest_adamw_tensor& from = c.tensors[writer];
        steepest_adamw_tensor& to = c.tensors[2 - writer];
        if (reader < 0) {
          to.grad = from.*member;
        } else {
          to.*(written_buffers[reader].second) = from.*member;
        }
        const auto before = c.arrays;
        EXPECT_EQ(c.run(), STEEPEST_E_INVALID_ARGUMENT) << name << " reader " << reader;
        EXPECT_TRUE(same_bits(c.arrays, before));
        EXPECT_TRUE(std::regex_search(
            steepest_last_error(),
            std::regex("^adamw_step: tensors\\[[02]\\]\\.[a-z_]+ overlaps tensors\\[[02]\\]\\.")))
            << steepest_last_error();
      }
    }
  }
  using call = scenario<TypeParam>;
  check_rows<TypeParam>({
      {STEEPEST_E_INVALID_ARGUMENT, "tensors[2]", [](call& c) { c.tensors[2] = c.tensors[0]; }},
      {STEEPEST_E_INVALID_ARGUMENT, "tensors[2]",
       [](call& c) { c.tensors[2].param = c.tensors[0].param; }},
      {STEEPEST_E_INVALID_ARGUMENT, "tensors[2]",
       [](call& c) { c.tensors[2].grad = c.tensors[0].param; }},
      {STEEPEST_E_INVALID_ARGUMENT, "tensors",
       [](call& c) { c.tensors[0].grad = c.tensors[2].param; }},
  });
}

// One overlap between neighbours in memory, somewhere among many tensors in any order.
TEST(bad_input, overlap_in_a_long_list) {
  constexpr std::size_t many = 1000;
  adamw_arrays<float> a(many * 8);
  std::vector<steepest_adamw_tensor> tensors;
  for (std::size_t i = 0; i < many; ++i) {
    tensors.push_back(make_tensor(a, (i * 387 % many) * 8, 8));
  }
  const steepest_adamw_config config = make_config();
  EXPECT_OK(steepest_adamw_step(nullptr, &config, tensors.data(), many, nullptr));
  const auto before = a;
  for (const std::size_t at : {0, 1, 499, 998, 999}) {
    auto spoiled = tensors;
    spoiled[at].exp_avg = static_cast<float*>(spoiled[at].exp_avg) + 1;
    if (spoiled[at].exp_avg == a.exp_avg.data() + (many - 1) * 8 + 1) continue;
    EXPECT_EQ(steepest_adamw_step(nullptr, &config, spoiled.data(), many, nullptr),
              STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_NE(std::string(steepest_last_error()).find(".exp_avg"), std::string::npos);
    EXPECT_TRUE(same_bits(a, before));
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

// ------------------------------------------------------------------ grad_norm

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
      {STEEPEST_E_DTYPE, "vectors[1].dtype", [](auto& v) { v.dtype = STEEPEST_BF16; }},
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
