// SPDX-License-Identifier: Apache-2.0
// The parts that msign is made of, each against the multiply-add limit of the cores and against
// OpenBLAS alone: the triangle of X X^T, the product Q X, the inverses of three shifted matrices.
#include <cblas.h>
#include <lapacke.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "contest.hpp"
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

struct shape {
  int64_t n, m;
};

// Everything that the operations work on, for ours and for OpenBLAS.
struct problem {
  steepest_context& context;
  const linalg::panel_kernels<float>& kernels;
  linalg::symmetric<float> layout;
  int64_t n, m;
  std::vector<float> x, out, packed, product_scratch, r, scratch, rows;
  std::vector<float> shifted[3];
  static constexpr float shifts[3] = {2.2e-6F, 3.05e-4F, 3.56e-2F};

  problem(steepest_context* of, shape size)
      : context(*of), kernels(of->tables->linalg.fast.f32), layout(size.n), n(size.n), m(size.m),
        x(bench::gaussian_matrix(n, m)), out(x.size()),
        packed(static_cast<std::size_t>(linalg::packed_elements<float>(context, n, m))),
        product_scratch(static_cast<std::size_t>(linalg::product_elements<float>(context, n, m))),
        r(static_cast<std::size_t>(layout.elements())),
        scratch(static_cast<std::size_t>(linalg::inverse_elements(context, layout, 3))),
        rows(static_cast<std::size_t>(n * n)) {
    // Of about unit norm.
    for (float& each : x) each *= 0.5F / std::sqrt(static_cast<float>(m));
    for (auto& each : shifted) each.resize(r.size());
    gram();
    bench::check(linalg::make_full(context, kernels, layout, r.data()));
    blas_gram();
  }

  linalg::matrix<const float> input() const { return {x.data(), n, m, m}; }

  linalg::product_memory<float> memory() { return {n, m, packed.data(), product_scratch.data()}; }

  // Packing included.
  void gram() {
    bench::check(linalg::pack<float>(context, kernels, {input()}, memory()));
    bench::check(linalg::gram(context, kernels, memory(), r.data()));
  }
  void product() {
    bench::check(
        linalg::multiply<float>(context, kernels, r.data(), memory(), {{out.data(), n, m, m}}));
  }
  void inverses() {
    float* matrices[3];
    for (int i = 0; i < 3; ++i) {
      matrices[i] = shifted[i].data();
      std::memcpy(matrices[i], r.data(), r.size() * sizeof(float));
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

void compare(benchmark::State& state, operation what, shape size, int threads) {
  openblas_set_num_threads(threads);
  const bench::library_context context(threads);
  problem of(context.get(), size);
  const auto n = static_cast<double>(size.n);
  const auto m = static_cast<double>(size.m);
  const double flops = what == operation::gram      ? n * n * m
                       : what == operation::product ? 2 * n * n * m
                                                    : 3 * n * n * n;
  state.counters["rows"] = n;
  state.counters["cols"] = m;
  state.counters["threads"] = threads;
  state.counters["flops"] = flops;
  bench::contest contest(
      threads,
      [&] {
        what == operation::gram      ? of.gram()
        : what == operation::product ? of.product()
                                     : of.inverses();
      },
      40);
  bench::thread_pool pool(threads);
  const bench::fma_loop loop = bench::best_fma_loop();
  contest.add_rival("peak", "", [&] {
    pool.run([&](int) { benchmark::DoNotOptimize(loop(static_cast<int64_t>(flops / threads))); });
  });
  contest.add_rival("openblas", "", [&] {
    what == operation::gram      ? of.blas_gram()
    : what == operation::product ? of.blas_product()
                                 : of.blas_inverses();
  });
  contest.run(state);
}

void add(bool quick) {
  const int all = bench::all_threads();
  std::vector<shape> shapes = {{512, 512}, {768, 3072}};
  if (!quick)
    shapes = {{64, 64},    {128, 128},   {256, 256},   {512, 512},  {768, 768},
              {768, 3072}, {1024, 1024}, {1024, 4096}, {2048, 2048}};
  const struct {
    const char* name;
    operation what;
  } operations[] = {{"triangle", operation::gram},
                    {"product", operation::product},
                    {"inverse_x3", operation::inverses}};
  for (const auto& each : operations)
    for (const shape& size : shapes) {
      if (each.what == operation::inverses && size.m > size.n && !quick) continue;
      for (const int threads : {1, all}) {
        const std::string name = std::string("linalg/") + each.name + '/' + std::to_string(size.n) +
                                 'x' + std::to_string(size.m) +
                                 "/threads:" + std::to_string(threads);
        benchmark::RegisterBenchmark(name.c_str(), compare, each.what, size, threads)
            ->Iterations(quick ? 5 : 11)
            ->UseManualTime();
        if (all == 1) break;
      }
    }
}

}  // namespace

int main(int argc, char** argv) { return bench::run_program(argc, argv, add); }
