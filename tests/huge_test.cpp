// SPDX-License-Identifier: Apache-2.0
//
// Tensors of more elements than 32 bits count. Address space costs nothing: one small file is
// mapped over and over, so that elements a period apart share memory, or nothing is there but the
// pages around 2^31, 2^32 and the end, which every test gives values of their own.
#include <array>

#include "support.hpp"

namespace steepest_test {
namespace {

constexpr std::int64_t total = (std::int64_t{3} << 31) + 5;
// Elements on both sides of a place of interest; whole chunks, and whole pages of any type.
constexpr std::int64_t margin = STEEPEST_ADAMW_CHUNK;

struct window {
  std::int64_t first, end;
};
constexpr std::array<window, 3> windows = {
    {{(std::int64_t{1} << 31) - margin, (std::int64_t{1} << 31) + margin},
     {(std::int64_t{1} << 32) - margin, (std::int64_t{1} << 32) + margin},
     {total - 5 - margin, total}}};

bool in_window(std::int64_t i) {
  return std::any_of(windows.begin(), windows.end(),
                     [i](const window& w) { return i >= w.first && i < w.end; });
}

// `total` elements of T at addresses of their own. With a period, elements i and i + period outside
// of the windows are the same memory.
template <class T>
class huge_array {
 public:
  explicit huge_array(std::int64_t period = 0) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    bytes_ = (static_cast<std::size_t>(total) * sizeof(T) + page - 1) / page * page;
    void* const map =
        mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) std::abort();
    data_ = static_cast<T*>(map);
    if (period != 0) map_file(static_cast<std::size_t>(period) * sizeof(T));
    for (const window& w : windows) {
      void* const begin = data_ + w.first;
      const auto size = static_cast<std::size_t>(w.end - w.first) * sizeof(T);
      if (mmap(begin, (size + page - 1) / page * page, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        std::abort();
    }
  }
  ~huge_array() { munmap(data_, bytes_); }
  huge_array(const huge_array&) = delete;
  huge_array& operator=(const huge_array&) = delete;

  T* data() { return data_; }
  T& operator[](std::int64_t i) { return data_[i]; }

 private:
  void map_file(std::size_t size) {
    const int file = memfd_create("steepest-test", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(size)) != 0) std::abort();
    auto* const start = reinterpret_cast<unsigned char*>(data_);
    for (std::size_t at = 0; at < bytes_; at += size)
      if (mmap(start + at, std::min(size, bytes_ - at), PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED)
        std::abort();
    close(file);
  }

  std::size_t bytes_ = 0;
  T* data_ = nullptr;
};

constexpr std::uint16_t bf16_one = 0x3f80, bf16_minus_one = 0xbf80;

// A step whose changes are exact: m = g = +-1, v = 1, param -= lr g.
steepest_adamw_config counting_config() {
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  config.lr = 0x1p-10;
  config.beta1 = config.beta2 = config.weight_decay = 0;
  return config;
}

struct huge_tensor {
  huge_array<float> param, exp_avg, exp_avg_sq;
  huge_array<std::uint16_t> grad;

  explicit huge_tensor(std::int64_t period)
      : param(period), exp_avg(period), exp_avg_sq(period), grad(period) {
    for (const window& w : windows)
      for (std::int64_t i = w.first; i < w.end; ++i) {
        param[i] = start(i);
        grad[i] = sign(i) > 0 ? bf16_one : bf16_minus_one;
      }
  }
  static float start(std::int64_t i) { return static_cast<float>(i % 1009) * 0x1p-6F; }
  static float sign(std::int64_t i) {
    return random_source(static_cast<std::uint64_t>(i)).bits() % 2 != 0 ? 1.0F : -1.0F;
  }

  steepest_adamw_tensor tensor() {
    steepest_adamw_tensor t = STEEPEST_ADAMW_TENSOR_INIT;
    t.count = total;
    t.param = param.data();
    t.grad = grad.data();
    t.exp_avg = exp_avg.data();
    t.exp_avg_sq = exp_avg_sq.data();
    t.grad_dtype = STEEPEST_BF16;
    return t;
  }
  void expect_one_step_in_windows() {
    std::int64_t wrong = 0;
    for (const window& w : windows)
      for (std::int64_t i = w.first; i < w.end; ++i)
        wrong += param[i] != start(i) - sign(i) * 0x1p-10F || exp_avg[i] != sign(i) ||
                 exp_avg_sq[i] != 1;
    EXPECT_EQ(wrong, 0);
  }
};

class huge : public testing::Test {
 protected:
  void SetUp() override {
    if (sysconf(_SC_PAGESIZE) != 4096) GTEST_SKIP() << "for pages of 4 KiB";
  }
};

// Nothing else is there: an index that is off by 2^32 ends the test.
TEST_F(huge, chunks_at_the_ends_of_32_bits) {
  huge_tensor x(0);
  const steepest_adamw_tensor tensor = x.tensor();
  const steepest_adamw_config config = counting_config();
  for (const std::int32_t threads : {1, 2}) {
    if (threads == 2)
      for (const window& w : windows)
        for (std::int64_t i = w.first; i < w.end; ++i) x.param[i] = huge_tensor::start(i);
    const context_pointer context = make_context({.threads = threads});
    steepest_adamw_plan* plan = nullptr;
    ASSERT_OK(steepest_adamw_begin(context.get(), &config, &tensor, 1, &plan));
    for (const window& w : windows)
      EXPECT_OK(steepest_adamw_chunk(plan, 0, w.first, w.end - w.first));
    EXPECT_EQ(steepest_adamw_chunk(plan, 0, windows[1].first, margin), STEEPEST_E_INVALID_ARGUMENT)
        << "stepped already";
    EXPECT_EQ(
        steepest_adamw_chunk(plan, 0, windows[2].first, windows[2].end - windows[2].first + 1),
        STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_EQ(steepest_adamw_end(plan, nullptr), STEEPEST_E_INVALID_ARGUMENT);
    x.expect_one_step_in_windows();
  }
}

// On one thread, since elements a period apart are the same memory; the period is no power of two,
// so an index that lost its upper bits would hit another element. Half a minute.
TEST_F(huge, a_step_over_3_times_2_to_the_31) {
  if (!long_run()) GTEST_SKIP() << "only in the long form";
  constexpr std::int64_t period = 4097 * 2048;
  huge_tensor x(period);
  for (std::int64_t i = 0; i < period; ++i) {
    ASSERT_FALSE(in_window(i));
    x.param[i] = 0;
    x.grad[i] = huge_tensor::sign(i) > 0 ? bf16_one : bf16_minus_one;
  }
  const steepest_adamw_tensor tensor = x.tensor();
  const steepest_adamw_config config = counting_config();
  const context_pointer context = make_context();
  steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
  ASSERT_OK(steepest_adamw_step(context.get(), &config, &tensor, 1, &stats));
  x.expect_one_step_in_windows();
  EXPECT_NEAR(stats.grad_rms, 1, 1e-6);
  EXPECT_NEAR(stats.update_rms, 1, 1e-6);
  EXPECT_EQ(stats.nonfinite, 0);

  std::vector<std::int32_t> visits(period, static_cast<std::int32_t>(total / period));
  for (std::int64_t i = 0; i < total % period; ++i) ++visits[static_cast<std::size_t>(i)];
  for (const window& w : windows)
    for (std::int64_t i = w.first; i < w.end; ++i) --visits[static_cast<std::size_t>(i % period)];
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < period; ++i) {
    const auto count = static_cast<float>(visits[static_cast<std::size_t>(i)]);
    const float sign = huge_tensor::sign(i);
    wrong += x.param[i] != -sign * count * 0x1p-10F || x.exp_avg[i] != sign;
  }
  EXPECT_EQ(wrong, 0);

  steepest_vector vector = STEEPEST_VECTOR_INIT;
  vector.count = total;
  vector.data = x.grad.data();
  vector.dtype = STEEPEST_BF16;
  double norm = 0;
  ASSERT_OK(steepest_grad_norm(context.get(), &vector, 1, &norm, nullptr));
  EXPECT_EQ(norm, std::sqrt(static_cast<double>(total)));
}

}  // namespace
}  // namespace steepest_test
