// SPDX-License-Identifier: Apache-2.0
//
// One step on narrow storage: residuals, 8-bit moments, copies and stochastic rounding, in every
// pair of choices, against the f32 step and the rules of encoding; the same bits for any level,
// threads and pieces; nothing outside the buffers.
#include <map>

#include "covering_array.hpp"
#include "executors.hpp"
#include "narrow_support.hpp"

namespace steepest_test {
namespace {

struct master {
  steepest_dtype dtype;
  std::int32_t residual;
};
constexpr master masters[] = {
    {STEEPEST_F32, STEEPEST_RESIDUAL_NONE},       {STEEPEST_BF16, STEEPEST_RESIDUAL_NONE},
    {STEEPEST_F16, STEEPEST_RESIDUAL_NONE},       {STEEPEST_BF16, STEEPEST_RESIDUAL_LOW16},
    {STEEPEST_BF16, STEEPEST_RESIDUAL_NEAREST16}, {STEEPEST_BF16, STEEPEST_RESIDUAL_NEAREST8},
    {STEEPEST_BF16, STEEPEST_RESIDUAL_KAHAN},     {STEEPEST_F16, STEEPEST_RESIDUAL_KAHAN},
};
constexpr steepest_dtype plain[] = {STEEPEST_F32, STEEPEST_BF16, STEEPEST_F16};
constexpr steepest_dtype moments[] = {STEEPEST_F32, STEEPEST_BF16, STEEPEST_F16,
                                      STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED};
constexpr steepest_dtype copies[] = {0, STEEPEST_BF16, STEEPEST_F16, STEEPEST_F32};
constexpr std::uint64_t flag_sets[] = {
    0,
    STEEPEST_ADAMW_MAXIMIZE,
    STEEPEST_ADAMW_COUPLED_L2,
    STEEPEST_ADAMW_CAUTIOUS_DECAY,
    STEEPEST_ADAMW_AMSGRAD,
    STEEPEST_ADAMW_EMIT_DELTA,
    STEEPEST_ADAMW_SKIP_NONFINITE | STEEPEST_FLAG_CONSISTENT,
};

std::vector<std::size_t> sizes() {
  std::vector<std::size_t> all;
  for (std::size_t n = 0; n <= 4 * 16 + 3; ++n) all.push_back(n);
  all.insert(all.end(), {255, 256, 257, 511, 512, 513, 1031, 16384, 16385, 40007});
  return all;
}

// Steps `a` in place, each array in a Buffer made with where(0), where(1), ...
template <template <class> class Buffer, class Where>
void step_in(steepest_context* context, const steepest_adamw_config& config, narrow_arrays& a,
             Where where, std::int64_t first_index, steepest_step_stats* stats) {
  const auto at = [&](std::size_t i, std::size_t size) { return where(i, size); };
  const storage& k = a.kind;
  const auto scale = [](steepest_dtype d) -> std::size_t {
    return d == STEEPEST_Q8_DYNAMIC ? 4 : 2;
  };
  Buffer<unsigned char> param(a.param, at(0, element_size(k.param))),
      grad(a.grad, at(1, element_size(k.grad))), m(a.exp_avg, at(2, element_size(k.exp_avg))),
      v(a.exp_avg_sq, at(3, element_size(k.exp_avg_sq))),
      most(a.max_exp_avg_sq, at(4, element_size(k.exp_avg_sq))),
      delta(a.delta, at(5, element_size(k.delta))),
      residual(a.residual, at(6, residual_size(k.residual))),
      copy(a.copy, at(7, k.copy != 0 ? element_size(k.copy) : 1)),
      m_scales(a.exp_avg_scales, at(8, scale(k.exp_avg))),
      v_scales(a.exp_avg_sq_scales, at(9, scale(k.exp_avg_sq)));
  steepest_adamw_tensor x = a.tensor();
  x.first_index = first_index;
  x.param = param.data();
  x.grad = grad.data();
  x.exp_avg = m.data();
  x.exp_avg_sq = v.data();
  x.max_exp_avg_sq = most.data();
  x.delta = delta.data();
  x.residual = residual.data();
  x.param_copy = k.copy != 0 ? copy.data() : nullptr;
  x.exp_avg_scales = m_scales.data();
  x.exp_avg_sq_scales = v_scales.data();
  ASSERT_OK(steepest_adamw_step(context, &config, &x, 1, stats));
  EXPECT_TRUE(param.intact() && grad.intact() && m.intact() && v.intact() && most.intact() &&
              delta.intact() && residual.intact() && copy.intact() && m_scales.intact() &&
              v_scales.intact());
  a.param = param.values();
  a.grad = grad.values();
  a.exp_avg = m.values();
  a.exp_avg_sq = v.values();
  a.max_exp_avg_sq = most.values();
  a.delta = delta.values();
  a.residual = residual.values();
  a.copy = copy.values();
  a.exp_avg_scales = m_scales.values();
  a.exp_avg_sq_scales = v_scales.values();
}

// Contexts with as many threads as asked for, also where the machine has fewer cores.
class context_cache {
 public:
  steepest_context* get(steepest_isa isa, std::int32_t threads) {
    context_pointer& context = contexts_[{isa, threads}];
    if (context != nullptr) return context.get();
    own_.push_back(std::make_unique<reversed_executor>(threads));
    const steepest_executor executor = own_.back()->interface();
    context = threads <= 2 ? make_context({.max_isa = isa, .threads = threads})
                           : make_context({.max_isa = isa, .executor = &executor});
    return context.get();
  }

 private:
  std::vector<std::unique_ptr<reversed_executor>> own_;
  std::map<std::pair<steepest_isa, std::int32_t>, context_pointer> contexts_;
};

bool possible(const storage& k, std::uint64_t flags) {
  if ((flags & STEEPEST_ADAMW_AMSGRAD) != 0 && has_blocks(k.exp_avg_sq)) return false;
  return (flags & STEEPEST_ADAMW_EMIT_DELTA) == 0 ||
         (k.residual == STEEPEST_RESIDUAL_NONE && k.copy == 0);
}

TEST(adamw_narrow, every_pair_of_choices_is_the_f32_step_encoded) {
  const auto counts = sizes();
  const auto& isas = levels();
  constexpr std::int32_t thread_counts[] = {1, 2, 3, 8};
  constexpr std::int64_t first_indices[] = {0, 1000, (std::int64_t{1} << 32) - 700,
                                            INT64_MAX - 50000};
  const covering_array array({8, 3, 5, 5, 4, 7, 2, 2, 4, static_cast<int>(isas.size()), 4, 16, 3,
                              static_cast<int>(counts.size())});
  context_cache contexts;
  random_source random(301);
  for (const auto& row : array.rows()) {
    const auto at = [&](std::size_t factor) { return static_cast<std::size_t>(row[factor]); };
    const master& p = masters[at(0)];
    const storage k = {p.dtype,        plain[at(1)],  p.residual,   moments[at(2)],
                       moments[at(3)], copies[at(4)], plain[at(12)]};
    steepest_adamw_config config = make_config();
    config.flags = possible(k, flag_sets[at(5)]) ? flag_sets[at(5)] : 0;
    if (row[6] != 0) config.flags |= STEEPEST_ADAMW_STOCHASTIC_ROUNDING;
    config.step = 1 + random.below(50);
    config.grad_scale = 0.75;
    config.seed = random.bits();
    const steepest_isa isa = isas[at(9)];
    steepest_context* const context = contexts.get(isa, thread_counts[at(10)]);
    const std::size_t count = counts[at(13)];
    SCOPED_TRACE(testing::Message()
                 << k.name() << " " << steepest_isa_name(isa) << " count " << count << " flags "
                 << config.flags << " step " << config.step);
    narrow_arrays before(k, random_values(random, count));
    before.set_residuals(random);
    narrow_arrays after = before;
    steepest_step_stats stats = STEEPEST_STEP_STATS_INIT, wide_stats = STEEPEST_STEP_STATS_INIT;
    const bool with_stats = row[7] != 0;
    const auto offset = [&](std::size_t i, std::size_t size) {
      return (at(11) + 5 * i) % 16 * size;
    };
    step_in<guarded>(context, config, after, offset, first_indices[at(8)],
                     with_stats ? &stats : nullptr);
    adamw_arrays<float> wide = before.widened();
    steepest_adamw_config plain_config = config;
    plain_config.flags &= ~std::uint64_t{STEEPEST_ADAMW_STOCHASTIC_ROUNDING};
    ASSERT_OK(run_step(context, plain_config, wide, with_stats ? &wide_stats : nullptr));
    expect_encoded(config, before, after, wide,
                   {config.seed, config.step, 5, first_indices[at(8)], row[6] != 0});
    if (with_stats) expect_about_same(stats, wide_stats);
    if (testing::Test::HasFailure()) return;
  }
}

std::vector<storage> many_kinds() {
  std::vector<storage> kinds;
  const covering_array array({8, 3, 5, 5, 4});
  for (const auto& row : array.rows()) {
    const auto at = [&](std::size_t factor) { return static_cast<std::size_t>(row[factor]); };
    const master& p = masters[at(0)];
    kinds.push_back({p.dtype, plain[at(1)], p.residual, moments[at(2)], moments[at(3)],
                     copies[at(4)], STEEPEST_F32});
  }
  return kinds;
}

// Several tiles, several threads, pieces that say where they belong: the same bits, statistics too.
// With STEEPEST_FLAG_CONSISTENT on every level.
TEST(adamw_narrow, the_same_bits_however_it_is_cut) {
  constexpr std::size_t count = 3 * 16384 + 77;
  context_cache contexts;
  random_source random(302);
  const adamw_arrays<float> values = random_values(random, count);
  for (const storage& k : many_kinds()) {
    narrow_arrays before(k, values);
    before.set_residuals(random);
    steepest_adamw_config config = make_config();
    config.flags = STEEPEST_ADAMW_STOCHASTIC_ROUNDING | STEEPEST_FLAG_CONSISTENT;
    config.step = 9;
    config.seed = 77;
    const auto whole = [&](steepest_isa isa, std::int32_t threads, steepest_step_stats& stats) {
      narrow_arrays a = before;
      const steepest_adamw_tensor x = a.tensor();
      EXPECT_OK(steepest_adamw_step(contexts.get(isa, threads), &config, &x, 1, &stats));
      return a;
    };
    steepest_step_stats first_stats = STEEPEST_STEP_STATS_INIT;
    const narrow_arrays first = whole(STEEPEST_ISA_GENERIC, 1, first_stats);
    for (const steepest_isa isa : levels()) {
      SCOPED_TRACE(testing::Message() << k.name() << " " << steepest_isa_name(isa));
      steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
      EXPECT_TRUE(whole(isa, 3, stats) == first);
      EXPECT_TRUE(same_bits(stats, first_stats));
    }
    narrow_arrays pieces = before;
    std::vector<steepest_adamw_tensor> list;
    for (std::size_t at = 0, size = 256; at < count; at += size, size += 256)
      list.push_back(pieces.tensor(at, std::min(size, count - at)));
    ASSERT_OK(steepest_adamw_step(contexts.get(STEEPEST_ISA_AUTO, 3), &config, list.data(),
                                  static_cast<std::int64_t>(list.size()), nullptr));
    EXPECT_TRUE(pieces == first) << k.name();
    // Another seed, step or stream rounds otherwise.
    if (k.param != STEEPEST_BF16 || k.residual != STEEPEST_RESIDUAL_NONE) continue;
    config.seed = 78;
    steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
    EXPECT_NE(whole(STEEPEST_ISA_AUTO, 1, stats).param, first.param);
  }
}

// Reading past an array by as little as one byte would end the process.
TEST(adamw_narrow, between_fences) {
  random_source random(303);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    int kind = 0;
    for (const storage& k : many_kinds()) {
      const std::size_t counts[] = {1, 15, 17, 33, 67, 255, 513, 1023};
      const std::size_t count = counts[kind++ % 8];
      narrow_arrays expected(k, random_values(random, count));
      expected.set_residuals(random);
      steepest_adamw_config config = make_config();
      if (kind % 2 != 0) config.flags = STEEPEST_ADAMW_STOCHASTIC_ROUNDING;
      for (const bool at_end : {true, false}) {
        narrow_arrays a = expected, b = expected;
        const steepest_adamw_tensor x = a.tensor();
        ASSERT_OK(steepest_adamw_step(context.get(), &config, &x, 1, nullptr));
        step_in<fenced>(
            context.get(), config, b, [&](std::size_t, std::size_t) { return at_end; }, 0, nullptr);
        EXPECT_TRUE(a == b) << k.name() << " count " << count;
      }
    }
  }
}

// Every 16-bit parameter with residuals at their ends: an F32 copy at lr = 0 is the join itself.
TEST(adamw_narrow, residuals_join_exactly) {
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const master& p : masters) {
      if (p.residual == STEEPEST_RESIDUAL_NONE) continue;
      storage k = {p.dtype, STEEPEST_F32, p.residual};
      k.copy = STEEPEST_F32;
      // All of them on one level, and every seventh on the others.
      const std::uint32_t stride = isa == levels().back() ? 1 : 7;
      narrow_arrays a(k, adamw_arrays<float>(0x10000 / stride));
      for (std::uint32_t i = 0; i < a.count; ++i)
        write_as(a.param, i, static_cast<std::uint16_t>(i * stride));
      steepest_adamw_config config = make_config();
      config.lr = 0;
      for (const int low : {0, 1, 0x80, 0x7fff, 0x8000, 0xffff}) {
        const bool narrow = p.residual == STEEPEST_RESIDUAL_NEAREST8;
        for (std::size_t i = 0; i < a.count; ++i) {
          if (narrow)
            write_as(a.residual, i, static_cast<std::uint8_t>(low));
          else
            write_as(a.residual, i, static_cast<std::uint16_t>(low));
        }
        narrow_arrays after = a;
        const steepest_adamw_tensor x = after.tensor();
        ASSERT_OK(steepest_adamw_step(context.get(), &config, &x, 1, nullptr));
        adamw_arrays<float> wide = a.widened();
        const std::vector<float> masters_before = wide.param;
        ASSERT_OK(run_step(context.get(), config, wide));
        expect_encoded(config, a, after, wide, {0, 1, 5, 0, false});
        for (std::size_t i = 0; i < a.count; ++i) {
          const auto copy = read_as<float>(after.copy, i);
          // (infinity - 0 x infinity is NaN)
          ASSERT_TRUE(copy == masters_before[i] || !std::isfinite(masters_before[i]))
              << "param " << i << " residual " << low << " kind " << p.residual;
        }
        ASSERT_FALSE(testing::Test::HasFailure()) << "residual " << low << " kind " << p.residual;
      }
    }
  }
}

// NaN, infinity, the largest and the smallest numbers in every place, by nearest and by chance.
TEST(adamw_narrow, edge_values) {
  const float edges[] = {NAN,          -NAN,    INFINITY,  -INFINITY,  FLT_MAX,
                         -FLT_MAX,     3.3e38F, 0x1p-149F, -0x1p-149F, 0x1p-126F,
                         -0x1.8p-127F, 0.0F,    -0.0F,     1.0F,       65504.0F,
                         65520.0F,     6e-8F,   1e-20F,    -1e30F,     float_of(0x7f800001)};
  context_cache contexts;
  random_source random(304);
  for (const storage& k : many_kinds()) {
    for (const bool rounds : {false, true}) {
      constexpr std::size_t count = 700;
      adamw_arrays<float> values = random_values(random, count);
      const auto edge = [&] { return edges[random.below(std::size(edges))]; };
      for (std::size_t i = 0; i < count; i += 7) values.param[i] = edge();
      for (std::size_t i = 3; i < count; i += 90) values.grad[i] = edge();
      for (std::size_t i = 5; i < count; i += 90) values.exp_avg[i] = edge();
      for (std::size_t i = 6; i < count; i += 90) values.exp_avg_sq[i] = std::abs(edge());
      narrow_arrays before(k, values);
      before.set_residuals(random);
      steepest_adamw_config config = make_config();
      config.flags = rounds ? STEEPEST_ADAMW_STOCHASTIC_ROUNDING : 0;
      for (const steepest_isa isa : levels()) {
        SCOPED_TRACE(testing::Message() << k.name() << " " << steepest_isa_name(isa));
        steepest_context* const context = contexts.get(isa, 1);
        narrow_arrays after = before;
        const steepest_adamw_tensor x = after.tensor();
        ASSERT_OK(steepest_adamw_step(context, &config, &x, 1, nullptr));
        adamw_arrays<float> wide = before.widened();
        steepest_adamw_config plain_config = make_config();
        ASSERT_OK(run_step(context, plain_config, wide));
        expect_encoded(config, before, after, wide, {0, 1, 5, 0, rounds});
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

// The mixes that have kernels of their own for a plain step without a copy, which the pairs above
// seldom meet: ordinary values, and values that are not finite or the largest.
TEST(adamw_narrow, kernels_of_their_own) {
  constexpr steepest_dtype q8 = STEEPEST_Q8_COMPANDED;
  const storage kinds[] = {
      {STEEPEST_BF16, STEEPEST_BF16, STEEPEST_RESIDUAL_LOW16, STEEPEST_F32, STEEPEST_F32},
      {STEEPEST_BF16, STEEPEST_BF16, STEEPEST_RESIDUAL_NEAREST16, STEEPEST_F32, STEEPEST_F32},
      {STEEPEST_BF16, STEEPEST_BF16, STEEPEST_RESIDUAL_NONE, STEEPEST_BF16, STEEPEST_BF16},
      {STEEPEST_BF16, STEEPEST_BF16, STEEPEST_RESIDUAL_NONE, STEEPEST_F32, STEEPEST_F32},
      {STEEPEST_F32, STEEPEST_F32, STEEPEST_RESIDUAL_NONE, q8, q8},
      {STEEPEST_F32, STEEPEST_BF16, STEEPEST_RESIDUAL_NONE, q8, q8},
      {STEEPEST_BF16, STEEPEST_BF16, STEEPEST_RESIDUAL_NONE, q8, q8},
  };
  constexpr std::size_t counts[] = {1, 31, 33, 64, 67, 513, 1031, 40007};
  constexpr float edges[] = {NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 3.3e38F};
  context_cache contexts;
  random_source random(306);
  for (const storage& k : kinds)
    for (const steepest_isa isa : levels())
      for (const bool rounds : {false, true})
        for (const bool extreme : {false, true})
          for (const std::size_t count : counts) {
            SCOPED_TRACE(testing::Message() << k.name() << " " << steepest_isa_name(isa)
                                            << " count " << count << " rounds " << rounds);
            adamw_arrays<float> values = random_values(random, count);
            for (std::size_t i = 0; extreme && i < count; i += 1 + count / 4) {
              values.param[i] = edges[random.below(std::size(edges))];
              values.grad[count - 1 - i] = edges[random.below(std::size(edges))];
            }
            narrow_arrays before(k, values);
            before.set_residuals(random);
            narrow_arrays after = before;
            steepest_adamw_config config = make_config();
            config.step = 1 + random.below(50);
            config.seed = random.bits();
            if (random.below(2) == 0) config.grad_scale = 0.75;
            steepest_adamw_config wide_config = config;
            if (rounds) config.flags = STEEPEST_ADAMW_STOCHASTIC_ROUNDING;
            steepest_adamw_tensor x = after.tensor();
            x.first_index = (std::int64_t{1} << 32) - 40;
            steepest_step_stats stats = STEEPEST_STEP_STATS_INIT, wide_stats = stats;
            const bool with_stats = random.below(2) == 0;
            steepest_context* const context = contexts.get(isa, 1);
            ASSERT_OK(steepest_adamw_step(context, &config, &x, 1, with_stats ? &stats : nullptr));
            adamw_arrays<float> wide = before.widened();
            ASSERT_OK(run_step(context, wide_config, wide, &wide_stats));
            expect_encoded(config, before, after, wide,
                           {config.seed, config.step, 5, x.first_index, rounds});
            if (with_stats && extreme) {
              EXPECT_EQ(stats.nonfinite, wide_stats.nonfinite);
            }
            if (with_stats && !extreme) expect_about_same(stats, wide_stats);
            if (testing::Test::HasFailure()) return;
          }
}

// A checkpoint is the arrays: continued elsewhere, on other threads, it comes to the same bits.
TEST(adamw_narrow, a_checkpoint_continues_identically) {
  constexpr std::size_t count = 20011;
  context_cache contexts;
  random_source random(305);
  for (const storage& k : many_kinds()) {
    narrow_arrays a(k, random_arrays<float>(random, count, true));
    steepest_adamw_config config = make_config();
    config.flags = STEEPEST_ADAMW_STOCHASTIC_ROUNDING;
    const auto train = [&](steepest_context* context, narrow_arrays& state, std::int64_t from,
                           std::int64_t to) {
      for (config.step = from; config.step < to; ++config.step) {
        random_source gradients(static_cast<std::uint64_t>(config.step));
        std::vector<float> grad(count);
        for (float& g : grad) g = static_cast<float>(1e-3 * (gradients.uniform() - 0.5));
        state.grad = typed_array::encoded(format_of(k.grad), grad);
        const steepest_adamw_tensor x = state.tensor();
        ASSERT_OK(steepest_adamw_step(context, &config, &x, 1, nullptr));
      }
    };
    train(contexts.get(STEEPEST_ISA_AUTO, 1), a, 1, 4);
    narrow_arrays b = a;
    train(contexts.get(STEEPEST_ISA_AUTO, 1), a, 4, 7);
    train(contexts.get(STEEPEST_ISA_AUTO, 3), b, 4, 7);
    EXPECT_TRUE(a == b) << k.name();
  }
}

}  // namespace
}  // namespace steepest_test
