// SPDX-License-Identifier: Apache-2.0
//
// The same bits from every function: for any threads, executor, alignment and repetition, after
// fork(); and with STEEPEST_FLAG_CONSISTENT on every level those of the table in
// determinism_hashes.hpp, which are the same on every machine.
#include "determinism_hashes.hpp"

#include <map>

#include "every_call.hpp"

namespace steepest_test {
namespace {

// What LAPACK computes is not promised.
std::vector<sample_call> promised_calls(call_size size) {
  std::vector<sample_call> all = every_call(size);
  std::erase_if(all, [](const sample_call& call) { return call.uses_lapack; });
  return all;
}

// The best level without the flag, and the other levels in the long form.
std::vector<steepest_isa> tested_levels() {
  return long_run() ? levels() : std::vector<steepest_isa>{levels().back()};
}

template <class Body>
void for_each_call(Body body) {
  const std::vector<sample_call> all = promised_calls(call_size::large);
  for (const steepest_isa isa : tested_levels()) {
    const context_pointer one = make_context({.max_isa = isa});
    for (const sample_call& call : all) {
      SCOPED_TRACE(call.name + " on " + steepest_isa_name(isa));
      const sample_result expected = run_sample(call, one.get());
      ASSERT_OK(expected.status);
      body(isa, call, expected);
    }
  }
}

// An executor has as many workers as it says; oneTBB no more than there are cores.
TEST(determinism, any_number_of_threads) {
  std::size_t turn = 0;
  for_each_call([&](steepest_isa isa, const sample_call& call, const sample_result& expected) {
    // Each call with every number would be the work of minutes: five of them by turns.
    for (std::int32_t threads = 2; threads <= 16; ++threads) {
      if (!long_run() && (turn + static_cast<std::size_t>(threads)) % 5 != 0) continue;
      reversed_executor own(threads);
      own.shuffle = turn + 1;
      const steepest_executor executor = own.interface();
      const context_pointer context = make_context({.max_isa = isa, .executor = &executor});
      EXPECT_TRUE(run_sample(call, context.get()) == expected) << threads << " workers";
    }
    for (const std::int32_t threads : {2, 16}) {
      const context_pointer context = make_context({.max_isa = isa, .threads = threads});
      EXPECT_TRUE(run_sample(call, context.get()) == expected) << threads << " threads";
    }
    ++turn;
  });
}

TEST(determinism, any_alignment_and_repetition) {
  for_each_call([](steepest_isa isa, const sample_call& call, const sample_result& expected) {
    const context_pointer context = make_context({.max_isa = isa, .threads = 2});
    for (const std::size_t offset : {0, 0, 1, 3, 7, 8, 13})
      EXPECT_TRUE(run_sample(call, context.get(), offset) == expected) << "offset " << offset;
  });
}

TEST(determinism, after_fork) {
  const std::vector<sample_call> all = promised_calls(call_size::large);
  const context_pointer context = make_context({.threads = 2});
  std::vector<sample_result> expected;
  for (const sample_call& call : all) expected.push_back(run_sample(call, context.get()));
  EXPECT_EQ(in_child([&] {
              const context_pointer own = try_context({.threads = 2});
              for (std::size_t i = 0; i < all.size(); ++i)
                for (steepest_context* const used : {context.get(), own.get()})
                  if (!(run_sample(all[i], used) == expected[i])) return 1;
              return 0;
            }),
            0);
}

// To make the table anew: STEEPEST_PRINT_HASHES=1 build/release/tests/determinism
TEST(determinism, the_same_on_every_machine) {
  const bool print = std::getenv("STEEPEST_PRINT_HASHES") != nullptr;
  std::map<std::string, std::uint64_t> known;
  for (const known_hash& entry : known_hashes) known[entry.call] = entry.hash;
  std::size_t compared = 0;
  for (const sample_call& call : promised_calls(call_size::small))
    for (const steepest_isa isa : levels()) {
      const context_pointer context =
          make_context({.max_isa = isa, .threads = 2, .flags = STEEPEST_FLAG_CONSISTENT});
      const sample_result got = run_sample(call, context.get());
      ASSERT_OK(got.status);
      const std::uint64_t hash = got.after.hash();
      if (print) {
        if (isa == levels().front())
          std::printf("    {\"%s\", 0x%016llx},\n", call.name.c_str(),
                      static_cast<unsigned long long>(hash));
        continue;
      }
      EXPECT_EQ(known.count(call.name), 1U) << call.name;
      EXPECT_EQ(known[call.name], hash)
          << call.name << " on " << steepest_isa_name(isa)
          << (call.uses_libm ? "; some of its constants come from the C library's functions" : "");
      ++compared;
    }
  EXPECT_EQ(compared, print ? 0 : std::size(known_hashes) * levels().size());
}

}  // namespace
}  // namespace steepest_test
