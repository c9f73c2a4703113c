// SPDX-License-Identifier: Apache-2.0
//
// Contexts of any options, what their callbacks may do, and their use in any order; the functions
// that make structs and name constants.
#include "calls.hpp"
#include "target.hpp"

namespace steepest_fuzz {
namespace {

// ---- INIT values

template <class T>
void init(choices& input, memory& seen, const char* function,
          steepest_status (*call)(void*, std::size_t), const T& value) {
  const std::size_t size = some_struct_size<T>(input);
  const bool possible = size >= 16 && size % 8 == 0 && size < 65536;
  const bool null = input.rarely(32);
  const std::size_t room = possible ? size : 64;
  auto* const place =
      static_cast<std::uint8_t*>(seen.bytes(memory::output, static_cast<std::int64_t>(room)));
  std::memset(place, 0x77, room);
  const steepest_status status =
      watched(function, seen, [&] { return call(null ? nullptr : place, size); });
  expect(refuse_if(!possible || null), status, function);
  if (status != STEEPEST_OK) return;
  T wanted = value;
  wanted.struct_size = size;
  for (std::size_t i = 0; i < size; ++i)
    REQUIRE(place[i] == (i < sizeof(T) ? reinterpret_cast<std::uint8_t*>(&wanted)[i] : 0),
            "%s: byte %d of %d", function, int(i), int(size));
}

void inits(choices& input, memory& seen) {
#define INIT(type, NAME) \
  init<steepest_##type>(input, seen, #type "_init", steepest_##type##_init, STEEPEST_##NAME##_INIT)
  switch (input.below(13)) {
    case 0: INIT(executor, EXECUTOR); break;
    case 1: INIT(allocator, ALLOCATOR); break;
    case 2: INIT(context_options, CONTEXT_OPTIONS); break;
    case 3: INIT(step_stats, STEP_STATS); break;
    case 4: INIT(adamw_config, ADAMW_CONFIG); break;
    case 5: INIT(adamw_tensor, ADAMW_TENSOR); break;
    case 6: INIT(vector, VECTOR); break;
    case 7: INIT(workspace, WORKSPACE); break;
    case 8: INIT(msign_config, MSIGN_CONFIG); break;
    case 9: INIT(msign_stats, MSIGN_STATS); break;
    case 10: INIT(muon_config, MUON_CONFIG); break;
    case 11: INIT(muon_tensor, MUON_TENSOR); break;
    default: INIT(schedule, SCHEDULE);
  }
#undef INIT
}

void names(choices& input) {
  const auto number = static_cast<std::int32_t>(input.integer({0, -1, -8, 1, 4, 16}));
  const std::string status = steepest_status_name(number);
  REQUIRE(status.starts_with("STEEPEST_") == known(number), "status %d is %s", number,
          status.c_str());
  const std::string isa = steepest_isa_name(number);
  const bool level = (number >= 0 && number <= 4) || number == 16;
  REQUIRE((isa != "unknown isa") == level, "isa %d is %s", number, isa.c_str());
  REQUIRE(steepest_build_info() != nullptr && steepest_last_error() != nullptr, "null");
  REQUIRE(steepest_version() >> 24 == 0 && steepest_abi_version() == STEEPEST_ABI_VERSION, "%x",
          steepest_version());
}

// ---- contexts

// Numbers of threads as an executor may give them.
struct counted_executor : inline_executor {
  std::int32_t threads = 3;

  steepest_executor interface() {
    steepest_executor executor = inline_executor::interface();
    executor.user = static_cast<inline_executor*>(this);
    // Behind a pointer to the base, which is where this begins.
    executor.concurrency = [](void* user) {
      return static_cast<counted_executor*>(static_cast<inline_executor*>(user))->threads;
    };
    return executor;
  }
};

// Small calls on a context, whatever becomes of them.
void use(choices& input, memory& seen, steepest_context* context, std::uint64_t flags,
         const counted_executor& executor, const limited_allocator& allocator) {
  switch (input.below(5)) {
    case 0: watched("context_trim", seen, [&] { return steepest_context_trim(context); }); return;
    case 1: {
      REQUIRE(steepest_context_threads(context) >= 1, "no threads");
      const steepest_isa isa = steepest_context_isa(context);
      REQUIRE(isa != STEEPEST_ISA_AUTO, "no level");
      return;
    }
    case 2: {
      const std::int64_t n = input.of<std::int64_t>({10, 40000});
      steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
      steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
      std::vector<float> arrays(static_cast<std::size_t>(4 * n), 0.5F);
      tensor.count = n;
      tensor.param = arrays.data();
      tensor.grad = arrays.data() + n;
      tensor.exp_avg = arrays.data() + 2 * n;
      tensor.exp_avg_sq = arrays.data() + 3 * n;
      const steepest_status status = watched("adamw_step", seen, [&] {
        return steepest_adamw_step(context, &config, &tensor, 1, nullptr);
      });
      REQUIRE(status == STEEPEST_OK || executor.failed || allocator.failed, "status %d", status);
      if (status == STEEPEST_OK) REQUIRE(arrays[0] != 0.5F, "no step");
      return;
    }
    default: {
      const std::int64_t side = 4 + input.below(60);
      std::vector<float> x(static_cast<std::size_t>(side * side), 0.0F);
      for (std::int64_t i = 0; i < side; ++i) x[static_cast<std::size_t>(i * (side + 1))] = 1;
      const steepest_status status = watched("msign", seen, [&] {
        return steepest_msign(context, nullptr, side, side, STEEPEST_F32, x.data(), 0, x.data(), 0,
                              nullptr, nullptr);
      });
      // OpenBLAS is never CONSISTENT.
      constexpr std::uint64_t both = STEEPEST_CONTEXT_OPENBLAS | STEEPEST_FLAG_CONSISTENT;
      REQUIRE(status == ((flags & both) == both ? STEEPEST_E_UNSUPPORTED : STEEPEST_OK) ||
                  executor.failed || allocator.failed,
              "status %d", status);
    }
  }
}

void contexts(choices& input, memory& seen) {
  counted_executor executor;
  limited_allocator allocator;
  steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  verdict rule = verdict::accept;
  if (input.rarely(4)) options.flags = STEEPEST_FLAG_CONSISTENT;
  if (input.rarely(16)) options.flags ^= std::uint64_t{1} << input.below(64);
  options.num_threads = static_cast<std::int32_t>(input.integer({1, 2, 0}));
  if (options.num_threads > 4) options.num_threads = 4;  // each has a stack
  options.max_isa = static_cast<steepest_isa>(input.integer({0, 1, 2, 3, 4, 16}));

  steepest_executor e = executor.interface();
  given<steepest_executor> given_executor;
  if (input.even_chance()) {
    executor.threads = static_cast<std::int32_t>(input.integer({1, 3, 64}));
    if (executor.threads > 64) executor.threads = 64;
    if (input.rarely(16)) e.concurrency = nullptr;
    if (input.rarely(16)) e.parallel_for = nullptr;
    given_executor =
        hand_over(input, seen, memory::input, steepest_executor STEEPEST_EXECUTOR_INIT, e);
    options.executor = given_executor.pointer;
    if (!input.rarely(8)) options.num_threads = 0;
  }
  steepest_allocator a = allocator.interface();
  given<steepest_allocator> given_allocator;
  // Its default is the C library's, as an older struct would have it.
  if (input.even_chance()) {
    const std::int64_t fault = input.below(32);
    if (fault == 1) a.allocate = nullptr;
    if (fault == 2) a.release = nullptr;
    given_allocator =
        hand_over(input, seen, memory::input, steepest_allocator STEEPEST_ALLOCATOR_INIT, a);
    // Without its own `release` it is half an allocator: memory of one freed by the other.
    if (given_allocator.rule == verdict::accept &&
        given_allocator.struct_size < sizeof(steepest_allocator))
      return;
    options.allocator = given_allocator.pointer;
  }
  if (input.rarely(8)) allocator.fail_at = input.below(5);
  if (input.rarely(8)) executor.fail_at = input.below(9);
  const auto given_options = hand_over(
      input, seen, memory::input, steepest_context_options STEEPEST_CONTEXT_OPTIONS_INIT, options);
  const bool defaults = input.rarely(64), no_out = input.rarely(64);
  auto** const out = seen.object<steepest_context*>(memory::scratch);
  *out = reinterpret_cast<steepest_context*>(seen.bytes(memory::input, 1));

  const steepest_context_options& o = given_options.seen;
  if (!defaults) {
    rule =
        worse(given_options.rule,
              refuse_if((o.flags & ~(STEEPEST_CONTEXT_OPENBLAS | STEEPEST_FLAG_CONSISTENT)) != 0 ||
                        o.num_threads < 0 || (o.executor != nullptr && o.num_threads != 0)));
    if (o.executor != nullptr)
      rule = worse(
          rule, worse(given_executor.rule, refuse_if(given_executor.seen.concurrency == nullptr ||
                                                     given_executor.seen.parallel_for == nullptr ||
                                                     executor.threads < 1)));
    if (o.allocator != nullptr)
      rule = worse(rule,
                   worse(given_allocator.rule, refuse_if(given_allocator.seen.allocate == nullptr ||
                                                         given_allocator.seen.release == nullptr)));
    if (o.max_isa != STEEPEST_ISA_AUTO) {
      bool there = false;
      for (const steepest_isa isa : steepest_test::levels()) there |= isa == o.max_isa;
      rule = worse(rule, refuse_if(!there));
    }
  }
  // A user pointer that was cut off is null, and the functions want theirs.
  if (rule == verdict::accept && !defaults && o.executor != nullptr &&
      given_executor.seen.user == nullptr)
    return;
  const steepest_status status = watched("context_create", seen, [&] {
    return steepest_context_create(defaults ? nullptr : given_options.pointer,
                                   no_out ? nullptr : out);
  });
  if (allocator.failed)
    REQUIRE(status == STEEPEST_E_OUT_OF_MEMORY, "no memory, the status is %d", status);
  else
    expect(worse(rule, refuse_if(no_out)), status, "context_create");
  if (status != STEEPEST_OK) {
    REQUIRE(no_out || *out == nullptr, "*out is not null after a failure");
    REQUIRE(allocator.live == 0, "%d allocations are left over", int(allocator.live));
    return;
  }
  steepest_context* const context = *out;
  const std::int64_t uses = input.below(6);
  for (std::int64_t i = 0; i < uses; ++i)
    use(input, seen, context, defaults ? 0 : o.flags, executor, allocator);
  steepest_context_destroy(context);
  REQUIRE(allocator.live == 0, "%d allocations are left over", int(allocator.live));
}

void run(const std::uint8_t* data, std::size_t size) {
  choices input(data, size);
  memory seen;
  switch (input.below(4)) {
    case 0: inits(input, seen); break;
    case 1: names(input); break;
    default: contexts(input, seen);
  }
}

const registration registered("context", run);

}  // namespace
}  // namespace steepest_fuzz
