// SPDX-License-Identifier: Apache-2.0
//
// Mixed calls from several threads for a long time. From time to time all threads rest, and what
// the process then holds (heap, memory, file descriptors, threads) may not have grown since the
// warm-up; the calls' own checks are in calls.hpp and worker.cpp. Status 1: a violation.
#include <sys/resource.h>

#include <charconv>
#include <chrono>
#include <optional>
#include <random>
#include <string_view>
#include <thread>

#include "watch.hpp"
#include "worker.hpp"

namespace soak {
namespace {

constexpr char usage[] =
    "usage: soak [--minutes M] [--threads N] [--seed S] [--sabotage WHAT]\n"
    "  WHAT, to see that it is found: leak, bits, oracle, file, thread\n";

struct options {
  double minutes = 5;
  int threads = 4;
  std::uint64_t seed = std::random_device{}();
  sabotage wrong = sabotage::none;
};

template <class T>
bool parse(std::string_view text, T& value) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size();
}

std::optional<options> read(int count, char** words) {
  constexpr std::string_view kinds[] = {"", "leak", "bits", "oracle", "file", "thread"};
  options o;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string_view name = words[i], value = words[i + 1];
    bool good = false;
    if (name == "--minutes") good = parse(value, o.minutes) && o.minutes > 0;
    if (name == "--threads") good = parse(value, o.threads) && o.threads > 0 && o.threads <= 64;
    if (name == "--seed") good = parse(value, o.seed);
    if (name == "--sabotage") {
      const auto* const kind = std::find(std::begin(kinds) + 1, std::end(kinds), value);
      good = kind != std::end(kinds);
      o.wrong = static_cast<sabotage>(kind - std::begin(kinds));
    }
    if (!good) return {};
  }
  if (count % 2 == 0) return {};
  return o;
}

double mebibytes(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

void print(double minutes, const shared_state& shared, const holdings& now, double drift) {
  std::int64_t made = 0;
  for (const auto& count : shared.calls_made) made += count;
  std::printf(
      "%6.1f min %9lld calls; heap %.3f MiB, memory %.1f MiB, %lld files, %lld threads; "
      "drift %.3f of its bound\n",
      minutes, static_cast<long long>(made), mebibytes(now.heap), mebibytes(now.resident),
      static_cast<long long>(now.files), static_cast<long long>(now.threads), drift);
  std::fflush(stdout);
}

int run(const options& o) {
  using clock = std::chrono::steady_clock;
  const auto started = clock::now();
  const auto passed = [&] {
    return std::chrono::duration<double, std::ratio<60>>(clock::now() - started).count();
  };
  std::printf("soak --minutes %g --threads %d --seed %llu: %s\n", o.minutes, o.threads,
              static_cast<unsigned long long>(o.seed), steepest_build_info());
  std::fflush(stdout);

  shared_state shared(o.seed, o.wrong);
  random_source seeds(o.seed);
  std::vector<std::unique_ptr<worker>> workers;
  std::vector<std::thread> threads;
  for (int i = 0; i < o.threads; ++i)
    workers.push_back(std::make_unique<worker>(shared, seeds.bits()));
  for (const auto& one : workers) threads.emplace_back([&one] { one->run(); });
  const auto drift = [&] {
    double worst = 0;
    for (const auto& one : workers) worst = std::max(worst, one->worst_drift.load());
    return worst;
  };

  // A rest every 40th part of the time, but not oftener than each second, nor rarer than each 15.
  const double interval = std::clamp(o.minutes / 40, 1.0 / 60, 0.25);
  const double warm = o.minutes / 4;
  int rests = 0;
  watch grown;
  double next_line = 0;
  while (!shared.stop) {
    std::this_thread::sleep_for(std::chrono::duration<double, std::ratio<60>>(interval));
    const double minutes = passed();
    holdings now;
    std::string found;
    bool balanced = true;
    shared.at_rest(o.threads, [&] {
      shared.trim_all();
      now = measure();
      balanced = shared.balanced();
    });
    if (shared.stop) break;
    if (++rests <= 3 || minutes < warm)
      grown.warm_up(now);
    else
      found = grown.grown(now);
    if (!balanced) found += "a trimmed context holds more of its allocator's memory than a new one";
    if (!found.empty()) shared.report("growth: " + found);
    if (minutes >= next_line || minutes >= o.minutes || !found.empty()) {
      print(minutes, shared, now, drift());
      next_line = minutes + std::clamp(o.minutes / 5, interval, 1.0);
    }
    if (minutes >= o.minutes) shared.stop = true;
  }
  for (std::thread& thread : threads) thread.join();

  std::printf("after %.1f min:\n", passed());
  for (std::size_t i = 0; i < call_kinds; ++i)
    std::printf("%11lld %s\n", static_cast<long long>(shared.calls_made[i]), calls[i].name);
  std::printf(
      "%11lld fixed calls made again\n%11lld contexts made and destroyed\n"
      "%11lld calls refused for want of memory\n%11lld steps against the exact ones, "
      "worst drift %.3f of the bound\n",
      static_cast<long long>(shared.fixed_made), static_cast<long long>(shared.contexts_made),
      static_cast<long long>(shared.refused_for_memory),
      static_cast<long long>(shared.steps_followed), drift());
  const holdings &base = grown.base(), &most = grown.most();
  std::printf(
      "most held in the first quarter, and after it: heap %.3f, %.3f MiB; memory %.1f, %.1f "
      "MiB; files %lld, %lld; threads %lld, %lld\n",
      mebibytes(base.heap), mebibytes(most.heap), mebibytes(base.resident),
      mebibytes(most.resident), static_cast<long long>(base.files),
      static_cast<long long>(most.files), static_cast<long long>(base.threads),
      static_cast<long long>(most.threads));
  for (const std::string& text : shared.violations()) std::printf("VIOLATION %s\n", text.c_str());
  return shared.violations().empty() ? 0 : 1;
}

}  // namespace
}  // namespace soak

int main(int count, char** words) {
  const auto options = soak::read(count, words);
  if (!options) {
    std::fputs(soak::usage, stderr);
    return 2;
  }
  // One arena: malloc_trim does not give back the free end of the others.
  mallopt(M_ARENA_MAX, 1);
  try {
    return soak::run(*options);
  } catch (const std::exception& error) {
    std::printf("VIOLATION %s\n", error.what());
    return 1;
  }
}
