// SPDX-License-Identifier: Apache-2.0
// The INIT macros as functions, for callers that cannot use a C macro.
#include "api/arguments.hpp"

namespace steepest::api {
namespace {

template <class T>
steepest_status init(const char* function, const char* name, void* out, size_t struct_size,
                     T value) {
  return entry(function, [&] {
    const argument where = {function, name};
    if (out == nullptr) return where.fail(STEEPEST_E_INVALID_ARGUMENT, " is null");
    if (const auto status = check_struct_size(where, struct_size); status != STEEPEST_OK)
      return status;
    std::memset(out, 0, struct_size);
    store_struct(static_cast<T*>(out), struct_size, value);
    return STEEPEST_OK;
  });
}

}  // namespace
}  // namespace steepest::api

// `argument` is what the header calls the parameter.
#define STEEPEST_DEFINE_INIT(type, NAME, argument)                                         \
  steepest_status steepest_##type##_init(void* out, size_t struct_size) {                  \
    return steepest::api::init<steepest_##type>(#type "_init", argument, out, struct_size, \
                                                STEEPEST_##NAME##_INIT);                   \
  }

extern "C" {
STEEPEST_DEFINE_INIT(executor, EXECUTOR, "executor")
STEEPEST_DEFINE_INIT(allocator, ALLOCATOR, "allocator")
STEEPEST_DEFINE_INIT(context_options, CONTEXT_OPTIONS, "options")
STEEPEST_DEFINE_INIT(step_stats, STEP_STATS, "stats")
STEEPEST_DEFINE_INIT(adamw_config, ADAMW_CONFIG, "config")
STEEPEST_DEFINE_INIT(adamw_tensor, ADAMW_TENSOR, "tensor")
STEEPEST_DEFINE_INIT(vector, VECTOR, "vector")
STEEPEST_DEFINE_INIT(workspace, WORKSPACE, "workspace")
STEEPEST_DEFINE_INIT(msign_config, MSIGN_CONFIG, "config")
STEEPEST_DEFINE_INIT(msign_stats, MSIGN_STATS, "stats")
STEEPEST_DEFINE_INIT(muon_config, MUON_CONFIG, "config")
STEEPEST_DEFINE_INIT(muon_tensor, MUON_TENSOR, "tensor")
STEEPEST_DEFINE_INIT(schedule, SCHEDULE, "schedule")
}
