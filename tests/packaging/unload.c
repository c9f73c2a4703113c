/* SPDX-License-Identifier: Apache-2.0
 * unload LIBRARY: loads the library, makes a step with threads and a decomposition, and unloads it,
 * many times over. Neither may fail, and neither memory mappings nor threads may pile up. What the
 * library has told the system to call, at a fork or at the end of a thread, goes with it. */
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <steepest/steepest.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { rounds = 40, count = 1 << 16 };
static float param[count], grad[count], exp_avg[count], exp_avg_sq[count];

/* POSIX, which has no other way from an object pointer to a function. */
#define LOOK_UP(function) void* function##_address = dlsym(library, "steepest_" #function)

static steepest_status (*step)(steepest_context*, const steepest_adamw_config*,
                               const steepest_adamw_tensor*, int64_t, steepest_step_stats*);

/* A thread that has been in the library, has its error text, and outlives it. */
static pthread_barrier_t called, unloaded;
static void* outlive(void* unused) {
  const steepest_status status = step(NULL, NULL, NULL, 1, NULL);
  (void)unused;
  pthread_barrier_wait(&called);
  pthread_barrier_wait(&unloaded);
  return status == STEEPEST_E_INVALID_ARGUMENT ? outlive : NULL;
}

/* Whether a child exits as it should. */
static int forks(void) {
  int state = 1;
  const pid_t child = fork();
  if (child == 0) _exit(0);
  return child > 0 && waitpid(child, &state, 0) == child && state == 0;
}

static int one_round(const char* path) {
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_tensor tensor = STEEPEST_ADAMW_TENSOR_INIT;
  steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  steepest_msign_config svd = STEEPEST_MSIGN_CONFIG_INIT;
  steepest_context* context = NULL;
  pthread_t thread;
  void* thread_result = NULL;
  steepest_status (*create)(const steepest_context_options*, steepest_context**);
  void (*destroy)(steepest_context*);
  steepest_status (*msign)(steepest_context*, const steepest_msign_config*, int64_t, int64_t,
                           steepest_dtype, const void*, int64_t, void*, int64_t,
                           const steepest_workspace*, steepest_msign_stats*);
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  int failed;
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  LOOK_UP(context_create);
  LOOK_UP(context_destroy);
  LOOK_UP(adamw_step);
  LOOK_UP(msign);
  memcpy(&create, &context_create_address, sizeof create);
  memcpy(&destroy, &context_destroy_address, sizeof destroy);
  memcpy(&step, &adamw_step_address, sizeof step);
  memcpy(&msign, &msign_address, sizeof msign);

  tensor.count = count;
  tensor.param = param;
  tensor.grad = grad;
  tensor.exp_avg = exp_avg;
  tensor.exp_avg_sq = exp_avg_sq;
  failed = create(&options, &context) != STEEPEST_OK ||
           step(context, &config, &tensor, 1, NULL) != STEEPEST_OK ||
           /* The default context as well, which is never destroyed by hand. */
           step(NULL, &config, &tensor, 1, NULL) != STEEPEST_OK;
  svd.method = STEEPEST_MSIGN_SVD;
  failed |=
      msign(context, &svd, 40, 60, STEEPEST_F32, param, 0, exp_avg, 0, NULL, NULL) != STEEPEST_OK ||
      msign(context, NULL, 40, 60, STEEPEST_F32, param, 0, exp_avg, 0, NULL, NULL) != STEEPEST_OK;
  destroy(context);
  failed |= pthread_create(&thread, NULL, outlive, NULL) != 0;
  pthread_barrier_wait(&called);
  failed |= !forks() || dlclose(library) != 0 || !forks();
  pthread_barrier_wait(&unloaded);
  return pthread_join(thread, &thread_result) != 0 || thread_result == NULL || failed;
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
  pthread_barrier_init(&called, NULL, 2);
  pthread_barrier_init(&unloaded, NULL, 2);
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
