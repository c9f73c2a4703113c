// SPDX-License-Identifier: Apache-2.0
#include "input.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

#include "command.hpp"
#include "quoted.hpp"

namespace tool {
namespace {

[[noreturn]] void fail(const std::string& path, const std::string& why) {
  throw failure(exit_input, path + ": " + why);
}

class descriptor {
 public:
  explicit descriptor(const std::string& path) : path_(path), number_(open(path.c_str(), flags)) {
    if (number_ < 0) fail(path, std::strerror(errno));
  }
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  ~descriptor() { close(number_); }

  // Of a file that has one.
  std::size_t size() const {
    struct stat status = {};
    if (fstat(number_, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
    return static_cast<std::size_t>(status.st_size);
  }
  // 0 at the end.
  std::size_t read_some(std::byte* to, std::size_t most) const {
    for (;;) {
      const ssize_t count = read(number_, to, most);
      if (count >= 0) return static_cast<std::size_t>(count);
      if (errno != EINTR) fail(path_, std::strerror(errno));
    }
  }

 private:
  static constexpr int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY;
  const std::string& path_;
  int number_;
};

}  // namespace

std::vector<std::byte> read_file(const std::string& path) {
  const descriptor file(path);
  // One more than it should have, to see the end without another round.
  std::vector<std::byte> bytes(file.size() + 1);
  std::size_t filled = 0;
  while (const std::size_t count = file.read_some(bytes.data() + filled, bytes.size() - filled)) {
    filled += count;
    if (filled == bytes.size()) bytes.resize(2 * filled);
  }
  bytes.resize(filled);
  return bytes;
}

std::vector<double> read_numbers(const std::string& path) {
  const std::vector<std::byte> bytes = read_file(path);
  std::string_view rest(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::vector<double> numbers;
  for (int line = 1; !rest.empty(); ++line) {
    std::string_view here = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(here.size() + 1, rest.size()));
    here = here.substr(0, here.find('#'));
    for (;;) {
      const std::size_t start = here.find_first_not_of(" \t\r");
      if (start == std::string_view::npos) break;
      here.remove_prefix(start);
      const std::string_view word = here.substr(0, here.find_first_of(" \t\r"));
      double value = 0;
      const char* const end = word.data() + word.size();
      const auto [stopped, error] = std::from_chars(word.data(), end, value);
      if (error != std::errc() || stopped != end)
        fail(path, "line " + std::to_string(line) + ": " + quoted(word) + " is not a number");
      numbers.push_back(value);
      here.remove_prefix(word.size());
    }
  }
  if (numbers.empty()) fail(path, "holds no numbers");
  return numbers;
}

}  // namespace tool
