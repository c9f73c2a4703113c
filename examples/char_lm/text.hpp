// SPDX-License-Identifier: Apache-2.0
//
// From files on disk to numbered characters: reading, splitting, vocabulary.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace char_lm {

// A file that cannot be used; what() names it and says why.
struct text_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The text as two sets of passages. A context window never crosses from one passage to another, so
// nothing of a held-out passage is seen in training, not even as context.
struct corpus {
  std::vector<std::string> training;
  std::vector<std::string> held_out;
  std::int64_t files = 0;
  std::int64_t characters_read = 0;  // before repeated paragraphs are left out
};

// Reads the files, or those in /usr/share/common-licenses if none are named. Paragraphs that
// occurred before (licences quote each other) are kept once, so that the held-out part is not a
// copy of training text. Indentation and runs of spaces are removed. Throws text_error.
corpus read_corpus(const std::vector<std::string>& paths);

std::string join(const std::vector<std::string>& passages);

// Symbol 0 stands for "before the passage begins"; the others are the bytes of the training text.
class vocabulary {
 public:
  explicit vocabulary(const std::vector<std::string>& training);

  int size() const { return static_cast<int>(bytes_.size()); }
  std::uint8_t symbol(char byte) const { return symbols_[static_cast<unsigned char>(byte)]; }
  char byte(int symbol) const { return bytes_[static_cast<std::size_t>(symbol)]; }

 private:
  std::array<std::uint8_t, 256> symbols_{};
  std::string bytes_;
};

// Bytes that the training text lacks become '?', in the held-out text itself, so that the model and
// the compressors are measured on the same characters.
void replace_unknown(std::vector<std::string>& passages, const vocabulary& known);

// All passages as one row of symbols, each passage led by `context` times symbol 0. `positions` are
// the places of the characters to predict; the `context` symbols before each are its window.
struct encoded_text {
  std::vector<std::uint8_t> symbols;
  std::vector<std::int64_t> positions;
};
encoded_text encode(const std::vector<std::string>& passages, const vocabulary& known,
                    std::int64_t context);

// Entropy of the text's own character frequencies, in bits per character: what a model that knows
// nothing but the frequencies cannot beat.
double unigram_entropy(const std::string& text);

}  // namespace char_lm
