// SPDX-License-Identifier: Apache-2.0
#include <atomic>

#include "calls.hpp"
#include "core/half.hpp"

namespace soak {

std::size_t size_of(steepest_dtype dtype) {
  switch (dtype) {
    case STEEPEST_F64: return 8;
    case STEEPEST_F32: return 4;
    case STEEPEST_BF16:
    case STEEPEST_F16: return 2;
    default: return 1;
  }
}

array::array(steepest_dtype type, const std::vector<double>& values, bool is_signed)
    : dtype(type), data(values.size() * size_of(type)) {
  const auto put = [&](std::size_t i, const auto& x) {
    std::memcpy(data.data() + i * sizeof(x), &x, sizeof(x));
  };
  if (size_of(type) == 1) {
    std::vector<float> floats(values.begin(), values.end());
    const auto count = static_cast<std::int64_t>(values.size());
    std::int64_t scale_count = 0, scale_bytes = 0;
    check(steepest_q8_scales(type, count, &scale_count, &scale_bytes));
    scales.resize(static_cast<std::size_t>(scale_bytes));
    check(steepest_q8_encode(nullptr, type, is_signed ? 1 : 0, count, floats.data(), data.data(),
                             scales.data()));
    return;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto single = static_cast<float>(values[i]);
    switch (type) {
      case STEEPEST_F64: put(i, values[i]); break;
      case STEEPEST_F32: put(i, single); break;
      case STEEPEST_BF16: put(i, steepest::to_bf16(single).bits); break;
      default: put(i, steepest::to_f16(single).bits); break;
    }
  }
}

double value_at(const array& a, std::size_t i) {
  const auto get = [&](auto x) {
    std::memcpy(&x, a.data.data() + i * sizeof(x), sizeof(x));
    return x;
  };
  switch (a.dtype) {
    case STEEPEST_F64: return get(0.0);
    case STEEPEST_F32: return get(0.0f);
    case STEEPEST_BF16: return steepest::to_float(get(steepest::bf16{}));
    default: return steepest::to_float(get(steepest::f16{}));
  }
}

std::vector<double> normal_values(random_source& random, std::size_t count, double deviation) {
  std::vector<double> values(count);
  for (double& x : values) x = deviation * random.normal();
  return values;
}

void check(steepest_status status) {
  if (status == STEEPEST_E_OUT_OF_MEMORY) throw out_of_memory{};
  require(status == STEEPEST_OK, "%s: %s", steepest_status_name(status), steepest_last_error());
}

namespace {

steepest_dtype any_of(random_source& random, std::initializer_list<steepest_dtype> dtypes) {
  return dtypes.begin()[random.below(static_cast<std::int64_t>(dtypes.size()))];
}

bool one_in(random_source& random, std::int64_t n) { return random.below(n) == 0; }

// Tensors in one storage mix, and the hyper-parameters of a call.
struct adamw_step {
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  std::vector<std::vector<array>> arrays;
  std::vector<steepest_adamw_tensor> tensors;
  std::vector<steepest_step_stats> stats;

  explicit adamw_step(random_source& random) {
    using enum_list = std::initializer_list<steepest_dtype>;
    static constexpr enum_list floats = {STEEPEST_F32, STEEPEST_BF16, STEEPEST_F16};
    static constexpr enum_list moments = {STEEPEST_F32, STEEPEST_F32,        STEEPEST_BF16,
                                          STEEPEST_F16, STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED};
    const bool is_double = one_in(random, 8);
    const auto draw = [&](enum_list from) {
      return is_double ? steepest_dtype{STEEPEST_F64} : any_of(random, from);
    };
    steepest_adamw_tensor model = STEEPEST_ADAMW_TENSOR_INIT;
    model.param_dtype = draw(floats);
    model.grad_dtype = draw(floats);
    model.exp_avg_dtype = draw(moments);
    model.exp_avg_sq_dtype = draw(moments);
    model.delta_dtype = draw(floats);
    const bool q8_squares = size_of(model.exp_avg_sq_dtype) == 1;

    config.lr = 1e-3 * random.uniform();
    config.weight_decay = one_in(random, 3) ? 0 : 0.1 * random.uniform();
    config.beta1 = one_in(random, 6) ? 0 : 0.9;
    config.beta2 = 0.9 + 0.0999 * random.uniform();
    config.grad_scale = one_in(random, 2) ? 1 : 0.5 + random.uniform();
    config.step = 1 + random.below(1000);
    config.seed = random.bits();
    if (one_in(random, 4)) config.flags |= STEEPEST_ADAMW_MAXIMIZE;
    if (one_in(random, 4))
      config.flags |= one_in(random, 2) ? STEEPEST_ADAMW_COUPLED_L2 : STEEPEST_ADAMW_CAUTIOUS_DECAY;
    if (!q8_squares && one_in(random, 4)) config.flags |= STEEPEST_ADAMW_AMSGRAD;
    if (!is_double && one_in(random, 4)) config.flags |= STEEPEST_ADAMW_STOCHASTIC_ROUNDING;
    if (one_in(random, 4)) {
      config.flags |= STEEPEST_ADAMW_EMIT_DELTA;
    } else if (!is_double) {
      if (model.param_dtype == STEEPEST_BF16)
        model.residual_kind = static_cast<std::int32_t>(random.below(5));
      if (model.param_dtype == STEEPEST_F16 && one_in(random, 2))
        model.residual_kind = STEEPEST_RESIDUAL_KAHAN;
    }
    const bool copies =
        !is_double && (config.flags & STEEPEST_ADAMW_EMIT_DELTA) == 0 && one_in(random, 3);
    model.param_copy_dtype = any_of(random, floats);

    const auto tensor_count = static_cast<std::size_t>(1 + random.below(4));
    for (std::size_t t = 0; t < tensor_count; ++t) {
      const auto count =
          static_cast<std::size_t>(one_in(random, 4) ? 1 + random.below(40000) : random.below(700));
      std::vector<double> squares = normal_values(random, count, 1e-2);
      for (double& x : squares) x = 1e-8 + x * x;
      arrays.push_back({array(model.param_dtype, normal_values(random, count, 0.1)),
                        array(model.grad_dtype, normal_values(random, count, 1e-2)),
                        array(model.exp_avg_dtype, normal_values(random, count, 1e-2)),
                        array(model.exp_avg_sq_dtype, squares, false),
                        array(model.delta_dtype, std::vector<double>(count))});
      std::vector<array>& a = arrays.back();
      a.push_back(q8_squares ? array() : array(model.exp_avg_sq_dtype, squares));  // AMSGRAD
      a.push_back(array());
      // Zeros are a residual of every kind.
      if (model.residual_kind != STEEPEST_RESIDUAL_NONE) a[6].data.resize(2 * count);
      a.push_back(copies ? array(model.param_copy_dtype, std::vector<double>(count)) : array());
      model.count = static_cast<std::int64_t>(count);
      model.random_stream = t;
      tensors.push_back(model);
    }
    for (std::size_t t = 0; t < tensor_count; ++t) {
      std::vector<array>& a = arrays[t];
      steepest_adamw_tensor& tensor = tensors[t];
      tensor.param = a[0].data.data();
      tensor.grad = a[1].data.data();
      tensor.exp_avg = a[2].data.data();
      tensor.exp_avg_scales = a[2].scales.data();
      tensor.exp_avg_sq = a[3].data.data();
      tensor.exp_avg_sq_scales = a[3].scales.data();
      tensor.delta = a[4].data.data();
      tensor.max_exp_avg_sq = a[5].data.data();
      tensor.residual = a[6].data.data();
      tensor.param_copy = copies ? a[7].data.data() : nullptr;
    }
    stats.assign(tensor_count, STEEPEST_STEP_STATS_INIT);
  }

  std::int64_t count() const { return static_cast<std::int64_t>(tensors.size()); }
  void add_to(digest& d) const {
    for (const std::vector<array>& a : arrays)
      for (const array& one : a) one.add_to(d);
  }
  std::uint64_t state() const {
    digest d;
    add_to(d);
    return d.value();
  }
  // Runs `step`; should it want memory, nothing may have been written.
  template <class F>
  void run(F step) {
    const std::uint64_t before = state();
    try {
      step();
    } catch (const out_of_memory&) {
      require(state() == before, "adamw: a call without memory has written something");
      throw;
    }
  }
};

void in_chunks(adamw_step& call, random_source random, steepest_context* context) {
  steepest_adamw_plan* plan = nullptr;
  check(steepest_adamw_begin(context, &call.config, call.tensors.data(), call.count(), &plan));
  for (std::int64_t t = call.count() - 1; t >= 0; --t) {
    const std::int64_t count = call.tensors[static_cast<std::size_t>(t)].count;
    for (std::int64_t first = 0; first < count;) {
      const std::int64_t chunks = 1 + random.below(2);
      const std::int64_t size = std::min(chunks * STEEPEST_ADAMW_CHUNK, count - first);
      check(steepest_adamw_chunk(plan, t, first, size));
      first += size;
    }
  }
  check(steepest_adamw_end(plan, call.stats.data()));
}

}  // namespace

// In one call or in chunks: which of them does not come from the seed, and may change nothing.
void adamw_call(random_source& random, steepest_context* context, digest& results) {
  adamw_step call(random);
  static std::atomic<unsigned> turn{0};
  const bool chunked = turn++ % 3 == 0;
  call.run([&] {
    if (chunked) return in_chunks(call, random, context);
    check(steepest_adamw_step(context, &call.config, call.tensors.data(), call.count(),
                              call.stats.data()));
  });
  call.add_to(results);
  results.add(call.stats);
}

void adamw_skipped_call(random_source& random, steepest_context* context, digest& results) {
  adamw_step call(random);
  std::int32_t skipped = -1;
  call.config.flags |= STEEPEST_ADAMW_SKIP_NONFINITE;
  call.config.skipped = &skipped;
  std::vector<array>& last = call.arrays.back();
  if (call.tensors.back().count == 0) return;
  const array infinite(last[1].dtype, {std::numeric_limits<double>::infinity()});
  const std::size_t size = infinite.data.size();
  const auto at = static_cast<std::size_t>(random.below(call.tensors.back().count));
  std::memcpy(last[1].data.data() + at * size, infinite.data.data(), size);
  const std::uint64_t before = call.state();
  check(steepest_adamw_step(context, &call.config, call.tensors.data(), call.count(),
                            call.stats.data()));
  require(skipped == 1, "adamw_step: skipped is %d for a gradient with an infinity", int{skipped});
  require(call.state() == before, "adamw_step: a skipped step has written something");
  require(call.stats.back().nonfinite == 1, "adamw_step: stats.nonfinite is not 1");
  call.add_to(results);
}

void adamw_abandoned_call(random_source& random, steepest_context* context, digest& results) {
  adamw_step call(random);
  std::int64_t elements = 0;
  for (const steepest_adamw_tensor& tensor : call.tensors) elements += tensor.count;
  steepest_adamw_plan* plan = nullptr;
  check(steepest_adamw_begin(context, &call.config, call.tensors.data(), call.count(), &plan));
  const steepest_status status = steepest_adamw_end(plan, nullptr);
  require(status == (elements == 0 ? STEEPEST_OK : STEEPEST_E_INVALID_ARGUMENT),
          "adamw_end: %s for a plan of which nothing was stepped", steepest_status_name(status));
  call.add_to(results);
}

void norm_call(random_source& random, steepest_context* context, digest& results) {
  std::vector<array> arrays;
  std::vector<steepest_vector> vectors;
  long double sum = 0;
  std::int64_t elements = 0;
  for (std::int64_t n = 1 + random.below(6); n > 0; --n) {
    const auto count = static_cast<std::size_t>(random.below(one_in(random, 3) ? 50000 : 500));
    const steepest_dtype dtype =
        any_of(random, {STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16, STEEPEST_F16});
    arrays.emplace_back(dtype, normal_values(random, count, 1));
    for (std::size_t i = 0; i < count; ++i) {
      const long double x = value_at(arrays.back(), i);
      sum += x * x;
    }
    elements += static_cast<std::int64_t>(count);
    steepest_vector vector = STEEPEST_VECTOR_INIT;
    vector.count = static_cast<std::int64_t>(count);
    vector.dtype = dtype;
    vectors.push_back(vector);
  }
  for (std::size_t i = 0; i < arrays.size(); ++i) vectors[i].data = arrays[i].data.data();
  double norm = -1, rms = -1;
  std::int64_t nonfinite[2] = {-1, -1};
  const auto count = static_cast<std::int64_t>(vectors.size());
  check(steepest_grad_norm(context, vectors.data(), count, &norm, &nonfinite[0]));
  check(steepest_rms(context, vectors.data(), count, &rms, &nonfinite[1]));
  const auto expected = static_cast<double>(std::sqrt(sum));
  const double expected_rms =
      elements == 0 ? 0 : static_cast<double>(std::sqrt(sum / static_cast<long double>(elements)));
  require(std::abs(norm - expected) <= 1e-12 * expected, "grad_norm: %.17g for %.17g", norm,
          expected);
  require(std::abs(rms - expected_rms) <= 1e-12 * expected_rms, "rms: %.17g for %.17g", rms,
          expected_rms);
  require(nonfinite[0] == 0 && nonfinite[1] == 0, "grad_norm: nonfinite is not 0");
  results.add(&norm, sizeof(norm));
  results.add(&rms, sizeof(rms));
}

void q8_call(random_source& random, steepest_context* context, digest& results) {
  const steepest_dtype dtype = any_of(random, {STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED});
  const bool is_signed = one_in(random, 2);
  const auto count = static_cast<std::size_t>(random.below(3000));
  std::vector<double> values = normal_values(random, count, 1e-3);
  if (!is_signed)
    for (double& x : values) x *= x;
  const std::vector<float> floats(values.begin(), values.end());
  const auto n = static_cast<std::int64_t>(count);
  std::int64_t scale_count = 0, scale_bytes = 0;
  check(steepest_q8_scales(dtype, n, &scale_count, &scale_bytes));
  std::vector<unsigned char> codes(count), scales(static_cast<std::size_t>(scale_bytes));
  std::vector<float> decoded(count);
  check(
      steepest_q8_encode(context, dtype, is_signed, n, floats.data(), codes.data(), scales.data()));
  check(steepest_q8_decode(context, dtype, is_signed, n, codes.data(), scales.data(),
                           decoded.data()));
  // A code is at most 1/64 of the block's largest number away from its neighbours.
  const std::size_t block = dtype == STEEPEST_Q8_DYNAMIC ? 256 : 32;
  for (std::size_t first = 0; first < count; first += block) {
    const std::size_t last = std::min(first + block, count);
    float largest = 0;
    for (std::size_t i = first; i < last; ++i) largest = std::max(largest, std::abs(floats[i]));
    for (std::size_t i = first; i < last; ++i)
      require(std::abs(decoded[i] - floats[i]) <= largest / 64, "q8: %g decoded as %g",
              static_cast<double>(floats[i]), static_cast<double>(decoded[i]));
  }
  results.add(codes);
  results.add(scales);
  results.add(decoded);
}

}  // namespace soak
