// SPDX-License-Identifier: Apache-2.0
//
// steepest_q8_encode and _decode: every code, the nearest code, the ends of the range, memory.
#include <functional>

#include "q8_oracle.hpp"

namespace steepest_test {
namespace {

using bytes = std::vector<unsigned char>;

struct encoded {
  bytes codes, scales;
  bool operator==(const encoded&) const = default;
};

encoded encode(steepest_context* context, const q8_rule& rule, const std::vector<float>& values) {
  encoded e{bytes(values.size()), bytes(rule.blocks(values.size()) * rule.scale_size())};
  EXPECT_OK(steepest_q8_encode(context, rule.dtype, rule.is_signed ? 1 : 0,
                               static_cast<std::int64_t>(values.size()), values.data(),
                               e.codes.data(), e.scales.data()));
  return e;
}

std::vector<float> decode(steepest_context* context, const q8_rule& rule, const encoded& e) {
  std::vector<float> values(e.codes.size());
  EXPECT_OK(steepest_q8_decode(context, rule.dtype, rule.is_signed ? 1 : 0,
                               static_cast<std::int64_t>(values.size()), e.codes.data(),
                               e.scales.data(), values.data()));
  return values;
}

// The scales of `count` blocks, all `bits`.
bytes repeated(std::size_t count, std::uint32_t bits, std::size_t size) {
  bytes out(count * size);
  for (std::size_t i = 0; i < count; ++i) std::memcpy(&out[i * size], &bits, size);
  return out;
}
std::uint32_t float_bits(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, 4);
  return bits;
}
// Scales all over the range of the type.
std::vector<std::uint32_t> scale_samples(const q8_rule& rule) {
  if (rule.dtype == STEEPEST_Q8_COMPANDED)
    return {1, 17, 1024, 0x5555, 40U << 10, 40U << 10 | 1, 40U << 10 | 1023, 0xfffe};
  return {float_bits(1.0F),      float_bits(0.75F),   float_bits(3e-5F),     float_bits(1e-30F),
          float_bits(0x1p-126F), float_bits(FLT_MAX), float_bits(1.2345e9F), float_bits(7.0F)};
}

bytes all_codes() {
  bytes codes(256);
  for (std::size_t i = 0; i < 256; ++i) codes[i] = static_cast<unsigned char>(i);
  return codes;
}

void expect_near(float got, double exact, double ulps, int code) {
  const auto unit = static_cast<double>(ulp<float>(exact));
  if (std::abs(exact) > static_cast<double>(FLT_MAX)) return;  // code -128 of the largest scale
  EXPECT_LE(std::abs(static_cast<double>(got) - exact), ulps * unit)
      << "code " << code << ": " << got << " for " << exact;
}

// The numbers of the dynamic maps are within 1.5 ulp of the formula in double (bitsandbytes' own
// table, which torch computes in float, within 2 of them); a product or a square adds to it.
TEST(q8, every_code_decodes_to_its_number) {
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const q8_rule& rule : q8_rules) {
      for (const std::uint32_t bits : scale_samples(rule)) {
        const encoded e{all_codes(), repeated(rule.blocks(256), bits, rule.scale_size())};
        const std::vector<float> values = decode(context.get(), rule, e);
        const double scale = rule.scale(e.scales.data(), 0);
        for (int c = 0; c < 256; ++c)
          expect_near(values[static_cast<std::size_t>(c)], rule.value(c, scale),
                      scale == 1 && rule.dtype == STEEPEST_Q8_DYNAMIC ? 1.5 : 4, c);
      }
      const encoded zero{all_codes(), repeated(rule.blocks(256), 0, rule.scale_size())};
      for (const float x : decode(context.get(), rule, zero)) EXPECT_EQ(x, 0.0F);
      const std::uint32_t nan = rule.scale_size() == 2 ? 0xffffU : 0x7fc00000U;
      const encoded spoilt{all_codes(), repeated(rule.blocks(256), nan, rule.scale_size())};
      for (const float x : decode(context.get(), rule, spoilt)) EXPECT_TRUE(std::isnan(x));
    }
  }
}

// decode, then encode: the same codes and scales. Each block has the code of its scale in it.
TEST(q8, every_code_survives) {
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const q8_rule& rule : q8_rules) {
      const bool companded = rule.dtype == STEEPEST_Q8_COMPANDED;
      const auto one = static_cast<unsigned char>(companded && rule.is_signed ? 127 : 255);
      encoded e;
      for (int c = 0; c < 256; ++c) {
        if (e.codes.size() % rule.block() == 0) e.codes.push_back(one);
        if (rule.usable(c)) e.codes.push_back(static_cast<unsigned char>(c));
      }
      for (const std::uint32_t bits : scale_samples(rule)) {
        e.scales = repeated(rule.blocks(e.codes.size()), bits, rule.scale_size());
        // One whose square a float cannot hold to 11 bits, or whose smallest numbers it cannot.
        if (!companded && bits == float_bits(0x1p-126F)) continue;
        EXPECT_EQ(encode(context.get(), rule, decode(context.get(), rule, e)), e)
            << steepest_isa_name(isa) << " type " << rule.dtype << " scale " << bits;
      }
    }
  }
}

void expect_encoded(const q8_rule& rule, const std::vector<float>& values, const encoded& e) {
  for (std::size_t begin = 0; begin < values.size(); begin += rule.block()) {
    const std::size_t end = std::min(begin + rule.block(), values.size());
    double largest = 0;
    for (std::size_t i = begin; i < end; ++i) {
      const auto x = static_cast<double>(std::abs(values[i]));
      if (!std::isnan(largest) && !(x <= largest)) largest = x;
    }
    const double scale = rule.scale(e.scales.data(), begin / rule.block());
    const double expected = rule.scale_for(largest);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(scale));
      continue;
    }
    EXPECT_EQ(scale, expected) << "block of largest magnitude " << largest;
    for (std::size_t i = begin; i < end; ++i)
      ASSERT_TRUE(rule.nearest(e.codes[i], static_cast<double>(values[i]), scale))
          << "type " << rule.dtype << (rule.is_signed ? " signed" : "") << ": element " << i
          << " = " << values[i] << ", scale " << scale << ", code " << int{e.codes[i]};
  }
}

std::vector<float> random_values(random_source& random, const q8_rule& rule, std::size_t count) {
  std::vector<float> values(count);
  const int high = static_cast<int>(random.below(60)) - 30;
  const int width = 1 + static_cast<int>(random.below(40));
  for (float& x : values) {
    x = random.below(10) == 0 ? 0.0F : random.wide<float>(high - width, high);
    if (!rule.is_signed) x = std::abs(x);
  }
  return values;
}

TEST(q8, the_nearest_code_of_all) {
  random_source random(201);
  for (const q8_rule& rule : q8_rules) {
    for (int round = 0; round < (long_run() ? 1000 : 40); ++round) {
      const std::vector<float> values =
          random_values(random, rule, 1 + static_cast<std::size_t>(random.below(1500)));
      const encoded expected =
          encode(make_context({.max_isa = STEEPEST_ISA_GENERIC}).get(), rule, values);
      expect_encoded(rule, values, expected);
      for (const steepest_isa isa : levels())
        EXPECT_EQ(encode(make_context({.max_isa = isa}).get(), rule, values), expected)
            << steepest_isa_name(isa);
      ASSERT_FALSE(testing::Test::HasFailure());
    }
  }
}

// Around the middle between neighbours, where a rounding error would choose the wrong one. With a
// scale of 1 the quotient is exact, so the choice is held to the numbers themselves.
TEST(q8, beside_every_tie) {
  for (const q8_rule& rule : {q8_rules[0], q8_rules[1]}) {
    const context_pointer context = make_context();
    const encoded all{all_codes(), repeated(1, float_bits(1.0F), 4)};
    const std::vector<float> numbers = decode(context.get(), rule, all);
    for (std::size_t c = 0; c < 255; ++c) {
      const double middle =
          (static_cast<double>(numbers[c]) + static_cast<double>(numbers[c + 1])) / 2;
      const auto near = static_cast<float>(middle);
      const float values[] = {1.0F, std::nextafter(near, -2.0F), near, std::nextafter(near, 2.0F)};
      const encoded e = encode(context.get(), rule, {std::begin(values), std::end(values)});
      for (std::size_t i = 1; i < 4; ++i) {
        const auto x = static_cast<double>(values[i]);
        const auto distance = [&](std::size_t code) {
          return std::abs(static_cast<double>(numbers[code]) - x);
        };
        EXPECT_TRUE(e.codes[i] == c || e.codes[i] == c + 1) << "between " << c << " and its next";
        EXPECT_LE(distance(e.codes[i]), std::min(distance(c), distance(c + 1))) << "code " << c;
      }
    }
  }
}

TEST(q8, extremes) {
  const float inf = INFINITY;
  const float denormal = 0x1p-149F;
  const std::vector<std::vector<float>> blocks = {std::vector<float>(300, 0.0F),
                                                  {denormal, 0, -denormal, 0x1p-127F},
                                                  {FLT_MAX, -FLT_MAX, FLT_MAX / 2, 1, 0},
                                                  {-1, -0.999F, -0.995F, 0.5F},
                                                  {0x1p-126F, 0x1p-127F, -0x1p-126F, 0},
                                                  {0x1p-40F, 0},
                                                  {0x1.004p-40F, 0x1p-41F},
                                                  {0x1p-80F},
                                                  {0x1.01p-80F, 0x1p-90F},
                                                  {0x1p30F, 1, -3},
                                                  {1e-20F, 3e-24F, denormal},
                                                  {1, denormal, -denormal, 1e-30F},
                                                  {-0.0F, 0.0F, 1}};
  for (const q8_rule& rule : q8_rules) {
    for (std::vector<float> values : blocks) {
      if (!rule.is_signed)
        for (float& x : values) x = std::abs(x);
      std::vector<encoded> by_level;
      for (const steepest_isa isa : levels())
        by_level.push_back(encode(make_context({.max_isa = isa}).get(), rule, values));
      expect_encoded(rule, values, by_level.front());
      for (const encoded& e : by_level) EXPECT_EQ(e, by_level.front());
    }
    // One element far above the rest, in a block full of zeros: nothing else changes.
    for (const std::size_t at : {std::size_t{0}, rule.block() - 1}) {
      std::vector<float> outlier(rule.block(), 0.0F);
      outlier[at] = 4.0F;
      EXPECT_EQ(decode(nullptr, rule, encode(nullptr, rule, outlier)), outlier);
    }
    for (const float bad : {inf, -inf, NAN}) {
      if (!rule.is_signed && bad < 0) continue;
      for (const std::size_t at : {std::size_t{0}, std::size_t{5}, rule.block() - 1}) {
        std::vector<float> values(2 * rule.block() + 3, 0.25F);
        values[at] = bad;
        std::vector<encoded> by_level;
        for (const steepest_isa isa : levels())
          by_level.push_back(encode(make_context({.max_isa = isa}).get(), rule, values));
        for (const encoded& e : by_level) EXPECT_EQ(e, by_level.front());
        const auto back = decode(nullptr, rule, by_level.front());
        for (std::size_t i = 0; i < values.size(); ++i)
          EXPECT_TRUE(i < rule.block() ? std::isnan(back[i]) : back[i] == 0.25F)
              << i << " " << back[i];
      }
    }
  }
}

// Any count, any position of the codes: nothing beside them is touched or matters.
template <template <class> class Buffer, class Where>
encoded encode_in(steepest_context* context, const q8_rule& rule, const std::vector<float>& values,
                  Where where) {
  Buffer<float> from(values, where(0));
  Buffer<unsigned char> codes(bytes(values.size(), 0x55), where(1));
  // Two bytes a unit, so that they stay aligned.
  Buffer<std::uint32_t> wide(std::vector<std::uint32_t>(rule.blocks(values.size())), where(2));
  Buffer<std::uint16_t> half(std::vector<std::uint16_t>(rule.blocks(values.size())), where(2));
  void* const scales = rule.scale_size() == 4 ? static_cast<void*>(wide.data()) : half.data();
  const auto count = static_cast<std::int64_t>(values.size());
  EXPECT_OK(steepest_q8_encode(context, rule.dtype, rule.is_signed ? 1 : 0, count, from.data(),
                               codes.data(), scales));
  encoded e{codes.values(), bytes(rule.blocks(values.size()) * rule.scale_size())};
  if (!e.scales.empty()) std::memcpy(e.scales.data(), scales, e.scales.size());
  Buffer<float> back(std::vector<float>(values.size(), -7.0F), where(3));
  EXPECT_OK(steepest_q8_decode(context, rule.dtype, rule.is_signed ? 1 : 0, count, codes.data(),
                               scales, back.data()));
  EXPECT_TRUE(from.intact() && codes.intact() && wide.intact() && half.intact() && back.intact());
  EXPECT_EQ(from.values(), values);
  EXPECT_EQ(back.values(), decode(context, rule, e));
  return e;
}

TEST(q8, any_count_and_position) {
  random_source random(202);
  for (const steepest_isa isa : levels()) {
    const context_pointer context = make_context({.max_isa = isa});
    for (const q8_rule& rule : q8_rules) {
      std::vector<std::size_t> counts;
      for (std::size_t n = 0; n <= 67; ++n) counts.push_back(n);
      counts.insert(counts.end(), {255, 256, 257, 511, 512, 513, 1031, 4096});
      for (const std::size_t count : counts) {
        const std::vector<float> values = random_values(random, rule, count);
        const encoded expected = encode(context.get(), rule, values);
        expect_encoded(rule, values, expected);
        EXPECT_EQ(encode_in<guarded>(context.get(), rule, values,
                                     [&](std::size_t i) { return (count + 3 * i) % 16; }),
                  expected);
        for (const bool at_end : {true, false})
          EXPECT_EQ(encode_in<fenced>(context.get(), rule, values, [&](int) { return at_end; }),
                    expected);
        ASSERT_FALSE(testing::Test::HasFailure()) << "count " << count;
      }
    }
  }
}

TEST(q8, sizes) {
  std::int64_t scales = -7, size = -7;
  for (const std::int64_t count : {0, 1, 31, 32, 33, 255, 256, 257, 1 << 20}) {
    ASSERT_OK(steepest_q8_scales(STEEPEST_Q8_DYNAMIC, count, &scales, &size));
    EXPECT_EQ(scales, (count + 255) / 256);
    EXPECT_EQ(size, 4 * scales);
    ASSERT_OK(steepest_q8_scales(STEEPEST_Q8_COMPANDED, count, &scales, nullptr));
    ASSERT_OK(steepest_q8_scales(STEEPEST_Q8_COMPANDED, count, nullptr, &size));
    EXPECT_EQ(scales, (count + 31) / 32);
    EXPECT_EQ(size, 2 * scales);
  }
}

TEST(q8, bad_input) {
  alignas(64) unsigned char codes[64] = {};
  alignas(64) float values[64] = {};
  alignas(64) float scales[2] = {};
  struct call {
    steepest_dtype dtype = STEEPEST_Q8_DYNAMIC;
    std::int32_t is_signed = 1;
    std::int64_t count = 64;
    float* values;
    unsigned char* codes;
    void* scales;
  };
  struct row {
    steepest_status status;
    const char* argument;
    std::function<void(call&)> spoil;
  };
  const row rows[] = {
      {STEEPEST_E_DTYPE, "dtype", [](call& c) { c.dtype = STEEPEST_F32; }},
      {STEEPEST_E_DTYPE, "dtype", [](call& c) { c.dtype = 0; }},
      {STEEPEST_E_INVALID_ARGUMENT, "is_signed", [](call& c) { c.is_signed = 2; }},
      {STEEPEST_E_INVALID_ARGUMENT, "is_signed", [](call& c) { c.is_signed = -1; }},
      {STEEPEST_E_SHAPE, "count", [](call& c) { c.count = -1; }},
      {STEEPEST_E_SHAPE, "count", [](call& c) { c.count = INT64_MAX; }},
      {STEEPEST_E_INVALID_ARGUMENT, "values", [](call& c) { c.values = nullptr; }},
      {STEEPEST_E_INVALID_ARGUMENT, "codes", [](call& c) { c.codes = nullptr; }},
      {STEEPEST_E_INVALID_ARGUMENT, "scales", [](call& c) { c.scales = nullptr; }},
      {STEEPEST_E_INVALID_ARGUMENT, "scales",
       [](call& c) { c.scales = static_cast<char*>(c.scales) + 2; }},
      {STEEPEST_E_INVALID_ARGUMENT, "values",
       [](call& c) { c.values = reinterpret_cast<float*>(reinterpret_cast<char*>(c.values) + 1); }},
      {STEEPEST_E_SHAPE, "codes",
       [](call& c) { c.codes = reinterpret_cast<unsigned char*>(UINTPTR_MAX - 5); }},
      {STEEPEST_E_INVALID_ARGUMENT, "",
       [](call& c) { c.codes = reinterpret_cast<unsigned char*>(c.values) + 8; }},
      {STEEPEST_E_INVALID_ARGUMENT, "", [](call& c) { c.scales = c.values + 3; }},
  };
  for (const row& r : rows) {
    for (const bool encodes : {true, false}) {
      call c{.values = values, .codes = codes, .scales = scales};
      r.spoil(c);
      const steepest_status status = encodes
                                         ? steepest_q8_encode(nullptr, c.dtype, c.is_signed,
                                                              c.count, c.values, c.codes, c.scales)
                                         : steepest_q8_decode(nullptr, c.dtype, c.is_signed,
                                                              c.count, c.codes, c.scales, c.values);
      EXPECT_EQ(status, r.status) << r.argument;
      const std::string begin = encodes ? "q8_encode: " : "q8_decode: ";
      const std::string text = steepest_last_error();
      EXPECT_EQ(text.rfind(begin, 0), 0u) << text;
      EXPECT_NE(text.find(r.argument), std::string::npos) << text;
      EXPECT_FALSE(std::isalnum(text[begin.size() + std::strlen(r.argument)]) &&
                   *r.argument != '\0')
          << text;
    }
  }
  for (const unsigned char c : codes) EXPECT_EQ(c, 0);
  EXPECT_EQ(steepest_q8_scales(STEEPEST_BF16, 5, nullptr, nullptr), STEEPEST_E_DTYPE);
  EXPECT_EQ(steepest_q8_scales(STEEPEST_Q8_DYNAMIC, -5, nullptr, nullptr), STEEPEST_E_SHAPE);
  EXPECT_OK(steepest_q8_encode(nullptr, STEEPEST_Q8_DYNAMIC, 1, 0, nullptr, nullptr, nullptr));
}

}  // namespace
}  // namespace steepest_test
