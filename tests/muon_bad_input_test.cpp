// SPDX-License-Identifier: Apache-2.0
//
// Every rule for an argument of the Muon step, one row each: the status, the argument's name in the
// error text, and nothing written, neither to the tensor at fault nor to the good ones.
#include <functional>
#include <regex>

#include "muon_support.hpp"

namespace steepest_test {
namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

constexpr std::int64_t row_count = 6;
constexpr std::int64_t col_count = 10;

// A valid call on three tensors: the second has a config of its own, the last has blocks.
struct scenario {
  explicit scenario(steepest_dtype type) : dtype(type) {
    random_source random(241);
    for (int i = 0; i < 3; ++i) {
      muon_layout layout;
      layout.rows = row_count;
      layout.cols = col_count;
      layout.param = layout.grad = layout.momentum = layout.delta = dtype;
      layout.gap = 2;
      matrices.push_back(random_matrices(random, layout));
    }
    for (muon_matrices& m : matrices) tensors.push_back(m.tensor());
    tensors[1].config = &own_config;
    last().blocks = blocks;
    last().block_count = 2;
    stats.assign(3, STEEPEST_STEP_STATS_INIT);
    config.skipped = own_config.skipped = &skipped;
    config.msign = &msign;
    own_config.msign = &own_msign;
    call_tensors = tensors.data();
  }
  scenario(const scenario&) = delete;
  scenario& operator=(const scenario&) = delete;

  steepest_muon_tensor& last() { return tensors.back(); }
  std::int64_t element() const { return static_cast<std::int64_t>(size_of(dtype)); }
  steepest_status run() {
    return steepest_muon_step(nullptr, call_config, call_tensors, call_count, workspace,
                              stats.data());
  }
  steepest_status size(std::size_t* bytes) {
    return steepest_muon_workspace_size(nullptr, call_config, call_tensors, call_count, bytes);
  }

  steepest_dtype dtype;
  std::vector<muon_matrices> matrices;
  std::vector<steepest_muon_tensor> tensors;
  std::vector<steepest_step_stats> stats;
  std::int64_t blocks[4] = {2, 4, 0, 0};
  steepest_msign_config msign = make_msign_config(), own_msign = make_msign_config();
  steepest_muon_config config = make_muon_config(), own_config = make_muon_config();
  const steepest_muon_config* call_config = &config;
  const steepest_muon_tensor* call_tensors = nullptr;
  std::int64_t call_count = 3;
  const steepest_workspace* workspace = nullptr;
  std::int32_t skipped = -7;
};

struct bad_row {
  steepest_status status;
  std::string argument;
  std::function<void(scenario&)> spoil;
  bool seen_without_memory = true;  // by steepest_muon_workspace_size too
};

// The text begins with the function and the argument, and that is the argument's whole name.
bool error_names(const std::string& function, const std::string& argument) {
  const std::string text = steepest_last_error();
  const std::string start = function + ": " + argument;
  return text.rfind(start, 0) == 0 &&
         (text.size() == start.size() || std::isalnum(text[start.size()]) == 0);
}

void check_rows(const std::vector<bad_row>& rows) {
  for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16}) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      SCOPED_TRACE(testing::Message()
                   << "row " << i << ", " << rows[i].argument << ", dtype " << dtype);
      scenario call(dtype);
      rows[i].spoil(call);
      const auto matrices = call.matrices;
      const auto stats = call.stats;
      EXPECT_EQ(call.run(), rows[i].status);
      EXPECT_TRUE(error_names("muon_step", rows[i].argument)) << steepest_last_error();
      for (std::size_t j = 0; j < matrices.size(); ++j)
        EXPECT_TRUE(same_bits(call.matrices[j], matrices[j]));
      EXPECT_TRUE(same_bits(call.stats, stats));
      EXPECT_EQ(call.skipped, -7);
      if (!rows[i].seen_without_memory) continue;
      std::size_t bytes = 77;
      EXPECT_EQ(call.size(&bytes), rows[i].status);
      EXPECT_TRUE(error_names("muon_workspace_size", rows[i].argument)) << steepest_last_error();
      EXPECT_EQ(bytes, 77u);
    }
  }
}

struct buffer_row {
  const char* name;
  void* steepest_muon_tensor::*data;  // null: grad, which is const
  std::int64_t steepest_muon_tensor::*ld;
  steepest_dtype steepest_muon_tensor::*dtype;
};
const buffer_row buffer_rows[] = {
    {"param", &steepest_muon_tensor::param, &steepest_muon_tensor::param_ld,
     &steepest_muon_tensor::param_dtype},
    {"grad", nullptr, &steepest_muon_tensor::grad_ld, &steepest_muon_tensor::grad_dtype},
    {"momentum", &steepest_muon_tensor::momentum, &steepest_muon_tensor::momentum_ld,
     &steepest_muon_tensor::momentum_dtype},
    {"delta", &steepest_muon_tensor::delta, &steepest_muon_tensor::delta_ld,
     &steepest_muon_tensor::delta_dtype},
};

void* get(const steepest_muon_tensor& t, const buffer_row& row) {
  return row.data != nullptr ? t.*row.data : const_cast<void*>(t.grad);
}
void set(steepest_muon_tensor& t, const buffer_row& row, void* to) {
  if (row.data != nullptr)
    t.*row.data = to;
  else
    t.grad = to;
}

TEST(muon_bad_input, the_call_is_valid_unspoiled) {
  for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16}) {
    scenario call(dtype);
    const auto before = call.matrices;
    EXPECT_OK(call.run());
    EXPECT_EQ(call.skipped, 0);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_FALSE(same_bits(call.matrices[i], before[i]));
    std::size_t bytes = 0;
    EXPECT_OK(call.size(&bytes));
    EXPECT_GT(bytes, 0u);
  }
}

TEST(muon_bad_input, pointers) {
  std::vector<bad_row> rows = {
      {STEEPEST_E_INVALID_ARGUMENT, "tensors", [](scenario& c) { c.call_tensors = nullptr; }},
      {STEEPEST_E_INVALID_ARGUMENT, "config", [](scenario& c) { c.call_config = nullptr; }},
  };
  for (const buffer_row& buffer : buffer_rows) {
    const std::string argument = std::string("tensors[2].") + buffer.name;
    const auto add = [&](steepest_status status, std::function<void*(void*)> change) {
      rows.push_back({status, argument, [buffer, change](scenario& c) {
                        c.config.flags |= STEEPEST_MUON_EMIT_DELTA;
                        set(c.last(), buffer, change(get(c.last(), buffer)));
                      }});
    };
    add(STEEPEST_E_INVALID_ARGUMENT, [](void*) -> void* { return nullptr; });
    add(STEEPEST_E_INVALID_ARGUMENT, [](void* p) -> void* { return static_cast<char*>(p) + 1; });
    add(STEEPEST_E_SHAPE, [](void*) -> void* { return reinterpret_cast<void*>(UINTPTR_MAX - 39); });
  }
  check_rows(rows);
  scenario call(STEEPEST_F32);
  EXPECT_EQ(call.size(nullptr), STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_TRUE(error_names("muon_workspace_size", "bytes"));
}

TEST(muon_bad_input, sizes) {
  std::vector<bad_row> rows;
  const auto add = [&](const char* name, std::int64_t steepest_muon_tensor::*which,
                       std::int64_t value) {
    rows.push_back({STEEPEST_E_SHAPE, std::string("tensors[2].") + name, [=](scenario& c) {
                      c.config.flags |= STEEPEST_MUON_EMIT_DELTA;
                      c.last().*which = value;
                    }});
  };
  for (const std::int64_t value : {std::int64_t{-1}, INT64_MIN}) {
    add("rows", &steepest_muon_tensor::rows, value);
    add("cols", &steepest_muon_tensor::cols, value);
    add("fan_out", &steepest_muon_tensor::fan_out, value);
    add("fan_in", &steepest_muon_tensor::fan_in, value);
    rows.push_back({STEEPEST_E_SHAPE, "count", [value](scenario& c) { c.call_count = value; }});
  }
  for (const std::int64_t value : {std::int64_t{1} << 31, INT64_MAX}) {
    add("rows", &steepest_muon_tensor::rows, value);
    add("cols", &steepest_muon_tensor::cols, value);
  }
  rows.push_back({STEEPEST_E_SHAPE, "count", [](scenario& c) { c.call_count = INT64_MAX; }});
  rows.push_back({STEEPEST_E_SHAPE, "tensors[2].rows",
                  [](scenario& c) { c.last().rows = c.last().cols = INT32_MAX; }});
  for (const buffer_row& buffer : buffer_rows) {
    const std::string ld = std::string(buffer.name) + "_ld";
    for (const std::int64_t value : {col_count - 1, std::int64_t{1}, std::int64_t{-1}, -col_count,
                                     INT64_MIN, INT64_MAX, INT64_MAX / 4})
      add(ld.c_str(), buffer.ld, value);
  }
  check_rows(rows);
}

TEST(muon_bad_input, element_types) {
  std::vector<bad_row> rows;
  for (const buffer_row& buffer : buffer_rows) {
    const std::string argument = std::string("tensors[2].") + buffer.name + "_dtype";
    for (const steepest_dtype dtype :
         {STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED, 0, 7, -1, INT32_MAX, INT32_MIN}) {
      // Momentum may be in 8 bits: see muon_narrow_test.cpp.
      if (std::string(buffer.name) == "momentum" &&
          (dtype == STEEPEST_Q8_DYNAMIC || dtype == STEEPEST_Q8_COMPANDED))
        continue;
      rows.push_back({STEEPEST_E_DTYPE, argument, [buffer, dtype](scenario& c) {
                        c.config.flags |= STEEPEST_MUON_EMIT_DELTA;
                        c.last().*buffer.dtype = dtype;
                      }});
    }
    // A mix with F64 names the first type that differs from param's.
    const bool is_param = std::string(buffer.name) == "param";
    rows.push_back(
        {STEEPEST_E_DTYPE, is_param ? "tensors[2].grad_dtype" : argument, [buffer](scenario& c) {
           c.config.flags |= STEEPEST_MUON_EMIT_DELTA;
           c.last().*buffer.dtype = c.dtype == STEEPEST_F64 ? STEEPEST_F32 : STEEPEST_F64;
         }});
  }
  check_rows(rows);
}

TEST(muon_bad_input, blocks) {
  std::vector<bad_row> rows;
  const auto add = [&](steepest_status status, const char* name,
                       std::function<void(scenario&)> spoil) {
    rows.push_back({status, std::string("tensors[2].") + name, std::move(spoil)});
  };
  add(STEEPEST_E_INVALID_ARGUMENT, "blocks", [](scenario& c) { c.last().blocks = nullptr; });
  for (const std::int64_t count : {std::int64_t{0}, std::int64_t{-1}, row_count + 1, INT64_MAX})
    add(STEEPEST_E_SHAPE, "block_count", [=](scenario& c) { c.last().block_count = count; });
  for (const std::int32_t axis : {2, -1, INT32_MAX})
    add(STEEPEST_E_INVALID_ARGUMENT, "block_axis",
        [=](scenario& c) { c.last().block_axis = axis; });
  add(STEEPEST_E_SHAPE, "blocks", [](scenario& c) { c.blocks[1] = 3; });
  add(STEEPEST_E_SHAPE, "blocks", [](scenario& c) { c.last().block_count = 1; });
  add(STEEPEST_E_SHAPE, "blocks", [](scenario& c) { c.last().block_axis = 1; });  // 6 of 10
  add(STEEPEST_E_SHAPE, "blocks[1]", [](scenario& c) { c.blocks[1] = 5; });
  add(STEEPEST_E_SHAPE, "blocks[1]", [](scenario& c) { c.blocks[1] = INT64_MAX; });
  add(STEEPEST_E_SHAPE, "blocks[0]", [](scenario& c) { c.blocks[0] = 7; });
  add(STEEPEST_E_SHAPE, "blocks[0]", [](scenario& c) { c.blocks[0] = 0; });
  add(STEEPEST_E_SHAPE, "blocks[0]", [](scenario& c) { c.blocks[0] = -2; });
  add(STEEPEST_E_SHAPE, "blocks[2]", [](scenario& c) { c.last().block_count = 3; });
  check_rows(rows);
}

TEST(muon_bad_input, hyper_parameters) {
  struct rule {
    const char* name;
    double steepest_muon_config::*which;
    std::vector<double> bad;
  };
  const std::vector<double> not_negative{-1, -1e-300, not_a_number, infinity, -infinity};
  const rule rules[] = {
      {"lr", &steepest_muon_config::lr, not_negative},
      {"momentum",
       &steepest_muon_config::momentum,
       {1, std::nextafter(1.0, 2.0), -1e-300, not_a_number, infinity, -infinity}},
      {"weight_decay", &steepest_muon_config::weight_decay, not_negative},
      {"scale_value", &steepest_muon_config::scale_value, not_negative},
      {"grad_scale", &steepest_muon_config::grad_scale, {not_a_number, infinity, -infinity}},
  };
  std::vector<bad_row> rows;
  const auto add = [&](const std::string& name, steepest_status status,
                       std::function<void(steepest_muon_config&)> change) {
    rows.push_back({status, "config." + name, [change](scenario& c) { change(c.config); }});
    rows.push_back(
        {status, "tensors[1].config." + name, [change](scenario& c) { change(c.own_config); }});
  };
  for (const rule& r : rules)
    for (const double value : r.bad)
      add(r.name, STEEPEST_E_INVALID_ARGUMENT,
          [which = r.which, value](steepest_muon_config& c) { c.*which = value; });
  for (const std::int64_t step : {std::int64_t{0}, std::int64_t{-5}, INT64_MIN})
    add("step", STEEPEST_E_INVALID_ARGUMENT, [step](auto& c) { c.step = step; });
  for (const std::int32_t kind : {-1, 2, INT32_MAX})
    add("momentum_kind", STEEPEST_E_INVALID_ARGUMENT, [kind](auto& c) { c.momentum_kind = kind; });
  for (const std::int32_t mode : {-1, 6, INT32_MIN})
    add("scale_mode", STEEPEST_E_INVALID_ARGUMENT, [mode](auto& c) { c.scale_mode = mode; });
  for (const int bit : {6, 31, 33, 63})
    add("flags", STEEPEST_E_UNSUPPORTED, [bit](auto& c) { c.flags |= std::uint64_t{1} << bit; });
  check_rows(rows);
}

// As steepest_adamw_step: what the arithmetic's type cannot hold would make NaN of zero gradients.
TEST(muon_bad_input, hyper_parameters_beyond_f32) {
  for (const auto which : {&steepest_muon_config::lr, &steepest_muon_config::grad_scale}) {
    scenario narrow(STEEPEST_F32);
    narrow.config.*which = 1e100;
    const auto before = narrow.matrices;
    EXPECT_EQ(narrow.run(), STEEPEST_E_INVALID_ARGUMENT);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(narrow.matrices[i], before[i]));
    EXPECT_EQ(narrow.skipped, -7);
    scenario wide(STEEPEST_F64);
    wide.config.*which = 1e100;
    EXPECT_OK(wide.run());
  }
}

TEST(muon_bad_input, msign_config) {
  struct rule {
    const char* name;
    steepest_status status;
    void (*spoil)(steepest_msign_config&);
  };
  const rule rules[] = {
      {"flags", STEEPEST_E_UNSUPPORTED, [](auto& c) { c.flags = 2; }},
      {"method", STEEPEST_E_UNSUPPORTED,
       [](auto& c) {
         c.flags = STEEPEST_FLAG_CONSISTENT;
         c.method = STEEPEST_MSIGN_SVD;
       }},
      {"method", STEEPEST_E_INVALID_ARGUMENT, [](auto& c) { c.method = 7; }},
      {"method", STEEPEST_E_INVALID_ARGUMENT, [](auto& c) { c.method = -1; }},
      {"steps", STEEPEST_E_INVALID_ARGUMENT,
       [](auto& c) {
         c.method = STEEPEST_MSIGN_RATIONAL;
         c.steps = 9;
       }},
      {"coefficients", STEEPEST_E_INVALID_ARGUMENT, [](auto& c) { c.coefficients = 0; }},
      {"normalization", STEEPEST_E_INVALID_ARGUMENT, [](auto& c) { c.normalization = 4; }},
      {"norm_bound", STEEPEST_E_INVALID_ARGUMENT,
       [](auto& c) { c.normalization = STEEPEST_NORM_BOUND; }},
      {"rank_tolerance", STEEPEST_E_INVALID_ARGUMENT, [](auto& c) { c.rank_tolerance = 1; }},
      {"compute_dtype", STEEPEST_E_INVALID_ARGUMENT,
       [](auto& c) {
         c.method = STEEPEST_MSIGN_ACCURATE;
         c.compute_dtype = STEEPEST_BF16;
       }},
      {"compute_dtype", STEEPEST_E_DTYPE, [](auto& c) { c.compute_dtype = 9; }},
      {"reserved", STEEPEST_E_INVALID_ARGUMENT, [](auto& c) { c.reserved = 1; }},
      {"struct_size", STEEPEST_E_INVALID_ARGUMENT, [](auto& c) { c.struct_size = 0; }},
      {"lower_bound", STEEPEST_E_INVALID_ARGUMENT,
       [](auto& c) {
         c.method = STEEPEST_MSIGN_RATIONAL;
         c.lower_bound = 1e-9;
       }},
  };
  for (const rule& r : rules) {
    for (const bool own : {false, true}) {
      SCOPED_TRACE(testing::Message() << r.name << (own ? " of tensors[1].config" : ""));
      scenario call(STEEPEST_F32);
      r.spoil(own ? call.own_msign : call.msign);
      const auto before = call.matrices;
      EXPECT_EQ(call.run(), r.status);
      const std::string text = steepest_last_error();
      EXPECT_EQ(text.rfind("muon_step: ", 0), 0u) << text;
      EXPECT_NE(text.find(std::string("config.msign.") + r.name), std::string::npos) << text;
      for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(call.matrices[i], before[i]));
      EXPECT_EQ(call.skipped, -7);
    }
  }
  // Enough for fp64 arithmetic, too little for fp32: by each tensor's own type.
  for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64}) {
    scenario call(dtype);
    call.msign.method = STEEPEST_MSIGN_RATIONAL;
    call.msign.lower_bound = 1e-6;
    EXPECT_EQ(call.run(), dtype == STEEPEST_F64 ? STEEPEST_OK : STEEPEST_E_INVALID_ARGUMENT);
  }
}

TEST(muon_bad_input, reserved_and_struct_sizes) {
  check_rows({
      {STEEPEST_E_INVALID_ARGUMENT, "tensors[2].reserved",
       [](scenario& c) { c.last().reserved = 1; }},
      {STEEPEST_E_INVALID_ARGUMENT, "tensors[2].struct_size",
       [](scenario& c) { c.last().struct_size -= 8; }},
      {STEEPEST_E_INVALID_ARGUMENT, "tensors[0].struct_size",
       [](scenario& c) { c.tensors[0].struct_size = 8; }},
      {STEEPEST_E_INVALID_ARGUMENT, "config.struct_size",
       [](scenario& c) { c.config.struct_size = 0; }},
      {STEEPEST_E_INVALID_ARGUMENT, "tensors[1].config.struct_size",
       [](scenario& c) { c.own_config.struct_size = 17; }},
      {STEEPEST_E_INVALID_ARGUMENT, "stats[0].struct_size",
       [](scenario& c) { c.stats[0].struct_size = 0; }, false},
      {STEEPEST_E_INVALID_ARGUMENT, "stats[2].struct_size",
       [](scenario& c) { c.stats[2].struct_size += 8; }, false},
  });
  steepest_workspace workspace = STEEPEST_WORKSPACE_INIT;
  workspace.struct_size = 12;
  scenario call(STEEPEST_F32);
  call.workspace = &workspace;
  const auto before = call.matrices;
  EXPECT_EQ(call.run(), STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_TRUE(error_names("muon_step", "workspace")) << steepest_last_error();
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(call.matrices[i], before[i]));
}

TEST(muon_bad_input, a_consistent_context_has_no_svd) {
  const context_pointer context = make_context({.flags = STEEPEST_FLAG_CONSISTENT});
  scenario call(STEEPEST_F32);
  steepest_msign_config msign = STEEPEST_MSIGN_CONFIG_INIT;
  msign.method = STEEPEST_MSIGN_SVD;
  call.config.msign = &msign;
  const auto before = call.matrices;
  EXPECT_EQ(steepest_muon_step(context.get(), &call.config, call.call_tensors, 3, nullptr, nullptr),
            STEEPEST_E_UNSUPPORTED);
  EXPECT_TRUE(error_names("muon_step", "config.msign.method")) << steepest_last_error();
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(call.matrices[i], before[i]));
}

// ------------------------------------------------------------------ overlap

void expect_overlap(scenario& call, const char* pattern) {
  const auto before = call.matrices;
  EXPECT_EQ(call.run(), STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_TRUE(std::regex_search(steepest_last_error(), std::regex(pattern)))
      << steepest_last_error();
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(call.matrices[i], before[i]));
  EXPECT_EQ(call.skipped, -7);
}

// Any two buffers of one tensor: the same, and sharing one element, last and first.
TEST(muon_bad_input, overlap_within_a_tensor) {
  for (const buffer_row& a : buffer_rows) {
    for (const buffer_row& b : buffer_rows) {
      if (&a == &b) continue;
      for (const bool whole : {false, true}) {
        SCOPED_TRACE(testing::Message() << a.name << " over " << b.name << " " << whole);
        scenario call(STEEPEST_F32);
        call.config.flags |= STEEPEST_MUON_EMIT_DELTA;
        const std::int64_t ld = call.last().*b.ld;
        const std::int64_t shift = whole ? 0 : (row_count - 1) * ld + col_count - 1;
        set(call.last(), a, static_cast<char*>(get(call.last(), b)) + shift * call.element());
        expect_overlap(call, "^muon_step: tensors\\[2\\]\\.[a-z]+ overlaps its [a-z]+");
      }
    }
  }
}

// What one tensor writes, another may neither write nor read, in either order of the list.
TEST(muon_bad_input, overlap_across_tensors) {
  for (const buffer_row& written : buffer_rows) {
    for (const buffer_row& other : buffer_rows) {
      for (const std::size_t writer : {0u, 2u}) {
        for (const bool emit_delta : {false, true}) {
          const std::string name = written.name, other_name = other.name;
          if (name == "grad" || name == (emit_delta ? "param" : "delta")) continue;
          if (!emit_delta && other_name == "delta") continue;
          SCOPED_TRACE(testing::Message() << name << " of " << writer << " as " << other_name);
          scenario call(STEEPEST_F32);
          call.config.flags |= emit_delta ? STEEPEST_MUON_EMIT_DELTA : 0;
          set(call.tensors[2 - writer], other, get(call.tensors[writer], written));
          expect_overlap(call,
                         "^muon_step: tensors\\[2\\]\\.[a-z]+ overlaps tensors\\[0\\]\\.[a-z]+");
        }
      }
    }
  }
}

TEST(muon_bad_input, tied_weights) {
  scenario call(STEEPEST_F32);
  call.tensors[2].param = call.tensors[0].param;
  expect_overlap(call, "^muon_step: tensors\\[2\\]\\.param overlaps tensors\\[0\\]\\.param");
  scenario twice(STEEPEST_F32);
  twice.tensors[2] = twice.tensors[0];
  expect_overlap(twice, "^muon_step: tensors\\[2\\]\\.[a-z]+ overlaps tensors\\[0\\]\\.[a-z]+");
}

// Columns of one array, which has room for 10 + 10 columns: apart, or one column in common, the
// last of the one or, since the other's rows run into the next, its first.
TEST(muon_bad_input, interleaved_columns) {
  for (const std::int64_t shift : {col_count, col_count - 1, col_count + 1}) {
    scenario call(STEEPEST_F32);
    muon_layout layout;
    layout.rows = row_count;
    layout.cols = 2 * col_count;
    random_source random(242);
    muon_matrices array = random_matrices(random, layout);
    const muon_matrices before = array;
    call.tensors[0].param = array.param.data();
    call.tensors[2].param = static_cast<float*>(array.param.data()) + shift;
    call.tensors[0].param_ld = call.tensors[2].param_ld = 2 * col_count;
    if (shift == col_count) {
      EXPECT_OK(call.run());
      EXPECT_TRUE(array.intact());
      EXPECT_FALSE(same_bits(array, before));
    } else {
      expect_overlap(call, "^muon_step: tensors\\[2\\]\\.param overlaps tensors\\[0\\]\\.param");
      EXPECT_TRUE(same_bits(array, before));
    }
  }
}

TEST(muon_bad_input, what_is_allowed) {
  const std::function<void(scenario&)> rows[] = {
      [](scenario& c) { c.tensors[2].grad = c.tensors[0].grad; },  // only read
      [](scenario& c) {                                            // not looked at without the flag
        c.last().delta = c.last().param;
        c.last().delta_dtype = 99;
        c.last().delta_ld = -1;
      },
      [](scenario& c) {  // param is only read
        c.config.flags |= STEEPEST_MUON_EMIT_DELTA;
        c.tensors[2].param = c.tensors[0].param;
      },
      [](scenario& c) { c.last() = STEEPEST_MUON_TENSOR_INIT; },  // no elements
      [](scenario& c) { c.config.grad_scale = -0.0; },
      [](scenario& c) { c.config.grad_scale = -3; },
      [](scenario& c) { c.config.lr = c.config.weight_decay = c.config.scale_value = 0; },
      [](scenario& c) { c.config.momentum = 0; },
      [](scenario& c) {
        c.call_config = nullptr;
        for (auto& tensor : c.tensors) tensor.config = &c.own_config;
      },
      [](scenario& c) { c.config.msign = nullptr; },
      [](scenario& c) { c.config.skipped = nullptr; },
      [](scenario& c) { c.config.seed = UINT64_MAX; },
      [](scenario& c) { c.config.step = INT64_MAX; },
      [](scenario& c) { c.last().fan_out = c.last().fan_in = INT64_MAX; },
      [](scenario& c) {
        c.blocks[0] = 6;
        c.last().block_count = 1;
      },
  };
  int number = 0;
  for (const auto& change : rows) {
    for (const steepest_dtype dtype : {STEEPEST_F32, STEEPEST_F64}) {
      scenario call(dtype);
      change(call);
      EXPECT_OK(call.run()) << "row " << number;
    }
    ++number;
  }
}

TEST(muon_bad_input, reads_like_a_sentence) {
  scenario call(STEEPEST_F32);
  call.last().momentum_ld = 9;
  EXPECT_EQ(call.run(), STEEPEST_E_SHAPE);
  EXPECT_STREQ(steepest_last_error(),
               "muon_step: tensors[2].momentum_ld is 9, less than a row (cols = 10)");
}

// The stride of a single row, or of a buffer that is not used, is never taken.
TEST(muon_bad_input, strides_without_effect) {
  const auto step = [](std::int64_t rows, std::int64_t cols, std::int64_t ld,
                       std::int64_t delta_ld) {
    std::vector<float> arrays(2000);
    for (std::size_t i = 0; i < arrays.size(); ++i) arrays[i] = static_cast<float>(i % 13) - 6;
    steepest_muon_tensor t = STEEPEST_MUON_TENSOR_INIT;
    t.rows = rows;
    t.cols = cols;
    t.param_ld = t.grad_ld = t.momentum_ld = ld;
    t.delta_ld = delta_ld;
    t.param = arrays.data();
    t.grad = arrays.data() + 600;
    t.momentum = arrays.data() + 1200;
    const steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
    EXPECT_OK(steepest_muon_step(nullptr, &config, &t, 1, nullptr, nullptr));
    return arrays;
  };
  EXPECT_TRUE(same_bits(step(1, 50, INT64_MAX / 4, 0), step(1, 50, 0, 0)));
  EXPECT_TRUE(same_bits(step(40, 12, 0, INT64_MAX / 2), step(40, 12, 0, 0)));
}

TEST(muon_bad_input, no_copy_of_f64) {
  std::vector<double> arrays(4 * 16);
  steepest_muon_tensor t = STEEPEST_MUON_TENSOR_INIT;
  t.rows = t.cols = 4;
  t.param = arrays.data();
  t.grad = arrays.data() + 16;
  t.momentum = arrays.data() + 32;
  t.param_copy = arrays.data() + 48;
  t.param_dtype = t.grad_dtype = t.momentum_dtype = t.param_copy_dtype = STEEPEST_F64;
  const steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
  EXPECT_EQ(steepest_muon_step(nullptr, &config, &t, 1, nullptr, nullptr), STEEPEST_E_DTYPE);
  EXPECT_NE(std::string(steepest_last_error()).find("tensors[0].param_copy is set"),
            std::string::npos)
      << steepest_last_error();
}

}  // namespace
}  // namespace steepest_test
