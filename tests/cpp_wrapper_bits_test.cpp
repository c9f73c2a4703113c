// SPDX-License-Identifier: Apache-2.0
// steepest.hpp gives the bits of C calls: every storage type, flags, strides, blocks, statistics.
#include <gtest/gtest.h>
#include <steepest/steepest.hpp>

#include <bit>
#include <cmath>
#include <cstring>

namespace {

using steepest::bf16;
using steepest::f16;

// A value of magnitude below 1, cut down to ten bits behind the point: exact in all types but bf16,
// which cuts off more.
template <class T>
T stored(double value) {
  const int k = static_cast<int>(value * 1024);
  const float cut = static_cast<float>(k) / 1024;
  if constexpr (std::is_same_v<T, bf16>) {
    return {static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(cut) >> 16)};
  } else if constexpr (std::is_same_v<T, f16>) {
    if (k == 0) return {0};
    const int size = std::abs(k), exponent = std::ilogb(size);
    return {static_cast<std::uint16_t>((k < 0 ? 0x8000 : 0) | (exponent + 5) << 10 |
                                       (size << (10 - exponent) & 0x3ff))};
  } else {
    return static_cast<T>(cut);
  }
}

template <class T>
std::vector<T> numbers(std::int64_t count, int seed) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = stored<T>(std::sin(0.37 * static_cast<double>(i) + seed));
  return values;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

bool same_bits(const steepest_step_stats& a, const steepest_step_stats& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

// The element types of parameters, gradients, and optimizer state.
template <class P, class G, class M>
struct mix {
  using param = P;
  using grad = G;
  using state = M;
};
using mixes =
    testing::Types<mix<float, float, float>, mix<double, double, double>, mix<bf16, bf16, bf16>,
                   mix<f16, f16, f16>, mix<bf16, bf16, float>, mix<float, f16, bf16>>;

constexpr std::int64_t rows = 13, cols = 21, ld = 24;

template <class T>
class cpp_wrapper_bits : public testing::Test {
 protected:
  const steepest::context context = [] {
    steepest::context_options options;
    options.num_threads = 2;
    return steepest::context(options);
  }();
};
TYPED_TEST_SUITE(cpp_wrapper_bits, mixes);

TYPED_TEST(cpp_wrapper_bits, adamw) {
  using P = typename TypeParam::param;
  using G = typename TypeParam::grad;
  using M = typename TypeParam::state;
  constexpr std::size_t count = 1003;
  const auto g = numbers<G>(count, 2);
  auto w = numbers<P>(count, 1), w2 = w;
  auto m = numbers<M>(count, 3), m2 = m;
  auto v = std::vector<M>(count, stored<M>(0.25)), v2 = v;
  auto largest = v, largest2 = v;
  steepest::adamw_config config;
  config.flags = STEEPEST_ADAMW_AMSGRAD | STEEPEST_ADAMW_CAUTIOUS_DECAY;
  config.lr = 0.03;
  config.weight_decay = 0.1;
  config.grad_scale = 0.5;
  config.step = 7;
  steepest::adamw_tensor tensor(w, g, m, v);
  tensor.max_exp_avg_sq = largest.data();
  std::array<steepest::step_stats, 1> stats;
  EXPECT_EQ(steepest::adamw_step(this->context, config, std::span(&tensor, 1), stats),
            steepest::outcome::stepped);

  steepest_adamw_tensor plain = STEEPEST_ADAMW_TENSOR_INIT;
  plain.count = count;
  plain.param = w2.data();
  plain.grad = g.data();
  plain.exp_avg = m2.data();
  plain.exp_avg_sq = v2.data();
  plain.max_exp_avg_sq = largest2.data();
  plain.param_dtype = steepest::dtype_of<P>;
  plain.grad_dtype = steepest::dtype_of<G>;
  plain.exp_avg_dtype = plain.exp_avg_sq_dtype = steepest::dtype_of<M>;
  steepest_step_stats plain_stats = STEEPEST_STEP_STATS_INIT;
  ASSERT_EQ(steepest_adamw_step(this->context.get(), &config, &plain, 1, &plain_stats),
            STEEPEST_OK);
  EXPECT_TRUE(same_bits(w, w2));
  EXPECT_TRUE(same_bits(m, m2));
  EXPECT_TRUE(same_bits(v, v2));
  EXPECT_TRUE(same_bits(largest, largest2));
  EXPECT_TRUE(same_bits(stats[0], plain_stats));
}

TYPED_TEST(cpp_wrapper_bits, muon) {
  using P = typename TypeParam::param;
  using G = typename TypeParam::grad;
  using M = typename TypeParam::state;
  const auto g = numbers<G>(rows * cols, 2);
  auto w = numbers<P>(rows * ld, 1), w2 = w;
  auto m = numbers<M>(rows * cols, 3), m2 = m;
  const std::array<std::int64_t, 2> blocks = {6, 7};
  steepest::msign_config msign;
  msign.method = STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ;
  steepest::muon_config config;
  config.lr = 0.03;
  config.step = 7;
  config.scale_mode = STEEPEST_SCALE_SQRT_MAX1_OUT_IN;
  config.msign = &msign;
  steepest::muon_tensor tensor(steepest::matrix_view<P>(w, rows, cols, ld),
                               steepest::matrix_view<const G>(g, rows, cols),
                               steepest::matrix_view<M>(m, rows, cols));
  tensor.blocks = blocks.data();
  tensor.block_count = blocks.size();
  const auto tensors = std::span<const steepest::muon_tensor>(&tensor, 1);
  std::array<steepest::step_stats, 1> stats;
  // With scratch memory of its own, where the C call has the context's.
  std::vector<std::byte> memory(steepest::muon_workspace_size(this->context, config, tensors));
  const steepest::workspace workspace(memory);
  EXPECT_EQ(steepest::muon_step(this->context, config, tensors, stats, &workspace),
            steepest::outcome::stepped);

  steepest_muon_tensor plain = STEEPEST_MUON_TENSOR_INIT;
  plain.rows = rows;
  plain.cols = cols;
  plain.param_ld = ld;
  plain.param = w2.data();
  plain.grad = g.data();
  plain.momentum = m2.data();
  plain.param_dtype = steepest::dtype_of<P>;
  plain.grad_dtype = steepest::dtype_of<G>;
  plain.momentum_dtype = steepest::dtype_of<M>;
  plain.delta_dtype = tensor.delta_dtype;
  plain.blocks = blocks.data();
  plain.block_count = 2;
  steepest_step_stats plain_stats = STEEPEST_STEP_STATS_INIT;
  ASSERT_EQ(steepest_muon_step(this->context.get(), &config, &plain, 1, nullptr, &plain_stats),
            STEEPEST_OK)
      << steepest_last_error();
  EXPECT_TRUE(same_bits(w, w2));
  EXPECT_TRUE(same_bits(m, m2));
  EXPECT_TRUE(same_bits(stats[0], plain_stats));
}

TYPED_TEST(cpp_wrapper_bits, msign) {
  using T = typename TypeParam::param;
  using view = steepest::matrix_view<T>;
  using input = steepest::matrix_view<const T>;
  const auto a = numbers<T>(rows * ld, 1), b = numbers<T>(rows * ld, 2);
  for (const std::int32_t method :
       {STEEPEST_MSIGN_AUTO, STEEPEST_MSIGN_NEWTON_SCHULZ, STEEPEST_MSIGN_HALLEY}) {
    steepest::msign_config config;
    config.method = method;
    std::vector<T> one(rows * cols), two(rows * cols), expected(rows * cols), batched(rows * cols);
    steepest_msign_stats stats = STEEPEST_MSIGN_STATS_INIT, plain = STEEPEST_MSIGN_STATS_INIT;
    steepest::msign(this->context, config, input(a, rows, cols, ld), view(one, rows, cols), &stats);
    ASSERT_EQ(steepest_msign(this->context.get(), &config, rows, cols, steepest::dtype_of<T>,
                             a.data(), ld, expected.data(), cols, nullptr, &plain),
              STEEPEST_OK)
        << steepest_last_error();
    EXPECT_TRUE(same_bits(one, expected));
    EXPECT_EQ(std::memcmp(&stats, &plain, sizeof stats), 0);

    steepest::msign(this->context, config, input(b, rows, cols, ld), view(two, rows, cols));
    const std::array in = {input(a, rows, cols, ld), input(b, rows, cols, ld)};
    const std::array out = {view(batched, rows, cols), view(expected, rows, cols)};
    const std::size_t bytes =
        steepest::msign_workspace_size<T>(this->context, config, rows, cols, 2);
    std::vector<std::byte> memory(bytes);
    const steepest::workspace workspace(memory);
    std::array<steepest::msign_stats, 2> both;
    steepest::msign_batched<T>(this->context, config, in, out, both, &workspace);
    EXPECT_TRUE(same_bits(batched, one));
    EXPECT_TRUE(same_bits(expected, two));
    EXPECT_EQ(std::memcmp(&both[0], &plain, sizeof plain), 0);
  }
}

}  // namespace
