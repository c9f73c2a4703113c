// SPDX-License-Identifier: Apache-2.0
#include "worker.hpp"

#include <fcntl.h>

#include <chrono>
#include <thread>

namespace soak {

using steepest_test::context_pointer;
using steepest_test::context_request;

namespace {

context_pointer must_have(const context_request& request) {
  context_pointer context = steepest_test::try_context(request);
  require(context != nullptr, "context_create: %s", steepest_last_error());
  return context;
}

}  // namespace

shared_state::shared_state(std::uint64_t seed, sabotage to_do) : wrong(to_do) {
  const steepest_executor executor = executor_.interface();
  const steepest_allocator allocator = allocator_.interface();
  contexts_.push_back(must_have({.threads = 1}));
  contexts_.push_back(must_have({.threads = 2}));
  contexts_.push_back(must_have({.threads = 2, .allocator = &allocator}));
  contexts_.push_back(must_have({.executor = &executor}));
  contexts_.push_back(nullptr);
  consistent = must_have({.threads = 2, .flags = STEEPEST_FLAG_CONSISTENT});
  first_balance_ = allocator_.live_bytes;

  random_source random(seed);
  for (int round = 0; round < 5; ++round)
    for (const call& kind : calls) {
      if (!kind.bits) continue;
      fixed_call one{&kind, random.bits(), 0};
      digest results;
      random_source own(one.seed);
      kind.run(own, contexts_[0].get(), results);
      one.expected = results.value();
      fixed.push_back(one);
    }
}

steepest_context* shared_state::any(random_source& random) const {
  return contexts_[static_cast<std::size_t>(random.below(std::ssize(contexts_)))].get();
}

void shared_state::trim_all() {
  for (const context_pointer& context : contexts_) check(steepest_context_trim(context.get()));
  check(steepest_context_trim(consistent.get()));
}

bool shared_state::balanced() const { return allocator_.live_bytes == first_balance_; }

void shared_state::report(const std::string& text) {
  const std::lock_guard lock(mutex_);
  violations_.push_back(text);
  stop = true;
  changed_.notify_all();
}

std::vector<std::string> shared_state::violations() {
  const std::lock_guard lock(mutex_);
  return violations_;
}

void shared_state::may_rest() {
  std::unique_lock lock(mutex_);
  if (!resting_) return;
  ++waiting_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return !resting_; });
  --waiting_;
}

worker::worker(shared_state& shared, std::uint64_t seed) : shared_(shared), random_(seed) {}

void worker::run() {
  while (!shared_.stop) {
    shared_.may_rest();
    try {
      turn();
    } catch (const out_of_memory&) {
      shared_.report(std::string("the system's memory is used up: ") + steepest_last_error());
    } catch (const std::exception& error) {
      shared_.report(error.what());
    }
  }
}

void worker::turn() {
  ++shared_.turns;
  switch (random_.below(12)) {
    case 0:
    case 1: return fixed_again();
    case 2: return on_a_context_of_its_own();
    case 3: return on_another_level();
    case 4: return with_failing_executor();
    case 5: return check(steepest_context_trim(shared_.any(random_)));
    case 6: return follow(single_);
    case 7: return follow(double_);
    case 8: return do_wrong();
    default: on_two_contexts();
  }
}

// The digest of one call; its name and seed come before the text of a violation.
std::uint64_t worker::perform(const call& kind, std::uint64_t seed, steepest_context* context) {
  ++shared_.calls_made[static_cast<std::size_t>(&kind - calls)];
  random_source random(seed);
  digest results;
  try {
    kind.run(random, context, results);
  } catch (const violation& found) {
    char text[600];
    std::snprintf(text, sizeof(text), "%s, call seed 0x%llx: %s", kind.name,
                  static_cast<unsigned long long>(seed), found.what());
    throw violation(text);
  }
  return results.value();
}

void worker::on_two_contexts() {
  const call& kind = calls[random_.below(std::ssize(calls))];
  const std::uint64_t seed = random_.bits();
  const std::uint64_t first = perform(kind, seed, shared_.any(random_));
  if (!kind.bits) return;
  const std::uint64_t second = perform(kind, seed, shared_.any(random_));
  require(first == second, "%s, call seed 0x%llx: two contexts differ", kind.name,
          static_cast<unsigned long long>(seed));
}

void worker::fixed_again() {
  const fixed_call& one =
      shared_.fixed[static_cast<std::size_t>(random_.below(std::ssize(shared_.fixed)))];
  std::uint64_t now = perform(*one.kind, one.seed, shared_.any(random_));
  if (++shared_.fixed_made > 50 && shared_.wrong == sabotage::bits) now ^= 1;
  require(now == one.expected, "%s, call seed 0x%llx: not the bits of the first time",
          one.kind->name, static_cast<unsigned long long>(one.seed));
}

// Made, used until its allocator refuses or not, trimmed or not, and destroyed: nothing is left.
void worker::on_a_context_of_its_own() {
  ++shared_.contexts_made;
  steepest_test::counting_allocator memory;
  steepest_test::reversed_executor threads(static_cast<std::int32_t>(1 + random_.below(4)));
  const steepest_allocator allocator = memory.interface();
  const steepest_executor executor = threads.interface();
  if (random_.below(2) == 0) memory.fail_at = random_.below(6);
  try {
    const context_pointer own =
        steepest_test::try_context({.threads = static_cast<std::int32_t>(1 + random_.below(3)),
                                    .executor = random_.below(2) == 0 ? &executor : nullptr,
                                    .allocator = &allocator});
    require(own != nullptr || memory.fail_at != INT64_MAX, "context_create: %s",
            steepest_last_error());
    for (std::int64_t n = own != nullptr ? 1 + random_.below(4) : 0; n > 0; --n) {
      const call& kind = calls[random_.below(std::ssize(calls))];
      const std::uint64_t seed = random_.bits();
      const std::uint64_t first = perform(kind, seed, own.get());
      if (kind.bits)
        require(first == perform(kind, seed, shared_.any(random_)),
                "%s, call seed 0x%llx: a new context differs", kind.name,
                static_cast<unsigned long long>(seed));
      if (random_.below(3) == 0) check(steepest_context_trim(own.get()));
    }
  } catch (const out_of_memory&) {
    require(memory.calls > memory.fail_at, "out of memory, but no allocation has failed: %s",
            steepest_last_error());
    ++shared_.refused_for_memory;
  }
  require(memory.all_released(), "a destroyed context has kept %lld bytes",
          static_cast<long long>(memory.live_bytes));
}

// STEEPEST_FLAG_CONSISTENT, the context's flag: the bits of another level.
void worker::on_another_level() {
  static const std::vector<steepest_isa> levels = steepest_test::levels();
  ++shared_.contexts_made;
  const context_pointer own =
      must_have({.max_isa = levels[static_cast<std::size_t>(random_.below(std::ssize(levels)))],
                 .threads = 1,
                 .flags = STEEPEST_FLAG_CONSISTENT});
  const call& kind = calls[random_.below(std::ssize(calls))];
  if (!kind.bits) return;
  const std::uint64_t seed = random_.bits();
  require(perform(kind, seed, own.get()) == perform(kind, seed, shared_.consistent.get()),
          "%s, call seed 0x%llx: levels differ", kind.name, static_cast<unsigned long long>(seed));
}

void worker::with_failing_executor() {
  ++shared_.contexts_made;
  steepest_test::reversed_executor threads(2);
  threads.result = -3;
  const steepest_executor executor = threads.interface();
  const context_pointer own = must_have({.executor = &executor});
  steepest_test::adamw_arrays<float> arrays(300000);
  const steepest_status status =
      steepest_test::run_step(own.get(), steepest_test::make_config(), arrays);
  require(threads.calls > 0, "adamw_step: an executor was not used");
  require(status == STEEPEST_E_INTERNAL, "adamw_step: %s with an executor that fails",
          steepest_status_name(status));
}

// Some more steps of a trajectory that starts anew after a hundred thousand.
template <class Real>
void worker::follow(trajectory<Real>& t) {
  constexpr std::size_t element_count = 67;
  if (t.step % 100000 == 0) {
    t.arrays = steepest_test::adamw_arrays<Real>(element_count);
    t.gradients = random_source(random_.bits());
    for (Real& theta : t.arrays.param) theta = t.gradients.template wide<Real>(-8, 2);
    t.exact = steepest_test::adamw_drift<Real>(t.arrays.param);
    t.step = 0;
    t.flags = random_.below(3) == 0 ? STEEPEST_ADAMW_AMSGRAD : 0;
  }
  steepest_adamw_config config = steepest_test::make_config();
  config.flags = t.flags;
  for (int i = 0; i < 50; ++i) {
    config.step = ++t.step;
    config.lr = 1e-3 * (1.1 + std::cos(static_cast<double>(t.step) / 1000));
    steepest_test::draw_gradients(t.gradients, t.arrays.grad);
    check(steepest_test::run_step(shared_.any(random_), config, t.arrays));
    if (shared_.wrong == sabotage::oracle && t.step == 150) t.arrays.param[3] *= Real(1.001);
    const auto share = static_cast<double>(t.exact.follow(config, t.arrays));
    require(share <= 1, "adamw_step: step %lld of a trajectory has left the bound, %g of it",
            static_cast<long long>(t.step), share);
    worst_drift = std::max(worst_drift.load(), share);
  }
  shared_.steps_followed += 50;
}

void worker::do_wrong() {
  switch (shared_.wrong) {
    case sabotage::leak: {
      void* volatile lost = std::malloc(4000);
      static_cast<void>(lost);
      break;
    }
    case sabotage::file:
      if (shared_.turns % 8 == 0 && open("/dev/null", O_RDONLY) < 0) shared_.stop = true;
      break;
    case sabotage::thread:
      if (shared_.turns % 16 == 0)
        std::thread([] { std::this_thread::sleep_for(std::chrono::hours(1)); }).detach();
      break;
    default: break;
  }
}

}  // namespace soak
