// SPDX-License-Identifier: Apache-2.0
// Times the AdamW step in a process of its own and prints one line of JSON: our side of
// peers/adamw.py, whose worker() does the same with PyTorch.
#include <steepest/steepest.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "contest.hpp"
#include "core/dtype.hpp"
#include "core/half.hpp"
#include "program.hpp"

namespace {

struct settings {
  int64_t tensors = 1, count = 1 << 20;
  int threads = 1;
  steepest_dtype dtype = STEEPEST_F32;
  bool amsgrad = false;
  double seconds = 1;
};

steepest_dtype dtype_named(const char* name) {
  for (const steepest_dtype dtype : {STEEPEST_F64, STEEPEST_BF16, STEEPEST_F16})
    if (std::strcmp(steepest::dtype_name(dtype), name) == 0) return dtype;
  return STEEPEST_F32;
}

settings parse(int argc, char** argv) {
  settings s;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto value = [&] {
      if (i + 1 < argc) return argv[++i];
      std::fprintf(stderr, "%s needs a value\n", option.c_str());
      std::exit(2);
    };
    if (option == "--tensors")
      s.tensors = std::atoll(value());
    else if (option == "--count")
      s.count = std::atoll(value());
    else if (option == "--threads")
      s.threads = std::atoi(value());
    else if (option == "--dtype")
      s.dtype = dtype_named(value());
    else if (option == "--amsgrad")
      s.amsgrad = true;
    else if (option == "--seconds")
      s.seconds = std::atof(value());
    else {
      std::fprintf(stderr,
                   "usage: adamw_process [--tensors N] [--count N] [--threads N] [--dtype T] "
                   "[--amsgrad] [--seconds S]\n");
      std::exit(2);
    }
  }
  return s;
}

// As PyTorch allocates: each array on its own, aligned to 64 bytes, from the C library.
void* allocate(const settings& s, double start, double step) {
  const auto bytes = static_cast<std::size_t>(s.count * steepest::dtype_size(s.dtype));
  void* array = nullptr;
  if (posix_memalign(&array, 64, bytes) != 0) throw std::bad_alloc();
  for (int64_t i = 0; i < s.count; ++i) {
    const double value = start + step * static_cast<double>(i % 7 - 3);
    const auto narrow = static_cast<float>(value);
    switch (s.dtype) {
      case STEEPEST_F64: static_cast<double*>(array)[i] = value; break;
      case STEEPEST_BF16: static_cast<steepest::bf16*>(array)[i] = steepest::to_bf16(narrow); break;
      case STEEPEST_F16: static_cast<steepest::f16*>(array)[i] = steepest::to_f16(narrow); break;
      default: static_cast<float*>(array)[i] = narrow;
    }
  }
  return array;
}

}  // namespace

int main(int argc, char** argv) {
  const settings s = parse(argc, argv);
  std::vector<steepest_adamw_tensor> tensors(static_cast<std::size_t>(s.tensors),
                                             STEEPEST_ADAMW_TENSOR_INIT);
  for (steepest_adamw_tensor& tensor : tensors) {
    tensor.count = s.count;
    tensor.param_dtype = tensor.grad_dtype = s.dtype;
    tensor.exp_avg_dtype = tensor.exp_avg_sq_dtype = s.dtype;
    tensor.param = allocate(s, 0.5, 0.1);
  }
  for (steepest_adamw_tensor& tensor : tensors) tensor.grad = allocate(s, 1e-4, 1e-3);
  for (steepest_adamw_tensor& tensor : tensors) {
    tensor.exp_avg = allocate(s, 0, 0);
    tensor.exp_avg_sq = allocate(s, 0, 0);
    if (s.amsgrad) tensor.max_exp_avg_sq = allocate(s, 0, 0);
  }
  const bench::library_context context(s.threads);
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  if (s.amsgrad) config.flags |= STEEPEST_ADAMW_AMSGRAD;

  using clock = std::chrono::steady_clock;
  const auto seconds_for = [&](int64_t steps) {
    const clock::time_point start = clock::now();
    for (int64_t i = 0; i < steps; ++i, ++config.step)
      bench::check(steepest_adamw_step(context.get(), &config, tensors.data(), s.tensors, nullptr));
    return std::chrono::duration<double>(clock::now() - start).count();
  };
  // Samples of at least a millisecond; the first third of the time is warm-up.
  int64_t steps = 1;
  for (double elapsed = 0; elapsed < s.seconds / 3;) {
    const double sample = seconds_for(steps);
    elapsed += sample;
    if (sample < 1e-3) steps *= 2;
  }
  std::vector<double> samples;
  for (double elapsed = 0; elapsed < s.seconds * 2 / 3 || samples.size() < 5;) {
    const double sample = seconds_for(steps);
    elapsed += sample;
    samples.push_back(sample / static_cast<double>(steps));
  }
  std::printf("{\"seconds\": %.9g, \"samples\": %zu, \"threads\": %d, ",
              bench::quantile(samples, 0.5), samples.size(), context.threads());
  std::printf("\"isa\": \"%s\", \"build\": \"%s\"}\n",
              steepest_isa_name(steepest_context_isa(context.get())), steepest_build_info());
  return 0;
}
