// SPDX-License-Identifier: Apache-2.0
//
// The matrix operations behind msign, and the tile kernels under them, against plain loops in the
// next wider type. A dot product of `length` terms, in any order, is right to (length + 3) u times
// the sum of the terms' magnitudes, u = eps / 2; that is the bound throughout. Memory that may not
// matter is NaN beforehand, and every buffer ends (or begins) at a page that may not be touched.
#include "core/context.hpp"
#include "dispatch/tables.hpp"
#include "executors.hpp"
#include "linalg/linalg.hpp"
#include "matrix_oracle.hpp"

namespace steepest_test {
namespace {

namespace linalg = steepest::linalg;
using linalg::matrix;
using linalg::panel_kernels;
using linalg::panel_width;
using linalg::symmetric;
using std::int64_t;

template <class T>
using wide = std::conditional_t<sizeof(T) == 4, double, long double>;

template <class T>
inline constexpr T nan_of = std::numeric_limits<T>::quiet_NaN();
template <class T>
inline constexpr T half_eps = std::numeric_limits<T>::epsilon() / 2;

template <class T>
std::vector<T> filled(int64_t count, T value) {
  return std::vector<T>(static_cast<std::size_t>(count), value);
}

template <class T>
std::vector<T> normals(random_source& random, int64_t count) {
  std::vector<T> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<T>(random.normal()));
  return values;
}

// ------------------------------------------------------------------ what is tested

template <class T>
struct subject {
  std::string name;
  context_pointer context;
  const panel_kernels<T>* kernels;
  // fma by software: small sizes only.
  bool slow;
};

template <class T>
const panel_kernels<T>& kernels_of(const steepest_context& context, bool exact) {
  const auto& table = context.tables->linalg;
  return (exact ? table.exact : table.fast).template of<T>();
}

// Both tables of every level that have kernels of their own; the highest level comes first. With
// `openblas` also the context that does without them.
template <class T>
std::vector<subject<T>> subjects(bool openblas = false) {
  std::vector<subject<T>> found;
  for (auto isa = levels().rbegin(); isa != levels().rend(); ++isa)
    for (const bool exact : {false, true}) {
      context_pointer context = make_context({.max_isa = *isa});
      const panel_kernels<T>* const kernels = &kernels_of<T>(*context, exact);
      const bool known = std::any_of(found.begin(), found.end(), [&](const subject<T>& other) {
        return same_bits(*other.kernels, *kernels);
      });
      if (known) continue;
      found.push_back({std::string(steepest_isa_name(*isa)) + (exact ? " exact" : " fast"),
                       std::move(context), kernels, exact && *isa == STEEPEST_ISA_GENERIC});
    }
  if (openblas) {
    context_pointer context = make_context({.flags = STEEPEST_CONTEXT_OPENBLAS});
    const panel_kernels<T>* const kernels = &kernels_of<T>(*context, false);
    found.push_back({"openblas", std::move(context), kernels, false});
  }
  return found;
}

template <class T>
class linalg_test : public testing::Test {};
class type_names {
 public:
  template <class T>
  static std::string GetName(int) {
    return type_name<T>();
  }
};
using types = testing::Types<float, double>;
TYPED_TEST_SUITE(linalg_test, types, type_names);

// ------------------------------------------------------------------ an exact sum and its bound

template <class T>
struct exact_sum {
  wide<T> value = 0, magnitude = 0;

  void add(wide<T> a, wide<T> b) {
    value += a * b;
    magnitude += std::abs(a * b);
  }
  bool admits(T got, int64_t length) const {
    const wide<T> slack = static_cast<wide<T>>(length + 3) * half_eps<T> * magnitude;
    return std::abs(got - value) <= slack;  // false for NaN
  }
};

// ------------------------------------------------------------------ layouts

// Row-major with NaN between the rows, and nothing behind the last element.
template <class T>
std::vector<T> with_gaps(int64_t rows, int64_t cols, int64_t stride, const T* values) {
  std::vector<T> result = filled((rows - 1) * stride + cols, nan_of<T>);
  for (int64_t i = 0; i < rows; ++i)
    std::copy_n(values + i * cols, cols, result.data() + i * stride);
  return result;
}

template <class T>
bool gaps_untouched(const T* values, int64_t rows, int64_t cols, int64_t stride) {
  for (int64_t i = 0; i + 1 < rows; ++i)
    for (int64_t j = cols; j < stride; ++j)
      if (!same_bits(values[i * stride + j], nan_of<T>)) return false;
  return true;
}

template <class T>
int64_t position(const symmetric<T>& s, int64_t i, int64_t j) {
  return s.panel(j / panel_width<T>) + i * panel_width<T> + j % panel_width<T>;
}

// Whether an element lies in a tile on or below the diagonal.
template <class T>
bool is_kept(int64_t i, int64_t j) {
  return i / panel_width<T> >= j / panel_width<T>;
}

// An n x n matrix in panels: beyond n a diagonal of `beyond`, and NaN in the tiles above the
// diagonal unless it is to be full.
template <class T>
std::vector<T> in_panels(const symmetric<T>& s, const std::vector<T>& a, bool full, T beyond) {
  std::vector<T> panels = filled(s.elements(), T{0});
  for (int64_t i = 0; i < s.rows; ++i)
    for (int64_t j = 0; j < s.rows; ++j) {
      T& element = panels.data()[position(s, i, j)];
      if (i < s.n && j < s.n)
        element = a.data()[i * s.n + j];
      else if (i == j)
        element = beyond;
      if (!full && !is_kept<T>(i, j)) element = nan_of<T>;
    }
  return panels;
}

// Scratch or a result: NaN beforehand, flush against a page that may not be touched.
template <class T>
struct spoilt : fenced<T> {
  spoilt(int64_t count, bool at_end) : fenced<T>(filled(count, nan_of<T>), at_end) {}
};

// ------------------------------------------------------------------ products

// X, a symmetric Q, and what gram and multiply should make of them.
template <class T>
struct product_problem {
  int64_t rows, cols, n, m;
  std::vector<T> x, q;
  std::vector<exact_sum<T>> gram, product;

  product_problem(random_source& random, int64_t row_count, int64_t col_count)
      : rows(row_count), cols(col_count), n(std::min(rows, cols)), m(std::max(rows, cols)),
        x(normals<T>(random, rows * cols)), q(normals<T>(random, n * n)),
        gram(static_cast<std::size_t>(n * n)), product(static_cast<std::size_t>(rows * cols)) {
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < i; ++j) q.data()[j * n + i] = q.data()[i * n + j];
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        exact_sum<T>& sum = gram.data()[i * n + j];
        for (int64_t k = 0; k < m; ++k) sum.add(at(i, k), at(j, k));
        gram.data()[j * n + i] = sum;
      }
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < n; ++k)
        for (int64_t j = 0; j < m; ++j)
          product.data()[is_tall() ? j * cols + i : i * cols + j].add(q.data()[i * n + k],
                                                                      at(k, j));
  }

  bool is_tall() const { return rows > cols; }
  // Of X or, if that is tall, of its transpose.
  T at(int64_t i, int64_t j) const { return x.data()[is_tall() ? j * cols + i : i * cols + j]; }
};

template <class T>
void check_gram(const subject<T>& under, const product_problem<T>& p, int64_t gap, bool at_end) {
  const int64_t stride = p.cols + gap;
  const std::vector<T> values = with_gaps(p.rows, p.cols, stride, p.x.data());
  fenced<T> x(values, at_end);
  const symmetric<T> s(p.n);
  spoilt<T> packed(linalg::packed_elements<T>(*under.context, p.rows, p.cols), at_end);
  spoilt<T> scratch(linalg::product_elements<T>(*under.context, p.rows, p.cols), at_end);
  spoilt<T> r(s.elements(), at_end);
  const linalg::tile_source<T> from = {{x.data(), p.rows, p.cols, stride}};
  const linalg::product_memory<T> memory = {p.rows, p.cols, packed.data(), scratch.data()};
  ASSERT_OK(linalg::gram(*under.context, *under.kernels, &from, memory, r.data()));
  for (int64_t i = 0; i < s.rows; ++i)
    for (int64_t j = 0; j < s.rows; ++j) {
      if (!is_kept<T>(i, j)) continue;
      const T got = r.data()[position(s, i, j)];
      if (i < p.n && j < p.n)
        ASSERT_TRUE(p.gram.data()[i * p.n + j].admits(got, p.m)) << i << ", " << j << ": " << got;
      else
        ASSERT_EQ(got, 0) << i << ", " << j;
    }
  EXPECT_TRUE(same_bits(x.values(), values));
}

template <class T>
void check_multiply(const subject<T>& under, const product_problem<T>& p, int64_t gap,
                    bool at_end) {
  const int64_t stride = p.cols + gap;
  const int64_t out_stride = p.cols + (gap == 0 ? 0 : gap + 2);
  const std::vector<T> values = with_gaps(p.rows, p.cols, stride, p.x.data());
  fenced<T> x(values, at_end);
  const symmetric<T> s(p.n);
  const std::vector<T> panels = in_panels<T>(s, p.q, true, -3);
  fenced<T> q(panels, at_end);
  spoilt<T> packed(linalg::packed_elements<T>(*under.context, p.rows, p.cols), at_end);
  spoilt<T> scratch(linalg::product_elements<T>(*under.context, p.rows, p.cols), at_end);
  spoilt<T> out((p.rows - 1) * out_stride + p.cols, at_end);
  spoilt<T> unused(s.elements(), at_end);
  const linalg::tile_source<T> from = {{x.data(), p.rows, p.cols, stride}};
  const matrix<T> to = {out.data(), p.rows, p.cols, out_stride};
  const linalg::product_memory<T> memory = {p.rows, p.cols, packed.data(), scratch.data()};
  ASSERT_OK(linalg::gram(*under.context, *under.kernels, &from, memory, unused.data()));
  ASSERT_OK(linalg::multiply<T>(*under.context, *under.kernels, q.data(), memory, {to}));
  for (int64_t i = 0; i < p.rows; ++i)
    for (int64_t j = 0; j < p.cols; ++j) {
      const T got = out.data()[i * out_stride + j];
      ASSERT_TRUE(p.product.data()[i * p.cols + j].admits(got, p.n))
          << i << ", " << j << ": " << got;
    }
  EXPECT_TRUE(gaps_untouched(out.data(), p.rows, p.cols, out_stride));
  EXPECT_TRUE(same_bits(x.values(), values));
  EXPECT_TRUE(same_bits(q.values(), panels));
}

template <class T>
void check_products(const std::vector<subject<T>>& all, random_source& random, int64_t rows,
                    int64_t cols) {
  const product_problem<T> problem(random, rows, cols);
  for (const subject<T>& under : all) {
    if (under.slow && problem.n * problem.n * problem.m > 100'000) continue;
    const int64_t gap = random.below(2) == 0 ? 0 : 1 + random.below(37);
    const bool at_end = random.below(3) != 0;
    SCOPED_TRACE(testing::Message() << under.name << ' ' << rows << " x " << cols << " gap " << gap
                                    << (at_end ? " at the end" : " at the front"));
    check_gram(under, problem, gap, at_end);
    check_multiply(under, problem, gap, at_end);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TYPED_TEST(linalg_test, products_of_every_size) {
  const auto all = subjects<TypeParam>(true);
  random_source random(1);
  for (int64_t n = 1; n <= 70; ++n) {
    const std::vector<int64_t> others = {1, n, n - 1, 2 * n + 3, n + 1, 131};
    for (std::size_t k = 0; k < others.size(); ++k) {
      // Two of the six, so that each comes up with every third n, unless there is time.
      if (!long_run() && k / 2 != static_cast<std::size_t>(n % 3)) continue;
      if (others[k] == 0) continue;
      check_products(all, random, n, others[k]);
      check_products(all, random, others[k], n);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

// Around the depth of a pass, and around the number of panels taken together.
TYPED_TEST(linalg_test, products_around_block_boundaries) {
  const auto all = subjects<TypeParam>(true);
  random_source random(2);
  for (const int64_t n : {1, 3, 17, 33})
    for (const int64_t m : {255, 256, 257, 288, 289, 511, 512, 513, 780}) {
      check_products(all, random, n, m);
      check_products(all, random, m, n);
      if (testing::Test::HasFatalFailure()) return;
    }
  std::vector<std::pair<int64_t, int64_t>> sizes = {{96, 97}, {129, 129}, {257, 260}};
  if (long_run())
    for (const int64_t n : {95, 96, 97, 127, 128, 129, 255, 256, 257, 511, 512, 513})
      for (const int64_t m : {n - 1, n, n + 1, n + 67}) sizes.emplace_back(n, m);
  for (const auto& size : sizes) {
    check_products(all, random, size.first, size.second);
    check_products(all, random, size.second, size.first);
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Whole numbers, so that the matrices commute exactly and every product is exact too:
// B = A^2 - 2 A + 3 I.
template <class T>
void check_commuting_product(const std::vector<subject<T>>& all, random_source& random, int64_t n) {
  const symmetric<T> s(n);
  std::vector<T> a = filled(n * n, T{0});
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; ++j)
      a.data()[i * n + j] = a.data()[j * n + i] = static_cast<T>(random.below(5) - 2);
  const auto times = [n](const std::vector<T>& x, const std::vector<T>& y) {
    std::vector<T> z = filled(n * n, T{0});
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < n; ++k)
        for (int64_t j = 0; j < n; ++j)
          z.data()[i * n + j] += x.data()[i * n + k] * y.data()[k * n + j];
    return z;
  };
  const std::vector<T> square = times(a, a);
  std::vector<T> b = square;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      b.data()[i * n + j] += -2 * a.data()[i * n + j] + (i == j ? T{3} : T{0});
  const std::vector<T> expected = times(a, b);
  for (const subject<T>& under : all) {
    if (under.slow && n > 40) continue;
    for (const bool squared : {false, true}) {
      const bool at_end = random.below(3) != 0;
      SCOPED_TRACE(testing::Message() << under.name << " n " << n << (squared ? " squared" : ""));
      fenced<T> left(in_panels<T>(s, a, true, -3), at_end);
      fenced<T> right(in_panels<T>(s, squared ? a : b, true, 5), at_end);
      spoilt<T> c(s.elements(), at_end);
      spoilt<T> scratch(linalg::product_elements<T>(*under.context, n, n), at_end);
      ASSERT_OK(linalg::commuting_product(*under.context, *under.kernels, s, left.data(),
                                          squared ? left.data() : right.data(), c.data(),
                                          scratch.data()));
      for (int64_t i = 0; i < s.rows; ++i)
        for (int64_t j = 0; j < s.rows; ++j) {
          const T got = c.data()[position(s, i, j)];
          if (!is_kept<T>(i, j) || (i >= n && i == j)) continue;
          const T wanted = i < n && j < n ? (squared ? square : expected).data()[i * n + j] : T{0};
          ASSERT_EQ(got, wanted) << i << ", " << j;
        }
    }
  }
}

TYPED_TEST(linalg_test, commuting_product) {
  const auto all = subjects<TypeParam>(true);
  random_source random(3);
  std::vector<int64_t> sizes = {95, 96, 97, 127, 128, 129, 257};
  for (int64_t n = 1; n <= 70; ++n) sizes.push_back(n);
  if (long_run()) sizes.insert(sizes.end(), {255, 256, 288, 289, 511, 512, 513});
  for (const int64_t n : sizes) {
    check_commuting_product(all, random, n);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TYPED_TEST(linalg_test, make_full) {
  using T = TypeParam;
  random_source random(4);
  std::vector<int64_t> sizes = {95, 96, 97, 127, 128, 129, 255, 256, 257, 511, 512, 513};
  for (int64_t n = 1; n <= 70; ++n) sizes.push_back(n);
  const auto all = subjects<T>(true);
  for (const int64_t n : sizes)
    for (const subject<T>& under : all) {
      SCOPED_TRACE(testing::Message() << under.name << " n " << n);
      const symmetric<T> s(n);
      std::vector<T> given = filled(s.elements(), nan_of<T>);
      for (int64_t i = 0; i < s.rows; ++i)
        for (int64_t j = 0; j <= i; ++j)
          given.data()[position(s, i, j)] = static_cast<T>(random.uniform());
      fenced<T> a(given, random.below(3) != 0);
      ASSERT_OK(linalg::make_full(*under.context, *under.kernels, s, a.data()));
      for (int64_t i = 0; i < s.rows; ++i)
        for (int64_t j = 0; j <= i; ++j) {
          const T below = a.data()[position(s, i, j)];
          ASSERT_TRUE(same_bits(below, given.data()[position(s, i, j)])) << i << ", " << j;
          ASSERT_TRUE(same_bits(below, a.data()[position(s, j, i)])) << j << ", " << i;
        }
    }
}

// ------------------------------------------------------------------ tiles

template <class T>
void check_tile(const panel_kernels<T>& kernels, random_source& random, int64_t k, int64_t stride,
                linalg::update how, bool at_end) {
  constexpr int64_t w = panel_width<T>;
  const std::vector<T> a_values = normals<T>(random, k * w);
  const std::vector<T> b_values = normals<T>(random, k * w);
  const std::vector<T> before = normals<T>(random, w * w);
  fenced<T> a(a_values, at_end);
  fenced<T> b(b_values, at_end);
  const bool sets = how == linalg::update::set;
  const std::vector<T> nothing = filled(w * w, nan_of<T>);
  fenced<T> c(with_gaps(w, w, stride, sets ? nothing.data() : before.data()), at_end);
  kernels.tile(a.data(), b.data(), k, c.data(), stride, how);
  for (int64_t i = 0; i < w; ++i)
    for (int64_t j = 0; j < w; ++j) {
      exact_sum<T> sum;
      if (!sets) sum.add(1, before.data()[i * w + j]);
      const T sign = how == linalg::update::subtract ? -1 : 1;
      for (int64_t r = 0; r < k; ++r)
        sum.add(sign * a_values.data()[r * w + i], b_values.data()[r * w + j]);
      ASSERT_TRUE(sum.admits(c.data()[i * stride + j], k + 1)) << i << ", " << j;
    }
  EXPECT_TRUE(gaps_untouched(c.data(), w, w, stride));
  EXPECT_TRUE(same_bits(a.values(), a_values));
  EXPECT_TRUE(same_bits(b.values(), b_values));
}

TYPED_TEST(linalg_test, tile) {
  using T = TypeParam;
  random_source random(5);
  for (const subject<T>& under : subjects<T>())
    for (const int64_t k : {1, 2, 3, 16, 31, 32, 33, 255, 256, 300}) {
      if (under.slow && k > 40) continue;
      for (const int64_t gap : {0, 1, 5, 32, 1000})
        for (const auto how :
             {linalg::update::set, linalg::update::add, linalg::update::subtract}) {
          SCOPED_TRACE(testing::Message() << under.name << " k " << k << " gap " << gap << " how "
                                          << static_cast<int>(how));
          check_tile(*under.kernels, random, k, panel_width<T> + gap, how, random.below(3) != 0);
          if (testing::Test::HasFatalFailure()) return;
        }
    }
}

template <class T>
void check_triangular_tile(const panel_kernels<T>& kernels, random_source& random, bool upper) {
  constexpr int64_t w = panel_width<T>;
  std::vector<T> a_values = normals<T>(random, w * w);
  const std::vector<T> b_values = normals<T>(random, w * w);
  for (int64_t i = 0; i < w; ++i)
    for (int64_t j = 0; j < w; ++j)
      if (upper ? i > j : i < j) a_values.data()[i * w + j] = 0;
  const bool at_end = random.below(2) == 0;
  fenced<T> a(a_values, at_end);
  fenced<T> b(b_values, at_end);
  spoilt<T> c(w * w, at_end);
  (upper ? kernels.upper_tile : kernels.lower_tile)(a.data(), b.data(), c.data());
  for (int64_t i = 0; i < w; ++i)
    for (int64_t j = 0; j < w; ++j) {
      exact_sum<T> sum;
      for (int64_t k = 0; k < w; ++k)
        sum.add(a_values.data()[k * w + i], b_values.data()[k * w + j]);
      ASSERT_TRUE(sum.admits(c.data()[i * w + j], upper ? i + 1 : w - i)) << i << ", " << j;
    }
}

TYPED_TEST(linalg_test, triangular_tiles) {
  random_source random(6);
  for (const auto& under : subjects<TypeParam>())
    for (int round = 0; round < 8; ++round) {
      SCOPED_TRACE(under.name + (round % 2 == 0 ? " upper" : " lower"));
      check_triangular_tile(*under.kernels, random, round % 2 == 0);
      if (testing::Test::HasFatalFailure()) return;
    }
}

TYPED_TEST(linalg_test, transpose) {
  using T = TypeParam;
  constexpr int64_t w = panel_width<T>;
  random_source random(7);
  for (const subject<T>& under : subjects<T>())
    for (int64_t rows = 1; rows <= w; ++rows)
      for (int64_t columns = 1; columns <= w; ++columns) {
        SCOPED_TRACE(testing::Message() << under.name << ' ' << rows << " x " << columns);
        const int64_t stride = columns + (random.below(2) == 0 ? 0 : random.below(50));
        const bool at_end = random.below(3) != 0;
        const std::vector<T> values = normals<T>(random, rows * columns);
        fenced<T> from(with_gaps(rows, columns, stride, values.data()), at_end);
        spoilt<T> to(w * w, at_end);
        under.kernels->transpose(from.data(), stride, rows, columns, to.data());
        for (int64_t j = 0; j < w; ++j)
          for (int64_t i = 0; i < w; ++i)
            ASSERT_EQ(to.data()[j * w + i],
                      i < rows && j < columns ? values.data()[i * columns + j] : T{0})
                << j << ", " << i;
      }
}

// A = U^T U and U V = I, each element within the bound of a substitution.
template <class T>
void check_factor(const panel_kernels<T>& kernels, const std::vector<T>& values, bool at_end) {
  constexpr int64_t w = panel_width<T>;
  fenced<T> a(values, at_end);
  spoilt<T> u(w * w, at_end);
  spoilt<T> v(w * w, at_end);
  ASSERT_TRUE(kernels.factor(a.data(), u.data(), v.data()));
  const auto expect = [](const exact_sum<T>& sum, T wanted, const char* what, int64_t i,
                         int64_t j) {
    const wide<T> slack = 4 * (w + 3) * half_eps<T> * sum.magnitude;
    ASSERT_LE(std::abs(sum.value - wanted), slack) << what << ' ' << i << ", " << j;
  };
  for (int64_t i = 0; i < w; ++i)
    for (int64_t j = 0; j < w; ++j) {
      if (i > j) {
        ASSERT_EQ(u.data()[i * w + j], 0) << i << ", " << j;
        ASSERT_EQ(v.data()[i * w + j], 0) << i << ", " << j;
      }
      exact_sum<T> squared;
      exact_sum<T> unit;
      for (int64_t k = 0; k < w; ++k) {
        squared.add(u.data()[k * w + i], u.data()[k * w + j]);
        unit.add(u.data()[i * w + k], v.data()[k * w + j]);
      }
      expect(squared, values.data()[i * w + j], "u^T u", i, j);
      expect(unit, i == j ? T{1} : T{0}, "u v", i, j);
      if (testing::Test::HasFatalFailure()) return;
    }
  EXPECT_TRUE(same_bits(a.values(), values));
}

TYPED_TEST(linalg_test, factor) {
  using T = TypeParam;
  constexpr int64_t w = panel_width<T>;
  random_source random(8);
  for (const subject<T>& under : subjects<T>()) {
    SCOPED_TRACE(under.name);
    for (const double spread : {0.0, 1.0, 3.0}) {
      const dense x =
          spread == 0 ? gaussian(random, w, 2 * w) : power_law(random, w, w, spread / 2);
      std::vector<T> a;
      for (int64_t i = 0; i < w; ++i)
        for (int64_t j = 0; j < w; ++j)
          a.push_back(static_cast<T>(dot(x.row(std::max(i, j)), x.row(std::min(i, j)), x.cols) +
                                     (i == j ? 1e-5 : 0.0)));
      check_factor(*under.kernels, a, random.below(2) == 0);
      if (testing::Test::HasFatalFailure()) return;
    }
    // One pivot that is not positive, at every place.
    for (int64_t k = 0; k < w; ++k)
      for (const T bad : {T{0}, T{-0.0}, T{-1}, nan_of<T>, -std::numeric_limits<T>::infinity()}) {
        std::vector<T> a = filled(w * w, T{0});
        for (int64_t i = 0; i < w; ++i) a.data()[i * (w + 1)] = i == k ? bad : T{2};
        fenced<T> tile(a, true);
        spoilt<T> u(w * w, true);
        spoilt<T> v(w * w, true);
        EXPECT_FALSE(under.kernels->factor(tile.data(), u.data(), v.data())) << k << ' ' << bad;
      }
    // A pivot that becomes negative only on the way.
    std::vector<T> a = filled(w * w, T{2});
    for (int64_t i = 0; i < w; ++i) a.data()[i * (w + 1)] = 1;
    fenced<T> tile(a, true);
    spoilt<T> u(w * w, true);
    spoilt<T> v(w * w, true);
    EXPECT_FALSE(under.kernels->factor(tile.data(), u.data(), v.data()));
  }
}

// ------------------------------------------------------------------ inverses

// A^-1 by Cholesky's factorisation in plain loops. Empty: not positive definite.
template <class Real, class T>
std::vector<Real> plain_inverse(const std::vector<T>& a, int64_t n) {
  std::vector<Real> memory(a.begin(), a.end());
  Real* const u = memory.data();
  for (int64_t k = 0; k < n; ++k) {
    if (!(u[k * n + k] > 0)) return {};
    const Real root = std::sqrt(u[k * n + k]);
    for (int64_t j = k; j < n; ++j) u[k * n + j] /= root;
    for (int64_t i = k + 1; i < n; ++i)
      for (int64_t j = i; j < n; ++j) u[i * n + j] -= u[k * n + i] * u[k * n + j];
  }
  // V = U^-1 by rows from below, then V V^T.
  std::vector<Real> inverse(memory.size());
  Real* const v = inverse.data();
  for (int64_t i = n - 1; i >= 0; --i) {
    v[i * n + i] = 1;
    for (int64_t k = i + 1; k < n; ++k)
      for (int64_t j = k; j < n; ++j) v[i * n + j] -= u[i * n + k] * v[k * n + j];
    for (int64_t j = i; j < n; ++j) v[i * n + j] /= u[i * n + i];
  }
  std::vector<Real> result(memory.size());
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i; j < n; ++j) {
      Real sum = 0;
      for (int64_t k = j; k < n; ++k) sum += v[i * n + k] * v[j * n + k];
      result.data()[i * n + j] = result.data()[j * n + i] = sum;
    }
  return result;
}

// ||got - exact||_F / ||exact||_F
template <class T>
double relative_error(const std::vector<T>& got, const std::vector<wide<T>>& exact) {
  wide<T> difference = 0;
  wide<T> size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    difference += (got[i] - exact[i]) * (got[i] - exact[i]);
    size += exact[i] * exact[i];
  }
  return static_cast<double>(std::sqrt(difference / size));
}

struct inversion {
  bool failed = false;
  steepest_status status = STEEPEST_OK;
};

// -A^-1 of matrices in panels, in place.
template <class T>
inversion invert_panels(steepest_context& context, const panel_kernels<T>& kernels, int64_t n,
                        std::vector<std::vector<T>>& matrices, bool at_end = true) {
  const symmetric<T> s(n);
  std::vector<std::unique_ptr<fenced<T>>> memory;
  std::vector<T*> pointers;
  for (const std::vector<T>& a : matrices) {
    memory.push_back(std::make_unique<fenced<T>>(a, at_end));
    pointers.push_back(memory.back()->data());
  }
  const auto count = static_cast<int64_t>(matrices.size());
  spoilt<T> scratch(linalg::inverse_elements(context, s, count), at_end);
  inversion result;
  result.failed = random_source(static_cast<std::uint64_t>(n)).below(2) == 0;  // must be set
  result.status = linalg::invert_negated(context, kernels, s, pointers.data(), count,
                                         scratch.data(), &result.failed);
  for (std::size_t i = 0; i < matrices.size(); ++i) matrices[i] = memory[i]->values();
  return result;
}

// A^-1 row by row from what invert_negated made, which must have kept apart what lies beyond n.
template <class T>
std::vector<T> inverse_rows(const std::vector<T>& panels, int64_t n) {
  const symmetric<T> s(n);
  std::vector<T> rows = filled(n * n, T{0});
  for (int64_t i = 0; i < s.rows; ++i)
    for (int64_t j = 0; j < n; ++j) {
      if (!is_kept<T>(i, j)) continue;
      const T value = panels.data()[position(s, i, j)];
      if (i < n)
        rows.data()[i * n + j] = -value;
      else
        EXPECT_EQ(value, 0) << i << ", " << j;
      if (i < n && !is_kept<T>(j, i)) rows.data()[j * n + i] = -value;
    }
  return rows;
}

// A + `shift` I rounded, symmetric to the last bit.
template <class T>
std::vector<T> rounded_matrix(const dense& a, double shift) {
  std::vector<T> result;
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.rows; ++j)
      result.push_back(static_cast<T>(a(std::max(i, j), std::min(i, j)) + (i == j ? shift : 0)));
  return result;
}

dense spectrum_matrix(random_source& random, int64_t n, double power) {
  const dense q = orthonormal(random, n, n);
  dense scaled_rows = q;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      scaled_rows(i, j) *= std::pow(static_cast<double>(i + 1), -power);
  return product(transposed(q), scaled_rows);
}

dense gram_matrix(random_source& random, int64_t n, int64_t m) {
  const dense x = gaussian(random, n, m);
  return scaled(product(x, transposed(x)), 1 / static_cast<double>(2 * n));
}

// The worst error over several matrices, beside that of the plain inverse in the same type. The two
// are rounded differently: where most eigenvalues are small LAPACK's error is up to ten times the
// plain one, and so is ours. An unstable method loses by thousands.
template <class T>
struct inverse_errors {
  double own = 0, plain = 0;

  void expect_comparable(int64_t n, const std::string& what) const {
    const double rounding = std::sqrt(static_cast<double>(n)) * std::numeric_limits<T>::epsilon();
    EXPECT_LE(own, 16 * plain + 4 * rounding) << what << ": plain " << plain;
  }
};

template <class T>
void measure_inverse(const subject<T>& under, const std::vector<T>& a, int64_t n, bool at_end,
                     const std::vector<wide<T>>& exact, double& own) {
  std::vector<std::vector<T>> matrices = {in_panels<T>(symmetric<T>(n), a, false, -7)};
  const inversion result = invert_panels(*under.context, *under.kernels, n, matrices, at_end);
  ASSERT_EQ(result.status, STEEPEST_OK);
  ASSERT_FALSE(result.failed);
  const double error = relative_error<T>(inverse_rows<T>(matrices[0], n), exact);
  ASSERT_TRUE(std::isfinite(error));
  own = std::max(own, error);
}

// Several matrices of one kind on every level.
template <class T, class Make>
void check_inverses(const std::vector<subject<T>>& all, const std::string& what, int64_t n,
                    int rounds, Make make) {
  std::vector<inverse_errors<T>> errors(all.size());
  for (int round = 0; round < rounds; ++round) {
    const std::vector<T> a = make();
    const std::vector<wide<T>> exact = plain_inverse<wide<T>>(a, n);
    const std::vector<T> plain = plain_inverse<T>(a, n);
    ASSERT_FALSE(exact.empty()) << what;
    const double plain_error = plain.empty() ? 1 : relative_error<T>(plain, exact);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i].slow && n > 72) continue;
      SCOPED_TRACE(all[i].name + ' ' + what);
      errors[i].plain = std::max(errors[i].plain, plain_error);
      measure_inverse(all[i], a, n, round % 3 != 0, exact, errors[i].own);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  for (std::size_t i = 0; i < all.size(); ++i)
    errors[i].expect_comparable(n, all[i].name + ' ' + what);
}

TYPED_TEST(linalg_test, inverse_of_every_size) {
  using T = TypeParam;
  const auto all = subjects<T>(true);
  random_source random(9);
  std::vector<int64_t> sizes = {95, 96, 97, 127, 128, 129, 160};
  for (int64_t n = 1; n <= 70; ++n) sizes.push_back(n);
  if (long_run()) sizes.insert(sizes.end(), {255, 256, 257, 300, 511, 512, 513});
  for (const int64_t n : sizes) {
    check_inverses<T>(all, "gram " + std::to_string(n), n, n < 40 ? 3 : 1,
                      [&] { return rounded_matrix<T>(gram_matrix(random, n, 2 * n), 0); });
    if (testing::Test::HasFatalFailure()) return;
  }
}

// An explicit inverse of the pivot block would do on Gaussian matrices, and fail here.
TYPED_TEST(linalg_test, inverse_of_wide_spectra) {
  using T = TypeParam;
  const auto all = subjects<T>(true);
  random_source random(10);
  std::vector<int64_t> sizes = {40, 70, 129, 200};
  if (long_run()) sizes.insert(sizes.end(), {97, 256, 300});
  const double least = sizeof(T) == 4 ? 2.2e-6 : 1e-14;
  for (const int64_t n : sizes)
    for (const double power : {2.0, 3.0}) {
      const dense a = spectrum_matrix(random, n, power);
      for (const double shift : {least, 100 * least, 1e4 * least})
        check_inverses<T>(all,
                          "1/i^" + std::to_string(static_cast<int>(power)) + " n " +
                              std::to_string(n) + " shift " + std::to_string(shift / least),
                          n, 1, [&] { return rounded_matrix<T>(a, shift); });
      if (testing::Test::HasFatalFailure()) return;
    }
}

// Of half the rank, and square Gaussian matrices.
TYPED_TEST(linalg_test, inverse_of_nearly_singular_matrices) {
  using T = TypeParam;
  const auto all = subjects<T>(true);
  random_source random(11);
  const double least = 20.0 * std::numeric_limits<T>::epsilon();
  for (const int64_t n : {2, 17, 48, 100}) {
    const std::string size = std::to_string(n);
    check_inverses<T>(all, "square " + size, n, 3,
                      [&] { return rounded_matrix<T>(gram_matrix(random, n, n), least); });
    check_inverses<T>(all, "half " + size, n, 3,
                      [&] { return rounded_matrix<T>(gram_matrix(random, n, n / 2), least); });
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Pivot blocks of two panels and more: -A^-1 (A v) = -v for a well conditioned A, to n
// eps (the rounding errors are random: it is a twentieth of that).
TYPED_TEST(linalg_test, inverse_of_large_matrices) {
  using T = TypeParam;
  random_source random(12);
  std::vector<int64_t> sizes = {300, 530};
  if (sizeof(T) == 4 || long_run()) sizes.push_back(1030);
  const auto all = subjects<T>();
  for (const int64_t n : sizes) {
    // A Gram matrix by our own kernels, which have been tested above.
    const int64_t m = 2 * n;
    std::vector<T> x = normals<T>(random, n * m);
    for (T& value : x) value /= std::sqrt(static_cast<T>(m));
    const symmetric<T> s(n);
    std::vector<T> given = filled(s.elements(), nan_of<T>);
    std::vector<T> packed = filled(linalg::packed_elements<T>(*all[0].context, n, m), T{0});
    const linalg::product_memory<T> memory = {n, m, packed.data(), nullptr};
    const linalg::tile_source<T> from = {{x.data(), n, m, m}};
    ASSERT_OK(linalg::gram(*all[0].context, *all[0].kernels, &from, memory, given.data()));
    const auto times = [&](const std::vector<T>& a, const std::vector<wide<T>>& v) {
      std::vector<wide<T>> result(v.size());
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j)
          result.data()[i] +=
              static_cast<wide<T>>(a.data()[position(s, std::max(i, j), std::min(i, j))]) *
              v.data()[j];
      return result;
    };
    std::vector<wide<T>> v;
    for (int64_t i = 0; i < n; ++i) v.push_back(random.normal());
    const auto image = times(given, v);
    for (const subject<T>& under : all) {
      if (under.slow) continue;
      SCOPED_TRACE(testing::Message() << under.name << " n " << n);
      std::vector<std::vector<T>> matrices = {given};
      const inversion result = invert_panels(*under.context, *under.kernels, n, matrices);
      ASSERT_EQ(result.status, STEEPEST_OK);
      ASSERT_FALSE(result.failed);
      const auto back = times(matrices[0], image);
      double difference = 0;
      for (int64_t i = 0; i < n; ++i)
        difference =
            std::max(difference, static_cast<double>(std::abs(back.data()[i] + v.data()[i])));
      EXPECT_LE(difference, static_cast<double>(n) * std::numeric_limits<T>::epsilon());
    }
  }
}

TYPED_TEST(linalg_test, inverses_in_step_are_those_alone) {
  using T = TypeParam;
  random_source random(13);
  for (const subject<T>& under : subjects<T>(true))
    for (const int64_t n : {1, 7, 33, 64, 70, 150, 290})
      for (const std::size_t count : {std::size_t{2}, std::size_t{3}, std::size_t{8}}) {
        if (under.slow && n > 40) continue;
        if (n > 70 && count == 8) continue;
        SCOPED_TRACE(testing::Message() << under.name << " n " << n << " count " << count);
        const std::vector<T> values = normals<T>(random, n * n);
        std::vector<std::vector<T>> together;
        for (std::size_t k = 0; k < count; ++k) {
          std::vector<T> a = values;
          for (int64_t i = 0; i < n; ++i) {
            for (int64_t j = 0; j < i; ++j) a.data()[i * n + j] = a.data()[j * n + i];
            a.data()[i * n + i] = static_cast<T>(3 * n) / static_cast<T>(k + 1) + 1;
          }
          together.push_back(in_panels<T>(symmetric<T>(n), a, false, 4));
        }
        std::vector<std::vector<T>> alone;
        for (const std::vector<T>& a : together) {
          std::vector<std::vector<T>> one = {a};
          const inversion single = invert_panels(*under.context, *under.kernels, n, one);
          alone.push_back(one[0]);
          (void)single;
        }
        const inversion all = invert_panels(*under.context, *under.kernels, n, together);
        EXPECT_EQ(all.status, STEEPEST_OK);
        for (std::size_t k = 0; k < count && !all.failed; ++k)
          EXPECT_TRUE(same_bits(inverse_rows<T>(together[k], n), inverse_rows<T>(alone[k], n)))
              << k;
      }
}

TYPED_TEST(linalg_test, one_matrix_that_is_not_positive_definite) {
  using T = TypeParam;
  reversed_executor odd(3);
  const steepest_executor executor = odd.interface();
  for (const subject<T>& under : subjects<T>(true))
    for (const bool threaded : {false, true})
      for (const int64_t n : {1, 20, 64, 70, 200}) {
        if (under.slow && n > 40) continue;
        if (threaded && n < 200) continue;
        const context_pointer own =
            threaded ? make_context({.flags = under.context->flags, .executor = &executor})
                     : nullptr;
        steepest_context& context = threaded ? *own : *under.context;
        for (const int64_t place : {int64_t{0}, n / 3, n / 2, n - 1})
          for (const T bad : {T{-1}, nan_of<T>})
            for (std::size_t which = 0; which < 4; ++which) {
              // OpenBLAS passes a NaN on; whoever uses the result sees it there.
              if (std::isnan(bad) && linalg::uses_openblas(context)) continue;
              SCOPED_TRACE(testing::Message() << under.name << " n " << n << " at " << place << ' '
                                              << bad << " in " << which);
              std::vector<T> a = filled(n * n, T{0});
              for (int64_t i = 0; i < n; ++i)
                for (int64_t j = 0; j < n; ++j)
                  a.data()[i * n + j] = i == j ? T{2} : T{1} / static_cast<T>(n + std::abs(i - j));
              std::vector<std::vector<T>> matrices(3, in_panels<T>(symmetric<T>(n), a, false, 1));
              if (which < 3) {
                a.data()[place * (n + 1)] = bad;
                matrices[which] = in_panels<T>(symmetric<T>(n), a, false, 1);
              }
              const inversion result = invert_panels(context, *under.kernels, n, matrices);
              EXPECT_EQ(result.status, STEEPEST_OK);
              EXPECT_EQ(result.failed, which < 3);
            }
      }
}

// ------------------------------------------------------------------ threads

// Everything that the functions make of one X, with what may be left unset (or set in passing)
// left out.
template <class T>
std::vector<T> all_results(steepest_context& context, const panel_kernels<T>& kernels, int64_t rows,
                           int64_t cols) {
  const int64_t n = std::min(rows, cols);
  const symmetric<T> s(n);
  random_source random(14);
  const std::vector<T> x = normals<T>(random, rows * cols);
  const linalg::tile_source<T> from = {{x.data(), rows, cols, cols}};
  std::vector<T> packed = filled(linalg::packed_elements<T>(context, rows, cols), nan_of<T>);
  std::vector<T> r = filled(s.elements(), nan_of<T>);
  std::vector<T> square = r;
  std::vector<T> out = filled(rows * cols, nan_of<T>);
  std::vector<T> scratch = filled(linalg::product_elements<T>(context, rows, cols), nan_of<T>);
  const linalg::product_memory<T> memory = {rows, cols, packed.data(), scratch.data()};
  std::vector<T> results;
  const auto keep = [&](const std::vector<T>& a) {
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        if (is_kept<T>(i, j)) results.push_back(a.data()[position(s, i, j)]);
  };
  EXPECT_OK(linalg::gram(context, kernels, &from, memory, r.data()));
  results.insert(results.end(), packed.begin(), packed.end());
  keep(r);
  std::fill(r.begin(), r.end(), nan_of<T>);
  EXPECT_OK(linalg::gram<T>(context, kernels, nullptr, memory, r.data()));  // of what is packed
  keep(r);
  std::vector<std::vector<T>> shifted;
  for (const int shift : {1, 10, 100}) {
    shifted.push_back(r);
    for (int64_t i = 0; i < n; ++i) shifted.back().data()[s.diagonal(i)] += static_cast<T>(shift);
  }
  EXPECT_OK(linalg::make_full(context, kernels, s, r.data()));
  results.insert(results.end(), r.begin(), r.end());
  EXPECT_OK(linalg::commuting_product(context, kernels, s, r.data(), r.data(), square.data(),
                                      scratch.data()));
  keep(square);
  EXPECT_OK(
      linalg::multiply<T>(context, kernels, r.data(), memory, {{out.data(), rows, cols, cols}}));
  results.insert(results.end(), out.begin(), out.end());
  const inversion inverted = invert_panels(context, kernels, n, shifted);
  EXPECT_EQ(inverted.status, STEEPEST_OK);
  EXPECT_FALSE(inverted.failed);
  for (const std::vector<T>& w : shifted) keep(w);
  return results;
}

TYPED_TEST(linalg_test, same_bits_for_any_threads) {
  using T = TypeParam;
  std::vector<std::array<int64_t, 2>> sizes = {{5, 9},     {60, 70},  {150, 310}, {310, 150},
                                               {300, 300}, {540, 33}, {33, 6000}};
  if (sizeof(T) == 4 || long_run()) sizes.push_back({530, 540});
  if (long_run()) sizes.push_back({1030, 1100});
  for (const subject<T>& under : subjects<T>()) {
    const bool best = under.context->isa == levels().back();
    for (const auto& size : sizes) {
      const int64_t work = size[0] * size[1] * std::min(size[0], size[1]);
      if (under.slow ? work > 100'000 : !best && !long_run() && work > 20'000'000) continue;
      const auto expected = all_results(*under.context, *under.kernels, size[0], size[1]);
      const auto compare = [&](const context_pointer& context, const std::string& how) {
        EXPECT_TRUE(same_bits(all_results(*context, *under.kernels, size[0], size[1]), expected))
            << under.name << ' ' << size[0] << " x " << size[1] << ' ' << how;
      };
      for (const std::int32_t threads : {2, 3, 8})
        compare(make_context({.threads = threads}), std::to_string(threads) + " threads");
      for (const std::int32_t workers : {1, 3, 7}) {
        reversed_executor odd(workers);
        const steepest_executor executor = odd.interface();
        compare(make_context({.executor = &executor}), std::to_string(workers) + " workers");
      }
    }
  }
}

// ------------------------------------------------------------------ bf16

// Integers that bf16 has exactly, with sums that fp32 has exactly: there is one right answer. Q of
// the split kind has twelve bits.
struct bf16_problem {
  int64_t rows, cols, n, m;
  std::vector<float> x, q;

  bf16_problem(random_source& random, int64_t row_count, int64_t col_count, bool split)
      : rows(row_count), cols(col_count), n(std::min(rows, cols)), m(std::max(rows, cols)) {
    for (int64_t i = 0; i < rows * cols; ++i)
      x.push_back(static_cast<float>(static_cast<int64_t>(random.below(7)) - 3));
    q = filled(n * n, 0.0F);
    const std::uint64_t range = split ? 4096 : 8;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j <= i; ++j)
        q.data()[i * n + j] = q.data()[j * n + i] = static_cast<float>(random.below(range));
  }
  float at(int64_t i, int64_t k) const {
    return x.data()[rows > cols ? k * cols + i : i * cols + k];
  }
  float gram(int64_t i, int64_t j) const {
    double sum = 0;
    for (int64_t k = 0; k < m; ++k) sum += static_cast<double>(at(i, k)) * at(j, k);
    return static_cast<float>(sum);
  }
  float product(int64_t i, int64_t k) const {
    double sum = 0;
    for (int64_t j = 0; j < n; ++j) sum += static_cast<double>(q.data()[i * n + j]) * at(j, k);
    return static_cast<float>(sum);
  }
};

// `every`: 1 in so many results is looked at.
void check_bf16(random_source& random, steepest_context& context, int64_t rows, int64_t cols,
                bool split, int64_t every) {
  const bf16_problem p(random, rows, cols, split);
  const bool at_end = random.below(2) == 0;
  SCOPED_TRACE(testing::Message() << rows << " x " << cols << (split ? " split" : "")
                                  << (at_end ? " at the end" : " at the front"));
  const symmetric<float> s(p.n);
  constexpr linalg::bf16_pair nans = 0x7fc07fc0;
  const auto words = [&](int64_t count) {
    return fenced<linalg::bf16_pair>(filled(count, nans), at_end);
  };
  fenced<float> x(p.x, at_end);
  auto packed = words(linalg::bf16_packed_words(rows, cols));
  auto scratch = words(linalg::bf16_product_words(context, rows, cols));
  auto factor = words(linalg::bf16_factor_words(p.n, split));
  spoilt<float> sums(linalg::bf16_sum_elements(context, rows, cols), at_end);
  fenced<float> q(in_panels<float>(s, p.q, true, 0), at_end);
  spoilt<float> r(s.elements(), at_end);
  spoilt<float> out(rows * cols, at_end);
  const linalg::bf16_kernels& kernels = context.tables->linalg.bf16;
  const linalg::bf16_memory memory = {rows,           cols,          packed.data(),
                                      scratch.data(), factor.data(), sums.data()};
  const linalg::tile_source<float> from = {{x.data(), rows, cols, cols}};
  ASSERT_OK(linalg::gram_bf16(context, kernels, &from, memory, r.data()));
  ASSERT_OK(linalg::multiply_bf16(context, kernels, q.data(), split, memory,
                                  {{out.data(), rows, cols, cols}}));
  for (int64_t i = 0; i < p.n; ++i)
    for (int64_t j = 0; j < p.n; ++j)
      if (is_kept<float>(i, j) && random.below(static_cast<std::uint64_t>(every)) == 0) {
        ASSERT_EQ(r.data()[position(s, i, j)], p.gram(i, j)) << i << ", " << j;
      }
  for (int64_t i = 0; i < p.n; ++i)
    for (int64_t k = 0; k < p.m; ++k)
      if (random.below(static_cast<std::uint64_t>(every)) == 0) {
        ASSERT_EQ(out.data()[rows > cols ? k * cols + i : i * cols + k], p.product(i, k))
            << i << ", " << k;
      }
}

TEST(bf16_products, of_every_size) {
  if (levels().back() != STEEPEST_ISA_X86_AVX512_BF16) GTEST_SKIP() << "no instruction for bf16";
  random_source random(16);
  for (const std::int32_t threads : {1, 3}) {
    const context_pointer context = make_context({.threads = threads});
    for (int64_t n = 1; n <= 70; ++n)
      for (const int64_t more : {int64_t{0}, int64_t{1} + random.below(90)})
        for (const bool tall : {false, true}) {
          check_bf16(random, *context, tall ? n + more : n, tall ? n : n + more,
                     random.below(2) == 0, 1);
          if (testing::Test::HasFatalFailure()) return;
        }
    // About the ends of blocks: 256 words, eight panels, and more words than are summed up at once.
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{257, 1030},
                                     {1030, 257},
                                     {511, 513},
                                     {520, 512},
                                     {2085, 2090},
                                     {2150, 2049}})
      check_bf16(random, *context, rows, cols, rows % 2 == 1, rows * cols / 2000);
  }
}

TYPED_TEST(linalg_test, a_failing_executor) {
  using T = TypeParam;
  reversed_executor odd(2);
  const steepest_executor executor = odd.interface();
  const context_pointer context = make_context({.executor = &executor});
  const panel_kernels<T>& kernels = kernels_of<T>(*context, false);
  const int64_t n = 700;
  const symmetric<T> s(n);
  random_source random(15);
  const std::vector<T> x = normals<T>(random, n * n);
  std::vector<T> out = x;
  std::vector<T> packed = filled(linalg::packed_elements<T>(*context, n, n), T{0});
  std::vector<T> a = filled(s.elements(), T{0});
  std::vector<T> b = a;
  const linalg::tile_source<T> from = {{x.data(), n, n, n}};
  odd.result = STEEPEST_E_INTERNAL;
  std::vector<T> scratch = filled(linalg::product_elements<T>(*context, n, n), T{0});
  const linalg::product_memory<T> memory = {n, n, packed.data(), scratch.data()};
  const matrix<T> to = {out.data(), n, n, n};
  EXPECT_EQ(linalg::copy<T>(*context, from, to), STEEPEST_E_INTERNAL);
  EXPECT_EQ(linalg::gram(*context, kernels, &from, memory, a.data()), STEEPEST_E_INTERNAL);
  EXPECT_EQ(linalg::gram<T>(*context, kernels, nullptr, memory, a.data()), STEEPEST_E_INTERNAL);
  EXPECT_EQ(
      linalg::commuting_product(*context, kernels, s, a.data(), a.data(), b.data(), scratch.data()),
      STEEPEST_E_INTERNAL);
  EXPECT_EQ(linalg::multiply<T>(*context, kernels, a.data(), memory, {to}), STEEPEST_E_INTERNAL);
  EXPECT_EQ(linalg::store<T>(*context, from.stored, {to}), STEEPEST_E_INTERNAL);
  for (int64_t i = 0; i < n; ++i) a.data()[s.diagonal(i)] += static_cast<T>(n);
  std::vector<std::vector<T>> matrices = {a};
  EXPECT_EQ(invert_panels(*context, kernels, n, matrices).status, STEEPEST_E_INTERNAL);
}

}  // namespace
}  // namespace steepest_test
