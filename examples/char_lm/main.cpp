// SPDX-License-Identifier: Apache-2.0
//
// Trains a character-level language model on text files with libsteepest's AdamW.
//   text        reading, splitting, vocabulary
//   model       forward and backward; matmul and workers below it
//   optimizer   the calls to libsteepest
//   train       the loop; progress shows it
//   report      the table at the end; compressors for comparison
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "gradient_check.hpp"
#include "model.hpp"
#include "optimizer.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "sample.hpp"
#include "text.hpp"
#include "train.hpp"

namespace char_lm {
namespace {

void run(const options& chosen) {
  corpus text = read_corpus(chosen.text);
  const vocabulary known(text.training);
  replace_unknown(text.held_out, known);
  const encoded_text training = encode(text.training, known, chosen.context);
  const encoded_text held_out = encode(text.held_out, known, chosen.context);
  std::printf(
      "Text: %lld files, %lld characters; %zu to train on, %zu held out (every tenth "
      "passage);\n      paragraphs that had occurred before are left out; %d different "
      "characters\n",
      static_cast<long long>(text.files), static_cast<long long>(text.characters_read),
      training.positions.size(), held_out.positions.size(), known.size() - 1);

  const optimizer_context context(chosen.threads);
  workers threads(context.threads());
  const model_shape shape{known.size(), chosen.context, chosen.embedding, chosen.hidden,
                          chosen.layers};
  constexpr double memory_limit = 2e9;
  if (const double memory = training_memory(shape, chosen.batch); memory > memory_limit)
    throw std::runtime_error("this model and batch need " + std::to_string(memory * 1e-9) +
                             " GB of memory, 2 GB is the limit here; try a smaller --hidden, "
                             "--layers, --context, --embed or --batch");
  model<float> net(shape, chosen.batch, chosen.seed, threads);
  std::printf(
      "Model: %lld parameters: %lld characters x %lld, %lld hidden layers of %lld, "
      "softmax over %d\n",
      static_cast<long long>(net.parameters()), static_cast<long long>(chosen.context),
      static_cast<long long>(chosen.embedding), static_cast<long long>(chosen.layers),
      static_cast<long long>(chosen.hidden), known.size());
  adamw optimizer(context, net.tensors(),
                  {chosen.beta1, chosen.beta2, chosen.weight_decay, chosen.clip});

  const double predicted = std::sqrt((1 - chosen.beta1) / (1 + chosen.beta1));
  std::printf(
      "Update RMS is Adam's update before the learning rate, over all parameters. Predicted:\n"
      "sqrt((1-beta1)/(1+beta1)), after warm-up, where noise dominates the gradients. SNR is the\n"
      "gradients' signal-to-noise ratio |mean|^2 / |deviation|^2, read off the momentum.\n\n");
  progress display(predicted);
  const training_result result = train(net, optimizer, training, held_out, chosen, display);
  print_report(text, net, context, optimizer, result, chosen);
  if (chosen.sample_length > 0)
    std::printf("\nSample at temperature %g\n%s\n", chosen.temperature,
                sample(net, known, join(text.held_out), chosen).c_str());
}

}  // namespace
}  // namespace char_lm

int main(int argc, char** argv) {
  char_lm::options chosen;
  int exit_code = EXIT_SUCCESS;
  if (!char_lm::parse_options(argc, argv, chosen, exit_code)) return exit_code;
  try {
    if (chosen.check_gradients) return char_lm::check_gradients(3) ? EXIT_SUCCESS : EXIT_FAILURE;
    char_lm::run(chosen);
    return EXIT_SUCCESS;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "char_lm: not enough memory for this model and batch\n");
  } catch (const std::exception& error) {
    std::fflush(stdout);
    std::fprintf(stderr, "char_lm: %s\n", error.what());
  }
  return EXIT_FAILURE;
}
