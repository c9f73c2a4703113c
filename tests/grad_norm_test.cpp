// SPDX-License-Identifier: Apache-2.0
//
// steepest_grad_norm against long double sums, at every size and magnitude.
#include "executors.hpp"

namespace steepest_test {
namespace {

template <class Real>
steepest_vector make_vector(const Real* data, std::size_t count) {
  steepest_vector vector = STEEPEST_VECTOR_INIT;
  vector.count = static_cast<std::int64_t>(count);
  vector.data = data;
  vector.dtype = dtype_of<Real>;
  return vector;
}

struct answer {
  double norm = -1;
  std::int64_t nonfinite = -1;
};

answer grad_norm(steepest_context* context, const std::vector<steepest_vector>& vectors) {
  answer a;
  EXPECT_OK(steepest_grad_norm(context, vectors.data(), static_cast<std::int64_t>(vectors.size()),
                               &a.norm, &a.nonfinite));
  return a;
}

template <class Real>
answer grad_norm(steepest_context* context, const std::vector<Real>& values) {
  return grad_norm(context, {make_vector(values.data(), values.size())});
}

template <class Real>
std::vector<Real> random_values(random_source& random, std::size_t count, int exponent = 0) {
  std::vector<Real> values(count);
  for (Real& x : values) x = static_cast<Real>(std::ldexp(random.normal(), exponent));
  return values;
}

template <class Real>
long double exact_norm(const std::vector<Real>& values) {
  long double sum = 0;
  for (const Real x : values) sum += static_cast<long double>(x) * x;
  return std::sqrt(sum);
}

template <class Real>
class grad_norm_of : public testing::Test {};
using types = testing::Types<float, double>;
TYPED_TEST_SUITE(grad_norm_of, types);

TYPED_TEST(grad_norm_of, every_size_on_every_level) {
  random_source random(51);
  std::vector<std::size_t> counts{127, 128, 1023, 4097, 10007, 65537, 300007};
  for (std::size_t count = 0; count <= 67; ++count) counts.push_back(count);
  for (const std::size_t count : counts) {
    const auto values = random_values<TypeParam>(random, count);
    for (const steepest_isa isa : levels()) {
      const context_pointer context = make_context({.max_isa = isa});
      const answer a = grad_norm(context.get(), values);
      EXPECT_LE(std::abs(a.norm - exact_norm(values)), 1e-14 * a.norm) << "count " << count;
      EXPECT_EQ(a.nonfinite, 0);
      for (const bool at_end : {true, false}) {
        fenced<TypeParam> at_page(values, at_end);
        const answer same = grad_norm(context.get(), {make_vector(at_page.data(), count)});
        EXPECT_TRUE(same_bits(same.norm, a.norm));
      }
    }
  }
}

TYPED_TEST(grad_norm_of, squares_out_of_range) {
  random_source random(52);
  using limits = std::numeric_limits<TypeParam>;
  const int top = limits::max_exponent, bottom = limits::min_exponent;
  // In the middle also where squares are denormal and have lost half of their bits.
  for (const int exponent :
       {top - 8, top / 2 + 3, bottom / 2 - 3, bottom / 2 - 14, bottom + 2, bottom - 10}) {
    const auto values = random_values<TypeParam>(random, 1009, exponent);
    const long double exact = exact_norm(values);
    for (const steepest_isa isa : levels()) {
      const answer a = grad_norm(make_context({.max_isa = isa, .threads = 2}).get(), values);
      EXPECT_LE(std::abs(a.norm - exact), std::max(1e-14L * exact, ulp<double>(exact)))
          << steepest_isa_name(isa) << " exponent " << exponent;
    }
  }
}

// Large and small together: what is negligible must not disturb, what is not must count.
TYPED_TEST(grad_norm_of, mixed_magnitudes) {
  using limits = std::numeric_limits<TypeParam>;
  const TypeParam huge = std::ldexp(TypeParam(1), limits::max_exponent - 4);
  const TypeParam tiny = limits::denorm_min();
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    const auto norm = [&](const std::vector<TypeParam>& x) {
      return grad_norm(context.get(), x).norm;
    };
    EXPECT_EQ(norm({3, -4}), 5);
    EXPECT_EQ(norm({3 * tiny, 0, -4 * tiny}), 5 * double(tiny));
    EXPECT_EQ(norm({tiny}), double(tiny));
    EXPECT_EQ(norm({0, huge, tiny}), double(huge));
    EXPECT_EQ(norm({tiny, 3 * huge, 1, 4 * huge}), 5 * double(huge));
    EXPECT_EQ(norm({0, TypeParam(-0.0)}), 0);
    EXPECT_EQ(norm({}), 0);
    EXPECT_EQ(norm({limits::max()}), double(limits::max()));
  }
}

// The result is in range although the sum of squares of two vectors, and their scales, are not.
TEST(grad_norm, vectors_of_different_magnitudes_and_types) {
  const double huge[] = {3e200, 0, 1};
  const double also_huge[] = {4e200};
  const float small[] = {1e-30f, 2};
  const double tiny[] = {3e-200, 4e-200};
  const context_pointer context = make_context();
  const auto norm = [&](const std::vector<steepest_vector>& x) {
    return grad_norm(context.get(), x).norm;
  };
  EXPECT_DOUBLE_EQ(norm({make_vector(huge, 3), make_vector(small, 2), make_vector(also_huge, 1),
                         make_vector(tiny, 2)}),
                   5e200);
  EXPECT_DOUBLE_EQ(norm({make_vector(tiny, 1), make_vector(tiny + 1, 1)}), 5e-200);
  EXPECT_DOUBLE_EQ(norm({make_vector(small + 1, 1), make_vector(small + 1, 1)}), std::sqrt(8.0));
}

TYPED_TEST(grad_norm_of, nonfinite_elements) {
  using limits = std::numeric_limits<TypeParam>;
  const TypeParam inf = limits::infinity(), nan = limits::quiet_NaN();
  random_source random(53);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa, .threads = 2});
    for (const std::size_t count : {1, 16, 67, 100003}) {
      auto values = random_values<TypeParam>(random, count);
      values[count / 2] = -inf;
      answer a = grad_norm(context.get(), values);
      EXPECT_EQ(a.nonfinite, 1);
      EXPECT_EQ(a.norm, double(inf));
      values[0] = nan;
      values[count - 1] = inf;
      a = grad_norm(context.get(), values);
      const std::int64_t expected = std::count_if(values.begin(), values.end(),
                                                  [](TypeParam x) { return !std::isfinite(x); });
      EXPECT_EQ(a.nonfinite, expected);
      EXPECT_EQ(std::isnan(a.norm), count > 1) << a.norm;
    }
    // Finite elements whose norm exceeds the largest double are no non-finite elements.
    const std::vector<double> overflow(64, std::numeric_limits<double>::max());
    const answer a = grad_norm(context.get(), overflow);
    EXPECT_EQ(a.nonfinite, 0);
    EXPECT_EQ(a.norm, std::numeric_limits<double>::infinity());
  }
}

TYPED_TEST(grad_norm_of, same_bits_for_threads_executors_and_lists) {
  random_source random(54);
  const auto values = random_values<TypeParam>(random, 1 << 19 | 3);
  std::vector<steepest_vector> list;
  for (std::size_t first = 0; first < values.size();) {
    const auto count = std::min(std::size_t(random.below(5000)), values.size() - first);
    list.push_back(make_vector(values.data() + first, count));
    first += count;
  }
  std::vector<answer> consistent;
  for (const steepest_isa isa : levels()) {
    const context_pointer serial = make_context({.max_isa = isa});
    const answer whole = grad_norm(serial.get(), values);
    const answer pieces = grad_norm(serial.get(), list);
    EXPECT_NEAR(pieces.norm / whole.norm, 1, 1e-14);
    const auto expect_same = [&](const context_pointer& context) {
      EXPECT_TRUE(same_bits(grad_norm(context.get(), values).norm, whole.norm));
      EXPECT_TRUE(same_bits(grad_norm(context.get(), list).norm, pieces.norm));
    };
    expect_same(make_context({.max_isa = isa, .threads = 2}));
    for (const std::int32_t workers : {3, 8}) {
      reversed_executor own(workers);
      const steepest_executor executor = own.interface();
      expect_same(make_context({.max_isa = isa, .executor = &executor}));
      EXPECT_GT(own.tasks_run, 0);
    }

    const context_pointer strict =
        make_context({.max_isa = isa, .flags = STEEPEST_FLAG_CONSISTENT});
    consistent.push_back(grad_norm(strict.get(), values));
    EXPECT_TRUE(same_bits(consistent.back().norm, consistent.front().norm));
  }
}

// Of many short vectors, since the last bit of a long one's sum seldom shows the order of its
// terms.
TYPED_TEST(grad_norm_of, same_bits_on_every_level_if_consistent) {
  random_source random(58);
  std::vector<context_pointer> contexts;
  for (const steepest_isa isa : levels())
    contexts.push_back(make_context({.max_isa = isa, .flags = STEEPEST_FLAG_CONSISTENT}));
  for (int i = 0; i < 200; ++i) {
    const auto count = static_cast<std::size_t>(50 + random.below(1000));
    const auto values = random_values<TypeParam>(random, count);
    const answer first = grad_norm(contexts.front().get(), values);
    for (const context_pointer& context : contexts)
      EXPECT_TRUE(same_bits(grad_norm(context.get(), values).norm, first.norm)) << count;
  }
}

TYPED_TEST(grad_norm_of, any_offset_gives_the_same_bits) {
  random_source random(55);
  const auto values = random_values<TypeParam>(random, 5003);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    const answer expected = grad_norm(context.get(), values);
    for (std::size_t offset = 0; offset < 16; ++offset) {
      guarded<TypeParam> moved(values, offset);
      const answer a = grad_norm(context.get(), {make_vector(moved.data(), values.size())});
      EXPECT_TRUE(same_bits(a.norm, expected.norm));
    }
  }
}

TEST(grad_norm, either_output_may_be_null) {
  const float values[] = {3, 4, NAN};
  const steepest_vector vector = make_vector(values, 2);
  const steepest_vector with_nan = make_vector(values, 3);
  double norm = -1;
  std::int64_t nonfinite = -1;
  EXPECT_OK(steepest_grad_norm(nullptr, &vector, 1, &norm, nullptr));
  EXPECT_EQ(norm, 5);
  EXPECT_OK(steepest_grad_norm(nullptr, &with_nan, 1, nullptr, &nonfinite));
  EXPECT_EQ(nonfinite, 1);
  EXPECT_OK(steepest_grad_norm(nullptr, &vector, 1, nullptr, nullptr));
  EXPECT_OK(steepest_grad_norm(nullptr, nullptr, 0, &norm, &nonfinite));
  EXPECT_EQ(norm, 0);
  EXPECT_EQ(nonfinite, 0);
}

// ------------------------------------------------------------------ RMS

TEST(rms, is_the_norm_over_the_root_of_the_count) {
  random_source random(57);
  for (const std::size_t count : {1, 2, 63, 64, 65, 1000, 70001}) {
    const auto a = random_values<float>(random, count);
    const auto b = random_values<double>(random, 2 * count + 1);
    const std::vector<steepest_vector> vectors{make_vector(a.data(), a.size()),
                                               make_vector(b.data(), b.size())};
    double rms = -7;
    std::int64_t nonfinite = -7;
    EXPECT_OK(steepest_rms(nullptr, vectors.data(), 2, &rms, &nonfinite));
    const long double na = exact_norm(a), nb = exact_norm(b);
    const auto expected = static_cast<double>(
        std::sqrt((na * na + nb * nb) / static_cast<long double>(3 * count + 1)));
    EXPECT_NEAR(rms, expected, 1e-14 * expected);
    EXPECT_EQ(nonfinite, 0);
    EXPECT_OK(steepest_rms(nullptr, vectors.data(), 2, &rms, nullptr));
    EXPECT_OK(steepest_rms(nullptr, vectors.data(), 2, nullptr, nullptr));
  }
}

TEST(rms, of_large_values_and_of_none) {
  // The norm is beyond the range of a double, the RMS is not.
  const std::vector<double> large(16, 1.5e308);
  steepest_vector vector = make_vector(large.data(), large.size());
  double rms = -7;
  EXPECT_OK(steepest_rms(nullptr, &vector, 1, &rms, nullptr));
  EXPECT_NEAR(rms / 1.5e308, 1, 1e-14);
  vector.count = 0;
  for (const std::int64_t count : {0, 1}) {
    rms = -7;
    EXPECT_OK(steepest_rms(nullptr, &vector, count, &rms, nullptr));
    EXPECT_EQ(rms, 0);
  }
}

TEST(rms, of_what_is_not_finite) {
  const std::vector<float> values{1, NAN, INFINITY, 2};
  const steepest_vector vector = make_vector(values.data(), 4);
  double rms = -7;
  std::int64_t nonfinite = -7;
  EXPECT_OK(steepest_rms(nullptr, &vector, 1, &rms, &nonfinite));
  EXPECT_TRUE(std::isnan(rms));
  EXPECT_EQ(nonfinite, 2);
  rms = -7;
  steepest_vector bad = vector;
  bad.dtype = 0;
  EXPECT_EQ(steepest_rms(nullptr, &bad, 1, &rms, &nonfinite), STEEPEST_E_DTYPE);
  EXPECT_EQ(std::string(steepest_last_error()).rfind("rms: vectors[0].dtype", 0), 0);
  EXPECT_EQ(steepest_rms(nullptr, nullptr, 1, &rms, &nonfinite), STEEPEST_E_INVALID_ARGUMENT);
  EXPECT_EQ(rms, -7);
}

}  // namespace
}  // namespace steepest_test
