// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <new>

#include "api/arguments.hpp"
#include "dispatch/cpu.hpp"
#include "dispatch/tables.hpp"
#include "parallel/parallel_for.hpp"

namespace steepest::api {

namespace {

constexpr char create_function[] = "context_create";

// The build option matrix_provider.
#if defined(STEEPEST_OPENBLAS_PROVIDER)
constexpr uint64_t always_set = STEEPEST_CONTEXT_OPENBLAS;
#else
constexpr uint64_t always_set = 0;
#endif

void* c_allocate(void*, size_t alignment, size_t bytes) {
  // aligned_alloc wants a multiple of the alignment.
  return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

void c_release(void*, void* pointer, size_t) { std::free(pointer); }

// The level named by STEEPEST_MAX_ISA and the threads by STEEPEST_NUM_THREADS; AUTO and 0 when
// unset.
steepest_status read_environment(const char* function, steepest_isa& max_isa, int32_t& threads) {
  const char* isa_text = std::getenv("STEEPEST_MAX_ISA");
  if (isa_text != nullptr && *isa_text != '\0') {
    max_isa = isa_from_name(isa_text);
    if (max_isa == STEEPEST_ISA_AUTO)
      return fail(STEEPEST_E_INVALID_ARGUMENT,
                  "%s: STEEPEST_MAX_ISA names no ISA level (\"%.64s\"; see steepest_isa_name)",
                  function, isa_text);
  }
  const char* threads_text = std::getenv("STEEPEST_NUM_THREADS");
  if (threads_text != nullptr && *threads_text != '\0') {
    const char* end = threads_text + std::strlen(threads_text);
    const auto parsed = std::from_chars(threads_text, end, threads);
    if (parsed.ec != std::errc{} || parsed.ptr != end || threads < 1)
      return fail(STEEPEST_E_INVALID_ARGUMENT,
                  "%s: STEEPEST_NUM_THREADS is not a positive number (\"%.64s\")", function,
                  threads_text);
  }
  return STEEPEST_OK;
}

// Lowers `isa` to `wanted`, which must be a level of this machine.
steepest_status lower_isa(const char* function, const char* source, steepest_isa wanted,
                          steepest_isa& isa) {
  const steepest_isa detected = detect_isa();
  if (wanted == STEEPEST_ISA_AUTO) return STEEPEST_OK;
  if (!isa_includes(detected, wanted))
    return fail(STEEPEST_E_UNSUPPORTED,
                "%s: %s asks for %s (%d), but this CPU and build have up to %s", function, source,
                isa_name(wanted), static_cast<int>(wanted), isa_name(detected));
  if (isa_includes(isa, wanted)) isa = wanted;
  return STEEPEST_OK;
}

steepest_status create(const char* function, const steepest_context_options* given,
                       steepest_context** out) {
  steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  if (given != nullptr)
    if (const auto status = load_struct({function, "options"}, given, options);
        status != STEEPEST_OK)
      return status;
  const argument where = {function, "options"};
  constexpr uint64_t known_flags = STEEPEST_CONTEXT_OPENBLAS | STEEPEST_FLAG_CONSISTENT;
  if (options.flags & ~known_flags)
    return where.fail(STEEPEST_E_UNSUPPORTED, ".flags has unknown bits (0x%llx)",
                      static_cast<unsigned long long>(options.flags & ~known_flags));
  if (options.num_threads < 0)
    return where.fail(STEEPEST_E_INVALID_ARGUMENT, ".num_threads is negative (%d)",
                      static_cast<int>(options.num_threads));

  steepest_isa environment_isa = STEEPEST_ISA_AUTO;
  int32_t environment_threads = 0;
  if (const auto status = read_environment(function, environment_isa, environment_threads);
      status != STEEPEST_OK)
    return status;
  steepest_isa isa = detect_isa();
  if (const auto status = lower_isa(function, "options.max_isa", options.max_isa, isa);
      status != STEEPEST_OK)
    return status;
  if (const auto status = lower_isa(function, "STEEPEST_MAX_ISA", environment_isa, isa);
      status != STEEPEST_OK)
    return status;

  steepest_allocator allocator = STEEPEST_ALLOCATOR_INIT;
  allocator.allocate = c_allocate;
  allocator.release = c_release;
  if (options.allocator != nullptr) {
    const argument field = {function, "options.allocator"};
    if (const auto status = load_struct(field, options.allocator, allocator); status != STEEPEST_OK)
      return status;
    if (allocator.allocate == nullptr)
      return field.fail(STEEPEST_E_INVALID_ARGUMENT, "->allocate is null");
    if (allocator.release == nullptr)
      return field.fail(STEEPEST_E_INVALID_ARGUMENT, "->release is null");
  }
  steepest_executor executor = STEEPEST_EXECUTOR_INIT;
  int32_t threads = options.num_threads != 0 ? options.num_threads : environment_threads;
  if (options.executor != nullptr) {
    const argument field = {function, "options.executor"};
    if (const auto status = load_struct(field, options.executor, executor); status != STEEPEST_OK)
      return status;
    if (executor.concurrency == nullptr)
      return field.fail(STEEPEST_E_INVALID_ARGUMENT, "->concurrency is null");
    if (executor.parallel_for == nullptr)
      return field.fail(STEEPEST_E_INVALID_ARGUMENT, "->parallel_for is null");
    if (options.num_threads != 0)
      return where.fail(STEEPEST_E_INVALID_ARGUMENT,
                        ".num_threads is %d, but options.executor says how many threads there are",
                        static_cast<int>(options.num_threads));
    threads = executor.concurrency(executor.user);
    if (threads < 1)
      return field.fail(STEEPEST_E_INVALID_ARGUMENT, "->concurrency returned %d",
                        static_cast<int>(threads));
  }

  void* place =
      allocator.allocate(allocator.user, alignof(steepest_context), sizeof(steepest_context));
  if (place == nullptr) return fail(STEEPEST_E_OUT_OF_MEMORY, "%s: out of memory", function);
  auto* context = new (place) steepest_context(allocator);
  context->isa = isa;
  context->tables = &tables_for(isa);
  context->flags = options.flags | always_set;
  context->fork_generation = fork_generation();
  context->threads = threads;
  if (options.executor != nullptr) {
    context->executor = executor;
  } else {
    context->threads = threads != 0 ? threads : usable_cores();
    try {
      if (context->threads > 1) use_tbb_executor(*context, context->threads);
    } catch (...) {
      context->~steepest_context();
      allocator.release(allocator.user, place, sizeof(steepest_context));
      throw;
    }
  }
  *out = context;
  return STEEPEST_OK;
}

void destroy(steepest_context* context) {
  const steepest_allocator allocator = context->allocator;
  if (context->destroy_executor != nullptr) context->destroy_executor(*context);
  context->~steepest_context();
  allocator.release(allocator.user, context, sizeof(steepest_context));
}

// Never destroyed: calls may still come while the process exits.
std::atomic<steepest_context*> default_context = nullptr;

steepest_status make_default_context(const char* function, steepest_context*& context) {
  steepest_context* fresh = nullptr;
  if (const auto status = create(function, nullptr, &fresh); status != STEEPEST_OK) return status;
  // Of several threads that come here at once, one wins. No lock, which fork() could leave locked.
  if (default_context.compare_exchange_strong(context, fresh))
    context = fresh;
  else
    destroy(fresh);
  return STEEPEST_OK;
}

}  // namespace

steepest_status resolve_context(const char* function, steepest_context* given,
                                steepest_context*& context) {
  context = given != nullptr ? given : default_context.load(std::memory_order_acquire);
  return context != nullptr ? STEEPEST_OK : make_default_context(function, context);
}

}  // namespace steepest::api

using namespace steepest::api;

extern "C" {

steepest_status steepest_context_create(const steepest_context_options* options,
                                        steepest_context** out) {
  return entry(create_function, [&] {
    if (out == nullptr)
      return steepest::fail(STEEPEST_E_INVALID_ARGUMENT, "%s: out is null", create_function);
    *out = nullptr;
    return create(create_function, options, out);
  });
}

void steepest_context_destroy(steepest_context* context) {
  entry("context_destroy", [&] {
    if (context != nullptr) destroy(context);
    return STEEPEST_OK;
  });
}

steepest_status steepest_context_trim(steepest_context* context) {
  return entry("context_trim", [&] {
    if (context == nullptr) context = default_context.load(std::memory_order_acquire);
    if (context != nullptr) context->pool.trim();
    return STEEPEST_OK;
  });
}

steepest_isa steepest_context_isa(const steepest_context* context) {
  steepest_isa isa = STEEPEST_ISA_AUTO;
  entry("context_isa", [&] {
    steepest_context* found = nullptr;
    const auto status =
        resolve_context("context_isa", const_cast<steepest_context*>(context), found);
    if (status == STEEPEST_OK) isa = found->isa;
    return status;
  });
  return isa;
}

int32_t steepest_context_threads(const steepest_context* context) {
  int32_t threads = 0;
  entry("context_threads", [&] {
    steepest_context* found = nullptr;
    const auto status =
        resolve_context("context_threads", const_cast<steepest_context*>(context), found);
    if (status == STEEPEST_OK) threads = found->threads;
    return status;
  });
  return threads;
}

}  // extern "C"
