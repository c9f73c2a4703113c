/* SPDX-License-Identifier: Apache-2.0
 * unload LIBRARY: loads the library, makes a step with threads, and unloads it, many times over.
 * Neither may fail, and neither memory mappings nor threads may pile up. */
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <steepest/steepest.h>
#include <string.h>

enum { rounds = 40, count = 1 << 16 };
static float param[count], grad[count], exp_avg[count], exp_avg_sq[count];

/* POSIX, which has no other way from an object pointer to a function. */
#define LOOK_UP(function) void* function##_address = dlsym(library, "steepest_" #function)

static int one_round(const char* path) {
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  steepest_context* context = NULL;
  steepest_status (*create)(const steepest_context_options*, steepest_context**);
  void (*destroy)(steepest_context*);
  steepest_status (*step)(steepest_context*, const steepest_adamw_config*,
                          const steepest_adamw_tensor*, int64_t, steepest_step_stats*);
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  int failed;
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  LOOK_UP(context_create);
  LOOK_UP(context_destroy);
  LOOK_UP(adamw_step);
  memcpy(&create, &context_create_address, sizeof create);
  memcpy(&destroy, &context_destroy_address, sizeof destroy);
  memcpy(&step, &adamw_step_address, sizeof step);

  tensor.count = count;
  tensor.param = param;
  tensor.grad = grad;
  tensor.exp_avg = exp_avg;
  tensor.exp_avg_sq = exp_avg_sq;
  failed = create(&options, &context) != STEEPEST_OK ||
           step(context, &config, &tensor, 1, NULL) != STEEPEST_OK ||
           /* The default context as well, which is never destroyed by hand. */
           step(NULL, &config, &tensor, 1, NULL) != STEEPEST_OK;
  destroy(context);
  return dlclose(library) != 0 || failed;
}

static int lines_of_maps(void) {
  FILE* file = fopen("/proc/self/maps", "r");
  int lines = 0, c;
  while (file != NULL && (c = getc(file)) != EOF) lines += c == '\n';
  if (file != NULL) fclose(file);
  return lines;
}

static int threads(void) {
  DIR* tasks = opendir("/proc/self/task");
  int entries = -2; /* . and .. */
  if (tasks == NULL) return 0;
  while (readdir(tasks) != NULL) ++entries;
  closedir(tasks);
  return entries;
}

int main(int argc, char** argv) {
  int i, maps = 0, tasks = 0;
  for (i = 0; i < count; ++i) grad[i] = 1.0f;
  for (i = 0; argc == 2 && i < rounds; ++i) {
    if (one_round(argv[1])) return 1;
    if (i == rounds / 2) {
      maps = lines_of_maps();
      tasks = threads();
    }
  }
  printf("mappings %d, then %d; threads %d, then %d\n", maps, lines_of_maps(), tasks, threads());
  return argc != 2 || lines_of_maps() > maps + 4 || threads() > tasks + 1;
}
