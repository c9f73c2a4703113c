// SPDX-License-Identifier: Apache-2.0
//
// Trains a character-level language model on text files with libsteepest's AdamW and Muon.
//   text        reading, splitting, vocabulary
//   model       forward and backward; matmul and workers below it
//   optimizer   the calls to libsteepest
//   train       the loop; progress shows it
//   report      the tables at the end; compressors for comparison
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

// OpenBLAS does Muon's matrix products. How many threads it may have is for the program to say.
extern "C" void openblas_set_num_threads(int threads);

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
  openblas_set_num_threads(context.threads());
  workers threads(context.threads());
  const model_shape shape{known.size(), chosen.context, chosen.embedding, chosen.hidden,
                          chosen.layers};
  constexpr double memory_limit = 2e9;
  if (const double memory = training_memory(shape, chosen.batch); memory > memory_limit)
    throw std::runtime_error("this model and batch need " + std::to_string(memory * 1e-9) +
                             " GB of memory, 2 GB is the limit here; try a smaller --hidden, "
                             "--layers, --context, --embed or --batch");
  const double predicted = std::sqrt((1 - chosen.beta1) / (1 + chosen.beta1));
  std::printf(
      "Model: %lld characters x %lld, %lld hidden layers of %lld, softmax over %d\n"
      "Update RMS is the update before the learning rate, over all parameters. Adam's is "
      "predicted\n"
      "to be sqrt((1-beta1)/(1+beta1)) after warm-up, where noise dominates the gradients; Muon's "
      "is\n"
      "scaled to that. SNR is the gradients' signal-to-noise ratio |mean|^2 / |deviation|^2, read "
      "off\n"
      "the momentum.\n",
      static_cast<long long>(chosen.context), static_cast<long long>(chosen.embedding),
      static_cast<long long>(chosen.layers), static_cast<long long>(chosen.hidden), known.size());

  // Both trainings start from the same parameters and see the same batches.
  std::vector<outcome> outcomes;
  std::int64_t parameters = 0;
  std::string text_sample;
  for (const bool muon : {false, true}) {
    if (chosen.optimizer == (muon ? "adamw" : "muon")) continue;
    options current = chosen;
    if (!outcomes.empty()) {
      current.steps = outcomes.front().training.steps;
      current.seconds = 0;
    }
    outcome result;
    result.optimizer = muon ? "Muon + AdamW" : "AdamW";
    std::printf("\n%s\n", muon ? "Muon on the hidden matrices, AdamW on the rest" : "AdamW");
    model<float> net(shape, chosen.batch, chosen.seed, threads);
    optimizer with(
        context, net.tensors(),
        {muon, chosen.beta1, chosen.beta2, chosen.weight_decay, chosen.momentum, chosen.clip});
    progress display(predicted);
    result.training = train(net, with, training, held_out, current, display);
    result.norm_seconds = with.norm_seconds();
    result.adamw_seconds = with.adamw_seconds();
    result.muon_seconds = with.muon_seconds();
    result.hidden = hidden_spectra(context, net.tensors());
    outcomes.push_back(result);
    parameters = net.parameters();
    if (chosen.sample_length > 0) text_sample = sample(net, known, join(text.held_out), chosen);
  }
  print_report(text, parameters, context, outcomes, chosen);
  if (chosen.sample_length > 0)
    std::printf("\nSample of the last model at temperature %g\n%s\n", chosen.temperature,
                text_sample.c_str());
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
