// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <cstdarg>
#include <cstdio>

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

}  // namespace

void print_report(const corpus& text, const model<float>& net, const optimizer_context& context,
                  const adamw& optimizer, const training_result& result, const options& chosen) {
  const std::string training = join(text.training);
  const std::string held_out = join(text.held_out);
  std::printf("\nHeld-out text, bits per character\n");
  row("this model", "%7.3f", result.held_out_bits);
  compressor_rows({"xz", "-9e"}, training, held_out);
  compressor_rows({"gzip", "-9"}, training, held_out);
  row("unigram entropy", "%7.3f", unigram_entropy(held_out));

  const auto parameters = static_cast<double>(net.parameters());
  const auto steps = static_cast<double>(result.steps);
  std::printf("\nTraining\n");
  row("parameters", "%7.0f", parameters);
  row("steps", "%7.0f of %lld tokens%s", steps, static_cast<long long>(chosen.batch),
      result.steps < chosen.steps ? ", fewer than asked for: --seconds was the limit" : "");
  row("time", "%7.1f s", result.seconds);
  row("tokens per second; a token is a character", "%7.0f",
      steps * static_cast<double>(chosen.batch) / result.seconds);

  // Reads param, grad, exp_avg, exp_avg_sq; writes all but grad: seven times four bytes.
  constexpr double bytes_per_parameter = 28;
  const double step = optimizer.step_seconds();
  std::printf("\nOptimizer: AdamW in f32, %s, threads: %d\n", context.isa().c_str(),
              context.threads());
  row("time in the AdamW step", "%7.2f s, %.1f %% of training, %.0f us per step", step,
      100 * step / result.seconds, 1e6 * step / steps);
  row("time in the gradient norm, for clipping", "%7.2f s, %.1f %% of training, %.0f us per step",
      optimizer.norm_seconds(), 100 * optimizer.norm_seconds() / result.seconds,
      1e6 * optimizer.norm_seconds() / steps);
  row("memory traffic of the AdamW step",
      "%7.1f GB/s: 28 bytes per parameter, f32 read and written",
      bytes_per_parameter * parameters * steps / step * 1e-9);
  row("buffers of the AdamW step", "%7.1f MB, which may stay in cache", 16e-6 * parameters);
}

}  // namespace char_lm
