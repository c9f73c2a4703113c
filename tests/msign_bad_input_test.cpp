// SPDX-License-Identifier: Apache-2.0
//
// Every rule for an argument of the msign functions, one row each: the status, the argument's name
// in the error text, and nothing written.
#include "matrix_oracle.hpp"
#include "support.hpp"

namespace steepest_test {
namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr std::int64_t row_count = 4;
constexpr std::int64_t col_count = 6;

// A valid call on three matrices of 4 x 6, f32 and with gaps; and, of the same arguments, the valid
// call on the first of them alone.
struct scenario {
  std::vector<float> input, output;
  std::vector<double> custom = {1.5, -0.5, 0, 1.875, -1.25, 0.375};
  std::vector<std::int32_t> restarts = {2, 4};
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  steepest_workspace workspace = STEEPEST_WORKSPACE_INIT;
  std::vector<unsigned char> memory;
  std::vector<steepest_msign_stats> stats;
  std::vector<const void*> x;
  std::vector<void*> out;
  std::int64_t rows = row_count, cols = col_count, ldx = 8, ldo = 7, count = 3;
  steepest_dtype dtype = STEEPEST_F32;
  steepest_context* context = nullptr;
  const steepest_msign_config* call_config = &config;
  const steepest_workspace* call_workspace = nullptr;
  const void* const* call_x = nullptr;
  void* const* call_out = nullptr;
  steepest_msign_stats* call_stats = nullptr;

  scenario() : input(400), output(400, -7) {
    random_source random(41);
    for (float& value : input) value = static_cast<float>(random.normal());
    memory.assign(1 << 20, 0xee);
    workspace.data = memory.data();
    workspace.bytes = memory.size();
    stats.assign(3, STEEPEST_MSIGN_STATS_INIT);
    for (int i = 0; i < 3; ++i) {
      x.push_back(input.data() + 100 * i);
      out.push_back(output.data() + 100 * i);
    }
    call_x = x.data();
    call_out = out.data();
    call_stats = stats.data();
  }
  scenario(const scenario&) = delete;
  scenario& operator=(const scenario&) = delete;

  steepest_status run_batched() {
    return steepest_msign_batched(context, call_config, rows, cols, dtype, call_x, ldx, call_out,
                                  ldo, count, call_workspace, call_stats);
  }
  steepest_status run_one() {
    return steepest_msign(context, call_config, rows, cols, dtype, x[0], ldx, out[0], ldo,
                          call_workspace, call_stats);
  }
  steepest_status run_size(std::size_t* bytes) const {
    return steepest_msign_workspace_size(context, call_config, rows, cols, dtype, count, bytes);
  }
};

struct bad_row {
  steepest_status status;
  std::string argument;
  std::function<void(scenario&)> spoil;
};

enum function : unsigned { one = 1, batched = 2, size = 4, band = 8, all = 15 };

void expect_named(const std::string& name, const std::string& argument) {
  const std::string text = steepest_last_error();
  EXPECT_EQ(text.rfind(name + ": " + argument, 0), 0u) << text;
  EXPECT_FALSE(std::isalnum(text[name.size() + 2 + argument.size()])) << text;
}

// Each row must be refused by the given functions.
void check_rows(unsigned functions, const std::vector<bad_row>& rows) {
  for (const function each : {one, batched, size, band}) {
    if ((functions & each) == 0) continue;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      scenario call;
      rows[i].spoil(call);
      SCOPED_TRACE(testing::Message()
                   << "function " << each << " row " << i << ", " << rows[i].argument);
      const auto input = call.input;
      const auto output = call.output;
      const auto stats = call.stats;
      const auto memory = call.memory;
      std::size_t bytes = 99;
      double low = 77;
      double high = 88;
      switch (each) {
        case one:
          EXPECT_EQ(call.run_one(), rows[i].status);
          expect_named("msign", rows[i].argument);
          break;
        case batched:
          EXPECT_EQ(call.run_batched(), rows[i].status);
          expect_named("msign_batched", rows[i].argument);
          break;
        case size:
          EXPECT_EQ(call.run_size(&bytes), rows[i].status);
          expect_named("msign_workspace_size", rows[i].argument);
          break;
        default:
          EXPECT_EQ(steepest_msign_band(call.call_config, 1e-3, &low, &high), rows[i].status);
          expect_named("msign_band", rows[i].argument);
      }
      EXPECT_EQ(bytes, 99u);
      EXPECT_EQ(low, 77);
      EXPECT_EQ(high, 88);
      EXPECT_TRUE(same_bits(call.input, input));
      EXPECT_TRUE(same_bits(call.output, output));
      EXPECT_TRUE(same_bits(call.stats, stats));
      EXPECT_TRUE(same_bits(call.memory, memory));
    }
  }
}

TEST(msign_bad_input, the_calls_are_valid_unspoiled) {
  for (const bool own_memory : {false, true}) {
    scenario call;
    if (own_memory) call.call_workspace = &call.workspace;
    const auto before = call.output;
    EXPECT_OK(call.run_batched());
    EXPECT_FALSE(same_bits(call.output, before));
    EXPECT_EQ(call.output[300], -7);
    EXPECT_OK(call.run_one());
    std::size_t bytes = 0;
    EXPECT_OK(call.run_size(&bytes));
    EXPECT_GT(bytes, 0u);
    EXPECT_LE(bytes, call.memory.size());
    double low = 0;
    double high = 0;
    EXPECT_OK(steepest_msign_band(&call.config, 1e-3, &low, &high));
    EXPECT_NEAR(low, 1 - 0.0621, 1e-4);
    EXPECT_NEAR(high, 1 + 0.0621, 1e-4);
  }
}

TEST(msign_bad_input, pointers) {
  check_rows(one, {
                      {STEEPEST_E_INVALID_ARGUMENT, "x", [](auto& c) { c.x[0] = nullptr; }},
                      {STEEPEST_E_INVALID_ARGUMENT, "out", [](auto& c) { c.out[0] = nullptr; }},
                      {STEEPEST_E_INVALID_ARGUMENT, "x",
                       [](auto& c) { c.x[0] = static_cast<const char*>(c.x[0]) + 1; }},
                      {STEEPEST_E_INVALID_ARGUMENT, "out",
                       [](auto& c) { c.out[0] = static_cast<char*>(c.out[0]) + 2; }},
                      {STEEPEST_E_SHAPE, "x",
                       [](auto& c) { c.x[0] = reinterpret_cast<void*>(UINTPTR_MAX - 39); }},
                      {STEEPEST_E_SHAPE, "out",
                       [](auto& c) { c.out[0] = reinterpret_cast<void*>(UINTPTR_MAX - 39); }},
                  });
  check_rows(batched,
             {
                 {STEEPEST_E_INVALID_ARGUMENT, "x", [](auto& c) { c.call_x = nullptr; }},
                 {STEEPEST_E_INVALID_ARGUMENT, "out", [](auto& c) { c.call_out = nullptr; }},
                 {STEEPEST_E_INVALID_ARGUMENT, "x[2]", [](auto& c) { c.x[2] = nullptr; }},
                 {STEEPEST_E_INVALID_ARGUMENT, "out[2]", [](auto& c) { c.out[2] = nullptr; }},
                 {STEEPEST_E_INVALID_ARGUMENT, "out[1]",
                  [](auto& c) { c.out[1] = static_cast<char*>(c.out[1]) + 1; }},
                 {STEEPEST_E_SHAPE, "x[1]",
                  [](auto& c) { c.x[1] = reinterpret_cast<void*>(UINTPTR_MAX - 39); }},
             });
  scenario call;
  EXPECT_EQ(call.run_size(nullptr), STEEPEST_E_INVALID_ARGUMENT);
  expect_named("msign_workspace_size", "bytes");
}

TEST(msign_bad_input, shapes) {
  std::vector<bad_row> rows;
  for (const std::int64_t bad : {std::int64_t{-1}, INT64_MIN, INT64_MAX, std::int64_t{1} << 31,
                                 (std::int64_t{1} << 33) + 4}) {
    rows.push_back({STEEPEST_E_SHAPE, "rows", [=](auto& c) { c.rows = bad; }});
    rows.push_back({STEEPEST_E_SHAPE, "cols", [=](auto& c) { c.cols = bad; }});
  }
  rows.push_back({STEEPEST_E_SHAPE, "rows", [](auto& c) { c.rows = c.cols = INT32_MAX; }});
  rows.push_back({STEEPEST_E_SHAPE, "rows", [](auto& c) {
                    c.rows = -1;  // also where nothing else would be looked at
                    c.cols = 0;
                  }});
  check_rows(one | batched | size, rows);
  check_rows(one | batched, {
                                {STEEPEST_E_SHAPE, "ldx", [](auto& c) { c.ldx = col_count - 1; }},
                                {STEEPEST_E_SHAPE, "ldx", [](auto& c) { c.ldx = -8; }},
                                {STEEPEST_E_SHAPE, "ldx", [](auto& c) { c.ldx = INT64_MAX; }},
                                {STEEPEST_E_SHAPE, "ldx", [](auto& c) { c.ldx = INT64_MAX / 4; }},
                                {STEEPEST_E_SHAPE, "ldo", [](auto& c) { c.ldo = 1; }},
                                {STEEPEST_E_SHAPE, "ldo", [](auto& c) { c.ldo = INT64_MIN; }},
                                {STEEPEST_E_SHAPE, "ldo", [](auto& c) { c.ldo = INT64_MAX / 4; }},
                            });
  std::vector<bad_row> counts;
  for (const std::int64_t bad : {std::int64_t{-1}, INT64_MIN})
    counts.push_back({STEEPEST_E_SHAPE, "count", [=](auto& c) { c.count = bad; }});
  check_rows(batched | size, counts);
  for (bad_row& row : counts) {
    const auto spoil = row.spoil;
    row.spoil = [=](auto& c) {
      spoil(c);
      c.call_stats = nullptr;
    };
  }
  check_rows(batched, counts);
  check_rows(batched, {{STEEPEST_E_SHAPE, "count", [](auto& c) {
                          c.call_stats = nullptr;
                          c.count = INT64_MAX;
                        }}});
}

TEST(msign_bad_input, element_types) {
  std::vector<bad_row> rows;
  for (const steepest_dtype dtype :
       {0, -1, 7, STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED, INT32_MAX, INT32_MIN})
    rows.push_back({STEEPEST_E_DTYPE, "dtype", [=](auto& c) { c.dtype = dtype; }});
  check_rows(one | batched | size, rows);
  rows.clear();
  for (const steepest_dtype dtype :
       {-1, 7, STEEPEST_F16, STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED, INT32_MAX, INT32_MIN})
    rows.push_back({STEEPEST_E_DTYPE, "config.compute_dtype",
                    [=](auto& c) { c.config.compute_dtype = dtype; }});
  const auto with = [&](std::int32_t method, steepest_dtype compute) {
    rows.push_back({STEEPEST_E_INVALID_ARGUMENT, "config.compute_dtype", [=](auto& c) {
                      c.config.method = method;
                      c.config.compute_dtype = compute;
                    }});
  };
  with(STEEPEST_MSIGN_ACCURATE, STEEPEST_F32);
  with(STEEPEST_MSIGN_ACCURATE, STEEPEST_BF16);
  with(STEEPEST_MSIGN_SVD, STEEPEST_BF16);
  check_rows(all, rows);
}

template <class Change>
bad_row bad_config(const std::string& name, Change change,
                   steepest_status status = STEEPEST_E_INVALID_ARGUMENT) {
  return {status, "config." + name, [=](scenario& c) { change(c.config, c); }};
}

TEST(msign_bad_input, numbers_out_of_range) {
  std::vector<bad_row> rows;
  for (const std::int32_t bad : {-1, INT32_MIN, INT32_MAX}) {
    rows.push_back(bad_config("method", [=](auto& m, auto&) { m.method = bad; }));
    rows.push_back(bad_config("coefficients", [=](auto& m, auto&) { m.coefficients = bad; }));
    rows.push_back(bad_config("normalization", [=](auto& m, auto&) { m.normalization = bad; }));
    for (const std::int32_t method : {1, 2, 3, 4}) {
      rows.push_back(bad_config("steps", [=](auto& m, auto&) {
        m.method = method;
        m.steps = bad;
      }));
    }
    rows.push_back(bad_config("reserved", [=](auto& m, auto&) { m.reserved = bad; }));
  }
  rows.push_back(bad_config("method", [](auto& m, auto&) { m.method = 7; }));
  rows.push_back(bad_config("coefficients", [](auto& m, auto&) { m.coefficients = 0; }));
  rows.push_back(bad_config("coefficients", [](auto& m, auto&) { m.coefficients = 7; }));
  rows.push_back(bad_config("normalization", [](auto& m, auto&) { m.normalization = 4; }));
  for (const std::int32_t method : {1, 2, 3, 4}) {
    rows.push_back(bad_config("steps", [=](auto& m, auto&) {
      m.method = method;
      m.steps = method < 3 ? 101 : 9;
    }));
  }
  for (const double bad : {-1.0, -1e-300, 1.0, 2.0, not_a_number, infinity}) {
    rows.push_back(bad_config("rank_tolerance", [=](auto& m, auto&) { m.rank_tolerance = bad; }));
  }
  for (const double bad : {0.0, -1.0, not_a_number, infinity, -infinity}) {
    rows.push_back(bad_config("norm_bound", [=](auto& m, auto&) {
      m.normalization = STEEPEST_NORM_BOUND;
      m.norm_bound = bad;
    }));
  }
  check_rows(all, rows);
}

TEST(msign_bad_input, steps_of_other_methods_are_ignored) {
  for (const std::int32_t method :
       {STEEPEST_MSIGN_AUTO, STEEPEST_MSIGN_SVD, STEEPEST_MSIGN_ACCURATE}) {
    scenario call;
    call.config.method = method;
    call.config.steps = 50;
    EXPECT_OK(call.run_batched()) << method;
  }
}

TEST(msign_bad_input, flags) {
  std::vector<bad_row> rows;
  for (const std::uint64_t flags :
       {std::uint64_t{2}, std::uint64_t{1} << 31, std::uint64_t{1} << 33, std::uint64_t{1} << 63})
    rows.push_back(bad_config(
        "flags", [=](auto& m, auto&) { m.flags = flags; }, STEEPEST_E_UNSUPPORTED));
  check_rows(all, rows);
}

// The same bits on every level are not to be had from LAPACK or OpenBLAS.
TEST(msign_bad_input, consistent) {
  const context_pointer consistent = make_context({.flags = STEEPEST_FLAG_CONSISTENT});
  const context_pointer openblas = make_context({.flags = STEEPEST_CONTEXT_OPENBLAS});
  const auto svd = [](auto& m, auto&) { m.method = STEEPEST_MSIGN_SVD; };
  bad_row by_context = bad_config("method", svd, STEEPEST_E_UNSUPPORTED);
  const auto spoil = by_context.spoil;
  by_context.spoil = [&consistent, spoil](auto& c) {
    spoil(c);
    c.context = consistent.get();
  };
  bad_row by_call = bad_config(
      "method",
      [=](auto& m, auto& c) {
        svd(m, c);
        m.flags = STEEPEST_FLAG_CONSISTENT;
      },
      STEEPEST_E_UNSUPPORTED);
  bad_row by_provider = bad_config(
      "flags", [](auto& m, auto&) { m.flags = STEEPEST_FLAG_CONSISTENT; }, STEEPEST_E_UNSUPPORTED);
  const auto spoil_flags = by_provider.spoil;
  by_provider.spoil = [&openblas, spoil_flags](auto& c) {
    spoil_flags(c);
    c.context = openblas.get();
  };
  check_rows(one | batched, {by_context, by_call, by_provider});
}

TEST(msign_bad_input, lower_bounds) {
  for (const std::int32_t method : {STEEPEST_MSIGN_RATIONAL, STEEPEST_MSIGN_HALLEY}) {
    std::vector<bad_row> rows;
    const auto with = [&](double bound, steepest_dtype compute) {
      rows.push_back(bad_config("lower_bound", [=](auto& m, auto&) {
        m.method = method;
        m.lower_bound = bound;
        m.compute_dtype = compute;
      }));
    };
    for (const double bad : {0.5e-8, -1e-3, 1.0, 1.5, not_a_number, infinity, -infinity})
      with(bad, STEEPEST_F64);
    check_rows(all, rows);
    rows.clear();
    for (const double bad : {1e-4, 1e-6, -1e-3, 1.0, not_a_number, infinity})
      with(bad, STEEPEST_F32);
    check_rows(all, rows);
    rows.clear();
    with(1e-4, 0);  // f32 input
    check_rows(one | batched | size, rows);
    EXPECT_NE(std::string(steepest_last_error()).find("Gram"), std::string::npos)
        << steepest_last_error();
    EXPECT_NE(std::string(steepest_last_error()).find("f64"), std::string::npos);

    scenario call;
    call.config.method = method;
    for (const double good : {1e-3, 0.999, 0.0}) {
      call.config.lower_bound = good;
      EXPECT_OK(call.run_batched());
    }
    call.config.compute_dtype = STEEPEST_F64;
    call.config.lower_bound = 1e-8;
    EXPECT_OK(call.run_batched());
  }
}

// AUTO is RATIONAL; a bound that it uses is checked, or it does not use it (msign_test.cpp). In a
// child, since a call that retries with NaN would not end.
TEST(msign_bad_input, a_lower_bound_for_auto_is_not_used_unchecked) {
  for (const double bad : {-1.0, 5.0, not_a_number, infinity}) {
    const int result = in_child(
        [bad] {
          scenario call;
          call.config.lower_bound = bad;
          if (call.run_one() == STEEPEST_OK) return call.stats[0].lower_bound == 1e-3 ? 0 : 1;
          const std::string text = steepest_last_error();
          return text.rfind("msign: config.lower_bound", 0) == 0 ? 0 : 2;
        },
        5);
    EXPECT_EQ(result, 0) << bad;
  }
}

TEST(msign_bad_input, norm_bound_below_the_norm) {
  for (const std::int32_t method : {1, 2, 3, 4}) {
    scenario call;
    call.config.method = method;
    call.config.normalization = STEEPEST_NORM_BOUND;
    call.config.norm_bound = 0.1;
    const auto before = call.output;
    EXPECT_EQ(call.run_batched(), STEEPEST_E_NOT_CONVERGED);
    expect_named("msign_batched", "x[0]");
    EXPECT_NE(std::string(steepest_last_error()).find("norm_bound"), std::string::npos);
    EXPECT_TRUE(same_bits(call.output, before));
    for (const auto& stats : call.stats) EXPECT_EQ(stats.status, STEEPEST_E_NOT_CONVERGED);
    EXPECT_EQ(call.run_one(), STEEPEST_E_NOT_CONVERGED);
    expect_named("msign", "x");
    call.config.norm_bound = 100;
    EXPECT_OK(call.run_batched());
  }
}

TEST(msign_bad_input, coefficients) {
  for (const std::int32_t method :
       {STEEPEST_MSIGN_NEWTON_SCHULZ, STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ}) {
    const auto custom = [=](const std::string& name, std::vector<double> values, int steps = 0,
                            std::int64_t count = 0) {
      return bad_config(name, [=](auto& m, auto& c) {
        c.custom = values;
        m.method = method;
        m.coefficients = STEEPEST_COEF_CUSTOM;
        m.custom_coefficients = c.custom.data();
        m.custom_count = count;
        m.steps = steps;
      });
    };
    std::vector<bad_row> rows = {
        bad_config("custom_coefficients",
                   [=](auto& m, auto&) {
                     m.method = method;
                     m.coefficients = STEEPEST_COEF_CUSTOM;
                     m.steps = 2;
                   }),
        custom("custom_count", {1.5, -0.5, 0}, 0, 0),  // neither count nor steps
        custom("custom_count", {1.5, -0.5, 0}, 1, -1),
        custom("custom_count", {1.5, -0.5, 0}, 1, 101),
        custom("custom_coefficients[2]", {1.5, -0.5, not_a_number}, 1),
        custom("custom_coefficients[4]", {1.5, -0.5, 0, 1, infinity, 0}, 2),
        custom("coefficients", {1, -2, 0}, 1),      // x - 2 x^3 < 0 above 0.71
        custom("coefficients", {-1, 0, 0}, 1),      // negative throughout
        custom("coefficients", {1.7, 0, 0}, 1),     // 1.7 at 1
        custom("coefficients", {1.3, 0, 0}, 2, 1),  // 1.69 at 1 after two steps
        // Positive again after an intermediate -0.5.
        custom("coefficients", {0.5, -1, 0, -1, 0, 0}, 2),
        // Only above 1, where rounding may put a value: 1 - x^2 < 0.
        custom("coefficients", {1, -1, 0}, 1),
        bad_config("coefficients",
                   [=](auto& m, auto&) {
                     m.method = method;
                     m.steps = 2;  // of Polar Express: 1.99
                   }),
        bad_config("coefficients",
                   [=](auto& m, auto&) {
                     m.method = method;
                     m.steps = 1;
                   }),
    };
    check_rows(all, rows);

    scenario call;
    call.config.method = method;
    call.config.coefficients = STEEPEST_COEF_CUSTOM;
    call.config.custom_coefficients = call.custom.data();
    call.config.steps = 2;
    EXPECT_OK(call.run_batched());
    call.config.custom_count = 2;
    call.config.steps = 0;
    EXPECT_OK(call.run_batched());
    EXPECT_EQ(call.stats[0].steps, 5);
    call.config.custom_count = 1;
    call.config.steps = 9;
    EXPECT_OK(call.run_batched());
  }
  // Other methods do not look at them.
  scenario call;
  call.config.coefficients = STEEPEST_COEF_CUSTOM;
  EXPECT_OK(call.run_batched());
}

TEST(msign_bad_input, restarts) {
  const auto with = [](const std::string& name, std::vector<std::int32_t> list, std::int32_t steps,
                       std::int64_t count) {
    return bad_config(name, [=](auto& m, auto& c) {
      c.restarts = list;
      m.method = STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ;
      m.steps = steps;
      m.restarts = c.restarts.data();
      m.restart_count = count;
    });
  };
  check_rows(all, {
                      with("restart_count", {2, 3}, 5, -1),
                      with("restart_count", {2, 3, 4, 5, 6}, 5, 5),
                      with("restart_count", {2}, 5, INT64_MAX),
                      with("restarts[0]", {1}, 5, 1),
                      with("restarts[0]", {0}, 5, 1),
                      with("restarts[0]", {-3}, 5, 1),
                      with("restarts[0]", {6}, 5, 1),
                      with("restarts[0]", {6}, 0, 1),  // 0 stands for 5
                      with("restarts[1]", {3, 3}, 5, 2),
                      with("restarts[1]", {4, 2}, 5, 2),
                      with("restarts[2]", {2, 4, INT32_MAX}, 8, 3),
                  });
}

TEST(msign_bad_input, workspaces) {
  const auto with = [](const std::string& name, auto change,
                       steepest_status status = STEEPEST_E_INVALID_ARGUMENT) {
    return bad_row{status, "workspace" + name, [=](scenario& c) {
                     c.call_workspace = &c.workspace;
                     change(c.workspace);
                   }};
  };
  check_rows(one | batched, {
                                with(".bytes", [](auto& w) { w.bytes = 0; }),
                                with(".bytes", [](auto& w) { w.bytes = 64; }),
                                with(".data", [](auto& w) { w.data = nullptr; }),
                                with(".struct_size", [](auto& w) { w.struct_size = 0; }),
                                with(".struct_size", [](auto& w) { w.struct_size = 8; }),
                                with(".struct_size", [](auto& w) { w.struct_size = 20; }),
                            });
}

TEST(msign_bad_input, overlaps) {
  const auto shifted = [](const void* base, std::ptrdiff_t elements) {
    return const_cast<float*>(static_cast<const float*>(base)) + elements;
  };
  // A matrix reaches from its first to its last element, 30 (ldx) or 27 (ldo) of them.
  std::vector<bad_row> rows;
  for (const std::ptrdiff_t shift : {-26, -1, 1, 8, 29})
    rows.push_back({STEEPEST_E_INVALID_ARGUMENT, "matrix[0]", [=](auto& c) {
                      c.input.resize(400);
                      c.x[0] = c.input.data() + 100;
                      c.out[0] = shifted(c.x[0], shift);
                    }});
  rows.push_back({STEEPEST_E_INVALID_ARGUMENT, "out", [](auto& c) {
                    c.out[0] = const_cast<void*>(c.x[0]);  // in place with another stride
                  }});
  check_rows(one, rows);
  check_rows(batched,
             {
                 {STEEPEST_E_INVALID_ARGUMENT, "matrix[1]", [](auto& c) { c.out[1] = c.out[0]; }},
                 {STEEPEST_E_INVALID_ARGUMENT, "matrix[2]", [](auto& c) { c.out[2] = c.out[1]; }},
                 {STEEPEST_E_INVALID_ARGUMENT, "matrix[2]",
                  [=](auto& c) { c.out[2] = shifted(c.out[0], 26); }},
                 {STEEPEST_E_INVALID_ARGUMENT, "matrix[2]",
                  [=](auto& c) { c.out[0] = shifted(c.out[2], -26); }},
                 {STEEPEST_E_INVALID_ARGUMENT, "matrix[2]",
                  [=](auto& c) { c.out[2] = shifted(c.x[0], 29); }},  // another matrix's x
                 {STEEPEST_E_INVALID_ARGUMENT, "matrix[2]",
                  [=](auto& c) { c.x[2] = shifted(c.out[0], 26); }},
                 {STEEPEST_E_INVALID_ARGUMENT, "out[1]",
                  [](auto& c) { c.out[1] = const_cast<void*>(c.x[1]); }},  // ldo is another
                 // Columns of one array that share one of them.
                 {STEEPEST_E_INVALID_ARGUMENT, "matrix[1]",
                  [](auto& c) {
                    c.ldo = 40;
                    for (int i = 0; i < 3; ++i) c.out[i] = c.output.data() + 5 * i;
                  }},
                 // The last of these wraps around into the first one's next row.
                 {STEEPEST_E_INVALID_ARGUMENT, "matrix[2]",
                  [](auto& c) {
                    c.ldo = 17;
                    for (int i = 0; i < 3; ++i) c.out[i] = c.output.data() + 6 * i;
                  }},
             });
}

TEST(msign_bad_input, what_looks_like_an_overlap_and_is_none) {
  // Next to each other, and columns of one array: each with its own result.
  scenario expected;
  ASSERT_OK(expected.run_batched());
  for (const std::int64_t ldo : {std::int64_t{18}, std::int64_t{19}, std::int64_t{60}}) {
    scenario call;
    call.ldo = ldo;
    for (int i = 0; i < 3; ++i) call.out[static_cast<std::size_t>(i)] = call.output.data() + 6 * i;
    ASSERT_OK(call.run_batched()) << ldo;
    for (int matrix = 0; matrix < 3; ++matrix)
      for (std::int64_t i = 0; i < row_count; ++i)
        for (std::int64_t j = 0; j < col_count; ++j)
          EXPECT_NEAR(call.output[static_cast<std::size_t>(6 * matrix + i * ldo + j)],
                      expected.output[static_cast<std::size_t>(100 * matrix + i * 7 + j)], 1e-5);
  }
  scenario call;
  call.ldx = call.ldo = 8;
  call.x[1] = call.x[0];                       // read twice
  call.out[2] = const_cast<void*>(call.x[2]);  // in place
  call.out[0] = call.input.data() + 30;        // right after x[0]
  EXPECT_OK(call.run_batched());
}

// ------------------------------------------------------------------ structs that grow

TEST(msign_bad_input, sizes_of_structs) {
  for (const std::size_t bad :
       {std::size_t{0}, std::size_t{8}, std::size_t{15}, std::size_t{20},
        sizeof(steepest_msign_config) + 4, std::size_t{1} << 20, SIZE_MAX, SIZE_MAX - 7}) {
    check_rows(all, {{STEEPEST_E_INVALID_ARGUMENT, "config.struct_size",
                      [=](auto& c) { c.config.struct_size = bad; }}});
    check_rows(one | batched, {{STEEPEST_E_INVALID_ARGUMENT, "stats[0].struct_size",
                                [=](auto& c) { c.stats[0].struct_size = bad; }}});
  }
  check_rows(batched, {{STEEPEST_E_INVALID_ARGUMENT, "stats[2].struct_size",
                        [](auto& c) { c.stats[2].struct_size -= 8; }}});
}

template <class T>
struct grown {
  T known;
  std::uint64_t unknown[2];
};

TEST(msign_bad_input, newer_callers) {
  for (const bool set : {false, true}) {
    scenario call;
    grown<steepest_msign_config> config = {call.config, {0, set ? 1u : 0u}};
    config.known.struct_size = sizeof(config);
    call.call_config = &config.known;
    const auto before = call.output;
    EXPECT_EQ(call.run_batched(), set ? STEEPEST_E_UNSUPPORTED : STEEPEST_OK);
    EXPECT_EQ(same_bits(call.output, before), set);
    if (set) expect_named("msign_batched", "config");
  }
  for (const bool set : {false, true}) {
    scenario call;
    std::vector<grown<steepest_msign_stats>> stats(
        3, grown<steepest_msign_stats>{STEEPEST_MSIGN_STATS_INIT, {}});
    for (auto& each : stats) each.known.struct_size = sizeof(each);
    stats[1].unknown[1] = set ? 1 : 0;
    call.call_stats = &stats[0].known;
    const auto before = call.output;
    EXPECT_EQ(call.run_batched(), set ? STEEPEST_E_UNSUPPORTED : STEEPEST_OK);
    EXPECT_EQ(same_bits(call.output, before), set);
    if (set) {
      expect_named("msign_batched", "stats[1]");
    } else {
      for (auto& each : stats) {
        EXPECT_EQ(each.known.struct_size, sizeof(each));
        EXPECT_EQ(each.known.method, STEEPEST_MSIGN_RATIONAL);
        EXPECT_EQ(each.known.steps, 3);
        EXPECT_EQ(each.unknown[0], 0u);
      }
    }
  }
}

// A caller that ends before a field gets its INIT value, whatever lies there.
TEST(msign_bad_input, older_callers) {
  for (std::size_t size = 16; size < sizeof(steepest_msign_config); size += 8) {
    scenario call;
    steepest_msign_config config;
    std::memset(&config, 0xff, sizeof(config));
    const steepest_msign_config init = STEEPEST_MSIGN_CONFIG_INIT;
    std::memcpy(&config, &init, size);
    config.struct_size = size;
    call.call_config = &config;
    ASSERT_OK(call.run_batched()) << size;
    scenario expected;
    ASSERT_OK(expected.run_batched());
    EXPECT_TRUE(same_bits(call.output, expected.output)) << size;
  }
  // The method is known to such a caller, and the coefficients are not.
  scenario call;
  call.config.method = STEEPEST_MSIGN_NEWTON_SCHULZ;
  call.config.steps = 0;
  call.config.coefficients = -5;
  call.config.struct_size = offsetof(steepest_msign_config, coefficients);
  EXPECT_OK(call.run_batched());
  EXPECT_EQ(call.stats[0].method, STEEPEST_MSIGN_NEWTON_SCHULZ);
  EXPECT_EQ(call.stats[0].steps, 5);

  for (std::size_t size = 16; size < sizeof(steepest_msign_stats); size += 8) {
    scenario expected;
    ASSERT_OK(expected.run_batched());
    scenario shorter;
    std::vector<unsigned char> bytes(3 * size + 64, 0xab);
    for (std::size_t i = 0; i < 3; ++i) std::memcpy(bytes.data() + i * size, &size, sizeof(size));
    shorter.call_stats = reinterpret_cast<steepest_msign_stats*>(bytes.data());
    ASSERT_OK(shorter.run_batched());
    for (std::size_t i = 0; i < 3; ++i)
      EXPECT_EQ(std::memcmp(bytes.data() + i * size + 8,
                            reinterpret_cast<unsigned char*>(&expected.stats[i]) + 8, size - 8),
                0)
          << size;
    for (std::size_t i = 3 * size; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], 0xab);
  }
}

// The stride of a single row is never taken: what it would lead to need not fit.
TEST(msign_bad_input, any_stride_of_one_row) {
  std::vector<float> x(50), wanted(50), out(50);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) - 20;
  EXPECT_OK(steepest_msign(nullptr, nullptr, 1, 50, STEEPEST_F32, x.data(), 0, wanted.data(), 0,
                           nullptr, nullptr));
  double norm = 0, far_norm = 0;
  EXPECT_OK(steepest_spectral_norm(nullptr, 1, 50, STEEPEST_F32, x.data(), 0, &norm));
  for (const std::int64_t far : {INT64_MAX, INT64_MAX / 2, INT64_MAX / 4 + 1}) {
    EXPECT_OK(steepest_msign(nullptr, nullptr, 1, 50, STEEPEST_F32, x.data(), far, out.data(), far,
                             nullptr, nullptr));
    EXPECT_TRUE(same_bits(out, wanted)) << far;
    EXPECT_OK(steepest_spectral_norm(nullptr, 1, 50, STEEPEST_F32, x.data(), far, &far_norm));
    EXPECT_EQ(far_norm, norm) << far;
  }
}

TEST(msign_bad_input, more_matrices_than_there_can_be) {
  std::size_t bytes = 77;
  for (const std::int64_t count : {std::int64_t{1} << 31, std::int64_t{1} << 62, INT64_MAX}) {
    EXPECT_EQ(steepest_msign_workspace_size(nullptr, nullptr, 3, 3, STEEPEST_F32, count, &bytes),
              STEEPEST_E_SHAPE);
    expect_named("msign_workspace_size", "count");
  }
  EXPECT_EQ(bytes, 77U);
}

// ------------------------------------------------------------------ the scalar functions

TEST(msign_bad_input, band_and_coefficients) {
  double low = 77;
  double high = 88;
  for (const double bad : {0.0, -1.0, 1.0000001, not_a_number, infinity}) {
    EXPECT_EQ(steepest_msign_band(nullptr, bad, &low, &high), STEEPEST_E_INVALID_ARGUMENT);
    expect_named("msign_band", "lower_bound");
  }
  EXPECT_EQ(steepest_msign_band(nullptr, 0.1, nullptr, &high), STEEPEST_E_INVALID_ARGUMENT);
  expect_named("msign_band", "low");
  EXPECT_EQ(steepest_msign_band(nullptr, 0.1, &low, nullptr), STEEPEST_E_INVALID_ARGUMENT);
  expect_named("msign_band", "high");
  EXPECT_EQ(low, 77);
  EXPECT_EQ(high, 88);
  // A bound so small that its inverse is beyond the range of a double.
  EXPECT_OK(steepest_msign_band(nullptr, 0x1p-1070, &low, &high));
  EXPECT_TRUE(low >= 0 && low < 1e-300 && high > 1 && high < 1.1) << low << ' ' << high;
  std::vector<double> rows(30, -7);
  const auto before = rows;
  for (const double bad : {0.0, 0.9e-12, 1.0, 2.0, -1.0, not_a_number, infinity}) {
    EXPECT_EQ(steepest_msign_coefficients(bad, 5, rows.data()), STEEPEST_E_INVALID_ARGUMENT);
    expect_named("msign_coefficients", "lower_bound");
  }
  for (const std::int64_t bad : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{101}, INT64_MAX}) {
    EXPECT_EQ(steepest_msign_coefficients(1e-3, bad, rows.data()), STEEPEST_E_INVALID_ARGUMENT);
    expect_named("msign_coefficients", "steps");
  }
  EXPECT_EQ(steepest_msign_coefficients(1e-3, 5, nullptr), STEEPEST_E_INVALID_ARGUMENT);
  expect_named("msign_coefficients", "rows");
  EXPECT_TRUE(same_bits(rows, before));
}

}  // namespace
}  // namespace steepest_test
