// SPDX-License-Identifier: Apache-2.0
//
// Flags x level x size x offset x threads, every pair of values in some call: within the accuracy
// rule, nothing outside the elements written, the gradient as it was. The long form runs the full
// product.
#include <map>

#include "adamw_support.hpp"
#include "covering_array.hpp"
#include "executors.hpp"

namespace steepest_test {
namespace {

std::vector<std::uint64_t> flag_sets() {
  std::vector<std::uint64_t> sets;
  for (const std::uint64_t decay :
       {std::uint64_t{0}, STEEPEST_ADAMW_COUPLED_L2, STEEPEST_ADAMW_CAUTIOUS_DECAY}) {
    for (const std::uint64_t amsgrad : {std::uint64_t{0}, STEEPEST_ADAMW_AMSGRAD}) {
      for (const std::uint64_t maximize : {std::uint64_t{0}, STEEPEST_ADAMW_MAXIMIZE}) {
        for (const std::uint64_t emit : {std::uint64_t{0}, STEEPEST_ADAMW_EMIT_DELTA}) {
          sets.push_back(decay | amsgrad | maximize | emit);
        }
      }
    }
  }
  return sets;
}

// 0 ... 4 * lanes + 3 for the widest vectors, and primes that leave a tail at every width.
template <class Real>
std::vector<std::size_t> sizes() {
  std::vector<std::size_t> all;
  for (std::size_t n = 0; n <= 4 * 64 / sizeof(Real) + 3; ++n) all.push_back(n);
  for (const std::size_t prime : {10007, 65537, 1000003}) all.push_back(prime);
  return all;
}

// Long arrays repeat after period elements. The period is prime, so the repeats meet every position
// in vectors and tiles: equal to the bit, by contract, so only the first meets the oracle.
constexpr std::size_t period = 4099;

template <class Real>
adamw_arrays<Real> periodic_arrays(random_source& random, std::size_t count, bool fresh) {
  adamw_arrays<Real> a = random_arrays<Real>(random, std::min(count, period), fresh);
  for (std::vector<Real>* array : a.all()) {
    array->resize(count);
    for (std::size_t i = period; i < count; ++i) (*array)[i] = (*array)[i - period];
  }
  return a;
}

template <class Real>
void expect_correct(steepest_isa isa, const steepest_adamw_config& config,
                    adamw_arrays<Real> before, adamw_arrays<Real> after) {
  expect_rest_unchanged(config, before, after);
  for (std::vector<Real>* array : after.all()) {
    for (std::size_t i = period; i < after.count(); ++i) {
      ASSERT_TRUE(same_bits((*array)[i], (*array)[i - period])) << "element " << i;
    }
  }
  before.resize(std::min(before.count(), period));
  after.resize(before.count());
  expect_within_rule(compare_step(config, before, after), config, isa);
}

constexpr std::int32_t thread_counts[] = {1, 2, 3, 8};

// One step on copies of `a`, each in a Buffer made with where(0), where(1), ...; the result
// replaces `a`.
template <template <class> class Buffer, class Real, class Where>
void run_in(steepest_context* context, const steepest_adamw_config& config, Where where,
            bool with_stats, adamw_arrays<Real>& a) {
  Buffer<Real> param(a.param, where(0)), grad(a.grad, where(1)), exp_avg(a.exp_avg, where(2)),
      exp_avg_sq(a.exp_avg_sq, where(3)), max_exp_avg_sq(a.max_exp_avg_sq, where(4)),
      delta(a.delta, where(5));
  steepest_adamw_tensor tensor = make_tensor(a);
  tensor.param = param.data();
  tensor.grad = grad.data();
  tensor.exp_avg = exp_avg.data();
  tensor.exp_avg_sq = exp_avg_sq.data();
  tensor.max_exp_avg_sq = max_exp_avg_sq.data();
  tensor.delta = delta.data();
  steepest_step_stats stats = STEEPEST_STEP_STATS_INIT;
  ASSERT_OK(steepest_adamw_step(context, &config, &tensor, 1, with_stats ? &stats : nullptr));
  EXPECT_EQ(stats.nonfinite, 0);
  EXPECT_TRUE(param.intact() && grad.intact() && exp_avg.intact() && exp_avg_sq.intact() &&
              max_exp_avg_sq.intact() && delta.intact());
  a.param = param.values();
  a.grad = grad.values();
  a.exp_avg = exp_avg.values();
  a.exp_avg_sq = exp_avg_sq.values();
  a.max_exp_avg_sq = max_exp_avg_sq.values();
  a.delta = delta.values();
}

// Element offsets from a 64-byte boundary: the same for all buffers, or (skew) one each.
struct offsets {
  std::size_t base;
  bool skew;
  std::size_t operator()(std::size_t which) const {
    return skew ? (base * (2 * which + 1) + 3 * which) % 16 : base;
  }
};

// Contexts with as many threads as asked for, also where the machine has fewer cores.
class context_cache {
 public:
  steepest_context* get(steepest_isa isa, std::int32_t threads) {
    context_pointer& context = contexts_[{isa, threads}];
    if (context != nullptr) return context.get();
    if (threads <= 2) {
      context = make_context({.max_isa = isa, .threads = threads});
    } else {
      own_.push_back(std::make_unique<reversed_executor>(threads));
      const steepest_executor executor = own_.back()->interface();
      context = make_context({.max_isa = isa, .executor = &executor});
    }
    return context.get();
  }

 private:
  std::vector<std::unique_ptr<reversed_executor>> own_;
  std::map<std::pair<steepest_isa, std::int32_t>, context_pointer> contexts_;
};

template <class Real>
void pairwise() {
  const auto flags = flag_sets();
  const auto counts = sizes<Real>();
  const auto& isas = levels();
  const covering_array array({static_cast<int>(flags.size()), static_cast<int>(isas.size()),
                              static_cast<int>(counts.size()), 16, 4, 2, 2, 2, 2});
  context_cache contexts;
  random_source random(7);
  for (const auto& row : array.rows()) {
    const auto value = [&](std::size_t factor) { return static_cast<std::size_t>(row[factor]); };
    steepest_adamw_config config = make_config();
    config.flags = flags[value(0)] | (row[5] != 0 ? STEEPEST_FLAG_CONSISTENT : 0) |
                   (row[6] != 0 ? STEEPEST_ADAMW_SKIP_NONFINITE : 0);
    config.step = 1 + random.below(50);
    config.grad_scale = random.uniform();
    const std::size_t count = counts[value(2)];
    const adamw_arrays<Real> before = periodic_arrays<Real>(random, count, config.step == 1);
    adamw_arrays<Real> after = before;
    SCOPED_TRACE(testing::Message()
                 << steepest_isa_name(isas[value(1)]) << " count " << count << " offset " << row[3]
                 << " threads " << thread_counts[row[4]]);
    run_in<guarded>(contexts.get(isas[value(1)], thread_counts[row[4]]), config,
                    offsets{value(3), row[7] != 0}, row[8] != 0, after);
    expect_correct(isas[value(1)], config, before, after);
    if (testing::Test::HasFailure()) return;
  }
}

// Every combination; only the first of those that must agree to the bit meets the oracle.
template <class Real>
void full_product() {
  context_cache contexts;
  random_source random(8);
  for (const std::uint64_t flags : flag_sets()) {
    for (const std::size_t count : sizes<Real>()) {
      steepest_adamw_config config = make_config();
      config.flags = flags;
      config.step = 1 + random.below(50);
      const adamw_arrays<Real> before = periodic_arrays<Real>(random, count, config.step == 1);
      for (const steepest_isa isa : levels()) {
        adamw_arrays<Real> expected = before;
        run_in<guarded>(contexts.get(isa, 1), config, offsets{0, false}, false, expected);
        expect_correct(isa, config, before, expected);
        for (std::size_t offset = 0; offset < 16; ++offset) {
          for (const std::int32_t threads : thread_counts) {
            adamw_arrays<Real> after = before;
            run_in<guarded>(contexts.get(isa, threads), config, offsets{offset, offset % 2 != 0},
                            offset % 3 == 0, after);
            EXPECT_TRUE(same_bits(expected, after));
            ASSERT_FALSE(testing::Test::HasFailure())
                << steepest_isa_name(isa) << " flags " << flags << " count " << count << " offset "
                << offset << " threads " << threads;
          }
        }
      }
    }
  }
}

TEST(adamw_pairwise, covering_array_covers_every_pair) {
  const std::vector<int> factors{7, 3, 5, 2, 2};
  const covering_array array(factors);
  for (std::size_t f = 0; f < factors.size(); ++f) {
    for (std::size_t g = f + 1; g < factors.size(); ++g) {
      std::map<std::pair<int, int>, int> seen;
      for (const auto& row : array.rows()) ++seen[{row[f], row[g]}];
      EXPECT_EQ(seen.size(), static_cast<std::size_t>(factors[f] * factors[g]));
    }
  }
  EXPECT_LE(array.rows().size(), 50u);
}

TEST(adamw_pairwise, f32) { long_run() ? full_product<float>() : pairwise<float>(); }
TEST(adamw_pairwise, f64) { long_run() ? full_product<double>() : pairwise<double>(); }

// Reading past an array by as little as one element would end the process.
template <class Real>
void between_fences() {
  random_source random(9);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa, .threads = 2});
    std::vector<std::size_t> counts = sizes<Real>();
    counts.insert(counts.end(), {1023, 1024, 4097});
    for (const std::size_t count : counts) {
      for (const bool at_end : {true, false}) {
        steepest_adamw_config config = make_config();
        config.flags = (count % 2 != 0 ? STEEPEST_ADAMW_AMSGRAD : 0) |
                       (count % 3 != 0 ? STEEPEST_ADAMW_EMIT_DELTA : 0) |
                       (count % 5 != 0 ? STEEPEST_ADAMW_SKIP_NONFINITE : 0);
        adamw_arrays<Real> fenced_in = random_arrays<Real>(random, count, true);
        adamw_arrays<Real> expected = fenced_in;
        ASSERT_OK(run_step(context.get(), config, expected));
        run_in<fenced>(
            context.get(), config, [&](int) { return at_end; }, true, fenced_in);
        EXPECT_TRUE(same_bits(fenced_in, expected));
      }
    }
  }
}

TEST(adamw_memory, f32_between_fences) { between_fences<float>(); }
TEST(adamw_memory, f64_between_fences) { between_fences<double>(); }

}  // namespace
}  // namespace steepest_test
