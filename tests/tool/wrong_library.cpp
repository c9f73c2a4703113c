// SPDX-License-Identifier: Apache-2.0
// Preloaded into the tool: an AdamW step whose first parameter is off by one part in a thousand, so
// that the self-test has something to find.
#include <dlfcn.h>
#include <steepest/steepest.h>

extern "C" STEEPEST_API steepest_status steepest_adamw_step(steepest_context* context,
                                                            const steepest_adamw_config* config,
                                                            const steepest_adamw_tensor* tensors,
                                                            int64_t count,
                                                            steepest_step_stats* stats) {
  static const auto right =
      reinterpret_cast<decltype(&steepest_adamw_step)>(dlsym(RTLD_NEXT, "steepest_adamw_step"));
  const steepest_status status = right(context, config, tensors, count, stats);
  if (status == STEEPEST_OK && count > 0 && tensors[0].param_dtype == STEEPEST_F32)
    *static_cast<float*>(tensors[0].param) *= 1.001F;
  return status;
}
