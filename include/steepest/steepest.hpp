// SPDX-License-Identifier: Apache-2.0
//
// Steepest for C++20: contexts that clean up after themselves, spans and matrix views with their
// element types, errors as exceptions or as values. Header-only, over steepest.h, which has the
// formulas, units, accuracy and rules of every function; this file has no binary interface of its
// own. Structs are those of C with their INIT values, so fields keep their names:
//
//   steepest::context context;
//   steepest::adamw_config config;
//   config.lr = 3e-4;
//   std::vector<float> w(n), g(n), m(n), v(n);
//   steepest::adamw_step(context, config, steepest::adamw_tensor(w, g, m, v));
//
// Every function that can fail has two forms. steepest::f throws steepest::error, which has the
// status and the library's text. steepest::nothrow::f returns steepest::result<T>: either a value
// or an error. It is the form to use without exceptions (-fno-exceptions), where asking a failed
// result for its value aborts. Sizes that do not fit each other are STEEPEST_E_SHAPE, as from the
// library.
#pragma once

#include <steepest/steepest.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace steepest {

// ---- errors

class error : public std::runtime_error {
 public:
  error(steepest_status status, const std::string& text)
      : std::runtime_error(text), status_(status) {}
  // Why this thread's last failing call failed.
  static error last(steepest_status status) { return {status, steepest_last_error()}; }

  steepest_status status() const noexcept { return status_; }

 private:
  steepest_status status_;
};

// A value or an error.
template <class T>
class [[nodiscard]] result {
 public:
  result(T value) : value_(std::move(value)) {}
  result(steepest::error error) : error_(std::move(error)) {}

  bool has_value() const noexcept { return value_.has_value(); }
  explicit operator bool() const noexcept { return has_value(); }
  // Of a result without a value.
  const steepest::error& error() const { return *error_; }
  steepest_status status() const noexcept { return error_ ? error_->status() : STEEPEST_OK; }

  // Throws the error, if it is one.
  T& value() & { return check(), *value_; }
  const T& value() const& { return check(), *value_; }
  T&& value() && { return check(), std::move(*value_); }

 private:
  void check() const {
    if (has_value()) return;
#if defined(__cpp_exceptions)
    throw *error_;
#else
    std::abort();
#endif
  }
  std::optional<T> value_;
  std::optional<steepest::error> error_;
};

// The value of what succeeds without one.
struct done {};

// ---- element types

struct bf16 {
  std::uint16_t bits;
};
struct f16 {
  std::uint16_t bits;
};

template <class T>
inline constexpr steepest_dtype dtype_of = 0;
template <>
inline constexpr steepest_dtype dtype_of<float> = STEEPEST_F32;
template <>
inline constexpr steepest_dtype dtype_of<double> = STEEPEST_F64;
template <>
inline constexpr steepest_dtype dtype_of<bf16> = STEEPEST_BF16;
template <>
inline constexpr steepest_dtype dtype_of<f16> = STEEPEST_F16;

// Types of one's own that hold bf16 or f16 join by a specialisation of dtype_of.
template <class T>
concept element = dtype_of<std::remove_cv_t<T>> != 0;

namespace detail {

template <class R>
using element_of = std::remove_reference_t<std::ranges::range_reference_t<R>>;

inline error shape_error(const std::string& text) { return {STEEPEST_E_SHAPE, text}; }

[[noreturn]] inline void fail(const error& error) {
#if defined(__cpp_exceptions)
  throw error;
#else
  (void)error;
  std::abort();
#endif
}

// What a call returned, as a result.
template <class T>
result<T> finish(steepest_status status, T value) {
  if (status == STEEPEST_OK) [[likely]]
    return value;
  return error::last(status);
}

}  // namespace detail

// Vectors, arrays, spans and the like: elements side by side.
template <class R>
concept elements =
    std::ranges::contiguous_range<R> && std::ranges::sized_range<R> &&
    element<detail::element_of<R>>;
template <class R>
concept writable_elements = elements<R> && !std::is_const_v<detail::element_of<R>>;

// A row-major matrix: element (i, j) is data[i * ld + j]. It owns nothing. Over a sized range the
// extent is checked, and a matrix that does not fit throws.
template <element T>
class matrix_view {
 public:
  matrix_view(T* data, std::int64_t rows, std::int64_t cols, std::int64_t ld)
      : data_(data), rows_(rows), cols_(cols), ld_(ld) {}
  matrix_view(std::span<T> data, std::int64_t rows, std::int64_t cols, std::int64_t ld)
      : matrix_view(data.data(), rows, cols, ld) {
    const auto size = static_cast<std::int64_t>(data.size());
    const bool sizes_fit = rows >= 0 && cols >= 0 && ld >= cols && cols <= size;
    if (rows == 0 || (sizes_fit && (ld == 0 || rows - 1 <= (size - cols) / ld))) return;
    detail::fail(detail::shape_error(
        "matrix_view: " + std::to_string(rows) + " x " + std::to_string(cols) + " with ld = " +
        std::to_string(ld) + " does not fit into " + std::to_string(size) + " elements"));
  }
  matrix_view(std::span<T> data, std::int64_t rows, std::int64_t cols)
      : matrix_view(data, rows, cols, cols) {}
  // To read what may be written.
  operator matrix_view<const T>() const
    requires(!std::is_const_v<T>)
  {
    return {data_, rows_, cols_, ld_};
  }

  T* data() const { return data_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  std::int64_t ld() const { return ld_; }
  T& operator()(std::int64_t i, std::int64_t j) const { return data_[i * ld_ + j]; }

 private:
  T* data_;
  std::int64_t rows_, cols_, ld_;
};

// ---- structs of C with their INIT values

struct executor : steepest_executor {
  executor() : steepest_executor(STEEPEST_EXECUTOR_INIT) {}
};
struct allocator : steepest_allocator {
  allocator() : steepest_allocator(STEEPEST_ALLOCATOR_INIT) {}
};
struct context_options : steepest_context_options {
  context_options() : steepest_context_options(STEEPEST_CONTEXT_OPTIONS_INIT) {}
};
// Scratch memory of one's own for a call, which must outlive it. The *_workspace_size functions say
// how much a call needs.
struct workspace : steepest_workspace {
  workspace() : steepest_workspace(STEEPEST_WORKSPACE_INIT) {}
  explicit workspace(std::span<std::byte> memory) : workspace() {
    data = memory.data();
    bytes = memory.size();
  }
};
struct adamw_config : steepest_adamw_config {
  adamw_config() : steepest_adamw_config(STEEPEST_ADAMW_CONFIG_INIT) {}
};
struct msign_config : steepest_msign_config {
  msign_config() : steepest_msign_config(STEEPEST_MSIGN_CONFIG_INIT) {}
  // Rows (a, b, c) of one's own for the Newton-Schulz methods; they must outlive this config.
  void set_custom_coefficients(std::span<const std::array<double, 3>> rows) {
    coefficients = STEEPEST_COEF_CUSTOM;
    custom_coefficients = rows.empty() ? nullptr : rows.front().data();
    custom_count = static_cast<std::int64_t>(rows.size());
  }
};
struct muon_config : steepest_muon_config {
  muon_config() : steepest_muon_config(STEEPEST_MUON_CONFIG_INIT) {}
};
struct step_stats : steepest_step_stats {
  step_stats() : steepest_step_stats(STEEPEST_STEP_STATS_INIT) {}
};
struct msign_stats : steepest_msign_stats {
  msign_stats() : steepest_msign_stats(STEEPEST_MSIGN_STATS_INIT) {}
};
struct schedule : steepest_schedule {
  schedule() : steepest_schedule(STEEPEST_SCHEDULE_INIT) {}
  explicit schedule(std::int32_t kind_of_it) : schedule() { kind = kind_of_it; }
};

// ---- the library that is loaded

inline std::uint32_t version() { return steepest_version(); }
inline std::uint32_t abi_version() { return steepest_abi_version(); }
inline const char* build_info() { return steepest_build_info(); }
inline const char* status_name(steepest_status status) { return steepest_status_name(status); }
inline const char* isa_name(steepest_isa isa) { return steepest_isa_name(isa); }

// ---- context

// Owns a steepest_context. context::process_wide() stands for the library's default one.
class context {
 public:
  context() : context(context_options()) {}
  explicit context(const steepest_context_options& options) : context(create(options).value()) {}
  static result<context> create(const steepest_context_options& options) {
    steepest_context* handle = nullptr;
    const steepest_status status = steepest_context_create(&options, &handle);
    if (status != STEEPEST_OK) return error::last(status);
    return context(handle);
  }
  static const context& process_wide() {
    static const context instance(nullptr);
    return instance;
  }

  steepest_context* get() const noexcept { return handle_.get(); }
  steepest_isa isa() const { return steepest_context_isa(get()); }
  std::int32_t threads() const { return steepest_context_threads(get()); }
  void trim() const { detail::finish(steepest_context_trim(get()), done()).value(); }

 private:
  explicit context(steepest_context* handle) : handle_(handle) {}
  struct destroy {
    void operator()(steepest_context* handle) const { steepest_context_destroy(handle); }
  };
  std::unique_ptr<steepest_context, destroy> handle_;
};

// ---- narrow storage (see steepest.h)

// Optimizer state in 8 bits: one code per element and one scale per block of 256 (DYNAMIC, floats)
// or 32 (COMPANDED, 16-bit words). All zeros before step 1.
class q8_state {
 public:
  q8_state(std::span<std::uint8_t> codes, std::span<float> scales)
      : q8_state(STEEPEST_Q8_DYNAMIC, codes, scales.data(), scales.size()) {}
  q8_state(std::span<std::uint8_t> codes, std::span<std::uint16_t> scales)
      : q8_state(STEEPEST_Q8_COMPANDED, codes, scales.data(), scales.size()) {}

  // How many scales `count` elements need.
  static std::int64_t scales(steepest_dtype dtype, std::int64_t count) {
    std::int64_t number = 0;
    const steepest_status status = steepest_q8_scales(dtype, count, &number, nullptr);
    return detail::finish(status, number).value();
  }

  steepest_dtype dtype() const { return dtype_; }
  std::int64_t count() const { return count_; }
  std::uint8_t* codes() const { return codes_; }
  void* scales() const { return scales_; }

 private:
  q8_state(steepest_dtype dtype, std::span<std::uint8_t> codes, void* scales, std::size_t size)
      : dtype_(dtype), codes_(codes.data()), scales_(scales),
        count_(static_cast<std::int64_t>(codes.size())) {
    const std::int64_t needed = q8_state::scales(dtype, count_);
    if (static_cast<std::int64_t>(size) != needed)
      detail::fail(detail::shape_error("q8_state: " + std::to_string(size) + " scales for " +
                                       std::to_string(count_) + " codes, which need " +
                                       std::to_string(needed)));
  }
  steepest_dtype dtype_;
  std::uint8_t* codes_;
  void* scales_;
  std::int64_t count_;
};

namespace nothrow {

// values to codes and scales, and back; each rounded to nearest. is_signed: of a first moment.
inline result<done> q8_encode(const context& context, bool is_signed,
                              std::span<const float> values, const q8_state& state) {
  if (static_cast<std::int64_t>(values.size()) != state.count())
    return detail::shape_error("q8_encode: " + std::to_string(values.size()) + " values for " +
                               std::to_string(state.count()) + " codes");
  const steepest_status status =
      steepest_q8_encode(context.get(), state.dtype(), is_signed ? 1 : 0, state.count(),
                         values.data(), state.codes(), state.scales());
  return detail::finish(status, done());
}
inline result<done> q8_decode(const context& context, bool is_signed, const q8_state& state,
                              std::span<float> values) {
  if (static_cast<std::int64_t>(values.size()) != state.count())
    return detail::shape_error("q8_decode: " + std::to_string(values.size()) + " values for " +
                               std::to_string(state.count()) + " codes");
  const steepest_status status =
      steepest_q8_decode(context.get(), state.dtype(), is_signed ? 1 : 0, state.count(),
                         state.codes(), state.scales(), values.data());
  return detail::finish(status, done());
}

}  // namespace nothrow

inline void q8_encode(const context& context, bool is_signed, std::span<const float> values,
                      const q8_state& state) {
  nothrow::q8_encode(context, is_signed, values, state).value();
}
inline void q8_decode(const context& context, bool is_signed, const q8_state& state,
                      std::span<float> values) {
  nothrow::q8_decode(context, is_signed, state, values).value();
}

namespace detail {

// The bytes of a residual's element; 0 if it is no residual_kind.
constexpr std::size_t residual_size(std::int32_t kind) {
  return kind == STEEPEST_RESIDUAL_NEAREST8                                       ? 1
         : kind >= STEEPEST_RESIDUAL_LOW16 && kind <= STEEPEST_RESIDUAL_KAHAN ? 2
                                                                              : 0;
}

// `residual` has elements of the kind's size, and `needed` of them at least.
template <class R>
void check_residual(const char* who, std::int32_t kind, const R& residual, std::int64_t needed) {
  if (sizeof(*std::ranges::data(residual)) != residual_size(kind) ||
      static_cast<std::int64_t>(std::ranges::size(residual)) < needed)
    fail(shape_error(std::string(who) + ": residual has " +
                     std::to_string(std::ranges::size(residual)) + " elements of " +
                     std::to_string(sizeof(*std::ranges::data(residual))) + " bytes, needed are " +
                     std::to_string(needed) + " of " + std::to_string(residual_size(kind))));
}

}  // namespace detail

// ---- AdamW

// The buffers of one tensor, of one size: param and the moments are written, grad is read.
struct adamw_tensor : steepest_adamw_tensor {
  adamw_tensor() : steepest_adamw_tensor(STEEPEST_ADAMW_TENSOR_INIT) {}
  template <writable_elements P, elements G, writable_elements M, writable_elements V>
  adamw_tensor(P&& p, G&& g, M&& m, V&& v) : adamw_tensor() {
    const std::size_t size = std::ranges::size(p);
    if (std::ranges::size(g) != size || std::ranges::size(m) != size ||
        std::ranges::size(v) != size)
      detail::fail(detail::shape_error("adamw_tensor: the buffers differ in size"));
    count = static_cast<std::int64_t>(size);
    param = std::ranges::data(p);
    grad = std::ranges::data(g);
    exp_avg = std::ranges::data(m);
    exp_avg_sq = std::ranges::data(v);
    param_dtype = dtype_of<detail::element_of<P>>;
    grad_dtype = dtype_of<std::remove_cv_t<detail::element_of<G>>>;
    exp_avg_dtype = dtype_of<detail::element_of<M>>;
    exp_avg_sq_dtype = dtype_of<detail::element_of<V>>;
  }

  // Narrow storage, one after the other: adamw_tensor(p, g).exp_avg_in(m).exp_avg_sq_in(v) ...
  template <writable_elements P, elements G>
  adamw_tensor(P&& p, G&& g) : adamw_tensor() {
    count = static_cast<std::int64_t>(std::ranges::size(p));
    check_size("grad", std::ranges::size(g));
    param = std::ranges::data(p);
    grad = std::ranges::data(g);
    param_dtype = dtype_of<detail::element_of<P>>;
    grad_dtype = dtype_of<std::remove_cv_t<detail::element_of<G>>>;
  }
  template <writable_elements M>
  adamw_tensor& exp_avg_in(M&& m) {
    check_size("exp_avg", std::ranges::size(m));
    exp_avg = std::ranges::data(m);
    exp_avg_dtype = dtype_of<detail::element_of<M>>;
    return *this;
  }
  adamw_tensor& exp_avg_in(const q8_state& m) {
    check_size("exp_avg", static_cast<std::size_t>(m.count()));
    exp_avg = m.codes();
    exp_avg_scales = m.scales();
    exp_avg_dtype = m.dtype();
    return *this;
  }
  template <writable_elements V>
  adamw_tensor& exp_avg_sq_in(V&& v) {
    check_size("exp_avg_sq", std::ranges::size(v));
    exp_avg_sq = std::ranges::data(v);
    exp_avg_sq_dtype = dtype_of<detail::element_of<V>>;
    return *this;
  }
  adamw_tensor& exp_avg_sq_in(const q8_state& v) {
    check_size("exp_avg_sq", static_cast<std::size_t>(v.count()));
    exp_avg_sq = v.codes();
    exp_avg_sq_scales = v.scales();
    exp_avg_sq_dtype = v.dtype();
    return *this;
  }
  // STEEPEST_RESIDUAL_*, and its array, of 1 or 2 bytes an element.
  template <std::ranges::contiguous_range R>
  adamw_tensor& with_residual(std::int32_t kind, R&& r) {
    detail::check_residual("adamw_tensor", kind, r, count);
    check_size("residual", std::ranges::size(r));
    residual_kind = kind;
    residual = std::ranges::data(r);
    return *this;
  }
  template <writable_elements C>
  adamw_tensor& with_param_copy(C&& c) {
    check_size("param_copy", std::ranges::size(c));
    param_copy = std::ranges::data(c);
    param_copy_dtype = dtype_of<detail::element_of<C>>;
    return *this;
  }
  // Of STOCHASTIC_ROUNDING.
  adamw_tensor& with_random_stream(std::uint64_t stream, std::int64_t first = 0) {
    random_stream = stream;
    first_index = first;
    return *this;
  }

 private:
  void check_size(const char* name, std::size_t size) const {
    if (static_cast<std::int64_t>(size) != count)
      detail::fail(detail::shape_error(std::string("adamw_tensor: ") + name + " has " +
                                       std::to_string(size) + " elements, param has " +
                                       std::to_string(count)));
  }
};
static_assert(sizeof(adamw_tensor) == sizeof(steepest_adamw_tensor));

// Whether a step was made, or skipped since a gradient was not finite.
enum class outcome { stepped, skipped };

namespace nothrow {

// stats: none, or one per tensor.
inline result<outcome> adamw_step(const context& context, const steepest_adamw_config& config,
                                  std::span<const adamw_tensor> tensors,
                                  std::span<step_stats> stats = {}) {
  if (!stats.empty() && stats.size() != tensors.size())
    return detail::shape_error("adamw_step: stats has " + std::to_string(stats.size()) +
                               " elements for " + std::to_string(tensors.size()) + " tensors");
  std::int32_t skipped = 0;
  steepest_adamw_config own = config;
  own.skipped = &skipped;
  const steepest_status status =
      steepest_adamw_step(context.get(), &own, tensors.data(),
                          static_cast<std::int64_t>(tensors.size()), stats.data());
  if (status == STEEPEST_OK && config.skipped != nullptr) *config.skipped = skipped;
  return detail::finish(status, skipped != 0 ? outcome::skipped : outcome::stepped);
}

}  // namespace nothrow

inline outcome adamw_step(const context& context, const steepest_adamw_config& config,
                          std::span<const adamw_tensor> tensors, std::span<step_stats> stats = {}) {
  return nothrow::adamw_step(context, config, tensors, stats).value();
}
inline outcome adamw_step(const context& context, const steepest_adamw_config& config,
                          const adamw_tensor& tensor) {
  return adamw_step(context, config, std::span(&tensor, 1));
}

// ---- Muon

// The matrices of one tensor, of one shape: param and momentum are written, grad is read.
struct muon_tensor : steepest_muon_tensor {
  muon_tensor() : steepest_muon_tensor(STEEPEST_MUON_TENSOR_INIT) {}
  template <element P, element G, element M>
    requires(!std::is_const_v<P> && !std::is_const_v<M>)
  muon_tensor(matrix_view<P> p, matrix_view<G> g, matrix_view<M> m) : muon_tensor() {
    if (g.rows() != p.rows() || g.cols() != p.cols() || m.rows() != p.rows() ||
        m.cols() != p.cols())
      detail::fail(detail::shape_error("muon_tensor: the matrices differ in shape"));
    rows = p.rows();
    cols = p.cols();
    param_ld = p.ld();
    grad_ld = g.ld();
    momentum_ld = m.ld();
    param = p.data();
    grad = g.data();
    momentum = m.data();
    param_dtype = dtype_of<P>;
    grad_dtype = dtype_of<std::remove_cv_t<G>>;
    momentum_dtype = dtype_of<M>;
  }
  // With momentum in 8 bits, whose codes are the matrix row by row without gaps.
  template <element P, element G>
    requires(!std::is_const_v<P>)
  muon_tensor(matrix_view<P> p, matrix_view<G> g, const q8_state& m) : muon_tensor() {
    if (g.rows() != p.rows() || g.cols() != p.cols() || m.count() != p.rows() * p.cols())
      detail::fail(detail::shape_error("muon_tensor: the matrices differ in shape"));
    rows = p.rows();
    cols = p.cols();
    param_ld = p.ld();
    grad_ld = g.ld();
    param = p.data();
    grad = g.data();
    momentum = m.codes();
    momentum_scales = m.scales();
    param_dtype = dtype_of<P>;
    grad_dtype = dtype_of<std::remove_cv_t<G>>;
    momentum_dtype = m.dtype();
  }

  // STEEPEST_RESIDUAL_*, and its array, of 1 or 2 bytes an element and with param's ld.
  template <std::ranges::contiguous_range R>
  muon_tensor& with_residual(std::int32_t kind, R&& r) {
    detail::check_residual("muon_tensor", kind, r, rows > 0 ? (rows - 1) * param_ld + cols : 0);
    residual_kind = kind;
    residual = std::ranges::data(r);
    return *this;
  }
  template <element C>
    requires(!std::is_const_v<C>)
  muon_tensor& with_param_copy(matrix_view<C> c) {
    if (c.rows() != rows || c.cols() != cols)
      detail::fail(detail::shape_error("muon_tensor: param_copy differs from param in shape"));
    param_copy = c.data();
    param_copy_ld = c.ld();
    param_copy_dtype = dtype_of<C>;
    return *this;
  }
  // Of STOCHASTIC_ROUNDING.
  muon_tensor& with_random_stream(std::uint64_t stream, std::int64_t first = 0) {
    random_stream = stream;
    first_index = first;
    return *this;
  }
};
static_assert(sizeof(muon_tensor) == sizeof(steepest_muon_tensor));

namespace nothrow {

// workspace: null stands for memory from the context.
inline result<outcome> muon_step(const context& context, const steepest_muon_config& config,
                                 std::span<const muon_tensor> tensors,
                                 std::span<step_stats> stats = {},
                                 const steepest_workspace* workspace = nullptr) {
  if (!stats.empty() && stats.size() != tensors.size())
    return detail::shape_error("muon_step: stats has " + std::to_string(stats.size()) +
                               " elements for " + std::to_string(tensors.size()) + " tensors");
  std::int32_t skipped = 0;
  steepest_muon_config own = config;
  own.skipped = &skipped;
  const steepest_status status =
      steepest_muon_step(context.get(), &own, tensors.data(),
                         static_cast<std::int64_t>(tensors.size()), workspace, stats.data());
  if (status == STEEPEST_OK && config.skipped != nullptr) *config.skipped = skipped;
  return detail::finish(status, skipped != 0 ? outcome::skipped : outcome::stepped);
}

inline result<std::size_t> muon_workspace_size(const context& context,
                                               const steepest_muon_config& config,
                                               std::span<const muon_tensor> tensors) {
  std::size_t bytes = 0;
  const steepest_status status = steepest_muon_workspace_size(
      context.get(), &config, tensors.data(), static_cast<std::int64_t>(tensors.size()), &bytes);
  return detail::finish(status, bytes);
}

inline result<double> scale_factor(std::int32_t mode, double value, std::int64_t fan_out,
                                   std::int64_t fan_in) {
  double s = 0;
  const steepest_status status = steepest_scale_factor(mode, value, fan_out, fan_in, &s);
  return detail::finish(status, s);
}

}  // namespace nothrow

inline outcome muon_step(const context& context, const steepest_muon_config& config,
                         std::span<const muon_tensor> tensors, std::span<step_stats> stats = {},
                         const steepest_workspace* workspace = nullptr) {
  return nothrow::muon_step(context, config, tensors, stats, workspace).value();
}
inline outcome muon_step(const context& context, const steepest_muon_config& config,
                         const muon_tensor& tensor) {
  return muon_step(context, config, std::span(&tensor, 1));
}
inline std::size_t muon_workspace_size(const context& context, const steepest_muon_config& config,
                                       std::span<const muon_tensor> tensors) {
  return nothrow::muon_workspace_size(context, config, tensors).value();
}
inline double scale_factor(std::int32_t mode, double value, std::int64_t fan_out,
                           std::int64_t fan_in) {
  return nothrow::scale_factor(mode, value, fan_out, fan_in).value();
}

// ---- msign

// low <= f(s) <= high for singular values s of the interval that was asked for
struct singular_band {
  double low, high;
};

namespace nothrow {

// out may be x itself. workspace: null stands for memory from the context.
template <element T>
result<done> msign(const context& context, const steepest_msign_config& config,
                   matrix_view<const T> x, matrix_view<T> out,
                   steepest_msign_stats* stats = nullptr,
                   const steepest_workspace* workspace = nullptr) {
  if (x.rows() != out.rows() || x.cols() != out.cols())
    return detail::shape_error("msign: out has another shape than x");
  const steepest_status status =
      steepest_msign(context.get(), &config, x.rows(), x.cols(), dtype_of<T>, x.data(), x.ld(),
                     out.data(), out.ld(), workspace, stats);
  return detail::finish(status, done());
}

// The same for matrices of one shape and stride, x[i] to out[i]. stats: none, or one per matrix. A
// matrix that is not finite, or fails, is left alone, as its stats say; the others are done, and
// the error is the first such.
template <element T>
result<done> msign_batched(const context& context, const steepest_msign_config& config,
                           std::span<const matrix_view<const T>> x,
                           std::span<const matrix_view<T>> out, std::span<msign_stats> stats = {},
                           const steepest_workspace* workspace = nullptr) {
  if (x.size() != out.size() || (!stats.empty() && stats.size() != x.size()))
    return detail::shape_error("msign_batched: x, out and stats differ in size");
  if (x.empty()) return done();
  const matrix_view<const T>& a = x.front();
  const matrix_view<T>& b = out.front();
  std::vector<const void*> sources;
  std::vector<void*> targets;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i].rows() != a.rows() || x[i].cols() != a.cols() || x[i].ld() != a.ld() ||
        out[i].rows() != a.rows() || out[i].cols() != a.cols() || out[i].ld() != b.ld())
      return detail::shape_error("msign_batched: matrix " + std::to_string(i) +
                                 " has another shape or stride than the first");
    sources.push_back(x[i].data());
    targets.push_back(out[i].data());
  }
  const steepest_status status = steepest_msign_batched(
      context.get(), &config, a.rows(), a.cols(), dtype_of<T>, sources.data(), a.ld(),
      targets.data(), b.ld(), static_cast<std::int64_t>(x.size()), workspace, stats.data());
  return detail::finish(status, done());
}

// Of a call with `count` matrices of T.
template <element T>
result<std::size_t> msign_workspace_size(const context& context,
                                         const steepest_msign_config& config, std::int64_t rows,
                                         std::int64_t cols, std::int64_t count = 1) {
  std::size_t bytes = 0;
  const steepest_status status = steepest_msign_workspace_size(context.get(), &config, rows, cols,
                                                               dtype_of<T>, count, &bytes);
  return detail::finish(status, bytes);
}

inline result<singular_band> msign_band(const steepest_msign_config& config, double lower_bound) {
  singular_band band = {};
  const steepest_status status =
      steepest_msign_band(&config, lower_bound, &band.low, &band.high);
  return detail::finish(status, band);
}

// As msign_config::set_custom_coefficients takes them.
inline result<std::vector<std::array<double, 3>>> msign_coefficients(double lower_bound,
                                                                     std::int64_t steps) {
  // The library refuses more than 100 before it writes any.
  std::vector<std::array<double, 3>> rows(
      static_cast<std::size_t>(std::clamp<std::int64_t>(steps, 0, 100)));
  double* const first = rows.empty() ? nullptr : rows.front().data();
  const steepest_status status = steepest_msign_coefficients(lower_bound, steps, first);
  return detail::finish(status, std::move(rows));
}

}  // namespace nothrow

template <element T>
void msign(const context& context, const steepest_msign_config& config,
           std::type_identity_t<matrix_view<const T>> x, matrix_view<T> out,
           steepest_msign_stats* stats = nullptr, const steepest_workspace* workspace = nullptr) {
  nothrow::msign<T>(context, config, x, out, stats, workspace).value();
}
template <element T>
void msign_batched(const context& context, const steepest_msign_config& config,
                   std::span<const matrix_view<const T>> x, std::span<const matrix_view<T>> out,
                   std::span<msign_stats> stats = {},
                   const steepest_workspace* workspace = nullptr) {
  nothrow::msign_batched<T>(context, config, x, out, stats, workspace).value();
}
template <element T>
std::size_t msign_workspace_size(const context& context, const steepest_msign_config& config,
                                 std::int64_t rows, std::int64_t cols, std::int64_t count = 1) {
  return nothrow::msign_workspace_size<T>(context, config, rows, cols, count).value();
}
inline singular_band msign_band(const steepest_msign_config& config, double lower_bound) {
  return nothrow::msign_band(config, lower_bound).value();
}
inline std::vector<std::array<double, 3>> msign_coefficients(double lower_bound,
                                                             std::int64_t steps) {
  return nothrow::msign_coefficients(lower_bound, steps).value();
}

// ---- norms and diagnostics

struct norm_result {
  double norm;             // NaN or infinite if there are such elements
  std::int64_t nonfinite;  // how many
};
// lower <= |x|_2 <= upper
struct norm_bounds {
  double lower, upper;
};

template <elements R>
steepest_vector as_vector(R&& range) {
  steepest_vector vector = STEEPEST_VECTOR_INIT;
  vector.count = static_cast<std::int64_t>(std::ranges::size(range));
  vector.data = std::ranges::data(range);
  vector.dtype = dtype_of<std::remove_cv_t<detail::element_of<R>>>;
  return vector;
}

namespace nothrow {

inline result<norm_result> grad_norm(const context& context,
                                     std::span<const steepest_vector> vectors) {
  norm_result r = {};
  const auto count = static_cast<std::int64_t>(vectors.size());
  const steepest_status status =
      steepest_grad_norm(context.get(), vectors.data(), count, &r.norm, &r.nonfinite);
  return detail::finish(status, r);
}
inline result<norm_result> rms(const context& context, std::span<const steepest_vector> vectors) {
  norm_result r = {};
  const auto count = static_cast<std::int64_t>(vectors.size());
  const steepest_status status =
      steepest_rms(context.get(), vectors.data(), count, &r.norm, &r.nonfinite);
  return detail::finish(status, r);
}
template <element T>
result<std::vector<double>> singular_values(const context& context, matrix_view<T> x) {
  std::vector<double> values(static_cast<std::size_t>(std::min(x.rows(), x.cols())));
  const steepest_status status =
      steepest_singular_values(context.get(), x.rows(), x.cols(), dtype_of<std::remove_cv_t<T>>,
                               x.data(), x.ld(), values.data());
  return detail::finish(status, std::move(values));
}
template <element T>
result<double> spectral_norm(const context& context, matrix_view<T> x) {
  double norm = 0;
  const steepest_status status =
      steepest_spectral_norm(context.get(), x.rows(), x.cols(), dtype_of<std::remove_cv_t<T>>,
                             x.data(), x.ld(), &norm);
  return detail::finish(status, norm);
}
template <element T>
result<norm_bounds> spectral_norm_bounds(const context& context, matrix_view<T> x,
                                         double tolerance = 0) {
  norm_bounds bounds = {};
  const steepest_status status = steepest_spectral_norm_bounds(
      context.get(), x.rows(), x.cols(), dtype_of<std::remove_cv_t<T>>, x.data(), x.ld(), tolerance,
      &bounds.lower, &bounds.upper);
  return detail::finish(status, bounds);
}
inline result<double> singular_entropy(std::span<const double> values) {
  double entropy = 0;
  const auto count = static_cast<std::int64_t>(values.size());
  const steepest_status status = steepest_singular_entropy(values.data(), count, &entropy);
  return detail::finish(status, entropy);
}
inline result<double> adam_update_rms(double beta1, double snr, std::int64_t step = 0) {
  double rms = 0;
  const steepest_status status = steepest_adam_update_rms(beta1, snr, step, &rms);
  return detail::finish(status, rms);
}
inline result<double> adam_update_rms_second_order(double beta1, double beta2, double snr,
                                                   double kurtosis, std::int64_t step = 0) {
  double rms = 0;
  const steepest_status status =
      steepest_adam_update_rms_second_order(beta1, beta2, snr, kurtosis, step, &rms);
  return detail::finish(status, rms);
}
inline result<double> snr_from_update_rms(double rms, double beta1, std::int64_t step) {
  double snr = 0;
  const steepest_status status = steepest_snr_from_update_rms(rms, beta1, step, &snr);
  return detail::finish(status, snr);
}
inline result<double> snr_from_momentum(double momentum_rms, double grad_rms, double beta,
                                        std::int64_t step) {
  double snr = 0;
  const steepest_status status =
      steepest_snr_from_momentum(momentum_rms, grad_rms, beta, step, &snr);
  return detail::finish(status, snr);
}

}  // namespace nothrow

inline norm_result grad_norm(const context& context, std::span<const steepest_vector> vectors) {
  return nothrow::grad_norm(context, vectors).value();
}
inline norm_result rms(const context& context, std::span<const steepest_vector> vectors) {
  return nothrow::rms(context, vectors).value();
}
template <element T>
std::vector<double> singular_values(const context& context, matrix_view<T> x) {
  return nothrow::singular_values(context, x).value();
}
template <element T>
double spectral_norm(const context& context, matrix_view<T> x) {
  return nothrow::spectral_norm(context, x).value();
}
template <element T>
norm_bounds spectral_norm_bounds(const context& context, matrix_view<T> x, double tolerance = 0) {
  return nothrow::spectral_norm_bounds(context, x, tolerance).value();
}
inline double singular_entropy(std::span<const double> values) {
  return nothrow::singular_entropy(values).value();
}
inline double adam_update_rms(double beta1, double snr, std::int64_t step = 0) {
  return nothrow::adam_update_rms(beta1, snr, step).value();
}
inline double adam_update_rms_second_order(double beta1, double beta2, double snr, double kurtosis,
                                           std::int64_t step = 0) {
  return nothrow::adam_update_rms_second_order(beta1, beta2, snr, kurtosis, step).value();
}
inline double snr_from_update_rms(double rms, double beta1, std::int64_t step) {
  return nothrow::snr_from_update_rms(rms, beta1, step).value();
}
inline double snr_from_momentum(double momentum_rms, double grad_rms, double beta,
                                std::int64_t step) {
  return nothrow::snr_from_momentum(momentum_rms, grad_rms, beta, step).value();
}

// ---- schedules

// G of the bound: the same for all steps, or one for each.
struct grad_norms {
  grad_norms(double norm) : constant(norm) {}
  grad_norms(std::span<const double> norms) : per_step(norms), listed(true) {}
  grad_norms(const std::vector<double>& norms) : grad_norms(std::span<const double>(norms)) {}
  double constant = 0;
  std::span<const double> per_step;
  bool listed = false;
};
struct optimal_schedule {
  std::vector<double> lr;
  double bound;
};

namespace nothrow {

inline result<done> schedule_fill(const steepest_schedule& schedule, std::span<double> lr) {
  const auto steps = static_cast<std::int64_t>(lr.size());
  return detail::finish(steepest_schedule_fill(&schedule, steps, lr.data()), done());
}
inline result<double> schedule_at(const steepest_schedule& schedule, std::int64_t total_steps,
                                  std::int64_t step) {
  double lr = 0;
  const steepest_status status = steepest_schedule_at(&schedule, total_steps, step, &lr);
  return detail::finish(status, lr);
}
inline result<double> schedule_bound(std::span<const double> lr, double distance,
                                     const grad_norms& norms) {
  if (norms.listed && norms.per_step.size() != lr.size())
    return detail::shape_error("schedule_bound: grad_norms has another size than lr");
  double bound = 0;
  const steepest_status status =
      steepest_schedule_bound(lr.data(), static_cast<std::int64_t>(lr.size()), distance,
                              norms.constant, norms.per_step.data(), &bound);
  return detail::finish(status, bound);
}
inline result<optimal_schedule> schedule_optimal(std::int64_t total_steps, double distance,
                                                 const grad_norms& norms) {
  if (norms.listed && static_cast<std::int64_t>(norms.per_step.size()) != total_steps)
    return detail::shape_error("schedule_optimal: grad_norms has not total_steps values");
  optimal_schedule best = {{}, 0};
  if (total_steps > 0) best.lr.resize(static_cast<std::size_t>(total_steps));
  const steepest_status status =
      steepest_schedule_optimal(total_steps, distance, norms.constant, norms.per_step.data(),
                                best.lr.data(), &best.bound);
  return detail::finish(status, std::move(best));
}
inline result<std::vector<double>> schedule_refine(std::span<const double> grad_norms,
                                                   std::int32_t kind, double smoothing = 0.1,
                                                   double distance = 0) {
  std::vector<double> lr(grad_norms.size());
  const steepest_status status =
      steepest_schedule_refine(grad_norms.data(), static_cast<std::int64_t>(lr.size()), kind,
                               smoothing, distance, lr.data());
  return detail::finish(status, std::move(lr));
}

}  // namespace nothrow

inline void schedule_fill(const steepest_schedule& schedule, std::span<double> lr) {
  nothrow::schedule_fill(schedule, lr).value();
}
inline double schedule_at(const steepest_schedule& schedule, std::int64_t total_steps,
                          std::int64_t step) {
  return nothrow::schedule_at(schedule, total_steps, step).value();
}
inline double schedule_bound(std::span<const double> lr, double distance, const grad_norms& norms) {
  return nothrow::schedule_bound(lr, distance, norms).value();
}
inline optimal_schedule schedule_optimal(std::int64_t total_steps, double distance,
                                         const grad_norms& norms) {
  return nothrow::schedule_optimal(total_steps, distance, norms).value();
}
inline std::vector<double> schedule_refine(std::span<const double> grad_norms, std::int32_t kind,
                                           double smoothing = 0.1, double distance = 0) {
  return nothrow::schedule_refine(grad_norms, kind, smoothing, distance).value();
}

}  // namespace steepest
