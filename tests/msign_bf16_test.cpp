// SPDX-License-Identifier: Apache-2.0
//
// msign with bf16 products: near the fp32 result where bf16 allows it, the same bits for any number
// of threads, and refused where the CPU has no instruction for it.
#include "support.hpp"

namespace steepest_test {
namespace {

context_pointer capable(std::int32_t threads = 1) {
  return make_context({.max_isa = levels().back(), .threads = threads});
}

bool has_bf16() { return levels().back() == STEEPEST_ISA_X86_AVX512_BF16; }

#define REQUIRE_BF16() \
  if (!has_bf16()) GTEST_SKIP() << "this CPU has no AVX512_BF16"

std::vector<float> gaussian(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  random_source random(seed);
  std::vector<float> x(static_cast<std::size_t>(rows * cols));
  for (float& each : x) each = static_cast<float>(random.normal());
  return x;
}

steepest_msign_config make_msign(std::int32_t method, steepest_dtype compute,
                                 std::uint64_t flags = 0) {
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  config.method = method;
  config.compute_dtype = compute;
  config.flags = flags;
  return config;
}

std::vector<float> msign(steepest_context* context, const steepest_msign_config& config,
                         std::int64_t rows, std::int64_t cols, const std::vector<float>& x) {
  std::vector<float> out(x.size(), NAN);
  EXPECT_OK(steepest_msign(context, &config, rows, cols, STEEPEST_F32, x.data(), 0, out.data(), 0,
                           nullptr, nullptr));
  return out;
}

double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0;
  double total = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    total += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / total);
}

const std::int32_t methods[] = {STEEPEST_MSIGN_AUTO, STEEPEST_MSIGN_RATIONAL, STEEPEST_MSIGN_HALLEY,
                                STEEPEST_MSIGN_NEWTON_SCHULZ, STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ};

// Matrices of condition about 3, whose directions bf16 turns by some 2^-9 times that. Every n
// around the widths of panels and words, either orientation.
TEST(msign_bf16, near_f32_on_every_size) {
  REQUIRE_BF16();
  const context_pointer context = capable();
  for (std::int64_t n = 2; n <= 70; n += n < 5 || n > 60 ? 1 : 3) {
    for (const bool tall : {false, true}) {
      const std::int64_t m = 4 * n + 3;
      const std::int64_t rows = tall ? m : n;
      const std::int64_t cols = tall ? n : m;
      const std::vector<float> x = gaussian(rows, cols, static_cast<std::uint64_t>(n));
      for (const std::int32_t method : methods) {
        const auto exact = msign(context.get(), make_msign(method, STEEPEST_F32), rows, cols, x);
        for (const std::uint64_t flags : {std::uint64_t{0}, STEEPEST_MSIGN_SPLIT_BF16}) {
          const auto got =
              msign(context.get(), make_msign(method, STEEPEST_BF16, flags), rows, cols, x);
          const double distance = relative_distance(got, exact);
          EXPECT_LE(distance, 5e-2) << method << ", " << rows << " x " << cols << ", " << flags;
          EXPECT_GT(distance, 0) << "bf16 was not used";
        }
      }
    }
  }
}

// Small integers are bf16 numbers: the Gram matrix is then that of fp32, and so is X in the last
// product, where a split Q leaves an error of 2^-17.
TEST(msign_bf16, exact_input_and_a_split_factor) {
  REQUIRE_BF16();
  const context_pointer context = capable();
  for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{40, 200}, {200, 40}}) {
    std::vector<float> x = gaussian(rows, cols, 7);
    for (float& each : x) each = std::round(20 * each);
    const auto exact =
        msign(context.get(), make_msign(STEEPEST_MSIGN_RATIONAL, STEEPEST_F32), rows, cols, x);
    const auto split =
        msign(context.get(),
              make_msign(STEEPEST_MSIGN_RATIONAL, STEEPEST_BF16, STEEPEST_MSIGN_SPLIT_BF16), rows,
              cols, x);
    const auto single =
        msign(context.get(), make_msign(STEEPEST_MSIGN_RATIONAL, STEEPEST_BF16), rows, cols, x);
    EXPECT_LE(relative_distance(split, exact), 5e-5);
    EXPECT_GT(relative_distance(single, exact), 3e-4);
    EXPECT_LE(relative_distance(single, exact), 1e-2);
  }
}

TEST(msign_bf16, strides_and_gaps) {
  REQUIRE_BF16();
  const context_pointer context = capable();
  const std::int64_t rows = 37;
  const std::int64_t cols = 101;
  const std::vector<float> x = gaussian(rows, cols, 9);
  const auto config = make_msign(STEEPEST_MSIGN_RATIONAL, STEEPEST_BF16);
  const auto expected = msign(context.get(), config, rows, cols, x);
  const std::int64_t ldx = cols + 5;
  const std::int64_t ldo = cols + 3;
  std::vector<float> wide(static_cast<std::size_t>(rows * ldx), NAN);
  std::vector<float> out(static_cast<std::size_t>(rows * ldo), -7);
  for (std::int64_t i = 0; i < rows; ++i)
    std::copy_n(x.data() + i * cols, cols, wide.data() + i * ldx);
  ASSERT_OK(steepest_msign(context.get(), &config, rows, cols, STEEPEST_F32, wide.data(), ldx,
                           out.data(), ldo, nullptr, nullptr));
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < ldo; ++j) {
      const float got = out[static_cast<std::size_t>(i * ldo + j)];
      if (j < cols)
        EXPECT_EQ(got, expected[static_cast<std::size_t>(i * cols + j)]);
      else
        EXPECT_EQ(got, -7);
    }
}

TEST(msign_bf16, same_bits_for_any_threads) {
  REQUIRE_BF16();
  for (const auto& [rows, cols] :
       {std::pair<std::int64_t, std::int64_t>{300, 450}, {530, 270}, {20, 70}}) {
    const std::vector<float> x = gaussian(rows, cols, 11);
    for (const std::int32_t method : methods) {
      const auto config = make_msign(method, STEEPEST_BF16, STEEPEST_MSIGN_SPLIT_BF16);
      const auto expected = msign(capable().get(), config, rows, cols, x);
      for (const std::int32_t threads : {2, 3, 8}) {
        const auto got = msign(capable(threads).get(), config, rows, cols, x);
        EXPECT_TRUE(same_bits(got, expected)) << method << ", " << threads << " threads";
      }
    }
  }
}

TEST(msign_bf16, muon_takes_it) {
  REQUIRE_BF16();
  const context_pointer context = capable();
  const std::int64_t rows = 48;
  const std::int64_t cols = 192;
  const std::vector<float> gradient = gaussian(rows, cols, 13);
  std::vector<float> param[2];
  for (const steepest_dtype compute : {STEEPEST_F32, STEEPEST_BF16}) {
    std::vector<float>& w = param[compute == STEEPEST_BF16];
    w.assign(gradient.size(), 0.0F);
    std::vector<float> momentum(gradient.size(), 0.0F);
    const steepest_msign_config msign_config = make_msign(STEEPEST_MSIGN_AUTO, compute);
    steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
    config.msign = &msign_config;
    steepest_muon_tensor tensor = STEEPEST_MUON_TENSOR_INIT;
    tensor.rows = rows;
    tensor.cols = cols;
    tensor.param = w.data();
    tensor.grad = gradient.data();
    tensor.momentum = momentum.data();
    ASSERT_OK(steepest_muon_step(context.get(), &config, &tensor, 1, nullptr, nullptr));
  }
  EXPECT_LE(relative_distance(param[1], param[0]), 2e-2);
  EXPECT_GT(relative_distance(param[1], param[0]), 0);
}

// Where the level has no such instruction, with CONSISTENT, and with OpenBLAS.
TEST(msign_bf16, refused) {
  const std::vector<float> x = gaussian(5, 9, 15);
  std::vector<float> out(x.size(), -7);
  const auto refuse = [&](steepest_context* context, const steepest_msign_config& config) {
    EXPECT_EQ(steepest_msign(context, &config, 5, 9, STEEPEST_F32, x.data(), 0, out.data(), 0,
                             nullptr, nullptr),
              STEEPEST_E_UNSUPPORTED);
    EXPECT_NE(std::string(steepest_last_error()).find("msign: config.compute_dtype"),
              std::string::npos)
        << steepest_last_error();
    for (const float each : out) EXPECT_EQ(each, -7);
  };
  const auto config = make_msign(STEEPEST_MSIGN_RATIONAL, STEEPEST_BF16);
  for (const steepest_isa isa : levels())
    if (isa != STEEPEST_ISA_X86_AVX512_BF16) refuse(make_context({.max_isa = isa}).get(), config);
  if (!has_bf16()) return;
  refuse(make_context({.flags = STEEPEST_FLAG_CONSISTENT}).get(), config);
  refuse(make_context({.flags = STEEPEST_CONTEXT_OPENBLAS}).get(), config);
  refuse(capable().get(),
         make_msign(STEEPEST_MSIGN_RATIONAL, STEEPEST_BF16, STEEPEST_FLAG_CONSISTENT));
}

}  // namespace
}  // namespace steepest_test
