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
 *   field that it does not know; a caller compiled against a newer header is accepted as long as
 *   the bytes that this library does not know are zero, and refused with STEEPEST_E_UNSUPPORTED
 *   otherwise. In an array of structs every element has element 0's struct_size, which is the
 *   stride of the array. Results are written only within the caller's struct_size. So: begin with
 *   the STEEPEST_*_INIT macro (or the steepest_*_init function over FFI), then set fields.
 *   `reserved` fields must be zero. A struct_size is at least 16 and a multiple of 8.
 *
 * Numbers
 *   Hyper-parameters are double whatever the storage types. Arithmetic is at least fp32. Results
 *   are the same bits for any number of threads, executor, alignment and position in a buffer,
 *   within one ISA level; STEEPEST_FLAG_CONSISTENT extends that to all ISA levels.
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
#define STEEPEST_E_INVALID_ARGUMENT (-1) /* a value outside its rule, a null pointer, an overlap */
#define STEEPEST_E_SHAPE (-2)            /* a negative or overflowing size, too small a stride */
#define STEEPEST_E_DTYPE (-3)            /* an unknown element type, or a mix with no kernel */
#define STEEPEST_E_OUT_OF_MEMORY (-4)
#define STEEPEST_E_NONFINITE (-5)        /* NaN or infinity where the method has no answer */
#define STEEPEST_E_NOT_CONVERGED (-6)
#define STEEPEST_E_UNSUPPORTED (-7)      /* known to a newer library, or not possible on this CPU */
#define STEEPEST_E_INTERNAL (-8)         /* a defect in the library or in a caller's callback */

/* Element types. Conversions to BF16 and F16 round to nearest even and keep NaN and denormals. The
 * Q8 types are not implemented yet: STEEPEST_E_DTYPE. */
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

/* Flags that every function understands, bits 32 and up; the bits below are each function's own. */
#define STEEPEST_FLAG_CONSISTENT (UINT64_C(1) << 32) /* the same bits on every ISA level */

/* ------------------------------------------------------------------ version and errors */

/* The release as 0x00MMmmpp, and the binary interface's version, of the library that is loaded. */
STEEPEST_API uint32_t steepest_version(void);
STEEPEST_API uint32_t steepest_abi_version(void);

/* One line: release, compiler, ISA levels compiled in, versions of the libraries used. Static. */
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
 * thread. A context made in the child has threads again, unless calls of the parent had used the
 * library's own threads before (oneTBB, whose locks do not survive a fork); with an executor of the
 * caller's it always has.
 */
typedef struct steepest_context steepest_context;

#define STEEPEST_CONTEXT_OPENBLAS (UINT64_C(1) << 0) /* msign's products and inverses by OpenBLAS
                                                        and LAPACK in place of the library's own
                                                        kernels: for comparison */

typedef struct steepest_context_options {
  size_t struct_size;
  uint64_t flags;         /* STEEPEST_CONTEXT_*; STEEPEST_FLAG_CONSISTENT: as if every call had
                             it */
  int32_t num_threads;  /* 0: the cores this process may use; 1: the calling thread only. Without an
                             executor no more than oneTBB has (one per core) are used. */
  steepest_isa max_isa;   /* highest level to use; STEEPEST_ISA_AUTO: the best this CPU has. A level
                             that this CPU or build does not have is STEEPEST_E_UNSUPPORTED. */
  const steepest_executor* executor; /* NULL: the library's own, on oneTBB. Copied. With an executor
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
/* The level in use, and the number of threads a call may use. 0 when context is NULL and the
 * default context cannot be made (see steepest_last_error). */
STEEPEST_API steepest_isa steepest_context_isa(const steepest_context* context);
STEEPEST_API int32_t steepest_context_threads(const steepest_context* context);
/* "generic", "x86_avx2", "x86_avx512", "x86_avx512_bf16", "arm64_neon"; "auto"; "unknown isa". */
STEEPEST_API const char* steepest_isa_name(steepest_isa isa);

/* ------------------------------------------------------------------ step statistics */

/* What one step did to one tensor, gathered in the same pass over memory. RMS(x) = sqrt(mean(x^2)).
 * Let g be the gradient that enters the moments (after grad_scale, MAXIMIZE and COUPLED_L2), m and
 * v the new moments, mh and vh the same after bias correction, u = mh / (sqrt(vh) + eps). Like v,
 * the squares are formed in the arithmetic's type: with fp32 arithmetic values beyond 1.8e19 count
 * as infinite and those below 1e-19 lose precision. Otherwise an RMS is right to 2e-6. */
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

#define STEEPEST_ADAMW_AMSGRAD (UINT64_C(1) << 0)        /* u's denominator has the largest v yet */
#define STEEPEST_ADAMW_MAXIMIZE (UINT64_C(1) << 1)       /* g = -grad_scale * grad */
#define STEEPEST_ADAMW_COUPLED_L2 (UINT64_C(1) << 2)     /* g += weight_decay * param and no other
                                                            decay: Adam with L2 regularisation */
#define STEEPEST_ADAMW_CAUTIOUS_DECAY (UINT64_C(1) << 3) /* decay only where u * param >= 0
                                                            (arXiv 2510.12402); not with L2 */
#define STEEPEST_ADAMW_SKIP_NONFINITE (UINT64_C(1) << 4) /* see steepest_adamw_step */
#define STEEPEST_ADAMW_EMIT_DELTA (UINT64_C(1) << 5)     /* write new - old param to `delta`;
                                                            `param` itself is only read */

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
  steepest_dtype exp_avg_sq_dtype;     /* any mix of F32, BF16, F16; or all four F64 */
  const steepest_adamw_config* config; /* NULL: the call's. Parameter groups, per-tensor steps. */
  void* max_exp_avg_sq;                /* used with AMSGRAD; of exp_avg_sq_dtype; starts as zeros */
  void* delta;                         /* used with EMIT_DELTA */
  steepest_dtype delta_dtype;          /* F32, BF16 or F16; F64 where the others are */
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
 * All tensors are done in one pass with one fork and join, so pass a whole model at once: a
 * thousand small tensors cost little more than one large one.
 *
 * context  NULL: the default context.
 * config   The call's hyper-parameters. May be NULL if every tensor names its own.
 * tensors  [count]. No two of them may write the same memory (tied weights given twice), and no
 *          tensor may write what another one reads: checked, STEEPEST_E_INVALID_ARGUMENT.
 * stats    NULL, or [count], one per tensor; stats[0].struct_size is the stride.
 *
 * SKIP_NONFINITE: the gradients of all tensors whose config has the flag are scanned first. If an
 * element is NaN or infinite, nothing is updated, the call returns STEEPEST_OK and sets *skipped to
 * 1; stats then hold the count in `nonfinite`, STEEPEST_E_NONFINITE in the `status` of the tensors
 * concerned, and NaN elsewhere. Without the flag a non-finite gradient takes its course through the
 * formula.
 *
 * Accuracy of one step in fp32 arithmetic, against exact arithmetic on the stored inputs (fp64: the
 * same in its own ulps; the constants are confirmed, and the worst case printed, by the test
 * suite): m within 2 ulp of beta1 |m| + (1-beta1) |g|; v within 2 ulp; param within 2 ulp of
 * max(|old|, |new|) plus 4 ulp of lr (beta1 |m| + (1-beta1) |g|) / ((1-beta1^t) (sqrt(vh) + eps)).
 * The generic level on a CPU without fused multiply-add rounds once more: v within 3 ulp there,
 * unless STEEPEST_FLAG_CONSISTENT is set.
 *
 * Storage types. The four buffers are independent: any mix of F32, BF16 and F16 works, computed in
 * fp32; F64 goes with F64 alone and is computed in fp64 (another mix with F64 is STEEPEST_E_DTYPE).
 * These mixes have kernels of their own, the others cost one more pass through the nearest cache:
 *
 *   param  grad   exp_avg  exp_avg_sq   bytes/element read + written
 *   F32    F32    F32      F32          28
 *   F64    F64    F64      F64          56
 *   F32    BF16   F32      F32          26
 *   F32    F16    F32      F32          26
 *   BF16   BF16   F32      F32          22
 *   F16    F16    F32      F32          22
 *   BF16   F32    F32      F32          24
 *   BF16   BF16   BF16     F32          18
 *   BF16   BF16   BF16     BF16         14
 *   F16    F16    F16      F16          14
 *
 * The update uses m and v before they are rounded to their storage type, which adds half an ulp of
 * that type to what is stored. (In a plain step of the last three mixes the update's term of 4 ulp
 * is one of 6: nothing against that half ulp. Other flags than MAXIMIZE, and eps = 0, keep to 4.)
 * Two warnings:
 *   - Keep exp_avg_sq in F32 unless beta2 is small. BF16 has 8 bits of precision: at beta2 = 0.999
 *     one step's decay of 0.1 % is below half an ulp, rounding to nearest undoes it, and v stays
 *     where its largest gradients put it: at twice its true value after 10,000 steps of noise. A
 *     decay of more than 0.4 % (beta2 below 0.996) gets through. BF16 param, grad and exp_avg with
 *     F32 exp_avg_sq costs 4 bytes per element more than BF16 throughout.
 *   - F16 exp_avg_sq underflows to 0 for v below 6e-8, gradients of about 2e-4, and u then grows to
 *     mh / eps: use BF16 or F32.
 * Limits of fp32: v overflows to infinity (and u becomes 0) when |g| exceeds about 1.8e19 /
 * sqrt(1-beta2), with BF16 throughout 1.8e19; g^2 underflows below |g| of about 1e-22.
 *
 * Errors: STEEPEST_E_INVALID_ARGUMENT, _SHAPE, _DTYPE, _OUT_OF_MEMORY, _UNSUPPORTED (nothing
 * written), _INTERNAL (a failing executor). Since 0.1. */
STEEPEST_API steepest_status steepest_adamw_step(steepest_context* context,
                                                 const steepest_adamw_config* config,
                                                 const steepest_adamw_tensor* tensors,
                                                 int64_t count, steepest_step_stats* stats);

/* ------------------------------------------------------------------ gradient norm */

typedef struct steepest_vector {
  size_t struct_size;
  int64_t count;
  const void* data;
  steepest_dtype dtype; /* F32, F64, BF16, F16 */
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

/* ------------------------------------------------------------------ matrix sign */

/* Scratch memory of the caller's own, for one call. NULL stands for memory from the context. */
typedef struct steepest_workspace {
  size_t struct_size;
  void* data;   /* any alignment */
  size_t bytes; /* at least what the function's _workspace_size says */
} steepest_workspace;
#define STEEPEST_WORKSPACE_INIT {sizeof(steepest_workspace), NULL, 0}
STEEPEST_API steepest_status steepest_workspace_init(void* workspace, size_t struct_size);

/* How msign(X) = U V^T is computed, for X = U S V^T with n = min(rows, cols), m = max(rows, cols).
 * "Band": the interval to which a method maps the singular values in [l, 1] of the normalised X,
 * all of which msign maps to 1. Flops count the symmetric products once, in units of n^3, with
 * a = m/n. */
#define STEEPEST_MSIGN_AUTO 0
#define STEEPEST_MSIGN_NEWTON_SCHULZ 1      /* X <- (aI + bA + cA^2) X, A = X X^T, row by row of
                                               `coefficients`; 5 steps: 15a + 5 */
#define STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ 2 /* the same polynomial on the n x n side; 3a + 17 */
#define STEEPEST_MSIGN_RATIONAL 3           /* Zolotarev's best rational function with r poles;
                                               3a + r; r = 3 at l = 1e-3: 1 -+ 0.062 */
#define STEEPEST_MSIGN_HALLEY 4             /* dynamically weighted Halley steps (QDWH) on the n x n
                                               side; two equal four poles */
#define STEEPEST_MSIGN_SVD 5                /* LAPACK's gesdd: U_r V_r^T, r the numerical rank */
#define STEEPEST_MSIGN_ACCURATE 6           /* in fp64: l from the spectrum, poles enough for it,
                                               and one step 1.5 X - 0.5 X X^T X */

/* Coefficients (a, b, c) per step of the two Newton-Schulz methods. */
#define STEEPEST_COEF_KELLER 1        /* (3.4445, -4.7750, 2.0315) throughout: Keller Jordan, torch;
                                         5 steps map [1e-3, 1] to 0.471..1.202 */
#define STEEPEST_COEF_CLASSIC 2       /* (15, -10, 3) / 8 throughout: converges, but slowly */
#define STEEPEST_COEF_CUBIC 3         /* (3/2, -1/2, 0) throughout */
#define STEEPEST_COEF_YOU 4           /* five rows by Jiacheng You: 0.475..1.145 */
#define STEEPEST_COEF_POLAR_EXPRESS 5 /* Amsel et al., arXiv 2505.16932, with a safety factor of
                                         1.01; 5 steps: 0.846..1.124 */
#define STEEPEST_COEF_CUSTOM 6        /* custom_coefficients */

/* What X is divided by, so that its singular values are at most 1. Sums are formed in fp64 after
 * scaling by a power of two: X and 1e30 X give the same answer. */
#define STEEPEST_NORM_AUTO 0      /* FROBENIUS for NEWTON_SCHULZ, SCHATTEN4 for the others */
#define STEEPEST_NORM_FROBENIUS 1
#define STEEPEST_NORM_SCHATTEN4 2 /* |X X^T|_F^(1/2): tighter, and free where X X^T is formed */
#define STEEPEST_NORM_BOUND 3     /* norm_bound, at least X's largest singular value */

#define STEEPEST_MSIGN_SPLIT_BF16 (UINT64_C(1) << 0) /* with compute_dtype BF16: Q as the sum of two
                                                        bf16 matrices */

typedef struct steepest_msign_config {
  size_t struct_size;
  uint64_t flags;                    /* STEEPEST_MSIGN_*; STEEPEST_FLAG_CONSISTENT, but not with SVD
                                        or bf16 products */
  int32_t method;                    /* STEEPEST_MSIGN_* */
  int32_t steps;                     /* 0: the method's default. NEWTON_SCHULZ, GRAM_: iterations, 1
                                        to 100, default 5; after the last row of a set that row
                                        repeats. RATIONAL: poles, 1 to 8, default 3. HALLEY: steps,
                                        1 to 8, default 3. Ignored by AUTO, SVD and ACCURATE. */
  int32_t coefficients;              /* STEEPEST_COEF_*; used by the Newton-Schulz methods */
  int32_t normalization;             /* STEEPEST_NORM_*; ignored by SVD and ACCURATE */
  const double* custom_coefficients; /* CUSTOM: custom_count rows (a, b, c) */
  double lower_bound;                /* l of RATIONAL and HALLEY, in [1e-3, 1) for fp32 arithmetic
                                        and [1e-8, 1) for fp64; 0: 1e-3. An fp32 Gram matrix has
                                        lost what lies below 2.4e-4 of the largest singular value,
                                        and with l below 1e-3 its rounding errors are amplified
                                        beyond use. */
  double norm_bound;                 /* with NORM_BOUND: > 0 */
  double rank_tolerance;             /* SVD: singular values up to this share of the largest count
                                        as zero; 0: max(n, m) eps of x's type, fp32's for the
                                        16-bit types */
  steepest_dtype compute_dtype;      /* F32 or F64; 0: F64 for F64 input and ACCURATE, else F32.
                                        BF16: fp32, but the products with X take X and Q rounded to
                                        bf16, at twice the speed where the CPU has AVX512_BF16
                                        (elsewhere _UNSUPPORTED). On wide spectra a rounded Q puts
                                        singular values up to twice above the band: see
                                        SPLIT_BF16, which does not. Not for SVD and ACCURATE. */
  int32_t reserved;
  int64_t custom_count;              /* rows of custom_coefficients; 0: `steps` */
  const int32_t* restarts;           /* GRAM_NEWTON_SCHULZ: the steps (2..steps, rising) before
                                        which X <- Q X and X X^T is formed anew; NULL: none for up
                                        to 5 steps, before steps 3 and 5 for more */
  int64_t restart_count;             /* entries of `restarts` when it is not NULL */
} steepest_msign_config;
#define STEEPEST_MSIGN_CONFIG_INIT                                                        \
  {sizeof(steepest_msign_config), 0, STEEPEST_MSIGN_AUTO, 0, STEEPEST_COEF_POLAR_EXPRESS, \
   STEEPEST_NORM_AUTO, NULL, 0.0, 0.0, 0.0, 0, 0, 0, NULL, 0}
STEEPEST_API steepest_status steepest_msign_config_init(void* config, size_t struct_size);

typedef struct steepest_msign_stats {
  size_t struct_size;
  steepest_status status; /* STEEPEST_OK; _NONFINITE or _NOT_CONVERGED: out was not written */
  int32_t method;         /* the method used, never AUTO */
  int32_t steps;          /* iterations or poles used */
  int32_t retries;        /* factorisations that failed and were repeated with a larger l */
  int64_t rank;           /* SVD: the numerical rank; 0 for a zero matrix; -1: not known */
  double norm;            /* what x was divided by */
  double lower_bound;     /* the l used; 0 for methods without */
  double orthogonality;   /* |O O^T - I|_F / sqrt(n) (O^T O for a tall O), before O is rounded to
                             its storage type */
} steepest_msign_stats;
#define STEEPEST_MSIGN_STATS_INIT \
  {sizeof(steepest_msign_stats), STEEPEST_OK, 0, 0, 0, -1, 0.0, 0.0, 0.0}
STEEPEST_API steepest_status steepest_msign_stats_init(void* stats, size_t struct_size);

/* The matrix sign (orthogonal polar factor) of a matrix: out = msign(x) = U V^T for x = U S V^T.
 *
 * context    NULL: the default context.
 * config     NULL: the defaults, which are AUTO.
 * rows, cols Any sizes >= 0, wide, tall or square; a tall matrix is not transposed in memory. If
 *            either is 0, nothing is done.
 * dtype      Of x and of out: F32, F64, BF16, F16. Arithmetic is config->compute_dtype.
 * x, ldx     Row-major, element (i, j) at x[i * ldx + j]; ldx >= cols, 0 stands for cols.
 * out, ldo   The same. May be x itself with the same stride; may not overlap it otherwise.
 * workspace  NULL: from the context. Else at least what steepest_msign_workspace_size says.
 * stats      NULL, or filled. Asking for it costs one more product, for `orthogonality`.
 *
 * AUTO is RATIONAL with three poles and l = 1e-3: at every shape, type and level it is the fastest
 * method here whose error is no larger than that of five POLAR_EXPRESS steps. (A vector, n = 1, is
 * divided by its norm.) How that was measured: docs/decisions/0005-msign.md.
 *
 * A zero matrix gives zero. Singular values below l times the norm used are mapped to less than the
 * band, in proportion; a rank-deficient matrix stays finite with every method.
 *
 * Results are the same bits for any number of threads, but with SVD, which calls OpenBLAS and
 * LAPACKE: one call at a time per process, with as many threads as the application has given
 * OpenBLAS.
 *
 * Errors: STEEPEST_E_INVALID_ARGUMENT, _SHAPE (also sizes beyond 2^31 - 1), _DTYPE, _OUT_OF_MEMORY,
 * _UNSUPPORTED; _NONFINITE: x has a NaN or infinity; _NOT_CONVERGED: a factorisation failed, or
 * NORM_BOUND was too small. Nothing is written to out in any of them. Since 0.1. */
STEEPEST_API steepest_status steepest_msign(steepest_context* context,
                                            const steepest_msign_config* config, int64_t rows,
                                            int64_t cols, steepest_dtype dtype, const void* x,
                                            int64_t ldx, void* out, int64_t ldo,
                                            const steepest_workspace* workspace,
                                            steepest_msign_stats* stats);

/* The same for `count` matrices of one shape: x[i] to out[i]. An out may overlap no other matrix of
 * the call. A matrix that is not finite, or fails, is left alone and noted in its stats[i].status;
 * the others are done, and the call returns the first such status. Since 0.1. */
STEEPEST_API steepest_status steepest_msign_batched(
    steepest_context* context, const steepest_msign_config* config, int64_t rows, int64_t cols,
    steepest_dtype dtype, const void* const* x, int64_t ldx, void* const* out, int64_t ldo,
    int64_t count, const steepest_workspace* workspace, steepest_msign_stats* stats);

/* The bytes of workspace that steepest_msign_batched needs (steepest_msign: count = 1). For each
 * matrix in flight (one, or of small ones one per thread), besides some panels, in elements of the
 * arithmetic's type:
 *
 *   RATIONAL with r <= 3 poles             nm + (1 + r) n^2, so the default nm + 4n^2
 *   RATIONAL with more, HALLEY             nm + 5n^2
 *   GRAM_NEWTON_SCHULZ                     nm + 4n^2; 2nm with restarts
 *   NEWTON_SCHULZ                          2nm + 2n^2
 *   ACCURATE                               2nm + 5n^2, in fp64
 *   SVD                                    5nm or more, as gesdd asks
 *
 * The methods with one nm take another where x is not of the arithmetic's type; a context of
 * STEEPEST_CONTEXT_OPENBLAS takes nm + 3n^2 more. Since 0.1. */
STEEPEST_API steepest_status steepest_msign_workspace_size(steepest_context* context,
                                                           const steepest_msign_config* config,
                                                           int64_t rows, int64_t cols,
                                                           steepest_dtype dtype, int64_t count,
                                                           size_t* bytes);

/* The values that the method, coefficients and steps of `config` take on singular values in
 * [lower_bound, 1], 0 < lower_bound <= 1: *low <= f(s) <= *high. Coefficient sets are also scanned
 * over (0, 1.001], as steepest_msign itself does before using one: a value that is negative or
 * above 1.6 there is STEEPEST_E_INVALID_ARGUMENT (so are fewer than four steps of POLAR_EXPRESS,
 * whose rows lead up to 1.99 first). SVD, ACCURATE: 1 and 1. Since 0.1. */
STEEPEST_API steepest_status steepest_msign_band(const steepest_msign_config* config,
                                                 double lower_bound, double* low, double* high);

/* The coefficients of Polar Express for singular values in [lower_bound, 1] and that many steps:
 * each step minimises the largest |1 - p(s)| over the interval that the steps before it have left
 * (Amsel et al., arXiv 2505.16932, algorithm 1 with the authors' cushion, and like their rows with
 * a safety factor of 1.01 on all but the last). rows[steps][3] is what custom_coefficients takes;
 * too few steps for a small lower_bound leave values above 1.6, which steepest_msign refuses.
 * steps <= 100, lower_bound in [1e-12, 1). Since 0.1. */
STEEPEST_API steepest_status steepest_msign_coefficients(double lower_bound, int64_t steps,
                                                         double* rows);

/* ------------------------------------------------------------------ Muon */

#define STEEPEST_MOMENTUM_EMA 0     /* m = mu m + (1 - mu) g: Keller Jordan, torch.optim.Muon */
#define STEEPEST_MOMENTUM_CLASSIC 1 /* m = mu m + g: Moonlight, Dion. The same direction; the buffer
                                       is 1 / (1 - mu) times as large. */

/* The scale s of the update s O, from fan_out (rows of W in y = W x) and fan_in (columns). */
#define STEEPEST_SCALE_MATCH_RMS 0        /* value sqrt(max(out, in)): RMS(s O) = value for an O of
                                             full rank. 0.2 is Adam's usual update RMS, so that an
                                             AdamW lr and weight decay carry over (Moonlight,
                                             arXiv 2502.16982; torch "match_rms_adamw"). */
#define STEEPEST_SCALE_EXACT_RMS 1        /* value / RMS(O): the same for any rank and any method;
                                             0 if O = 0 */
#define STEEPEST_SCALE_NONE 2             /* 1 */
#define STEEPEST_SCALE_SQRT_MAX1_OUT_IN 3 /* sqrt(max(1, out / in)): Keller Jordan; torch
                                             "original" */
#define STEEPEST_SCALE_SQRT_OUT_IN 4      /* sqrt(out / in): the spectral condition, muP */
#define STEEPEST_SCALE_SQRT_MAX 5         /* sqrt(max(out, in)) */

#define STEEPEST_MUON_NESTEROV (UINT64_C(1) << 0)       /* EMA: u = mu m + (1 - mu) g; CLASSIC: u =
                                                           mu m + g; m the new one. INIT has it. */
#define STEEPEST_MUON_CAUTIOUS_DECAY (UINT64_C(1) << 1) /* decay only where O * param >= 0
                                                           (arXiv 2510.12402) */
#define STEEPEST_MUON_SKIP_NONFINITE (UINT64_C(1) << 2) /* as STEEPEST_ADAMW_SKIP_NONFINITE */
#define STEEPEST_MUON_EMIT_DELTA (UINT64_C(1) << 3)     /* write new - old param to `delta`; `param`
                                                           is only read */
#define STEEPEST_MUON_MAXIMIZE (UINT64_C(1) << 4)       /* g = -grad_scale * grad */

typedef struct steepest_muon_config {
  size_t struct_size;
  uint64_t flags;      /* STEEPEST_MUON_* */
  double lr;           /* >= 0 */
  double momentum;     /* mu, in [0, 1) */
  double weight_decay; /* >= 0; decoupled, with lr itself: param -= lr * weight_decay * param */
  double scale_value;  /* `value` of the scale modes that have one; >= 0 */
  double grad_scale;   /* every gradient is multiplied by it first */
  int64_t step;        /* >= 1; only the statistics need it */
  uint64_t seed;       /* not used yet */
  int32_t momentum_kind; /* STEEPEST_MOMENTUM_* */
  int32_t scale_mode;    /* STEEPEST_SCALE_* */
  const steepest_msign_config* msign; /* NULL: the defaults */
  int32_t* skipped;      /* NULL, or set by a successful call to 1 if it was skipped, else 0 */
} steepest_muon_config;
#define STEEPEST_MUON_CONFIG_INIT                                                            \
  {sizeof(steepest_muon_config), STEEPEST_MUON_NESTEROV, 1e-3, 0.95, 1e-2, 0.2, 1.0, 1, 0,   \
   STEEPEST_MOMENTUM_EMA, STEEPEST_SCALE_MATCH_RMS, NULL, NULL}
STEEPEST_API steepest_status steepest_muon_config_init(void* config, size_t struct_size);

typedef struct steepest_muon_tensor {
  size_t struct_size;
  int64_t rows, cols;      /* of the matrix, row-major; if either is 0 nothing is done */
  int64_t param_ld;        /* elements from one row to the next; 0: cols */
  int64_t grad_ld;
  int64_t momentum_ld;
  int64_t delta_ld;
  int64_t fan_out, fan_in; /* 0: rows and cols; with blocks, those of the block. Set both for a
                              weight that is stored as in x W, or a convolution reshaped to a
                              matrix. */
  void* param;
  const void* grad;        /* never modified */
  void* momentum;          /* m; zeros before step 1 */
  void* delta;             /* used with EMIT_DELTA */
  steepest_dtype param_dtype;
  steepest_dtype grad_dtype;
  steepest_dtype momentum_dtype;
  steepest_dtype delta_dtype;  /* any mix of F32, BF16, F16; or all F64 */
  const int64_t* blocks;   /* NULL, or the sizes of block_count blocks, all > 0, whose sum is rows
                              (block_axis 0) or cols (1): msign and scale are per block, as fused
                              query-key-value, attention heads and gate-up weights need it */
  int64_t block_count;
  int32_t block_axis;      /* 0: blocks of rows; 1: of columns */
  int32_t reserved;
  const steepest_muon_config* config;  /* NULL: the call's */
} steepest_muon_tensor;
#define STEEPEST_MUON_TENSOR_INIT                                                              \
  {sizeof(steepest_muon_tensor), 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, STEEPEST_F32, \
   STEEPEST_F32, STEEPEST_F32, STEEPEST_F32, NULL, 0, 0, 0, NULL}
STEEPEST_API steepest_status steepest_muon_tensor_init(void* tensor, size_t struct_size);

/* One Muon step (Keller Jordan, https://kellerjordan.github.io/posts/muon) on a list of matrices:
 *
 *   g = grad_scale * grad
 *   m = mu m + (1 - mu) g                        EMA; CLASSIC: mu m + g
 *   u = mu m + (1 - mu) g, or m                  with NESTEROV, or without; CLASSIC: mu m + g
 *   O = msign(u)                                 per block, where there are blocks
 *   param = param - lr * (s O + weight_decay * param)
 *
 * For hidden weight matrices. Embeddings, the output head, norms and biases belong to AdamW; with
 * SCALE_MATCH_RMS (the default) both take the same lr and weight decay. `scale_value` is what the
 * update RMS shall be, and steepest_adam_update_rms says what Adam's is: 0.2294 at beta1 = 0.9
 * under pure noise, 0.2 to 0.4 in training. So an AdamW run with lr 3e-4, weight decay 0.1 and
 * beta1 0.9 becomes
 *   steepest_muon_config config = STEEPEST_MUON_CONFIG_INIT;
 *   config.lr = 3e-4;  config.weight_decay = 0.1;
 *   steepest_adam_update_rms(0.9, 0.0, 0, &config.scale_value);
 * An iterated O misses full rank by its band: RMS(s O) is value times 0.94..1.06 with the default
 * msign, exactly `value` with EXACT_RMS. RMS matching moves lr with sqrt(width), SQRT_OUT_IN with
 * width itself: they are different transfer rules.
 * With 0 <= lr weight_decay <= 1 the spectral norm stays bounded: |W_t|_2 <= max(|W_0|_2, s |O|_2 /
 * weight_decay). Weights pre-trained with AdamW may gain less from Muon in fine-tuning (and the
 * reverse) than a matched pair.
 *
 * context, config, tensors, count: as steepest_adamw_step. Two tensors may be columns of one array,
 *            interleaved, with the same stride.
 * workspace  NULL: from the context. Else at least what steepest_muon_workspace_size says.
 * stats      NULL, or [count]: update_rms is RMS(s O), momentum_rms that of m divided by
 *            1 - mu^step (CLASSIC: also times 1 - mu), snr_update is NaN, snr_momentum as for Adam
 *            with beta1 = mu.
 *
 * Storage types: any mix of F32, BF16, F16 for param, grad, momentum and delta, computed in fp32;
 * F64 goes with F64 alone and is computed in fp64 (msign in its compute_dtype). u is formed from m
 * before that is rounded to its storage type.
 *
 * A tensor whose u has a NaN or infinity is left untouched, momentum included: its stats' status is
 * STEEPEST_E_NONFINITE, the others are done, and the call returns STEEPEST_E_NONFINITE. The same
 * with STEEPEST_E_NOT_CONVERGED should msign fail. Values of m or g beyond the range of fp32
 * squared are handled (see STEEPEST_NORM_*).
 *
 * Errors: as steepest_adamw_step and steepest_msign. Since 0.1. */
STEEPEST_API steepest_status steepest_muon_step(steepest_context* context,
                                                const steepest_muon_config* config,
                                                const steepest_muon_tensor* tensors, int64_t count,
                                                const steepest_workspace* workspace,
                                                steepest_step_stats* stats);

/* The bytes of workspace that steepest_muon_step needs for these tensors. Since 0.1. */
STEEPEST_API steepest_status steepest_muon_workspace_size(steepest_context* context,
                                                          const steepest_muon_config* config,
                                                          const steepest_muon_tensor* tensors,
                                                          int64_t count, size_t* bytes);

/* The s of a scale mode, for sizes > 0. EXACT_RMS depends on O: STEEPEST_E_INVALID_ARGUMENT. Since
 * 0.1. */
STEEPEST_API steepest_status steepest_scale_factor(int32_t mode, double value, int64_t fan_out,
                                                   int64_t fan_in, double* out);

/* ------------------------------------------------------------------ diagnostics */

/* The update RMS of Adam that mean-field theory predicts (Su Jianlin,
 * https://kexue.fm/archives/11267): sqrt((snr + a) / (snr + 1)), with
 *   a = (1-beta1)(1+beta1^t) / ((1+beta1)(1-beta1^t))   at step t
 * or t -> infinity for step = 0. beta1 in [0, 1), snr >= 0. 0.2294 at beta1 = 0.9, snr = 0. beta2
 * drops out to first order. Since 0.1. */
STEEPEST_API steepest_status steepest_adam_update_rms(double beta1, double snr, int64_t step,
                                                      double* rms);

/* The same to second order in 1 - beta2, for coordinates whose gradients at different steps are
 * independent, with mean^2 = snr deviation^2, no skewness, and `kurtosis` (E d^4 / (E d^2)^2 of the
 * deviation d from the mean: 3 for a normal distribution, larger for heavy tails; >= 1). With
 * r = snr and the weights a_i = (1-beta1) beta1^i / (1-beta1^t), b_i likewise from beta2, i < t:
 *   rms^2 = (r + A)/(r + 1) (1 + B (4r + kurtosis - 1)/(r + 1)^2)
 *           - (4r C + (kurtosis - 1) C')/(r + 1)^2
 *   A = sum a_i^2, B = sum b_i^2, C = sum a_i b_i, C' = sum a_i^2 b_i
 * At r = 0 in the steady state A (1 + (kurtosis - 1) ((1-beta2)/(1+beta2) - (1-beta1^2)(1-beta2) /
 * (1-beta1^2 beta2))). docs/theory.md derives it and compares: for normal gradients with
 * beta2 >= 0.9 within 0.5 % of the exact value. Heavy tails lower it: 0.2258 at (.9, .95), kurtosis
 * 3; 0.2203 at 6. A kurtosis for which the expansion is not positive is
 * STEEPEST_E_INVALID_ARGUMENT. Since 0.1. */
STEEPEST_API steepest_status steepest_adam_update_rms_second_order(double beta1, double beta2,
                                                                   double snr, double kurtosis,
                                                                   int64_t step, double* rms);

/* Its inverses. From the update RMS: (rms^2 - a) / (1 - rms^2), rms in [0, 1). From the RMS of the
 * gradient and of its bias-corrected exponential average: (q - a) / (1 - q), q = (momentum_rms /
 * grad_rms)^2 < 1, for Muon as well as Adam; a CLASSIC buffer m = mu m + g is first multiplied by
 * 1 - mu. Both may come out slightly negative near zero; at step 1, where they are not defined,
 * NaN. The first weighs all coordinates alike and is off by beta2's part in the RMS: at beta1 .9,
 * beta2 .95 and snr .01 .09 .25 1 4 it says .0076 .0815 .2304 .939 3.815. The second has no bias in
 * expectation, and weighs coordinates by the size of their gradients. Since 0.1. */
STEEPEST_API steepest_status steepest_snr_from_update_rms(double update_rms, double beta1,
                                                          int64_t step, double* snr);
STEEPEST_API steepest_status steepest_snr_from_momentum(double momentum_rms, double grad_rms,
                                                        double beta, int64_t step, double* snr);

/* *rms = sqrt(mean x^2) over all elements of `count` vectors together, 0 if there are none; as
 * steepest_grad_norm otherwise. Since 0.1. */
STEEPEST_API steepest_status steepest_rms(steepest_context* context,
                                          const steepest_vector* vectors, int64_t count,
                                          double* rms, int64_t* nonfinite);

/* All min(rows, cols) singular values of x, falling, computed in fp64 by LAPACK's gesdd. x is as in
 * steepest_msign and is not modified. Errors: as steepest_msign. Since 0.1. */
STEEPEST_API steepest_status steepest_singular_values(steepest_context* context, int64_t rows,
                                                      int64_t cols, steepest_dtype dtype,
                                                      const void* x, int64_t ldx, double* values);

/* The spectral norm |x|_2, the largest of the singular values as above; 0 for a matrix without
 * elements. Since 0.1. */
STEEPEST_API steepest_status steepest_spectral_norm(steepest_context* context, int64_t rows,
                                                    int64_t cols, steepest_dtype dtype,
                                                    const void* x, int64_t ldx, double* norm);

/* Bounds of it without a decomposition, four to five times as fast:
 *   *lower <= |x|_2 <= *upper <= (1 + tolerance) *lower,   tolerance from 1e-6 to 1, or 0 for 0.01
 * Both bounds are proven, rounding included. With R = x x^T (or x^T x, the smaller) in fp64, the
 * lower one is the root of a Rayleigh quotient of R that Lanczos' method finds; the upper one is a
 * u for which a Cholesky factorisation of u^2 I - R succeeds, so that this matrix is positive
 * definite (Rump, BIT 46, 2006). Should that not succeed (a dense spectrum and a small tolerance)
 * they are LAPACK's value and its error. *lower is the estimate to use. It works in about
 * 2 rows cols + 4 min(rows, cols)^2 doubles. x as above; a matrix without elements, or zero, gives
 * 0.
 * Errors: as above, and STEEPEST_E_INVALID_ARGUMENT for the tolerance. Since 0.1. */
STEEPEST_API steepest_status steepest_spectral_norm_bounds(steepest_context* context, int64_t rows,
                                                           int64_t cols, steepest_dtype dtype,
                                                           const void* x, int64_t ldx,
                                                           double tolerance, double* lower,
                                                           double* upper);

/* The singular entropy -(1 / log n) sum p_i log p_i, p_i = s_i^2 / sum s^2, of n singular values:
 * 1 if all are equal, 0 if only one is not zero (and for n <= 1, or all zero). Weights trained with
 * Muon have a higher one than AdamW's. Values must be finite and not negative. Since 0.1. */
STEEPEST_API steepest_status steepest_singular_entropy(const double* values, int64_t count,
                                                       double* entropy);

/* ------------------------------------------------------------------ learning-rate schedules */

/* The rate eta_t of step t = 1 .. T, with T = total_steps, W = warmup_steps and lr the peak:
 *
 *   t < W                     lr t / W                               linear warm-up, for every kind
 *   CONSTANT                  lr
 *   LINEAR                    lr f(1 - (t - W) / (T - W + 1))
 *   COSINE                    lr f((1 + cos(pi (t - W) / (T - W + 1))) / 2)
 *   INVERSE_SQRT              lr sqrt(max(W, 1) / t)
 *   INVERSE                   lr max(W, 1) / t
 *   WARMUP_STABLE_DECAY       lr, and from there over the last D = decay_steps the decay_shape,
 *                             with x = (t - (T - D)) / (D + 1): lr f(1 - x), lr f((1 + cos(pi x))
 *                             / 2), or lr f(1 - sqrt(x)) (arXiv 2405.18392)
 *
 * where f(y) = y + final_ratio (1 - y). The decay reaches its end one step after the last, so that
 * no rate is zero unless lr is: LINEAR without warm-up is lr (1 - t / (T + 1)). */
#define STEEPEST_SCHEDULE_CONSTANT 0
#define STEEPEST_SCHEDULE_LINEAR 1
#define STEEPEST_SCHEDULE_COSINE 2
#define STEEPEST_SCHEDULE_INVERSE_SQRT 3
#define STEEPEST_SCHEDULE_INVERSE 4
#define STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY 5

#define STEEPEST_DECAY_LINEAR 0
#define STEEPEST_DECAY_COSINE 1
#define STEEPEST_DECAY_ONE_MINUS_SQRT 2

typedef struct steepest_schedule {
  size_t struct_size;
  int32_t kind;          /* STEEPEST_SCHEDULE_* */
  int32_t decay_shape;   /* STEEPEST_DECAY_*, used by WARMUP_STABLE_DECAY */
  double lr;             /* the peak; >= 0 */
  double final_ratio;    /* of lr, where the decay ends; in [0, 1], 0 for kinds without an end */
  int64_t warmup_steps;  /* 0 .. total_steps */
  int64_t decay_steps;   /* of WARMUP_STABLE_DECAY, 0 .. total_steps - warmup_steps; 0: a fifth of
                            total_steps, or what warm-up has left. Must be 0 for other kinds. */
} steepest_schedule;
#define STEEPEST_SCHEDULE_INIT \
  {sizeof(steepest_schedule), STEEPEST_SCHEDULE_LINEAR, STEEPEST_DECAY_LINEAR, 1e-3, 0.0, 0, 0}
STEEPEST_API steepest_status steepest_schedule_init(void* schedule, size_t struct_size);

/* All rates, lr[t - 1] being that of step t; or the rate of one step, 1 <= step <= total_steps, the
 * same bits. total_steps >= 1. They use no context, and run on the calling thread. Errors:
 * STEEPEST_E_INVALID_ARGUMENT, _SHAPE (total_steps), _UNSUPPORTED (a longer struct). Since 0.1. */
STEEPEST_API steepest_status steepest_schedule_fill(const steepest_schedule* schedule,
                                                    int64_t total_steps, double* lr);
STEEPEST_API steepest_status steepest_schedule_at(const steepest_schedule* schedule,
                                                  int64_t total_steps, int64_t step, double* lr);

/* What a schedule guarantees for SGD on a convex loss L (Su Jianlin, https://kexue.fm/archives/
 * 11494; arXiv 2310.07831): theta_{t+1} = theta_t - lr[t - 1] g_t with stochastic gradients of
 * E |g_t|^2 <= G_t^2 and |theta_1 - theta*| <= D has, with S_t = lr[t - 1] + ... + lr[T - 1],
 *
 *   E L(theta_T) - L(theta*) <= D^2 / (2 S_1) + 1/2 sum_t G_t^2 lr[t - 1]^2 / S_min(t + 1, T)
 *
 * lr, total_steps   the schedule, of any origin: T points, so T - 1 updates. lr[i] finite and not
 *                   negative; the last one must be positive, or the bound does not exist: for N
 *                   updates give N + 1 points.
 * distance          D >= 0
 * grad_norm         G >= 0, the same for all steps; ignored if grad_norms is given
 * grad_norms        NULL, or G_t of each step
 *
 * O(T), right to a few ulps for any T (sums are compensated). At D = G = 1 and T = 100: .2036 for
 * the best LINEAR, .2001 for the best of all schedules. Errors: STEEPEST_E_INVALID_ARGUMENT,
 * _SHAPE (total_steps < 1). Since 0.1. */
STEEPEST_API steepest_status steepest_schedule_bound(const double* lr, int64_t total_steps,
                                                     double distance, double grad_norm,
                                                     const double* grad_norms, double* bound);

/* The schedule with the least bound for given D and G_t, all > 0, and that bound (NULL: not
 * wanted). It is exact and takes O(T): in the tail sums S_t the bound is convex, and minimising it
 * from the last step backwards gives (docs/theory.md)
 *
 *   c_T = G_T^2 / 2,  c_t = G_t^2 (sqrt(1 + 2 c_{t+1} / G_t^2) - 1)
 *   S_1 = D / sqrt(2 c_1),  S_{t+1} = S_t / sqrt(1 + 2 c_{t+1} / G_t^2),  lr[t - 1] = S_t - S_{t+1}
 *   bound = D sqrt(2 c_1)
 *
 * .57801 at T = 10, .20011 at 100, .06332 at 1000 for D = G = 1; 2 D G / sqrt(T) for large T. The
 * last rate moves nothing, and is about 2.4 times the one before. lr must not overlap grad_norms.
 * Errors: as steepest_schedule_bound; STEEPEST_E_INVALID_ARGUMENT also where rates would leave the
 * range of a double. Since 0.1. */
STEEPEST_API steepest_status steepest_schedule_optimal(int64_t total_steps, double distance,
                                                       double grad_norm, const double* grad_norms,
                                                       double* lr, double* bound);

/* A schedule for the next run from the gradient norms of one that was made (Defazio et al., arXiv
 * 2310.07831): lr[t - 1] proportional to w_t sum_{p > t} w_p, with w_t = G_t^-2 (SGD) or 1 / G_t
 * (ADAM), after a running median has smoothed the norms.
 *
 * grad_norms   G_t > 0 of each step: Euclidean norms for SGD, sums of absolute values (l1) for ADAM
 * smoothing    in [0, 1], 0.1 in the paper: the median is over 2 floor(smoothing T / 2) + 1 steps;
 *              before the first the first stands, after the last they are mirrored, as in the
 *              authors' code. 0: no smoothing
 * distance     0: the largest rate is 1, to be multiplied by the peak. D > 0, for SGD only: the
 *              absolute scale D / (sum w)^(3/2); for constant norms that is lr (1 - t / T) with
 *              lr = D / (G sqrt(T))
 * lr           [total_steps]; must not overlap grad_norms. The last is 0: no step follows the point
 *              where the last gradient is taken, and warm-up and decay come out of the norms.
 *
 * O(T log T). Errors: STEEPEST_E_INVALID_ARGUMENT, _SHAPE (total_steps < 1), _OUT_OF_MEMORY. Since
 * 0.1. */
#define STEEPEST_REFINE_SGD 0
#define STEEPEST_REFINE_ADAM 1
STEEPEST_API steepest_status steepest_schedule_refine(const double* grad_norms,
                                                      int64_t total_steps, int32_t kind,
                                                      double smoothing, double distance,
                                                      double* lr);

#ifdef __cplusplus
}
#endif
#endif
