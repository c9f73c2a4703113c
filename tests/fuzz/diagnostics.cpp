// SPDX-License-Identifier: Apache-2.0
//
// Norms of vectors, 8-bit arrays to and fro, and what is measured of a matrix.
#include "matrix.hpp"
#include "target.hpp"

namespace steepest_fuzz {
namespace {

std::int64_t some_count(choices& input) {
  if (input.rarely(32)) return input.wild_size();
  if (input.rarely(16)) return input.of<std::int64_t>({0, 16384, 20000, 32768 + 1});
  return input.below(input.even_chance() ? 40 : 600);
}
bool exists(std::int64_t count) { return count >= 0 && count <= 40000; }

void norms(choices& input, memory& seen) {
  const std::int64_t n = input.below(5);
  const std::size_t struct_size = some_struct_size<steepest_vector>(input);
  std::vector<steepest_vector> vectors;
  for (std::int64_t i = 0; i < n; ++i) {
    steepest_vector v = STEEPEST_VECTOR_INIT;
    v.count = some_count(input);
    v.dtype = some_dtype(input);
    forget(v, steepest_vector STEEPEST_VECTOR_INIT, struct_size);
    const std::int64_t elements = exists(v.count) ? v.count : 8;
    void* const data =
        some_buffer(input, seen, memory::input, elements * size_of(v.dtype), size_of(v.dtype));
    if (data != nullptr) fill(input, some_content(input), data, elements, v.dtype);
    v.data = data;
    if (input.rarely(64)) v.reserved = -1;
    vectors.push_back(v);
  }
  const auto array = hand_over(input, seen, memory::input, steepest_vector STEEPEST_VECTOR_INIT,
                               vectors, struct_size);
  std::int64_t count = n;
  const steepest_vector* list = n > 0 ? array[0].pointer : nullptr;
  if (input.rarely(64)) count = input.of<std::int64_t>({-1, INT64_MIN, INT64_MAX});
  if (input.rarely(64)) list = nullptr;
  verdict rule = worse(refuse_if(count != n || (list == nullptr && count != 0)), rule_of(array));
  bool all_exist = true;
  for (const auto& one : array) {
    const steepest_vector& v = one.seen;
    all_exist &= exists(v.count);
    if (v.reserved != 0 || !is_plain(v.dtype) || v.count < 0 ||
        v.count > INT64_MAX / size_of(v.dtype)) {
      rule = verdict::refuse;
      continue;
    }
    const auto address = reinterpret_cast<std::uintptr_t>(v.data);
    if (v.count > 0)
      rule = worse(rule, refuse_if(v.data == nullptr || !is_aligned(v.data, size_of(v.dtype)) ||
                                   static_cast<std::uintptr_t>(v.count * size_of(v.dtype)) >
                                       UINTPTR_MAX - address));
  }
  if (rule != verdict::refuse && !all_exist) return;
  auto* const norm = input.rarely(16) ? nullptr : seen.object<double>(memory::output, 7);
  auto* const nonfinite =
      input.rarely(16) ? nullptr : seen.object<std::int64_t>(memory::output, std::int64_t{7});
  const bool rms = input.even_chance();
  const char* const function = rms ? "rms" : "grad_norm";
  const steepest_isa isa = some_isa(input);
  callback_context context(isa);
  const auto call = [&](steepest_context* in) {
    return (rms ? steepest_rms : steepest_grad_norm)(in, list, count, norm, nonfinite);
  };
  if (input.rarely(8)) context.break_one(input);
  const steepest_status status = watched(function, seen, [&] { return call(context.context); });
  if (context.failed()) {
    REQUIRE(status != STEEPEST_OK, "a callback failed");
    return;
  }
  expect(rule, status, function);
  if (status != STEEPEST_OK) return;
  if (norm != nullptr && nonfinite != nullptr)
    REQUIRE((*nonfinite == 0) ? *norm >= 0 : !(std::fabs(*norm) <= DBL_MAX), "norm %g", *norm);
  const auto first = seen.contents();
  REQUIRE(call(plain_context(isa)) == STEEPEST_OK && seen.contents() == first, "other bits");
}

void q8(choices& input, memory& seen) {
  const steepest_dtype dtype =
      input.rarely(32) ? some_dtype(input) : input.of({STEEPEST_Q8_DYNAMIC, STEEPEST_Q8_COMPANDED});
  const std::int64_t count = some_count(input);
  auto* const sizes = static_cast<std::int64_t*>(seen.bytes(memory::output, 16));
  const steepest_status sized = watched("q8_scales", seen, [&] {
    return steepest_q8_scales(dtype, count, input.rarely(16) ? nullptr : sizes, sizes + 1);
  });
  const verdict size_rule = worse(refuse_if(!is_q8(dtype) || count < 0),
                                  count > INT64_MAX / 64 ? verdict::either : verdict::accept);
  expect(size_rule, sized, "q8_scales");
  if (sized == STEEPEST_OK && count > 0) {
    const bool dynamic = dtype == STEEPEST_Q8_DYNAMIC;
    const std::int64_t blocks = (count - 1) / (dynamic ? 256 : 32) + 1;
    REQUIRE(sizes[1] == blocks * (dynamic ? 4 : 2), "%lld bytes of scales",
            static_cast<long long>(sizes[1]));
  }
  const bool encode = input.even_chance();
  const std::int64_t n = exists(count) ? count : 8;
  const steepest_dtype scale = dtype == STEEPEST_Q8_DYNAMIC ? STEEPEST_F32 : STEEPEST_F16;
  const std::int64_t blocks = n / (dtype == STEEPEST_Q8_DYNAMIC ? 256 : 32) + 1;
  const auto is_signed = static_cast<std::int32_t>(input.integer({0, 1}));
  const memory::access from = memory::input, to = memory::output;
  void* const values = some_buffer(input, seen, encode ? from : to, 4 * n, 4);
  void* const codes = some_buffer(input, seen, encode ? to : from, n, 1);
  void* const scales =
      some_buffer(input, seen, encode ? to : from, blocks * size_of(scale), size_of(scale));
  const content kind = some_content(input);
  if (values != nullptr) fill(input, kind, values, n, STEEPEST_F32, is_signed == 0);
  if (codes != nullptr) fill(input, content::any_bits, codes, n, STEEPEST_Q8_DYNAMIC);
  if (scales != nullptr) fill(input, kind, scales, blocks, scale, true);
  verdict rule = worse(size_rule, refuse_if(is_signed != 0 && is_signed != 1));
  const std::int64_t used_blocks =
      count > 0 ? (count - 1) / (dtype == STEEPEST_Q8_DYNAMIC ? 256 : 32) + 1 : 0;
  if (rule != verdict::refuse && count > 0) {
    if (values == nullptr || codes == nullptr || scales == nullptr || !is_aligned(values, 4) ||
        !is_aligned(scales, size_of(scale)))
      rule = verdict::refuse;
    else if (!exists(count))
      return;
    else
      rule = worse(rule, overlap_rule({{values, 1, 4 * count, 0, true, 0},
                                       {codes, 1, count, 0, true, 0},
                                       {scales, 1, used_blocks * size_of(scale), 0, true, 0}}));
  }
  const steepest_isa isa = some_isa(input);
  const auto call = [&](steepest_context* in) {
    if (encode)
      return steepest_q8_encode(in, dtype, is_signed, count, static_cast<const float*>(values),
                                static_cast<std::uint8_t*>(codes), scales);
    return steepest_q8_decode(in, dtype, is_signed, count, static_cast<const std::uint8_t*>(codes),
                              scales, static_cast<float*>(values));
  };
  const char* const function = encode ? "q8_encode" : "q8_decode";
  const steepest_status status = watched(function, seen, [&] { return call(plain_context(isa)); });
  expect(rule, status, function);
  if (status != STEEPEST_OK) return;
  const auto first = seen.contents();
  seen.restore();
  REQUIRE(call(plain_context(STEEPEST_ISA_GENERIC)) == STEEPEST_OK, "on the generic level");
  if (encode || kind != content::special) REQUIRE(seen.contents() == first, "other bits");
}

// Values, norm and bounds of one matrix, which agree.
void spectra(choices& input, memory& seen) {
  const std::int64_t rows = some_side(input), cols = some_side(input);
  const std::int64_t ldx = some_stride(input, cols);
  const steepest_dtype dtype = some_dtype(input);
  const matrix x =
      some_matrix(input, seen, memory::input, rows, cols, ldx, dtype, some_content(input));
  const bool empty = x.empty();
  const bool possible = has_memory(rows, cols) && !empty;
  const std::int64_t n = possible ? std::min(rows, cols) : 1;
  auto* const values = static_cast<double*>(some_buffer(input, seen, memory::output, 8 * n, 8));
  auto* const results = static_cast<double*>(seen.bytes(memory::output, 24));
  verdict rule = worse(shape_rule(rows, cols), refuse_if(!is_plain(dtype)));
  if (rule != verdict::refuse && !empty) rule = x.rule();
  if (rule != verdict::refuse && !empty && !x.exists()) return;
  const bool finite = rule == verdict::refuse || empty || largest_of(x) <= DBL_MAX;
  const double tolerance = input.number({0, 0.01, 1e-6, 1});
  const bool null = input.rarely(32);
  callback_context context(some_isa(input));
  const auto check = [&](const char* function, verdict wanted, steepest_status status) {
    if (finite || wanted == verdict::refuse) {
      expect(wanted, status, function);
      return status == STEEPEST_OK && !empty;
    }
    REQUIRE(status == STEEPEST_E_NONFINITE, "%s returned %d for what is not finite", function,
            status);
    REQUIRE(seen.unchanged(false), "%s failed and has written", function);
    return false;
  };
  // The array of values may share memory with x, which has been copied by then: not asked here.
  const bool values_good = values != nullptr && is_aligned(values, 8);
  const bool apart = !possible || rule == verdict::refuse || values == nullptr ||
                     !share_a_byte(x.bytes(false, 0), {values, 1, 8 * n, 0, true, 1});
  bool has_values = false;
  if (apart)
    has_values = check("singular_values", worse(rule, refuse_if(!empty && !values_good)),
                       watched("singular_values", seen, [&] {
                         return steepest_singular_values(context.context, rows, cols, dtype, x.data,
                                                         ldx, values);
                       }));
  for (std::int64_t i = 0; has_values && i < n; ++i)
    REQUIRE(values[i] >= 0 && (i == 0 || values[i] <= values[i - 1]), "value %d is %g", int(i),
            values[i]);
  const bool has_norm =
      check("spectral_norm", worse(rule, refuse_if(null)), watched("spectral_norm", seen, [&] {
              return steepest_spectral_norm(context.context, rows, cols, dtype, x.data, ldx,
                                            null ? nullptr : results);
            }));
  if (has_values && has_norm) REQUIRE(values[0] == results[0], "%g, %g", values[0], results[0]);
  const bool tolerable = tolerance == 0 || (tolerance >= 1e-6 && tolerance <= 1);
  const bool has_bounds = check("spectral_norm_bounds", worse(rule, refuse_if(null || !tolerable)),
                                watched("spectral_norm_bounds", seen, [&] {
                                  return steepest_spectral_norm_bounds(
                                      context.context, rows, cols, dtype, x.data, ldx, tolerance,
                                      results + 1, null ? nullptr : results + 2);
                                }));
  // LAPACK's value has an error of its own.
  if (has_norm && has_bounds && results[0] <= DBL_MAX)
    REQUIRE(results[1] <= results[0] * (1 + 1e-12) && results[0] <= results[2] * (1 + 1e-12),
            "%g is not from %g to %g", results[0], results[1], results[2]);
}

void entropy(choices& input, memory& seen) {
  const std::int64_t n = input.below(40);
  auto* const values = static_cast<double*>(seen.bytes(memory::input, 8 * n));
  fill(input, some_content(input), values, n, STEEPEST_F64, true);
  auto* const result = seen.object<double>(memory::output, 7);
  const std::int64_t count = input.rarely(32) ? input.of<std::int64_t>({-1, INT64_MIN}) : n;
  const bool null = input.rarely(32), no_values = input.rarely(32);
  verdict rule = refuse_if(count < 0 || null || (no_values && count > 0));
  for (std::int64_t i = 0; i < n; ++i)
    rule = worse(rule, refuse_if(!(values[i] >= 0 && values[i] <= DBL_MAX)));
  const steepest_status status = watched("singular_entropy", seen, [&] {
    return steepest_singular_entropy(no_values ? nullptr : values, count, null ? nullptr : result);
  });
  expect(rule, status, "singular_entropy");
  if (status == STEEPEST_OK) REQUIRE(*result >= 0 && *result <= 1 + 1e-12, "entropy %g", *result);
}

void run(const std::uint8_t* data, std::size_t size) {
  choices input(data, size);
  memory seen;
  switch (input.below(7)) {
    case 0:
    case 1: norms(input, seen); break;
    case 2:
    case 3: q8(input, seen); break;
    case 4: entropy(input, seen); break;
    default: spectra(input, seen);
  }
}

const registration registered("diagnostics", run);

}  // namespace
}  // namespace steepest_fuzz
