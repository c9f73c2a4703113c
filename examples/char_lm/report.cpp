// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <cstdarg>
#include <cstdio>
#include <functional>

#include "compressors.hpp"

namespace char_lm {
namespace {

[[gnu::format(printf, 2, 3)]] void row(const char* label, const char* format, ...) {
  std::printf("  %-42s ", label);
  va_list values;
  va_start(values, format);
  std::vprintf(format, values);
  va_end(values);
  std::printf("\n");
}

// What the held-out text adds to the compressed training text is what compares with the model,
// which has read the training text too.
void compressor_rows(const std::vector<std::string>& command, const std::string& training,
                     const std::string& held_out) {
  const std::string name = command[0] + " " + command[1];
  const auto before = compressed_size(command, training);
  const auto both = compressed_size(command, training + held_out);
  const auto alone = compressed_size(command, held_out);
  const std::string after_label = name + ", after the training text";
  const std::string alone_label = name + ", on its own";
  if (!before || !both || !alone) {
    const char* missing = "  not available: is it installed?";
    row(after_label.c_str(), "%s", missing);
    row(alone_label.c_str(), "%s", missing);
    return;
  }
  const double bits = 8.0 / static_cast<double>(held_out.size());
  row(after_label.c_str(), "%7.3f", static_cast<double>(*both - *before) * bits);
  row(alone_label.c_str(), "%7.3f", static_cast<double>(*alone) * bits);
}

// One row of the side-by-side table.
void side_by_side(const std::string& label, const std::vector<outcome>& outcomes,
                  const std::function<std::string(const outcome&)>& cell) {
  std::printf("  %-42s", label.c_str());
  for (const outcome& each : outcomes) std::printf(" %15s", cell(each).c_str());
  std::printf("\n");
}

[[gnu::format(printf, 1, 2)]] std::string text_of(const char* format, ...) {
  char text[64];
  va_list values;
  va_start(values, format);
  std::vsnprintf(text, sizeof text, format, values);
  va_end(values);
  return text;
}

// The first step at which the held-out loss is at most `bits`, between measurements by a straight
// line; 0 if it never is.
double steps_to_reach(double bits, const training_result& result) {
  const measurement* before = nullptr;
  for (const measurement& now : result.curve) {
    if (now.held_out_bits <= bits) {
      if (before == nullptr) return static_cast<double>(now.step);
      const double share =
          (before->held_out_bits - bits) / (before->held_out_bits - now.held_out_bits);
      return static_cast<double>(before->step) +
             share * static_cast<double>(now.step - before->step);
    }
    before = &now;
  }
  return 0;
}

void print_comparison(const std::vector<outcome>& outcomes) {
  const training_result& first = outcomes.front().training;
  std::printf("\n");
  side_by_side("", outcomes, [](const outcome& each) { return each.optimizer; });
  for (std::size_t i = 0; i < first.curve.size(); ++i)
    side_by_side(text_of("held-out bits per character at step %lld",
                         static_cast<long long>(first.curve[i].step)),
                 outcomes, [&](const outcome& each) {
                   return i < each.training.curve.size()
                              ? text_of("%.3f", each.training.curve[i].held_out_bits)
                              : std::string();
                 });
  side_by_side("steps to " + outcomes.front().optimizer + "'s last of these", outcomes,
               [&](const outcome& each) {
                 const double steps = steps_to_reach(first.held_out_bits(), each.training);
                 return steps > 0 ? text_of("%.0f", steps) : std::string("not reached");
               });
  const auto per_step = [](double seconds, const outcome& each) {
    return text_of("%.0f us", 1e6 * seconds / static_cast<double>(each.training.steps));
  };
  side_by_side("training time", outcomes,
               [](const outcome& each) { return text_of("%.1f s", each.training.seconds); });
  side_by_side("time in the optimizer", outcomes, [](const outcome& each) {
    return text_of("%.1f s", each.norm_seconds + each.adamw_seconds + each.muon_seconds);
  });
  side_by_side("  AdamW step", outcomes,
               [&](const outcome& each) { return per_step(each.adamw_seconds, each); });
  side_by_side("  Muon step", outcomes,
               [&](const outcome& each) { return per_step(each.muon_seconds, each); });
  side_by_side("  gradient norm, for clipping", outcomes,
               [&](const outcome& each) { return per_step(each.norm_seconds, each); });
  for (std::size_t i = 0; i < outcomes.front().hidden.size(); ++i) {
    const std::string& name = outcomes.front().hidden[i].name;
    side_by_side(name + ": singular entropy", outcomes,
                 [&](const outcome& each) { return text_of("%.3f", each.hidden[i].entropy); });
    side_by_side(name + ": spectral norm", outcomes,
                 [&](const outcome& each) { return text_of("%.2f", each.hidden[i].norm); });
  }
}

}  // namespace

void print_report(const corpus& text, std::int64_t parameters, const optimizer_context& context,
                  const std::vector<outcome>& outcomes, const options& chosen) {
  const std::string training = join(text.training);
  const std::string held_out = join(text.held_out);
  std::printf("\nHeld-out text, bits per character\n");
  for (const outcome& each : outcomes)
    row(("this model, trained with " + each.optimizer).c_str(), "%7.3f",
        each.training.held_out_bits());
  compressor_rows({"xz", "-9e"}, training, held_out);
  compressor_rows({"gzip", "-9"}, training, held_out);
  row("unigram entropy", "%7.3f", unigram_entropy(held_out));

  const training_result& first = outcomes.front().training;
  std::printf("\nTraining: %lld parameters, %lld steps of %lld characters%s; %s, threads: %d\n",
              static_cast<long long>(parameters), static_cast<long long>(first.steps),
              static_cast<long long>(chosen.batch),
              first.steps < chosen.steps ? ", fewer than asked for: --seconds was the limit" : "",
              context.isa().c_str(), context.threads());
  print_comparison(outcomes);
  if (outcomes.front().muon_seconds > 0) return;
  // Reads param, grad, exp_avg, exp_avg_sq; writes all but grad: seven times four bytes.
  constexpr double bytes_per_parameter = 28;
  row("memory traffic of AdamW alone", "%7.1f GB/s: 28 bytes per parameter, f32 read and written",
      bytes_per_parameter * static_cast<double>(parameters) * static_cast<double>(first.steps) /
          outcomes.front().adamw_seconds * 1e-9);
}

}  // namespace char_lm
