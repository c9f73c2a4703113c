// SPDX-License-Identifier: Apache-2.0
// The parts that msign is made of, each against the multiply-add limit of the cores and those of
// the highest level against OpenBLAS alone: the triangle of X X^T, the product Q X, the inverses of
// three shifted matrices; with bf16 operands and on the AVX2 level too.
#include <cblas.h>
#include <lapacke.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "contest.hpp"
#include "dispatch/cpu.hpp"
#include "dispatch/tables.hpp"
#include "fma_peak.hpp"
#include "linalg/linalg.hpp"
#include "memory.hpp"
#include "msign_support.hpp"
#include "program.hpp"
#include "thread_pool.hpp"

namespace {

namespace linalg = steepest::linalg;

enum class operation { gram, product, inverses };

struct part {
  const char* name;
  operation what;
  steepest_isa level = STEEPEST_ISA_AUTO;
  bool bf16 = false;
};

constexpr part parts[] = {
    {"triangle", operation::gram},
    {"product", operation::product},
    {"inverse_x3", operation::inverses},
    {"triangle_bf16", operation::gram, STEEPEST_ISA_AUTO, true},
    {"product_bf16", operation::product, STEEPEST_ISA_AUTO, true},
    {"triangle_avx2", operation::gram, STEEPEST_ISA_X86_AVX2},
    {"product_avx2", operation::product, STEEPEST_ISA_X86_AVX2},
    {"inverse_x3_avx2", operation::inverses, STEEPEST_ISA_X86_AVX2},
};

struct shape {
  int64_t n, m;
};

// Everything that the operations work on, for ours and for OpenBLAS.
struct problem {
  steepest_context& context;
  const bool bf16;
  const linalg::panel_kernels<float>& kernels;
  linalg::symmetric<float> layout;
  int64_t n, m;
  bench::aligned_vector<float> x, out, packed, product_scratch, r, scratch, rows, sums;
  bench::aligned_vector<float> shifted[3];
  bench::aligned_vector<linalg::bf16_pair> packed_words, product_words, q_words;
  static constexpr float shifts[3] = {2.2e-6F, 3.05e-4F, 3.56e-2F};

  problem(steepest_context* of, shape size, bool with_bf16)
      : context(*of), bf16(with_bf16), kernels(of->tables->linalg.fast.f32), layout(size.n),
        n(size.n), m(size.m), x(static_cast<std::size_t>(n * m)), out(x.size()),
        packed(static_cast<std::size_t>(linalg::packed_elements<float>(context, n, m))),
        product_scratch(static_cast<std::size_t>(linalg::product_elements<float>(context, n, m))),
        r(static_cast<std::size_t>(layout.elements())),
        scratch(static_cast<std::size_t>(linalg::inverse_elements(context, layout, 3))),
        rows(static_cast<std::size_t>(n * n)),
        sums(static_cast<std::size_t>(linalg::bf16_sum_elements(context, n, m))),
        packed_words(static_cast<std::size_t>(linalg::bf16_packed_words(n, m))),
        product_words(static_cast<std::size_t>(linalg::bf16_product_words(context, n, m))),
        q_words(static_cast<std::size_t>(linalg::bf16_factor_words(n, false))) {
    // Of about unit norm.
    const std::vector<float> gaussian = bench::gaussian_matrix(n, m);
    const float scale = 0.5F / std::sqrt(static_cast<float>(m));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = scale * gaussian[i];
    for (auto& each : shifted) each.resize(r.size());
    gram();
    bench::check(linalg::make_full(context, kernels, layout, r.data()));
    blas_gram();
  }

  linalg::matrix<const float> input() const { return {x.data(), n, m, m}; }

  linalg::product_memory<float> memory() { return {n, m, packed.data(), product_scratch.data()}; }
  linalg::bf16_memory bf16_memory() {
    return {n, m, packed_words.data(), product_words.data(), q_words.data(), sums.data()};
  }
  const linalg::bf16_kernels& bf16_kernels() const { return context.tables->linalg.bf16; }

  // Packing included.
  void gram() {
    const linalg::tile_source<float> from = {input()};
    bench::check(bf16 ? linalg::gram_bf16(context, bf16_kernels(), &from, bf16_memory(), r.data())
                      : linalg::gram(context, kernels, &from, memory(), r.data()));
  }
  void product() {
    const linalg::tile_sink<float> to = {{out.data(), n, m, m}};
    bench::check(
        bf16 ? linalg::multiply_bf16(context, bf16_kernels(), r.data(), false, bf16_memory(), to)
             : linalg::multiply(context, kernels, r.data(), memory(), to));
  }
  void inverses() {
    float* matrices[3];
    for (int i = 0; i < 3; ++i) {
      matrices[i] = shifted[i].data();
      for (int64_t j = 0; j < layout.panels; ++j) {
        const int64_t begin = layout.tile(j, j);
        std::memcpy(matrices[i] + begin, r.data() + begin,
                    static_cast<std::size_t>(layout.panel(j + 1) - begin) * sizeof(float));
      }
      for (int64_t k = 0; k < n; ++k) matrices[i][layout.diagonal(k)] += shifts[i];
    }
    bool failed = false;
    bench::check(
        linalg::invert_negated(context, kernels, layout, matrices, 3, scratch.data(), &failed));
    if (failed) bench::check(STEEPEST_E_NOT_CONVERGED);
  }

  void blas_gram() {
    cblas_ssyrk(CblasRowMajor, CblasLower, CblasNoTrans, static_cast<int>(n), static_cast<int>(m),
                1.0F, x.data(), static_cast<int>(m), 0.0F, rows.data(), static_cast<int>(n));
  }
  void blas_product() {
    cblas_ssymm(CblasRowMajor, CblasLeft, CblasLower, static_cast<int>(n), static_cast<int>(m),
                1.0F, rows.data(), static_cast<int>(n), x.data(), static_cast<int>(m), 0.0F,
                out.data(), static_cast<int>(m));
  }
  void blas_inverses() {
    const auto size = static_cast<int>(n);
    for (int i = 0; i < 3; ++i) {
      float* const matrix = shifted[i].data();
      std::memcpy(matrix, rows.data(), rows.size() * sizeof(float));
      for (int64_t k = 0; k < n; ++k) matrix[k * (n + 1)] += shifts[i];
      LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'U', size, matrix, size);
      LAPACKE_spotri_work(LAPACK_COL_MAJOR, 'U', size, matrix, size);
    }
  }
};

void compare(benchmark::State& state, const part& part, shape size, int threads) {
  openblas_set_num_threads(threads);
  const bench::library_context context(threads, part.level);
  problem of(context.get(), size, part.bf16);
  const auto n = static_cast<double>(size.n);
  const auto m = static_cast<double>(size.m);
  const double flops = part.what == operation::gram      ? n * n * m
                       : part.what == operation::product ? 2 * n * n * m
                                                         : 3 * n * n * n;
  state.counters["rows"] = n;
  state.counters["cols"] = m;
  state.counters["threads"] = threads;
  state.counters["flops"] = flops;
  const bool rival = part.level == STEEPEST_ISA_AUTO && !part.bf16;
  bench::contest contest(
      threads,
      [&] {
        part.what == operation::gram      ? of.gram()
        : part.what == operation::product ? of.product()
                                          : of.inverses();
      },
      rival ? 40 : 2);
  bench::thread_pool pool(threads);
  const bench::operations useful =
      part.bf16 ? bench::operations{0, flops} : bench::operations{flops};
  bench::add_peak(contest, pool, useful, part.level);
  bench::require_cores(contest, pool);
  if (rival)
    contest.add_rival("openblas", "", [&] {
      part.what == operation::gram      ? of.blas_gram()
      : part.what == operation::product ? of.blas_product()
                                        : of.blas_inverses();
    });
  contest.run(state);
}

bool available(const part& part) {
  if (part.bf16) return bench::has_bf16_products();
  if (part.level == STEEPEST_ISA_AUTO) return true;
  const steepest_isa best = steepest_context_isa(nullptr);
  return part.level != best && steepest::isa_includes(best, part.level);
}

void add(bool quick) {
  const int all = bench::all_threads();
  std::vector<shape> shapes = {{512, 512}, {768, 3072}};
  if (!quick)
    shapes = {{64, 64},    {128, 128},   {256, 256},   {512, 512},  {768, 768},
              {768, 3072}, {1024, 1024}, {1024, 4096}, {2048, 2048}};
  for (const part& each : parts)
    for (const shape& size : shapes) {
      if (!available(each)) continue;
      if (each.what == operation::inverses && size.m > size.n && !quick) continue;
      for (const int threads : {1, all}) {
        const std::string name = std::string("linalg/") + each.name + '/' + std::to_string(size.n) +
                                 'x' + std::to_string(size.m) +
                                 "/threads:" + std::to_string(threads);
        benchmark::RegisterBenchmark(name.c_str(), compare, each, size, threads)
            ->Iterations(quick ? 5 : 11)
            ->UseManualTime();
        if (all == 1) break;
      }
    }
}

}  // namespace

int main(int argc, char** argv) { return bench::run_program(argc, argv, add); }
