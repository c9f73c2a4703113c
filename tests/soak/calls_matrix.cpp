// SPDX-License-Identifier: Apache-2.0
#include "calls.hpp"

namespace soak {

namespace {

constexpr steepest_dtype float_types[] = {STEEPEST_F32, STEEPEST_F64, STEEPEST_BF16, STEEPEST_F16};

// Up to 200, mostly far less; now and then a vector.
std::int64_t any_side(random_source& random) {
  return 1 + random.below(random.below(6) == 0 ? 200 : 60);
}

steepest_msign_config any_method(random_source& random) {
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  constexpr std::int32_t methods[] = {STEEPEST_MSIGN_AUTO,     STEEPEST_MSIGN_NEWTON_SCHULZ,
                                      STEEPEST_MSIGN_RATIONAL, STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ,
                                      STEEPEST_MSIGN_HALLEY,   STEEPEST_MSIGN_ACCURATE};
  config.method = methods[random.below(std::ssize(methods))];
  if (config.method == STEEPEST_MSIGN_NEWTON_SCHULZ)
    config.coefficients =
        static_cast<std::int32_t>(STEEPEST_COEF_KELLER + random.below(STEEPEST_COEF_POLAR_EXPRESS));
  if (config.method == STEEPEST_MSIGN_RATIONAL)
    config.steps = static_cast<std::int32_t>(random.below(7));
  return config;
}

// Rows with a gap behind them, which no call may write.
struct matrix {
  std::int64_t rows, cols, ld;
  array x;

  matrix(random_source& random, std::int64_t row_count, std::int64_t col_count,
         steepest_dtype dtype, double deviation)
      : rows(row_count), cols(col_count), ld(col_count + random.below(3)),
        x(dtype, normal_values(random, static_cast<std::size_t>(rows * ld), deviation)) {}

  double squares() const {
    double sum = 0;
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) {
        const double value = value_at(x, static_cast<std::size_t>(i * ld + j));
        sum += value * value;
      }
    return sum;
  }
  // msign's result has at most min(rows, cols) singular values, none of them above `top`.
  void require_bounded(const char* what, double top) const {
    const double limit = top * std::sqrt(static_cast<double>(std::min(rows, cols)));
    const double norm = std::sqrt(squares());
    require(norm <= limit, "%s of %lld x %lld: norm %g above %g", what,
            static_cast<long long>(rows), static_cast<long long>(cols), norm, limit);
  }
};

// Coefficient sets are accepted up to 1.6, and half precision rounds by 2^-9.
constexpr double highest_value = 1.61;

}  // namespace

void msign_call(random_source& random, steepest_context* context, digest& results) {
  const steepest_dtype dtype = float_types[random.below(4)];
  const steepest_msign_config config = any_method(random);
  const std::int64_t rows = any_side(random), cols = any_side(random);
  const matrix x(random, rows, cols, dtype, 1);
  matrix out(random, rows, cols, dtype, 1);
  steepest_msign_stats stats = STEEPEST_MSIGN_STATS_INIT;
  const bool own_memory = random.below(3) == 0;
  std::vector<unsigned char> memory;
  steepest_workspace workspace = STEEPEST_WORKSPACE_INIT;
  if (own_memory) {
    check(steepest_msign_workspace_size(context, &config, rows, cols, dtype, 1, &workspace.bytes));
    memory.resize(workspace.bytes);
    workspace.data = memory.data();
  }
  const auto before = out.x.data;
  const steepest_status status =
      steepest_msign(context, &config, rows, cols, dtype, x.x.data.data(), x.ld, out.x.data.data(),
                     out.ld, own_memory ? &workspace : nullptr, &stats);
  if (status == STEEPEST_E_OUT_OF_MEMORY)
    require(out.x.data == before, "msign: a call without memory has written something");
  check(status);
  out.require_bounded("msign", highest_value);
  require(std::isfinite(stats.orthogonality), "msign: orthogonality is not finite");
  out.x.add_to(results);
  results.add(&stats, sizeof(stats));
}

void batched_call(random_source& random, steepest_context* context, digest& results) {
  const steepest_dtype dtype = float_types[random.below(4)];
  const steepest_msign_config config = any_method(random);
  const std::int64_t rows = 1 + random.below(40), cols = 1 + random.below(40);
  std::vector<matrix> x, out;
  std::vector<const void*> from;
  std::vector<void*> to;
  const auto count = static_cast<std::size_t>(1 + random.below(5));
  for (std::size_t i = 0; i < count; ++i) {
    x.emplace_back(random, rows, cols, dtype, 1);
    out.emplace_back(random, rows, cols, dtype, 1);
    x.back().ld = out.back().ld = cols;  // one stride for all
  }
  for (std::size_t i = 0; i < count; ++i) {
    from.push_back(x[i].x.data.data());
    to.push_back(out[i].x.data.data());
  }
  std::vector<steepest_msign_stats> stats(count, STEEPEST_MSIGN_STATS_INIT);
  check(steepest_msign_batched(context, &config, rows, cols, dtype, from.data(), 0, to.data(), 0,
                               static_cast<std::int64_t>(count), nullptr, stats.data()));
  for (const matrix& o : out) {
    o.require_bounded("msign_batched", highest_value);
    o.x.add_to(results);
  }
  results.add(stats);
}

void muon_call(random_source& random, steepest_context* context, digest& results) {
  const bool is_double = random.below(8) == 0;
  const auto any_type = [&] {
    constexpr steepest_dtype narrow[] = {STEEPEST_F32, STEEPEST_BF16, STEEPEST_F16};
    return is_double ? steepest_dtype{STEEPEST_F64} : narrow[random.below(3)];
  };
  steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
  steepest_msign_config method = any_method(random);
  config.msign = &method;
  config.lr = 1e-2 * random.uniform();
  config.weight_decay = 0.1 * random.uniform();
  config.step = 1 + random.below(100);
  config.seed = random.bits();
  config.momentum_kind = static_cast<std::int32_t>(random.below(2));
  config.scale_mode = static_cast<std::int32_t>(random.below(6));
  if (random.below(2) == 0) config.flags &= ~STEEPEST_MUON_NESTEROV;
  if (random.below(3) == 0) config.flags |= STEEPEST_MUON_CAUTIOUS_DECAY;
  if (!is_double && random.below(3) == 0) config.flags |= STEEPEST_MUON_STOCHASTIC_ROUNDING;

  struct owned {
    matrix param, grad;
    array momentum, residual;
    std::int64_t blocks[3];
  };
  std::vector<owned> owners;
  std::vector<steepest_muon_tensor> tensors;
  for (std::int64_t n = 1 + random.below(3); n > 0; --n) {
    steepest_muon_tensor tensor = STEEPEST_MUON_TENSOR_INIT;
    const std::int64_t rows = any_side(random), cols = any_side(random);
    tensor.rows = rows;
    tensor.cols = cols;
    tensor.param_dtype = any_type();
    tensor.grad_dtype = any_type();
    tensor.momentum_dtype = any_type();
    if (!is_double && random.below(3) == 0)
      tensor.momentum_dtype = random.below(2) == 0 ? STEEPEST_Q8_DYNAMIC : STEEPEST_Q8_COMPANDED;
    if (tensor.param_dtype == STEEPEST_BF16)
      tensor.residual_kind = static_cast<std::int32_t>(random.below(5));
    tensor.random_stream = static_cast<std::uint64_t>(n);
    const auto elements = static_cast<std::size_t>(rows * cols);
    owners.push_back({matrix(random, rows, cols, tensor.param_dtype, 0.05),
                      matrix(random, rows, cols, tensor.grad_dtype, 0.01),
                      array(tensor.momentum_dtype, normal_values(random, elements, 0.01)),
                      array(),
                      {0, 0, 0}});
    owned& own = owners.back();
    own.residual.data.resize(own.param.x.data.size());
    if (rows >= 3 && random.below(3) == 0) {
      own.blocks[0] = rows / 3;
      own.blocks[1] = rows / 3;
      own.blocks[2] = rows - 2 * (rows / 3);
      tensor.block_count = 3;
    }
    tensors.push_back(tensor);
  }
  digest untouched;
  const auto add_to = [&](digest& d) {
    for (const owned& own : owners) {
      own.param.x.add_to(d);
      own.momentum.add_to(d);
      own.residual.add_to(d);
    }
  };
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    owned& own = owners[i];
    steepest_muon_tensor& tensor = tensors[i];
    tensor.param = own.param.x.data.data();
    tensor.param_ld = own.param.ld;
    tensor.grad = own.grad.x.data.data();
    tensor.grad_ld = own.grad.ld;
    tensor.momentum = own.momentum.data.data();
    tensor.momentum_scales = own.momentum.scales.data();
    tensor.residual = own.residual.data.data();
    if (tensor.block_count != 0) tensor.blocks = own.blocks;
  }
  add_to(untouched);
  std::vector<steepest_step_stats> stats(tensors.size(), STEEPEST_STEP_STATS_INIT);
  const steepest_status status = steepest_muon_step(context, &config, tensors.data(),
                                                    std::ssize(tensors), nullptr, stats.data());
  if (status == STEEPEST_E_OUT_OF_MEMORY) {
    digest now;
    add_to(now);
    require(now.value() == untouched.value(), "muon: a call without memory has written something");
  }
  check(status);
  for (const steepest_step_stats& one : stats)
    require(std::isfinite(one.update_rms), "muon_step: update_rms is not finite");
  add_to(results);
  results.add(stats);
}

void svd_call(random_source& random, steepest_context* context, digest&) {
  const std::int64_t rows = 1 + random.below(50), cols = 1 + random.below(50);
  const matrix x(random, rows, cols, STEEPEST_F64, 1);
  matrix out(random, rows, cols, STEEPEST_F64, 1);
  steepest_msign_config config = STEEPEST_MSIGN_CONFIG_INIT;
  config.method = STEEPEST_MSIGN_SVD;
  steepest_msign_stats stats = STEEPEST_MSIGN_STATS_INIT;
  check(steepest_msign(context, &config, rows, cols, STEEPEST_F64, x.x.data.data(), x.ld,
                       out.x.data.data(), out.ld, nullptr, &stats));
  require(stats.orthogonality <= 1e-12, "msign by SVD: orthogonality %g", stats.orthogonality);
  require(stats.rank == std::min(rows, cols), "msign by SVD: rank %lld",
          static_cast<long long>(stats.rank));
  // Another way to the same matrix. Of square ones some are too near to singular.
  if (rows == cols) return;
  matrix other(random, rows, cols, STEEPEST_F64, 1);
  other.ld = cols;
  config.method = STEEPEST_MSIGN_ACCURATE;
  check(steepest_msign(context, &config, rows, cols, STEEPEST_F64, x.x.data.data(), x.ld,
                       other.x.data.data(), other.ld, nullptr, nullptr));
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j) {
      const double a = value_at(out.x, static_cast<std::size_t>(i * out.ld + j));
      const double b = value_at(other.x, static_cast<std::size_t>(i * other.ld + j));
      require(std::abs(a - b) <= 1e-6, "msign: %.9g by SVD, %.9g by ACCURATE", a, b);
    }
}

void singular_call(random_source& random, steepest_context* context, digest&) {
  const std::int64_t rows = 1 + random.below(50), cols = 1 + random.below(50);
  const steepest_dtype dtype = float_types[random.below(4)];
  const matrix x(random, rows, cols, dtype, 1);
  std::vector<double> values(static_cast<std::size_t>(std::min(rows, cols)));
  const void* data = x.x.data.data();
  double norm = 0, lower = 0, upper = 0, entropy = -1;
  check(steepest_singular_values(context, rows, cols, dtype, data, x.ld, values.data()));
  check(steepest_spectral_norm(context, rows, cols, dtype, data, x.ld, &norm));
  check(steepest_spectral_norm_bounds(context, rows, cols, dtype, data, x.ld, 0, &lower, &upper));
  check(steepest_singular_entropy(values.data(), std::ssize(values), &entropy));
  double sum = 0;
  for (const double s : values) sum += s * s;
  const double squares = x.squares();
  require(std::abs(sum - squares) <= 1e-12 * squares, "singular_values: squares %.17g for %.17g",
          sum, squares);
  require(std::abs(norm - values[0]) <= 1e-12 * norm, "spectral_norm: %.17g for %.17g", norm,
          values[0]);
  require(lower <= norm * (1 + 1e-12) && norm <= upper * (1 + 1e-12) && upper <= 1.0101 * lower,
          "spectral_norm_bounds: %.17g, %.17g for %.17g", lower, upper, norm);
  require(entropy >= 0 && entropy <= 1 + 1e-12, "singular_entropy: %g", entropy);
}

}  // namespace soak
