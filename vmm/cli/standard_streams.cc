#include "vmm/cli/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace pacsvisor {
namespace {

int g_output_error = 0;

void NoteOutputError(int error_number) {
  g_output_error = g_output_error == 0 ? error_number : g_output_error;
}

}  // namespace

bool OpenClosedStandardStreams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) >= 0) {
      continue;
    }
    // Without O_CLOEXEC, as any of the three; the lowest number that is free is this one.
    if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) {
      return false;
    }
  }
  return true;
}

void PrintText(std::FILE* stream, std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stream) != text.size() && stream == stdout) {
    NoteOutputError(errno);
  }
}

int FinishStandardOutput() {
  if (std::fflush(stdout) != 0) {
    NoteOutputError(errno);
  }
  if (g_output_error == 0 && std::ferror(stdout) != 0) {
    NoteOutputError(EIO);  // a library's write, its errno is gone
  }
  return g_output_error == EPIPE ? 0 : g_output_error;
}

}  // namespace pacsvisor
