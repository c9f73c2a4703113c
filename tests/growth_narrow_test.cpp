// SPDX-License-Identifier: Apache-2.0
//
// Older and newer callers of the fields that were appended for narrow storage, and of the functions
// that growth_test.cpp does not call: steps in chunks, batches, sizes of workspaces.
#include "growth_support.hpp"
#include "muon_support.hpp"

namespace steepest_test {
namespace {

// Where the fields of narrow storage begin: the size of the struct before them.
constexpr std::size_t adamw_before = offsetof(steepest_adamw_tensor, residual);
constexpr std::size_t muon_before = offsetof(steepest_muon_tensor, residual);
static_assert(adamw_before == 96 && muon_before == 152, "tests/abi/headers");

constexpr std::size_t rows = 4, cols = 16, count = rows * cols;

// One tensor's buffers: bf16 throughout, a residual, a copy in f32, which is large enough for any.
struct narrow_tensor {
  std::vector<std::uint16_t> param, grad, first, second, residual;
  std::vector<float> copy;

  explicit narrow_tensor(random_source& random) : residual(count), copy(count, -7.0F) {
    const auto fill = [&](std::vector<std::uint16_t>& to, std::uint16_t sign) {
      for (std::size_t i = 0; i < count; ++i)  // 0.5 to 2
        to.push_back(static_cast<std::uint16_t>(0x3f00 + random.below(0x100) +
                                                (random.below(2) != 0 ? sign : 0)));
    };
    fill(param, 0x8000);
    fill(grad, 0x8000);
    fill(first, 0x8000);
    fill(second, 0);
  }
  bool operator==(const narrow_tensor&) const = default;

  steepest_adamw_tensor adamw(std::int32_t residual_kind) {
    steepest_adamw_tensor t = STEEPEST_ADAMW_TENSOR_INIT;
    t.count = count;
    t.param = param.data();
    t.grad = grad.data();
    t.exp_avg = first.data();
    t.exp_avg_sq = second.data();
    t.param_dtype = t.grad_dtype = t.exp_avg_dtype = t.exp_avg_sq_dtype = STEEPEST_BF16;
    t.residual = residual.data();
    t.residual_kind = residual_kind;
    t.param_copy = copy.data();
    t.param_copy_dtype = STEEPEST_F32;
    t.random_stream = 5;
    t.first_index = 777;
    return t;
  }
  steepest_muon_tensor muon(std::int32_t residual_kind) {
    steepest_muon_tensor t = STEEPEST_MUON_TENSOR_INIT;
    t.rows = rows;
    t.cols = cols;
    t.param = param.data();
    t.grad = grad.data();
    t.momentum = first.data();
    t.param_dtype = t.grad_dtype = t.momentum_dtype = STEEPEST_BF16;
    t.residual = residual.data();
    t.residual_kind = residual_kind;
    t.param_copy = copy.data();
    t.param_copy_ld = cols;
    t.param_copy_dtype = STEEPEST_F32;
    t.random_stream = 5;
    t.first_index = 777;
    return t;
  }
};

std::vector<narrow_tensor> two_tensors() {
  random_source random(131);
  std::vector<narrow_tensor> all;
  for (int i = 0; i < 2; ++i) all.emplace_back(random);
  return all;
}

// A struct of any size from before these fields on is what a whole one with INIT values in place of
// the missing ones is. step(tensors, bytes) makes the step on whatever has that layout.
template <class Struct, class Make, class Step>
void check_sizes(std::size_t before, const Struct& init, Make make, Step step) {
  const auto start = two_tensors();
  auto shortest = start;
  for (std::size_t size = before; size <= sizeof(Struct) + 32; size += 8) {
    SCOPED_TRACE(size);
    auto a = start, b = start;
    std::vector<Struct> whole, given;
    for (std::size_t i = 0; i < 2; ++i) {
      whole.push_back(completed(make(a[i]), size, init));
      given.push_back(make(b[i]));
    }
    ASSERT_OK(step(whole.data()));
    const bytes resized_list = resized(given, size);
    ASSERT_OK(step(reinterpret_cast<const Struct*>(resized_list.data())));
    EXPECT_TRUE(a == b);
    EXPECT_FALSE(a == start);
    if (size == before) shortest = b;
    // Each of them matters: what has all fields differs from what has none.
    EXPECT_TRUE(size != sizeof(Struct) || b != shortest);
  }
}

steepest_adamw_config adamw_config() {
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  config.flags = STEEPEST_ADAMW_STOCHASTIC_ROUNDING;
  config.lr = 0.01;
  config.seed = 4;
  return config;
}

TEST(growth_narrow, adamw_tensors) {
  const steepest_adamw_tensor init = STEEPEST_ADAMW_TENSOR_INIT;
  const steepest_adamw_config config = adamw_config();
  for (const std::int32_t kind : {STEEPEST_RESIDUAL_NONE, STEEPEST_RESIDUAL_LOW16})
    check_sizes(
        adamw_before, init, [&](narrow_tensor& t) { return t.adamw(kind); },
        [&](const steepest_adamw_tensor* list) {
          return steepest_adamw_step(nullptr, &config, list, 2, nullptr);
        });
}

TEST(growth_narrow, muon_tensors) {
  const steepest_muon_tensor init = STEEPEST_MUON_TENSOR_INIT;
  steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
  config.flags |= STEEPEST_MUON_STOCHASTIC_ROUNDING;
  config.lr = 0.01;
  config.seed = 4;
  for (const std::int32_t kind : {STEEPEST_RESIDUAL_NONE, STEEPEST_RESIDUAL_LOW16})
    check_sizes(
        muon_before, init, [&](narrow_tensor& t) { return t.muon(kind); },
        [&](const steepest_muon_tensor* list) {
          std::size_t needed = 0;
          const steepest_status status =
              steepest_muon_workspace_size(nullptr, &config, list, 2, &needed);
          if (status != STEEPEST_OK || needed == 0) return STEEPEST_E_INTERNAL;
          return steepest_muon_step(nullptr, &config, list, 2, nullptr, nullptr);
        });
}

// Scales that the caller's struct does not reach are null, which Q8 moments may not have.
TEST(growth_narrow, q8_moments_of_a_caller_without_scales) {
  const auto start = two_tensors();
  auto t = start;
  steepest_adamw_tensor adamw = t[0].adamw(STEEPEST_RESIDUAL_NONE);
  adamw.exp_avg_dtype = STEEPEST_Q8_DYNAMIC;
  adamw.exp_avg_scales = t[1].copy.data();
  steepest_muon_tensor muon = t[0].muon(STEEPEST_RESIDUAL_NONE);
  muon.momentum_dtype = STEEPEST_Q8_DYNAMIC;
  muon.momentum_scales = t[1].copy.data();
  const steepest_adamw_config config = adamw_config();
  const steepest_muon_config muon_config = STEEPEST_MUON_CONFIG_INIT;
  const auto step_adamw = [&](std::size_t size) {
    const bytes list = resized(std::vector{adamw}, size);
    return steepest_adamw_step(
        nullptr, &config, reinterpret_cast<const steepest_adamw_tensor*>(list.data()), 1, nullptr);
  };
  const auto step_muon = [&](std::size_t size) {
    const bytes list = resized(std::vector{muon}, size);
    return steepest_muon_step(nullptr, &muon_config,
                              reinterpret_cast<const steepest_muon_tensor*>(list.data()), 1,
                              nullptr, nullptr);
  };
  EXPECT_EQ(step_adamw(offsetof(steepest_adamw_tensor, exp_avg_scales)),
            STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_TRUE(error_names("exp_avg_scales")) << steepest_last_error();
  EXPECT_EQ(step_muon(offsetof(steepest_muon_tensor, momentum_scales)),
            STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_TRUE(error_names("momentum_scales")) << steepest_last_error();
  EXPECT_TRUE(t == start);
  EXPECT_OK(step_adamw(sizeof(adamw)));
  EXPECT_OK(step_muon(sizeof(muon)));
}

TEST(growth_narrow, steps_in_chunks) {
  const steepest_adamw_tensor init = STEEPEST_ADAMW_TENSOR_INIT;
  const steepest_adamw_config config = adamw_config(), init_config = STEEPEST_ADAMW_CONFIG_INIT;
  const std::vector<steepest_step_stats> empty(2, STEEPEST_STEP_STATS_INIT);
  const auto in_chunks = [](const void* chosen, const steepest_adamw_tensor* list, void* stats) {
    steepest_adamw_plan* plan = nullptr;
    const auto* c = static_cast<const steepest_adamw_config*>(chosen);
    const steepest_status status = steepest_adamw_begin(nullptr, c, list, 2, &plan);
    if (status != STEEPEST_OK) return status;
    for (std::int64_t i = 0; i < 2; ++i) EXPECT_OK(steepest_adamw_chunk(plan, i, 0, count));
    return steepest_adamw_end(plan, static_cast<steepest_step_stats*>(stats));
  };
  check_sizes(
      adamw_before, init, [](narrow_tensor& t) { return t.adamw(STEEPEST_RESIDUAL_LOW16); },
      [&](const steepest_adamw_tensor* list) { return in_chunks(&config, list, nullptr); });

  const auto start = two_tensors();
  const auto tensors = [](std::vector<narrow_tensor>& of) {
    std::vector<steepest_adamw_tensor> list;
    for (narrow_tensor& t : of) list.push_back(t.adamw(STEEPEST_RESIDUAL_LOW16));
    return list;
  };
  for (std::size_t size = 16; size <= sizeof(config) + 32; size += 8) {
    SCOPED_TRACE(size);
    auto a = start, b = start;
    const steepest_adamw_config whole = completed(config, size, init_config);
    ASSERT_OK(steepest_adamw_step(nullptr, &whole, tensors(a).data(), 2, nullptr));
    ASSERT_OK(in_chunks(resized(std::vector{config}, size).data(), tensors(b).data(), nullptr));
    EXPECT_TRUE(a == b);
  }
  auto a = start;
  std::vector<steepest_step_stats> expected = empty;
  ASSERT_OK(steepest_adamw_step(nullptr, &config, tensors(a).data(), 2, expected.data()));
  for (std::size_t size = 16; size <= sizeof(steepest_step_stats) + 32; size += 8) {
    SCOPED_TRACE(size);
    a = start;
    bytes stats = resized(empty, size);
    ASSERT_OK(in_chunks(&config, tensors(a).data(), stats.data()));
    EXPECT_EQ(stats, resized(expected, size));
  }
}

TEST(growth_narrow, batches_and_sizes) {
  const float x[] = {1, 2, 3, 5, 7, 11};
  const void* const from[] = {x, x};
  float out[2][6], other[2][6];
  void* const to[] = {out[0], out[1]};
  void* const to_other[] = {other[0], other[1]};
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  const steepest_msign_config init = config;
  config.method = STEEPEST_MSIGN_HALLEY;
  config.steps = 4;
  config.normalization = STEEPEST_NORM_FROBENIUS;
  config.lower_bound = 0.25;
  std::vector<steepest_msign_stats> expected(2, STEEPEST_MSIGN_STATS_INIT);
  const std::vector<steepest_msign_stats> empty = expected;
  ASSERT_OK(steepest_msign_batched(nullptr, &config, 2, 3, STEEPEST_F32, from, 0, to, 0, 2, nullptr,
                                   expected.data()));
  for (std::size_t size = 16; size <= sizeof(steepest_msign_stats) + 32; size += 8) {
    bytes stats = resized(empty, size);
    ASSERT_OK(steepest_msign_batched(nullptr, &config, 2, 3, STEEPEST_F32, from, 0, to, 0, 2,
                                     nullptr,
                                     reinterpret_cast<steepest_msign_stats*>(stats.data())));
    EXPECT_EQ(stats, resized(expected, size)) << size;
  }
  for (std::size_t size = 16; size <= sizeof(config) + 32; size += 8) {
    SCOPED_TRACE(size);
    const steepest_msign_config whole = completed(config, size, init);
    const bytes given = resized(std::vector{config}, size);
    const auto* part = reinterpret_cast<const steepest_msign_config*>(given.data());
    ASSERT_OK(steepest_msign_batched(nullptr, &whole, 2, 3, STEEPEST_F32, from, 0, to, 0, 2,
                                     nullptr, nullptr));
    ASSERT_OK(steepest_msign_batched(nullptr, part, 2, 3, STEEPEST_F32, from, 0, to_other, 0, 2,
                                     nullptr, nullptr));
    EXPECT_EQ(std::memcmp(out, other, sizeof(out)), 0);
    std::size_t bytes_whole = 0, bytes_part = 1;
    ASSERT_OK(
        steepest_msign_workspace_size(nullptr, &whole, 30, 40, STEEPEST_F32, 2, &bytes_whole));
    ASSERT_OK(steepest_msign_workspace_size(nullptr, part, 30, 40, STEEPEST_F32, 2, &bytes_part));
    EXPECT_EQ(bytes_whole, bytes_part);
    double band[2] = {0, 0}, other_band[2] = {1, 1};
    ASSERT_OK(steepest_msign_band(&whole, 0.1, band, band + 1));
    ASSERT_OK(steepest_msign_band(part, 0.1, other_band, other_band + 1));
    EXPECT_EQ(std::memcmp(band, other_band, sizeof(band)), 0);
  }
  std::vector<steepest_vector> vectors(2, STEEPEST_VECTOR_INIT);
  for (steepest_vector& v : vectors) {
    v.count = 2;
    v.data = x + 2;
  }
  for (std::size_t size = 24; size <= sizeof(steepest_vector) + 32; size += 8) {
    const bytes all = resized(vectors, size);
    double rms = 0;
    ASSERT_OK(steepest_rms(nullptr, reinterpret_cast<const steepest_vector*>(all.data()), 2, &rms,
                           nullptr));
    EXPECT_NEAR(rms, std::sqrt(17.0), 1e-12);
  }
}

}  // namespace
}  // namespace steepest_test
