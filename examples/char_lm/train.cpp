// SPDX-License-Identifier: Apache-2.0
#include "train.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>
#include <string>
#include <utility>

#include "clock.hpp"
#include "random.hpp"

namespace char_lm {
namespace {

// Deals the positions in random order, shuffled anew each time all have been dealt.
class shuffled_positions {
 public:
  shuffled_positions(std::vector<std::int64_t> positions, std::uint64_t seed)
      : positions_(std::move(positions)), random_(seed), next_(positions_.size()) {}

  void deal(std::vector<std::int64_t>& batch) {
    for (std::int64_t& position : batch) {
      if (next_ == positions_.size()) shuffle();
      position = positions_[next_++];
    }
  }

 private:
  void shuffle() {
    for (std::size_t i = positions_.size(); i > 1; --i) {
      const auto other = static_cast<std::size_t>(random_.below(static_cast<std::int64_t>(i)));
      std::swap(positions_[i - 1], positions_[other]);
    }
    next_ = 0;
  }

  std::vector<std::int64_t> positions_;
  random_source random_;
  std::size_t next_;
};

// A short warm-up, then linear to 0: step 1 to `steps`.
double learning_rate(double peak, std::int64_t step, std::int64_t warm_up, std::int64_t steps) {
  const auto now = static_cast<double>(step);
  const double rising = now / static_cast<double>(warm_up);
  const double falling = 1 - now / static_cast<double>(steps + 1);
  return peak * std::min(rising, 1.0) * falling;
}

}  // namespace

double bits_per_character(model<float>& net, const encoded_text& text) {
  const std::int64_t all = std::ssize(text.positions);
  double nats = 0;
  for (std::int64_t first = 0; first < all;) {
    const std::int64_t count = std::min(net.capacity(), all - first);
    nats += net.loss({text.symbols.data(), text.positions.data() + first, count}) *
            static_cast<double>(count);
    first += count;
  }
  return nats / static_cast<double>(all) / std::numbers::ln2;
}

training_result train(model<float>& net, optimizer& with, const encoded_text& training,
                      const encoded_text& held_out, const options& chosen, progress& display) {
  shuffled_positions source(training.positions, chosen.seed);
  std::vector<std::int64_t> batch(static_cast<std::size_t>(chosen.batch));
  std::int64_t steps = chosen.steps;
  const std::int64_t warm_up = std::max<std::int64_t>(std::min<std::int64_t>(100, steps / 10), 1);
  random_source dropout_keys(chosen.seed + 1);

  training_result result{};
  double measuring = 0;
  double nats = 0;  // sums since the last reported line
  double update_squares = 0;
  double snr = 0;
  double terms = 0;
  int reports = 0;
  const stopwatch watch;
  for (std::int64_t step = 1; step <= steps; ++step) {
    source.deal(batch);
    const double loss = net.loss_and_gradient({training.symbols.data(), batch.data(), chosen.batch},
                                              {chosen.dropout, dropout_keys.bits()});
    if (!std::isfinite(loss))
      throw std::runtime_error("the training loss is not finite at step " + std::to_string(step) +
                               "; try a smaller --lr");
    with.step(learning_rate(chosen.lr, step, warm_up, steps));

    const double elapsed = watch.seconds();
    if (chosen.seconds > 0 && step >= warm_up) {
      const double affordable = static_cast<double>(step) * chosen.seconds / elapsed;
      if (affordable < static_cast<double>(steps))
        steps = std::max(step, static_cast<std::int64_t>(affordable));
    }

    nats += loss;
    update_squares += with.update_rms() * with.update_rms();
    snr += with.snr();
    terms += 1;
    const double tokens = static_cast<double>(step * chosen.batch);
    const training_state state{
        step,
        steps,
        nats / terms / std::numbers::ln2,
        std::sqrt(update_squares / terms),
        snr / terms,
        tokens / (elapsed - measuring),
        elapsed / static_cast<double>(step) * static_cast<double>(steps - step)};
    if (step * 10 >= (reports + 1) * steps) {
      {
        const add_elapsed timer(measuring);
        result.curve.push_back({step, bits_per_character(net, held_out)});
      }
      display.line(state, result.held_out_bits());
      reports = static_cast<int>(step * 10 / steps);
      nats = update_squares = snr = terms = 0;
    } else {
      display.draw(state);
    }
  }
  result.steps = steps;
  result.seconds = watch.seconds() - measuring;
  return result;
}

}  // namespace char_lm
