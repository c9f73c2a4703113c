// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <CLI/CLI.hpp>
#include <cstdlib>

namespace char_lm {
namespace {

// CLI::Range lets NaN pass.
CLI::Validator between(double low, double high, const std::string& description) {
  return CLI::Validator(
      [=](const std::string& text) {
        double value = 0;
        if (CLI::detail::lexical_cast(text, value) && value >= low && value <= high)
          return std::string();
        return text + " is not a number that is " + description;
      },
      "", "between");
}

}  // namespace

bool parse_options(int argc, char** argv, options& chosen, int& exit_code) {
  CLI::App app(
      "Trains a character-level language model on English text with libsteepest: with AdamW, and\n"
      "once more with Muon on the hidden matrices, at the same learning rate. Compares the two, "
      "and\n"
      "their held-out bits per character with gzip's and xz's, and writes a sample.");
  app.get_formatter()->column_width(28);
  app.option_defaults()->always_capture_default();

  constexpr double any = 1e12;
  const CLI::Validator positive = between(1e-300, any, "above 0");
  const CLI::Validator not_negative = between(0, any, "0 or more");
  const CLI::Validator below_one = between(0, 1 - 0x1p-53, "in [0, 1)");
  const auto count = [](double low, double high) {
    return between(low, high,
                   "from " + std::to_string(static_cast<std::int64_t>(low)) + " to " +
                       std::to_string(static_cast<std::int64_t>(high)));
  };

  app.add_option("--text", chosen.text,
                 "Text files to train on; without it those in /usr/share/common-licenses")
      ->type_name("FILE")
      ->default_str("");

  app.add_option("--context", chosen.context, "Characters that the model sees")
      ->check(count(1, 1024))
      ->group("Model");
  app.add_option("--embed", chosen.embedding, "Numbers per character")
      ->check(count(1, 4096))
      ->group("Model");
  app.add_option("--hidden", chosen.hidden, "Units per hidden layer")
      ->check(count(1, 16384))
      ->group("Model");
  app.add_option("--layers", chosen.layers, "Hidden layers")->check(count(1, 64))->group("Model");

  app.add_option("--optimizer", chosen.optimizer,
                 "adamw; muon: Muon on the hidden matrices, AdamW on the rest; both: one training\n"
                 "of each")
      ->check(CLI::IsMember({"adamw", "muon", "both"}))
      ->group("Training");
  app.add_option("--steps", chosen.steps, "Optimizer steps")
      ->check(count(1, 1e9))
      ->group("Training");
  app.add_option("--seconds", chosen.seconds,
                 "Time limit of a training: a machine too slow for all steps does fewer, and the\n"
                 "learning rate still ends at 0. The second training takes as many steps as the\n"
                 "first. 0: no limit, so that the result depends on the options alone")
      ->check(not_negative)
      ->group("Training");
  app.add_option("--batch", chosen.batch, "Examples per step")
      ->check(count(1, 65536))
      ->group("Training");
  app.add_option("--dropout", chosen.dropout, "Share of hidden units dropped in training")
      ->check(below_one)
      ->group("Training");
  app.add_option("--seed", chosen.seed, "Seed of all random choices")
      ->check(count(0, 1e15))
      ->group("Training");
  app.add_option("--threads", chosen.threads,
                 "Threads; 0: the cores this process may use. AdamW's\n"
                 "results are the same for any number")
      ->check(count(0, 1024))
      ->group("Training");

  app.add_option("--lr", chosen.lr, "Peak learning rate: short warm-up, then linear to 0")
      ->check(not_negative)
      ->group("AdamW");
  app.add_option("--beta1", chosen.beta1, "Decay of the first moment")
      ->check(below_one)
      ->group("AdamW");
  app.add_option("--beta2", chosen.beta2, "Decay of the second moment")
      ->check(below_one)
      ->group("AdamW");
  app.add_option("--weight-decay", chosen.weight_decay,
                 "Decay of the weight matrices, also with Muon; biases and embeddings have none")
      ->check(not_negative)
      ->group("AdamW");
  app.add_option("--momentum", chosen.momentum, "Muon's momentum (Nesterov)")
      ->check(below_one)
      ->group("Muon");
  app.add_option("--clip", chosen.clip, "Largest norm of the whole gradient")
      ->check(positive)
      ->group("AdamW");

  app.add_option("--temperature", chosen.temperature,
                 "Of the sample: 0 takes the likeliest character, 1 the model's probabilities")
      ->check(not_negative)
      ->group("Sample");
  app.add_option("--sample-length", chosen.sample_length, "Characters to write")
      ->check(count(0, 1e6))
      ->group("Sample");

  app.add_flag("--check-gradients", chosen.check_gradients)->group("");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    return false;
  }
  return true;
}

}  // namespace char_lm
