/* SPDX-License-Identifier: Apache-2.0
 * The optimizer as an operation of a compute graph, run on the graph's own threads: what a runtime
 * in the manner of ggml has to add. docs/integrate/graph-step.md explains it. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <steepest/steepest.h>

/* ---- the runtime: nodes in order, and threads */

typedef enum op { OP_NONE, OP_GRADIENT, OP_ADAMW } op;

typedef struct node {
  op kind;
  int64_t count;
  float* data;
  struct node* src[4]; /* OP_ADAMW: param, grad, m, v */
} node;

typedef struct runtime {
  int threads;
} runtime;

/* n parallel calls of f(arg, i). A real runtime wakes threads that wait; this one makes them. */
typedef struct job {
  void (*f)(void* arg, int thread);
  void* arg;
  int thread;
} job;

static void* run_job(void* pointer) {
  job* j = pointer;
  j->f(j->arg, j->thread);
  return NULL;
}

static void on_all_threads(runtime* r, void (*f)(void*, int), void* arg) {
  pthread_t ids[64];
  job jobs[64];
  int i, started[64];
  for (i = 1; i < r->threads; ++i) {
    jobs[i].f = f, jobs[i].arg = arg, jobs[i].thread = i;
    started[i] = pthread_create(&ids[i], NULL, run_job, &jobs[i]) == 0;
  }
  f(arg, 0);
  for (i = 1; i < r->threads; ++i) {
    if (started[i])
      pthread_join(ids[i], NULL);
    else
      f(arg, i);
  }
}

/* ---- the adapter: the runtime's threads as Steepest's executor */

typedef struct tasks {
  void (*body)(void* arg, int64_t task, int32_t worker);
  void* arg;
  int64_t count, next;
} tasks;

static void take_tasks(void* arg, int thread) {
  tasks* t = arg;
  int64_t task;
  /* Any task on any thread, once: the results do not depend on which. */
  while ((task = __atomic_fetch_add(&t->next, 1, __ATOMIC_RELAXED)) < t->count)
    t->body(t->arg, task, thread);
}

static int32_t concurrency(void* user) { return ((runtime*)user)->threads; }

static steepest_status parallel_for(void* user, int64_t count,
                                    void (*body)(void* arg, int64_t task, int32_t worker),
                                    void* arg) {
  tasks t;
  t.body = body, t.arg = arg, t.count = count, t.next = 0;
  on_all_threads(user, take_tasks, &t);
  return STEEPEST_OK;
}

/* ---- the graph's loop */

static void compute_gradient(node* n) { /* of |x - 3|^2 / 2 */
  int64_t i;
  for (i = 0; i < n->count; ++i) n->data[i] = n->src[0]->data[i] - 3.0f;
}

/* All optimizer nodes are one call: one fork and join, not one for each node. */
static steepest_status compute(steepest_context* context, node** graph, int nodes, int64_t step) {
  const steepest_adamw_tensor init = STEEPEST_ADAMW_TENSOR_INIT;
  steepest_adamw_config config = STEEPEST_ADAMW_CONFIG_INIT;
  steepest_adamw_tensor* list = malloc((size_t)nodes * sizeof *list);
  steepest_status status;
  int i, count = 0;
  if (list == NULL) return STEEPEST_E_OUT_OF_MEMORY;
  for (i = 0; i < nodes; ++i) {
    node* n = graph[i];
    if (n->kind == OP_GRADIENT) compute_gradient(n);
    if (n->kind != OP_ADAMW) continue;
    list[count] = init;
    list[count].count = n->src[0]->count;
    list[count].param = n->src[0]->data;
    list[count].grad = n->src[1]->data;
    list[count].exp_avg = n->src[2]->data;
    list[count].exp_avg_sq = n->src[3]->data;
    ++count;
  }
  config.lr = 0.05;
  config.weight_decay = 0;
  config.step = step;
  status = steepest_adamw_step(context, &config, list, count, NULL);
  free(list);
  return status;
}

static void leaf(node* n, op kind, int64_t count) {
  const node empty = {OP_NONE, 0, NULL, {NULL, NULL, NULL, NULL}};
  *n = empty;
  n->kind = kind;
  n->count = count;
  n->data = calloc((size_t)count, sizeof(float));
}

/* Trains with so many threads; the parameters of the last node's tensor. */
static float* train(int threads) {
  enum { parameters = 3, steps = 300 };
  static const int64_t sizes[parameters] = {7, 200000, 1000};
  steepest_executor executor = STEEPEST_EXECUTOR_INIT;
  steepest_context_options options = STEEPEST_CONTEXT_OPTIONS_INIT;
  steepest_context* context = NULL;
  node leaves[parameters][5], *graph[2 * parameters];
  runtime r;
  int i, j;
  r.threads = threads;
  executor.user = &r;
  executor.concurrency = concurrency;
  executor.parallel_for = parallel_for;
  options.executor = &executor;
  if (steepest_context_create(&options, &context) != STEEPEST_OK) return NULL;

  for (i = 0; i < parameters; ++i) {
    for (j = 0; j < 5; ++j) leaf(&leaves[i][j], OP_NONE, sizes[i]);
    leaves[i][1].kind = OP_GRADIENT;
    leaves[i][1].src[0] = &leaves[i][0];
    leaves[i][4].kind = OP_ADAMW;
    for (j = 0; j < 4; ++j) leaves[i][4].src[j] = &leaves[i][j];
    graph[i] = &leaves[i][1];
    graph[parameters + i] = &leaves[i][4];
  }
  for (i = 1; i <= steps; ++i) {
    if (compute(context, graph, 2 * parameters, i) != STEEPEST_OK) return NULL;
  }
  steepest_context_destroy(context);
  return leaves[1][0].data;
}

int main(void) {
  const float *one = train(1), *three = train(3);
  int i;
  if (one == NULL || three == NULL) {
    fprintf(stderr, "%s\n", steepest_last_error());
    return 1;
  }
  printf("parameter %.4f after 300 steps, the optimum is 3\n", (double)one[0]);
  for (i = 0; i < 200000; ++i) {
    if (one[i] != three[i]) {
      fprintf(stderr, "element %d depends on the threads\n", i);
      return 1;
    }
  }
  return !(fabsf(one[0] - 3.0f) < 0.05f);
}
