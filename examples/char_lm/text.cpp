// SPDX-License-Identifier: Apache-2.0
#include "text.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <string_view>
#include <unordered_set>

namespace char_lm {
namespace {

namespace fs = std::filesystem;

constexpr const char* default_directory = "/usr/share/common-licenses";
constexpr std::uintmax_t largest_text = 32u << 20;  // the compressors take minutes beyond that
constexpr std::size_t smallest_text = 4096;

std::vector<std::string> default_files() {
  std::error_code error;
  std::vector<std::string> paths;
  for (fs::directory_iterator entry(default_directory, error), end; !error && entry != end;
       entry.increment(error)) {
    // Debian links GPL to GPL-3 and so on: a link would be the same text again.
    if (!entry->is_symlink(error) && entry->is_regular_file(error))
      paths.push_back(entry->path().string());
  }
  if (paths.empty())
    throw text_error(std::string(default_directory) +
                     ": no text there on this machine; name text files with --text");
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string read_file(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) throw text_error(path + ": no such file");
  if (error) throw text_error(path + ": " + error.message());
  if (fs::is_directory(status)) throw text_error(path + ": is a directory; name its text files");
  if (!fs::is_regular_file(status)) throw text_error(path + ": not a regular file");
  if (fs::file_size(path, error) > largest_text)
    throw text_error(path + ": larger than 32 MiB; train on an excerpt");

  std::ifstream file(path, std::ios::binary);
  if (!file) throw text_error(path + ": cannot be opened: " + std::strerror(errno));
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) throw text_error(path + ": cannot be read: " + std::strerror(errno));
  if (text.empty()) throw text_error(path + ": is empty");
  if (text.find('\0') != std::string::npos)
    throw text_error(path + ": is not text: it contains NUL bytes");
  return text;
}

std::string_view next_line(std::string_view& rest) {
  const std::size_t end = rest.find_first_of("\n\f");
  const std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return line;
}

// The line without indentation, with one space between words, and without control characters, which
// could reach a terminal through a sample.
std::string plain(std::string_view line) {
  std::string result;
  for (const char c : line) {
    const auto byte = static_cast<unsigned char>(c);
    const bool blank = c == ' ' || c == '\t' || c == '\r';
    if (blank && (result.empty() || result.back() == ' ')) continue;
    if (blank)
      result += ' ';
    else
      result += byte < 32 || byte == 127 ? '?' : c;
  }
  if (!result.empty() && result.back() == ' ') result.pop_back();
  return result;
}

// Appends the paragraphs of `text` that are not in `seen`, where line breaks make no difference.
void append_new_paragraphs(std::string_view text, std::unordered_set<std::string>& seen,
                           std::string& result) {
  std::string paragraph;
  const auto finish = [&] {
    std::string words = paragraph;
    std::replace(words.begin(), words.end(), '\n', ' ');
    if (!words.empty() && seen.insert(words).second) result += paragraph + '\n';
    paragraph.clear();
  };
  while (!text.empty()) {
    const std::string line = plain(next_line(text));
    if (line.empty())
      finish();
    else
      paragraph += line + '\n';
  }
  finish();
}

}  // namespace

corpus read_corpus(const std::vector<std::string>& named) {
  corpus result;
  std::string text;
  std::set<fs::path> read;
  std::unordered_set<std::string> seen;
  for (const std::string& path : named.empty() ? default_files() : named) {
    const std::string file = read_file(path);
    if (!read.insert(fs::canonical(path)).second) continue;
    result.files += 1;
    result.characters_read += static_cast<std::int64_t>(file.size());
    append_new_paragraphs(file, seen, text);
    if (text.size() > largest_text)
      throw text_error(path + ": the files together exceed 32 MiB; train on fewer");
  }
  if (text.size() < smallest_text)
    throw text_error((named.empty() ? std::string(default_directory) : named.back()) +
                     ": too short: " + std::to_string(text.size()) +
                     " characters without repeated paragraphs, at least " +
                     std::to_string(smallest_text) + " are needed");

  // Every tenth passage, spread over the text, so that the held-out part is not one odd document.
  const std::size_t passages = std::clamp<std::size_t>(text.size() / 1000, 10, 1000);
  for (std::size_t i = 0; i < passages; ++i) {
    const std::size_t begin = text.size() * i / passages;
    const std::size_t end = text.size() * (i + 1) / passages;
    (i % 10 == 9 ? result.held_out : result.training).push_back(text.substr(begin, end - begin));
  }
  return result;
}

std::string join(const std::vector<std::string>& passages) {
  std::string result;
  for (const std::string& passage : passages) result += passage;
  return result;
}

vocabulary::vocabulary(const std::vector<std::string>& training) {
  std::array<bool, 256> present{};
  present['?'] = true;
  for (const std::string& passage : training)
    for (const char c : passage) present[static_cast<unsigned char>(c)] = true;
  bytes_ = '\0';
  for (std::size_t byte = 1; byte < 256; ++byte) {
    if (!present[byte]) continue;
    symbols_[byte] = static_cast<std::uint8_t>(bytes_.size());
    bytes_ += static_cast<char>(byte);
  }
}

void replace_unknown(std::vector<std::string>& passages, const vocabulary& known) {
  for (std::string& passage : passages)
    for (char& c : passage)
      if (known.symbol(c) == 0) c = '?';
}

encoded_text encode(const std::vector<std::string>& passages, const vocabulary& known,
                    std::int64_t context) {
  encoded_text result;
  for (const std::string& passage : passages) {
    result.symbols.insert(result.symbols.end(), static_cast<std::size_t>(context), 0);
    for (const char c : passage) {
      result.positions.push_back(static_cast<std::int64_t>(result.symbols.size()));
      result.symbols.push_back(known.symbol(c));
    }
  }
  return result;
}

double unigram_entropy(const std::string& text) {
  std::array<double, 256> count{};
  for (const char c : text) count[static_cast<unsigned char>(c)] += 1;
  double bits = 0;
  for (const double n : count)
    if (n > 0) bits -= n * std::log2(n / static_cast<double>(text.size()));
  return bits / static_cast<double>(text.size());
}

}  // namespace char_lm
