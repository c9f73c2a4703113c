// SPDX-License-Identifier: Apache-2.0
#include "compressors.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>

extern char** environ;

namespace char_lm {
namespace {

struct close_file {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using file_handle = std::unique_ptr<std::FILE, close_file>;

// Runs the command between the two files; true if it succeeds.
bool run(const std::vector<std::string>& command, std::FILE* input, std::FILE* output) {
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, fileno(input), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, fileno(output), STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, arguments[0], &files, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (failed != 0) return false;

  int status = 0;
  while (waitpid(child, &status, 0) == -1)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

std::optional<std::int64_t> compressed_size(const std::vector<std::string>& command,
                                            const std::string& text) {
  // Files rather than pipes: a program may write before it has read everything.
  const file_handle input(std::tmpfile());
  const file_handle output(std::tmpfile());
  if (!input || !output) return std::nullopt;
  if (std::fwrite(text.data(), 1, text.size(), input.get()) != text.size()) return std::nullopt;
  std::rewind(input.get());  // also writes out what is buffered
  if (!run(command, input.get(), output.get())) return std::nullopt;
  return lseek(fileno(output.get()), 0, SEEK_END);
}

}  // namespace char_lm
