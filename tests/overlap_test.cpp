// SPDX-License-Identifier: Apache-2.0
//
// Buffers that share memory: refused within a tensor and, where one side is written, across
// tensors.
#include <regex>

#include "adamw_scenario.hpp"

namespace steepest_test {
namespace {

template <class Real>
class overlap : public testing::Test {};
using types = testing::Types<float, double>;
TYPED_TEST_SUITE(overlap, types);

// Any two buffers of one tensor, sharing their last and first element.
TYPED_TEST(overlap, within_a_tensor) {
  using call = scenario<TypeParam>;
  std::vector<bad_row<TypeParam>> rows;
  for (const auto& [name, member] : written_buffers) {
    for (const auto& [other_name, other] : written_buffers) {
      if (member == other) continue;
      rows.push_back(
          {STEEPEST_E_INVALID_ARGUMENT, "tensors[2].", [to = member, from = other](call& c) {
             c.config.flags = all_buffers;
             c.last().*to = static_cast<TypeParam*>(c.last().*from) + (element_count - 1);
           }});
    }
    rows.push_back({STEEPEST_E_INVALID_ARGUMENT, "tensors[2].", [of = member](call& c) {
                      c.config.flags = all_buffers;
                      c.last().grad = static_cast<TypeParam*>(c.last().*of) + 1;
                    }});
  }
  for (bad_row<TypeParam>& row : rows) {
    scenario<TypeParam> one;
    row.spoil(one);
    const auto before = one.arrays;
    EXPECT_EQ(one.run(), row.status);
    EXPECT_TRUE(same_bits(one.arrays, before));
    EXPECT_TRUE(std::regex_search(steepest_last_error(),
                                  std::regex("^adamw_step: tensors\\[2\\]\\.[a-z_]+ overlaps its "
                                             "[a-z_]+")))
        << steepest_last_error();
  }
}

// What one tensor writes, another may neither write nor read; far apart in the list, and in either
// order.
TYPED_TEST(overlap, across_tensors) {
  for (const auto& [name, member] : written_buffers) {
    if (member == &steepest_adamw_tensor::param) continue;  // only read with EMIT_DELTA: see below
    for (const std::size_t writer : {0u, 2u}) {
      for (int reader = -1; reader < 5; ++reader) {
        scenario<TypeParam> c;
        c.config.flags = c.own_config.flags = all_buffers;
        steepest_adamw_tensor& from = c.tensors[writer];
        steepest_adamw_tensor& to = c.tensors[2 - writer];
        if (reader < 0) {
          to.grad = from.*member;
        } else {
          to.*(written_buffers[reader].second) = from.*member;
        }
        const auto before = c.arrays;
        EXPECT_EQ(c.run(), STEEPEST_E_INVALID_ARGUMENT) << name << " reader " << reader;
        EXPECT_TRUE(same_bits(c.arrays, before));
        EXPECT_TRUE(std::regex_search(
            steepest_last_error(),
            std::regex("^adamw_step: tensors\\[[02]\\]\\.[a-z_]+ overlaps tensors\\[[02]\\]\\.")))
            << steepest_last_error();
      }
    }
  }
  using call = scenario<TypeParam>;
  check_rows<TypeParam>({
      {STEEPEST_E_INVALID_ARGUMENT, "tensors[2]", [](call& c) { c.tensors[2] = c.tensors[0]; }},
      {STEEPEST_E_INVALID_ARGUMENT, "tensors[2]",
       [](call& c) { c.tensors[2].param = c.tensors[0].param; }},
      {STEEPEST_E_INVALID_ARGUMENT, "tensors[2]",
       [](call& c) { c.tensors[2].grad = c.tensors[0].param; }},
      {STEEPEST_E_INVALID_ARGUMENT, "tensors",
       [](call& c) { c.tensors[0].grad = c.tensors[2].param; }},
  });
}

// One overlap between neighbours in memory, somewhere among many tensors in any order.
TEST(overlaps, in_a_long_list) {
  constexpr std::size_t many = 1000;
  adamw_arrays<float> a(many * 8);
  std::vector<steepest_adamw_tensor> tensors;
  for (std::size_t i = 0; i < many; ++i) {
    tensors.push_back(make_tensor(a, (i * 387 % many) * 8, 8));
  }
  const steepest_adamw_config config = make_config();
  EXPECT_OK(steepest_adamw_step(nullptr, &config, tensors.data(), many, nullptr));
  const auto before = a;
  for (const std::size_t at : {0, 1, 499, 998, 999}) {
    auto spoiled = tensors;
    spoiled[at].exp_avg = static_cast<float*>(spoiled[at].exp_avg) + 1;
    if (spoiled[at].exp_avg == a.exp_avg.data() + (many - 1) * 8 + 1) continue;
    EXPECT_EQ(steepest_adamw_step(nullptr, &config, spoiled.data(), many, nullptr),
              STEEPEST_E_INVALID_ARGUMENT);
    EXPECT_NE(std::string(steepest_last_error()).find(".exp_avg"), std::string::npos);
    EXPECT_TRUE(same_bits(a, before));
  }
}

// Random placements in a small arena, against every pair of buffers compared.
TEST(overlaps, found_exactly_where_there_is_one) {
  struct range {
    std::size_t tensor, begin, end;
    bool written;
  };
  random_source random(112);
  const steepest_adamw_config config = make_config();
  int refused = 0;
  constexpr int trials = 20000;
  for (int trial = 0; trial < trials; ++trial) {
    std::vector<float> arena(2000);
    std::vector<steepest_adamw_tensor> tensors(static_cast<std::size_t>(1 + random.below(4)),
                                               STEEPEST_ADAMW_TENSOR_INIT);
    std::vector<range> ranges;
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      const std::int64_t count = random.below(random.below(8) == 0 ? 300 : 40);
      const auto place = [&](bool written) {
        const std::int64_t begin = random.below(1700);
        const auto first = static_cast<std::size_t>(begin);
        if (count > 0) ranges.push_back({t, first, first + std::size_t(count), written});
        return arena.data() + begin;
      };
      tensors[t].count = count;
      tensors[t].param = place(true);
      tensors[t].grad = place(false);
      tensors[t].exp_avg = place(true);
      tensors[t].exp_avg_sq = place(true);
    }
    bool expected = false;
    for (const range& a : ranges) {
      for (const range& b : ranges) {
        const bool matters = &a != &b && (a.written || b.written || a.tensor == b.tensor);
        expected |= matters && a.begin < b.end && b.begin < a.end;
      }
    }
    const auto before = arena;
    const steepest_status status = steepest_adamw_step(
        nullptr, &config, tensors.data(), static_cast<std::int64_t>(tensors.size()), nullptr);
    ASSERT_EQ(status, expected ? STEEPEST_E_INVALID_ARGUMENT : STEEPEST_OK) << "trial " << trial;
    ASSERT_TRUE(!expected || same_bits(arena, before));
    refused += expected;
  }
  EXPECT_GT(refused, trials / 10);
  EXPECT_LT(refused, trials * 9 / 10);
}

}  // namespace
}  // namespace steepest_test
