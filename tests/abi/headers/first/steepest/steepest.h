/* SPDX-License-Identifier: Apache-2.0
 *
 * Steepest: optimizer-step kernels for CPUs. This header is the whole contract: C99, no other
 * dependency, callable from any language with a C FFI.
 *
 * How to read it
 *   - Every function that can fail returns a steepest_status: 0 is success, a negative value is an
 *     error, and steepest_last_error() then names the argument, its value and the rule it breaks.
 *   - An argument error anywhere in a call means that nothing was written. Memory is obtained
 *     before the first write, so running out of it also leaves everything as it was.
 *   - No function throws, aborts, prints, or changes errno, the floating-point environment or
 *     another library's thread settings.
 *   - The caller owns all optimizer state, in plain arrays. The library keeps nothing between calls
 *     except a context's scratch memory, so saving the arrays is saving the optimizer.
 *   - A buffer needs only the alignment of its element type, and is never read or written outside
 *     its elements. Buffers of one tensor must not overlap each other.
 *   - Any function may be called by several threads at once, also with the same context, as long as
 *     no two calls write the same memory.
 *
 * How structs grow
 *   Every struct that may grow begins with its own size. Fields are only ever appended. A caller
 *   compiled against an older header passes a smaller struct_size and gets the INIT value of each
 *   field that it does not know; a caller compiled against a newer header is accepted as long as the
 *   bytes that this library does not know are zero, and refused with STEEPEST_E_UNSUPPORTED
 *   otherwise. In an array of structs every element has element 0's struct_size, which is the
 *   stride of the array. Results are written only within the caller's struct_size. So: begin with
 *   the STEEPEST_*_INIT macro (or the steepest_*_init function over FFI), then set fields.
 *   `reserved` fields must be zero. A struct_size is at least 16 and a multiple of 8.
 *
 * Numbers
 *   Hyper-parameters are double whatever the storage types. Arithmetic is at least fp32. Results are
 *   the same bits for any number of threads, executor, alignment and position in a buffer, within
 *   one ISA level; STEEPEST_FLAG_CONSISTENT extends that to all ISA levels.
 */
#ifndef STEEPEST_STEEPEST_H
#define STEEPEST_STEEPEST_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define STEEPEST_API __attribute__((visibility("default")))
#else
#define STEEPEST_API
#endif

/* The release, and the version of the binary interface (the number in libsteepest.so.N). */
#define STEEPEST_VERSION_MAJOR 0
#define STEEPEST_VERSION_MINOR 1
#define STEEPEST_VERSION_PATCH 0
#define STEEPEST_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ constants */

typedef int32_t steepest_status;
typedef int32_t steepest_dtype;
typedef int32_t steepest_isa;

#define STEEPEST_OK 0
#define STEEPEST_E_INVALID_ARGUMENT (-1) /* a value outside its rule, a null or overlapping pointer */
#define STEEPEST_E_SHAPE (-2)            /* a negative or overflowing size, a stride below its row */
#define STEEPEST_E_DTYPE (-3)            /* an unknown element type, or a mix with no kernel */
#define STEEPEST_E_OUT_OF_MEMORY (-4)
#define STEEPEST_E_NONFINITE (-5)        /* NaN or infinity in data where the method has no answer */
#define STEEPEST_E_NOT_CONVERGED (-6)
#define STEEPEST_E_UNSUPPORTED (-7)      /* known to a newer library, or not possible on this CPU */
#define STEEPEST_E_INTERNAL (-8)         /* a defect in the library or in a caller's callback */

/* Element types. This release computes with F32 and F64; the others are refused with
 * STEEPEST_E_DTYPE. */
#define STEEPEST_F32 1
#define STEEPEST_F64 2
#define STEEPEST_BF16 3
#define STEEPEST_F16 4
#define STEEPEST_Q8_DYNAMIC 5
#define STEEPEST_Q8_COMPANDED 6

/* Instruction-set levels. Each includes those before it on the same architecture. */
#define STEEPEST_ISA_AUTO 0
#define STEEPEST_ISA_GENERIC 1         /* the compiler's baseline: SSE2 on x86-64 */
#define STEEPEST_ISA_X86_AVX2 2        /* AVX2, FMA, F16C */
#define STEEPEST_ISA_X86_AVX512 3      /* AVX-512 F, BW, DQ, VL */
#define STEEPEST_ISA_X86_AVX512_BF16 4 /* the same and AVX512_BF16 */
#define STEEPEST_ISA_ARM64_NEON 16

/* Flags that every function understands (bits 32 and up); the bits below are each function's own. */
#define STEEPEST_FLAG_CONSISTENT (UINT64_C(1) << 32) /* the same bits on every ISA level */

/* ------------------------------------------------------------------ version and errors */

/* The release as 0x00MMmmpp, and the binary interface's version, of the library that is loaded. */
STEEPEST_API uint32_t steepest_version(void);
STEEPEST_API uint32_t steepest_abi_version(void);

/* One line: release, compiler, ISA levels compiled in, version of each library used. Static text. */
STEEPEST_API const char* steepest_build_info(void);

/* The constant's name, "STEEPEST_E_SHAPE" for STEEPEST_E_SHAPE; "unknown status" for others. */
STEEPEST_API const char* steepest_status_name(steepest_status status);

/* Why this thread's last failing call failed, for instance
 *   adamw_step: tensors[3].exp_avg is null (count = 768)
 * Never null; empty when no call of this thread has failed. A successful call does not clear it.
 * Valid until this thread's next failing call. */
STEEPEST_API const char* steepest_last_error(void);

/* ------------------------------------------------------------------ executor and allocator */

/* A caller's own thread pool. parallel_for runs body(arg, task, worker) once for each task in
 * [0, tasks), in any order and on any threads, and returns when all have finished.
 * 0 <= worker < concurrency(user), and no worker index may be in use by two tasks at the same time.
 * body does not throw; parallel_for must not throw, and returns STEEPEST_OK only if every task ran
 * once. Should it fail after some tasks ran, the call returns STEEPEST_E_INTERNAL and the buffers
 * are partly updated: that is the one case in which an error can follow a write. Calls come
 * from any thread that calls the library, also at the same time. */
typedef struct steepest_executor {
  size_t struct_size;
  void* user;
  int32_t (*concurrency)(void* user);
  steepest_status (*parallel_for)(void* user, int64_t tasks,
                                  void (*body)(void* arg, int64_t task, int32_t worker), void* arg);
} steepest_executor;
#define STEEPEST_EXECUTOR_INIT {sizeof(steepest_executor), NULL, NULL, NULL}
STEEPEST_API steepest_status steepest_executor_init(void* executor, size_t struct_size);

/* A caller's own memory for contexts and scratch. allocate returns null when it has none, else
 * `bytes` bytes aligned to `alignment`, a power of two; release gets the pointer and its size back.
 * Both may be called from any thread and must not throw. */
typedef struct steepest_allocator {
  size_t struct_size;
  void* user;
  void* (*allocate)(void* user, size_t alignment, size_t bytes);
  void (*release)(void* user, void* pointer, size_t bytes);
} steepest_allocator;
#define STEEPEST_ALLOCATOR_INIT {sizeof(steepest_allocator), NULL, NULL, NULL}
STEEPEST_API steepest_status steepest_allocator_init(void* allocator, size_t struct_size);

/* ------------------------------------------------------------------ context */

/* A context holds the choice of ISA level, the threads and the scratch memory. Passing NULL where a
 * context is expected means a process-wide default context, made at first use with default options.
 *
 * Two environment variables are read when a context is made. STEEPEST_MAX_ISA (a name as
 * steepest_isa_name gives it) lowers the level; STEEPEST_NUM_THREADS (a positive number) stands in
 * for num_threads = 0. An invalid value is an error of the call that makes the context.
 *
 * After fork(), a context made in the parent works in the child but runs everything on the calling
 * thread; a context made in the child has threads again. */
typedef struct steepest_context steepest_context;

typedef struct steepest_context_options {
  size_t struct_size;
  uint64_t flags;         /* STEEPEST_FLAG_CONSISTENT: as if every call had it */
  int32_t num_threads;    /* 0: the cores this process may use; 1: the calling thread only */
  steepest_isa max_isa;   /* highest level to use; STEEPEST_ISA_AUTO: the best this CPU has. A level
                             that this CPU or build does not have is STEEPEST_E_UNSUPPORTED. */
  const steepest_executor* executor;   /* NULL: the library's own, on oneTBB. Copied. With an executor
                                          num_threads must be 0: concurrency() says how many. */
  const steepest_allocator* allocator; /* NULL: the C library's. Copied. */
} steepest_context_options;
#define STEEPEST_CONTEXT_OPTIONS_INIT \
  {sizeof(steepest_context_options), 0, 0, STEEPEST_ISA_AUTO, NULL, NULL}
STEEPEST_API steepest_status steepest_context_options_init(void* options, size_t struct_size);

/* options == NULL: the defaults. *out is set to NULL on failure. What `user` points to in an
 * executor or allocator must outlive the context. */
STEEPEST_API steepest_status steepest_context_create(const steepest_context_options* options,
                                                     steepest_context** out);
/* No call may be using the context. NULL: nothing happens. */
STEEPEST_API void steepest_context_destroy(steepest_context* context);
/* Frees the scratch memory that no running call is using. */
STEEPEST_API steepest_status steepest_context_trim(steepest_context* context);
/* The level in use, and the number of threads a call may use. 0 when context is NULL and the default
 * context cannot be made (see steepest_last_error). */
STEEPEST_API steepest_isa steepest_context_isa(const steepest_context* context);
STEEPEST_API int32_t steepest_context_threads(const steepest_context* context);
/* "generic", "x86_avx2", "x86_avx512", "x86_avx512_bf16", "arm64_neon"; "auto"; "unknown isa". */
STEEPEST_API const char* steepest_isa_name(steepest_isa isa);

/* ------------------------------------------------------------------ step statistics */

/* What one step did to one tensor, gathered in the same pass over memory. RMS(x) = sqrt(mean(x^2)).
 * Let g be the gradient that enters the moments (after grad_scale, MAXIMIZE and COUPLED_L2), m and v
 * the new moments, mh and vh the same after bias correction, u = mh / (sqrt(vh) + eps). */
typedef struct steepest_step_stats {
  size_t struct_size;
  steepest_status status; /* STEEPEST_OK; STEEPEST_E_NONFINITE: see the function */
  int32_t reserved;
  double update_rms;   /* RMS(u): without lr and without decay. About 0.2 in healthy training. */
  double grad_rms;     /* RMS(g) */
  double momentum_rms; /* RMS(mh) */
  double param_rms;    /* RMS of the parameters before the step */
  /* Two estimates of the gradient's signal-to-noise ratio |mean|^2 / |deviation|^2. With
   * a = (1-beta1)(1+beta1^t) / ((1+beta1)(1-beta1^t)), t the step:
   *   snr_update   = (RMS(u)^2 - a) / (1 - RMS(u)^2)   weighs all coordinates alike
   *   snr_momentum = (q - a) / (1 - q), q = RMS(mh)^2 / RMS(g)^2   unbiased in expectation
   * Near zero they may be slightly negative. At t = 1, or without data, they are NaN.
   * Source: Su Jianlin, https://kexue.fm/archives/11267. */
  double snr_update;
  double snr_momentum;
  int64_t nonfinite; /* elements of the gradient that are NaN or infinite */
} steepest_step_stats;
#define STEEPEST_STEP_STATS_INIT \
  {sizeof(steepest_step_stats), STEEPEST_OK, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0}
STEEPEST_API steepest_status steepest_step_stats_init(void* stats, size_t struct_size);

/* ------------------------------------------------------------------ AdamW */

#define STEEPEST_ADAMW_AMSGRAD (UINT64_C(1) << 0)        /* the largest v so far in u's denominator */
#define STEEPEST_ADAMW_MAXIMIZE (UINT64_C(1) << 1)       /* g = -grad_scale * grad */
#define STEEPEST_ADAMW_COUPLED_L2 (UINT64_C(1) << 2)     /* g += weight_decay * param, no other decay:
                                                            Adam with L2 regularisation */
#define STEEPEST_ADAMW_CAUTIOUS_DECAY (UINT64_C(1) << 3) /* decay only where u * param >= 0
                                                            (arXiv 2510.12402); not with COUPLED_L2 */
#define STEEPEST_ADAMW_SKIP_NONFINITE (UINT64_C(1) << 4) /* see steepest_adamw_step */
#define STEEPEST_ADAMW_EMIT_DELTA (UINT64_C(1) << 5)     /* write new - old param to `delta`; `param`
                                                            itself is only read */

typedef struct steepest_adamw_config {
  size_t struct_size;
  uint64_t flags;       /* STEEPEST_ADAMW_*, STEEPEST_FLAG_CONSISTENT */
  double lr;            /* >= 0 */
  double beta1;         /* in [0, 1) */
  double beta2;         /* in [0, 1) */
  double eps;           /* >= 0, added outside the root, after bias correction */
  double weight_decay;  /* >= 0; decoupled: param -= lr * weight_decay * param */
  double grad_scale;    /* every gradient is multiplied by it first (unscaling and clipping as one
                           factor); the gradient itself is not modified */
  int64_t step;         /* >= 1: the number of this step, for the bias correction */
  uint64_t seed;        /* not used yet */
  int32_t* skipped;     /* NULL, or set by a successful call to 1 if it was skipped, else 0 */
} steepest_adamw_config;
#define STEEPEST_ADAMW_CONFIG_INIT \
  {sizeof(steepest_adamw_config), 0, 1e-3, 0.9, 0.999, 1e-8, 1e-2, 1.0, 1, 0, NULL}
STEEPEST_API steepest_status steepest_adamw_config_init(void* config, size_t struct_size);

typedef struct steepest_adamw_tensor {
  size_t struct_size;
  int64_t count;     /* elements in each buffer; 0: nothing is done, the pointers may be null */
  void* param;
  const void* grad;  /* never modified */
  void* exp_avg;     /* m, first moment; zeros before step 1 */
  void* exp_avg_sq;  /* v, second moment; zeros before step 1 */
  steepest_dtype param_dtype;
  steepest_dtype grad_dtype;
  steepest_dtype exp_avg_dtype;
  steepest_dtype exp_avg_sq_dtype;     /* this release: all four F32 or all four F64 */
  const steepest_adamw_config* config; /* NULL: the call's. Parameter groups, per-tensor steps. */
  void* max_exp_avg_sq;                /* used with AMSGRAD; of exp_avg_sq_dtype; starts as zeros */
  void* delta;                         /* used with EMIT_DELTA */
  steepest_dtype delta_dtype;          /* this release: param_dtype */
  int32_t reserved;
} steepest_adamw_tensor;
#define STEEPEST_ADAMW_TENSOR_INIT                                                               \
  {sizeof(steepest_adamw_tensor), 0, NULL, NULL, NULL, NULL, STEEPEST_F32, STEEPEST_F32,         \
   STEEPEST_F32, STEEPEST_F32, NULL, NULL, NULL, STEEPEST_F32, 0}
STEEPEST_API steepest_status steepest_adamw_tensor_init(void* tensor, size_t struct_size);

/* One AdamW step (Loshchilov & Hutter, arXiv 1711.05101) on a list of tensors. For each element:
 *
 *   g  = grad_scale * grad
 *   m  = beta1 * m + (1 - beta1) * g            mh = m / (1 - beta1^step)
 *   v  = beta2 * v + (1 - beta2) * g^2          vh = v / (1 - beta2^step)
 *   u  = mh / (sqrt(vh) + eps)                  0 where the denominator is 0
 *   param = param - lr * (u + weight_decay * param)
 *
 * All tensors are done in one pass with one fork and join, so pass a whole model at once: a thousand
 * small tensors cost little more than one large one.
 *
 * context  NULL: the default context.
 * config   The call's hyper-parameters. May be NULL if every tensor names its own.
 * tensors  [count]. No two of them may write the same memory (tied weights given twice), and no
 *          tensor may write what another one reads: checked, STEEPEST_E_INVALID_ARGUMENT.
 * stats    NULL, or [count], one per tensor; stats[0].struct_size is the stride.
 *
 * SKIP_NONFINITE: the gradients of all tensors whose config has the flag are scanned first. If an
 * element is NaN or infinite, nothing is updated, the call returns STEEPEST_OK and sets *skipped = 1;
 * stats then hold the count in `nonfinite`, STEEPEST_E_NONFINITE in the `status` of the tensors
 * concerned, and NaN elsewhere. Without the flag a non-finite gradient takes its course through the
 * formula.
 *
 * Accuracy of one step in fp32 arithmetic, against exact arithmetic on the stored inputs (fp64: the
 * same in its own ulps; the constants are confirmed, and the worst case printed, by the test
 * suite): m within 2 ulp of beta1 |m| + (1-beta1) |g|; v within 2 ulp; param within 2 ulp of
 * max(|old|, |new|) plus 4 ulp of lr (beta1 |m| + (1-beta1) |g|) / ((1-beta1^t) (sqrt(vh) + eps)).
 * Limits of fp32 storage: v overflows to infinity (and u becomes 0) when |g| exceeds about 1.8e19 /
 * sqrt(1-beta2), and g^2 underflows below |g| of about 1e-22.
 *
 * Errors: STEEPEST_E_INVALID_ARGUMENT, _SHAPE, _DTYPE, _OUT_OF_MEMORY, _UNSUPPORTED (nothing
 * written), _INTERNAL (a failing executor). Since 0.1. */
STEEPEST_API steepest_status steepest_adamw_step(steepest_context* context,
                                                 const steepest_adamw_config* config,
                                                 const steepest_adamw_tensor* tensors, int64_t count,
                                                 steepest_step_stats* stats);

/* ------------------------------------------------------------------ gradient norm */

typedef struct steepest_vector {
  size_t struct_size;
  int64_t count;
  const void* data;
  steepest_dtype dtype; /* this release: F32 or F64 */
  int32_t reserved;
} steepest_vector;
#define STEEPEST_VECTOR_INIT {sizeof(steepest_vector), 0, NULL, STEEPEST_F32, 0}
STEEPEST_API steepest_status steepest_vector_init(void* vector, size_t struct_size);

/* The Euclidean norm of all elements of all vectors together, as clipping by global norm needs it:
 *   *norm = sqrt(sum over vectors, sum over elements, x^2),   *nonfinite = elements NaN or infinite
 * summed in fp64 and free of overflow and underflow. If *nonfinite is not 0, *norm is NaN (when a
 * NaN is among them) or infinite. Either pointer may be NULL. Vectors may overlap.
 * To clip: grad_scale = min(1, max_norm / norm), passed to steepest_adamw_step. Since 0.1. */
STEEPEST_API steepest_status steepest_grad_norm(steepest_context* context,
                                                const steepest_vector* vectors, int64_t count,
                                                double* norm, int64_t* nonfinite);

#ifdef __cplusplus
}
#endif
#endif
