// SPDX-License-Identifier: Apache-2.0
#include "sample.hpp"

#include <algorithm>
#include <cmath>

#include "random.hpp"

namespace char_lm {
namespace {

// Draws from softmax(logits / temperature), never symbol 0, which stands for no character.
int draw(std::span<const float> logits, double temperature, random_source& random) {
  const auto largest = std::max_element(logits.begin() + 1, logits.end());
  const auto likeliest = static_cast<int>(largest - logits.begin());
  if (temperature <= 0) return likeliest;
  std::vector<double> weight(logits.size());
  double sum = 0;
  for (std::size_t i = 1; i < logits.size(); ++i)
    sum += weight[i] = std::exp((static_cast<double>(logits[i]) - *largest) / temperature);
  double rest = random.uniform() * sum;
  for (std::size_t i = 1; i < logits.size(); ++i) {
    rest -= weight[i];
    if (rest < 0) return static_cast<int>(i);
  }
  return likeliest;
}

}  // namespace

std::string sample(model<float>& net, const vocabulary& known, const std::string& held_out,
                   const options& chosen) {
  const auto context = static_cast<std::size_t>(chosen.context);
  const std::size_t found = held_out.find("\n\n");
  const std::string before = held_out.substr(0, found == std::string::npos ? found : found + 2);
  std::vector<std::uint8_t> symbols(context, 0);
  for (const char c : before) symbols.push_back(known.symbol(c));

  random_source random(chosen.seed + 2);
  std::string text;
  for (std::int64_t i = 0; i < chosen.sample_length; ++i) {
    symbols.push_back(0);
    const std::int64_t position = static_cast<std::int64_t>(symbols.size()) - 1;
    const std::span<const float> logits = net.logits({symbols.data(), &position, 1});
    const int symbol = draw(logits, chosen.temperature, random);
    symbols.back() = static_cast<std::uint8_t>(symbol);
    text += known.byte(symbol);
  }
  return text;
}

}  // namespace char_lm
