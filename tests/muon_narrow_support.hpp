// SPDX-License-Identifier: Apache-2.0
//
// A matrix in narrow storage with everything that a Muon step keeps beside it, and what a step must
// leave there: by contract the f32 step on what was decoded, encoded again. The f32 step is held
// against its own oracle elsewhere, and so are 8-bit codes; the rules for parameters and random
// bits are written here from the header.
#pragma once

#include "core/narrow.hpp"
#include "muon_support.hpp"

namespace steepest_test {

// A matrix of 1-, 2- or 4-byte cells, with guard bytes in the gaps and around it.
class cells {
 public:
  cells() : cells(1, 0, 0, 0) {}
  cells(std::size_t cell_size, std::int64_t row_count, std::int64_t col_count, std::int64_t gap)
      : size(cell_size), rows(row_count), cols(col_count), ld(col_count + gap),
        bytes_(2 * guard + static_cast<std::size_t>(rows * ld) * size, fill) {}

  std::uint32_t get(std::int64_t i, std::int64_t j) const {
    std::uint32_t bits = 0;
    std::memcpy(&bits, bytes_.data() + place(i, j), size);
    return bits;
  }
  void put(std::int64_t i, std::int64_t j, std::uint32_t bits) {
    std::memcpy(bytes_.data() + place(i, j), &bits, size);
  }
  void* data() { return bytes_.data() + guard; }
  bool intact() const {
    cells without = *this;
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) without.put(i, j, 0xa5a5a5a5);
    return std::all_of(without.bytes_.begin(), without.bytes_.end(),
                       [](unsigned char byte) { return byte == fill; });
  }
  bool operator==(const cells&) const = default;

  std::size_t size;
  std::int64_t rows, cols, ld;

 private:
  static constexpr std::size_t guard = 64;
  static constexpr unsigned char fill = 0xa5;
  std::size_t place(std::int64_t i, std::int64_t j) const {
    return guard + static_cast<std::size_t>(i * ld + j) * size;
  }
  std::vector<unsigned char> bytes_;
};

inline float float_of(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }
inline std::uint32_t bits_of(float x) { return __builtin_bit_cast(std::uint32_t, x); }

inline float decoded(steepest_dtype dtype, std::uint32_t bits) {
  if (dtype == STEEPEST_F32) return float_of(bits);
  const auto half = static_cast<std::uint16_t>(bits);
  return dtype == STEEPEST_BF16 ? steepest::to_float(steepest::bf16{half})
                                : steepest::to_float(steepest::f16{half});
}
inline std::uint32_t encoded(steepest_dtype dtype, float x) {
  if (dtype == STEEPEST_F32) return bits_of(x);
  return dtype == STEEPEST_BF16 ? steepest::to_bf16(x).bits : steepest::to_f16(x).bits;
}

struct narrow_layout {
  std::int64_t rows = 0, cols = 0, gap = 0;
  steepest_dtype param = STEEPEST_BF16, grad = STEEPEST_F32, momentum = STEEPEST_F32, copy = 0;
  std::int32_t residual = STEEPEST_RESIDUAL_NONE;
  std::vector<std::int64_t> blocks = {};
  std::int32_t block_axis = 0;
};

struct narrow_matrix {
  narrow_layout layout;
  cells param, grad, momentum, residual, copy, delta;
  std::vector<unsigned char> scales;
  std::uint64_t stream = 5;
  std::int64_t first_index = 0;

  narrow_matrix() = default;
  narrow_matrix(random_source& random, const narrow_layout& l)
      : layout(l), param(size_of(l.param), l.rows, l.cols, l.gap),
        grad(size_of(l.grad), l.rows, l.cols, 2 * l.gap),
        momentum(coded() ? 1 : size_of(l.momentum), l.rows, l.cols, coded() ? 0 : 3 * l.gap),
        residual(l.residual == STEEPEST_RESIDUAL_NEAREST8 ? 1 : 2, l.rows, l.cols, l.gap),
        copy(l.copy == 0 ? 1 : size_of(l.copy), l.rows, l.cols, 4 * l.gap),
        delta(4, l.rows, l.cols, l.gap) {
    std::vector<float> m;
    for (std::int64_t i = 0; i < l.rows; ++i)
      for (std::int64_t j = 0; j < l.cols; ++j) {
        grad.put(i, j, encoded(l.grad, static_cast<float>(random.normal())));
        m.push_back(static_cast<float>(random.normal()));
        if (!coded()) momentum.put(i, j, encoded(l.momentum, m.back()));
        set_master(i, j, static_cast<float>(random.normal()));
      }
    if (!coded()) return;
    std::int64_t bytes = 0;
    EXPECT_OK(steepest_q8_scales(l.momentum, l.rows * l.cols, nullptr, &bytes));
    scales.resize(static_cast<std::size_t>(bytes));
    encode_momentum(m);
  }

  bool coded() const {
    return layout.momentum == STEEPEST_Q8_DYNAMIC || layout.momentum == STEEPEST_Q8_COMPANDED;
  }
  std::int64_t count() const { return layout.rows * layout.cols; }

  void encode_momentum(const std::vector<float>& m) {
    ASSERT_OK(steepest_q8_encode(nullptr, layout.momentum, 1, count(), m.data(),
                                 static_cast<std::uint8_t*>(momentum.data()), scales.data()));
  }
  std::vector<float> decoded_momentum() {
    std::vector<float> m(static_cast<std::size_t>(count()));
    if (coded()) {
      EXPECT_OK(steepest_q8_decode(nullptr, layout.momentum, 1, count(),
                                   static_cast<const std::uint8_t*>(momentum.data()), scales.data(),
                                   m.data()));
    }
    for (std::int64_t i = 0; !coded() && i < count(); ++i)
      m[static_cast<std::size_t>(i)] =
          decoded(layout.momentum, momentum.get(i / layout.cols, i % layout.cols));
    return m;
  }

  // The master as the header joins it.
  float master(std::int64_t i, std::int64_t j) const {
    const float p = decoded(layout.param, param.get(i, j));
    const std::uint32_t low = residual.get(i, j);
    switch (layout.residual) {
      case STEEPEST_RESIDUAL_LOW16: return float_of(bits_of(p) | low);
      case STEEPEST_RESIDUAL_NEAREST16:
        return float_of(bits_of(p) + static_cast<std::uint32_t>(static_cast<std::int16_t>(low)));
      case STEEPEST_RESIDUAL_NEAREST8:
        return float_of(bits_of(p) +
                        static_cast<std::uint32_t>(static_cast<std::int8_t>(low) * 256));
      case STEEPEST_RESIDUAL_KAHAN: return p + decoded(layout.param, low);
      default: return p;
    }
  }
  // And splits it. `random`: 16 bits, or less than 0 to round to nearest.
  void set_master(std::int64_t i, std::int64_t j, float x, std::int32_t random = -1) {
    std::uint32_t bits = bits_of(x);
    const auto split = [&](std::uint32_t high, std::uint32_t low) {
      param.put(i, j, high >> 16);
      residual.put(i, j, low);
    };
    switch (layout.residual) {
      case STEEPEST_RESIDUAL_NONE:
        if (layout.param == STEEPEST_BF16 && random >= 0)
          return param.put(i, j, (bits + static_cast<std::uint32_t>(random)) >> 16);
        return param.put(i, j, encoded(layout.param, x));
      case STEEPEST_RESIDUAL_LOW16: return split(bits, bits & 0xffff);
      case STEEPEST_RESIDUAL_NEAREST8:
        bits += random >= 0 ? static_cast<std::uint32_t>(random) >> 8 : 0x7f + (bits >> 8 & 1);
        bits &= 0xffffff00;
        return split(bits + 0x8000, bits >> 8);
      case STEEPEST_RESIDUAL_NEAREST16: return split(bits + 0x8000, bits);
      default: {
        const std::uint32_t high = encoded(layout.param, x);
        param.put(i, j, high);
        residual.put(i, j, encoded(layout.param, x - decoded(layout.param, high)));
      }
    }
  }

  steepest_muon_tensor tensor() {
    steepest_muon_tensor t = STEEPEST_MUON_TENSOR_INIT;
    t.rows = layout.rows;
    t.cols = layout.cols;
    t.param = param.data();
    t.grad = grad.data();
    t.momentum = momentum.data();
    t.delta = delta.data();
    t.param_ld = param.ld;
    t.grad_ld = grad.ld;
    t.momentum_ld = momentum.ld;
    t.delta_ld = delta.ld;
    t.param_dtype = layout.param;
    t.grad_dtype = layout.grad;
    t.momentum_dtype = layout.momentum;
    if (!layout.blocks.empty()) t.blocks = layout.blocks.data();
    t.block_count = static_cast<std::int64_t>(layout.blocks.size());
    t.block_axis = layout.block_axis;
    t.residual_kind = layout.residual;
    t.residual = layout.residual != STEEPEST_RESIDUAL_NONE ? residual.data() : nullptr;
    if (layout.copy != 0) {
      t.param_copy = copy.data();
      t.param_copy_dtype = layout.copy;
      t.param_copy_ld = copy.ld;
    }
    t.momentum_scales = coded() ? scales.data() : nullptr;
    t.random_stream = stream;
    t.first_index = first_index;
    return t;
  }
  steepest_status run(steepest_context* context, const steepest_muon_config& config,
                      steepest_step_stats* stats = nullptr) {
    const steepest_muon_tensor t = tensor();
    return steepest_muon_step(context, &config, &t, 1, nullptr, stats);
  }
  bool intact() const {
    return param.intact() && grad.intact() && momentum.intact() && residual.intact() &&
           copy.intact() && delta.intact();
  }
};

inline bool same_bits(const narrow_matrix& a, const narrow_matrix& b) {
  return a.param == b.param && a.grad == b.grad && a.momentum == b.momentum &&
         a.residual == b.residual && a.copy == b.copy && a.delta == b.delta && a.scales == b.scales;
}

// The same matrix in f32 throughout.
inline narrow_matrix widened(narrow_matrix& m) {
  narrow_layout layout = m.layout;
  layout.param = layout.grad = layout.momentum = STEEPEST_F32;
  layout.copy = 0;
  layout.residual = STEEPEST_RESIDUAL_NONE;
  layout.gap = 0;
  random_source unused(1);
  narrow_matrix wide(unused, layout);
  const std::vector<float> momentum = m.decoded_momentum();
  for (std::int64_t i = 0; i < layout.rows; ++i)
    for (std::int64_t j = 0; j < layout.cols; ++j) {
      wide.param.put(i, j, bits_of(m.master(i, j)));
      wide.grad.put(i, j, bits_of(decoded(m.layout.grad, m.grad.get(i, j))));
      wide.momentum.put(i, j, bits_of(momentum[static_cast<std::size_t>(i * layout.cols + j)]));
    }
  return wide;
}

// `before` after a step, from that of its widened form. With random bits 8-bit momentum is left as
// it was: its rule is tested by its mean.
inline narrow_matrix stepped(steepest_context* context, const steepest_muon_config& config,
                             narrow_matrix before, steepest_step_stats* stats) {
  narrow_matrix wide = widened(before);
  EXPECT_OK(wide.run(context, config, stats));
  const bool stochastic = (config.flags & STEEPEST_MUON_STOCHASTIC_ROUNDING) != 0;
  const bool emits = (config.flags & STEEPEST_MUON_EMIT_DELTA) != 0;
  const narrow_layout& l = before.layout;
  for (std::int64_t i = 0; i < l.rows; ++i)
    for (std::int64_t j = 0; j < l.cols; ++j) {
      const auto index = static_cast<std::uint64_t>(before.first_index + i * l.cols + j);
      const std::uint32_t word = steepest::random_word(
          steepest::random_source_of(config.seed, config.step, before.stream, index), 0);
      const float m = float_of(wide.momentum.get(i, j));
      if (l.momentum == STEEPEST_BF16 && stochastic)
        before.momentum.put(i, j, (bits_of(m) + (word >> 16)) >> 16);
      else if (!before.coded())
        before.momentum.put(i, j, encoded(l.momentum, m));
      if (emits) {
        before.delta.put(i, j, wide.delta.get(i, j));
        continue;
      }
      const float p = float_of(wide.param.get(i, j));
      if (l.copy != 0) before.copy.put(i, j, encoded(l.copy, p));
      before.set_master(i, j, p, stochastic ? static_cast<std::int32_t>(word & 0xffff) : -1);
    }
  if (before.coded() && !stochastic) before.encode_momentum(wide.decoded_momentum());
  return before;
}

}  // namespace steepest_test
