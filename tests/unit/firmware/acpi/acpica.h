// ACPICA's programs as oracles: their compiler and disassembler (iasl) and their interpreter
// (acpiexec).
#pragma once

#include <stdio.h>
#include <sys/wait.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "tests/support/temporary_directory.h"
#include "vmm/base/check.h"

namespace pacsvisor {

struct CommandResult {
  int status = -1;
  std::string output;  // both streams
};

// By the shell, limited in time.
inline CommandResult RunCommand(const std::string& command) {
  CommandResult result;
  FILE* pipe = ::popen(("timeout 60 " + command + " 2>&1 < /dev/null").c_str(), "r");
  CHECK(pipe != nullptr, "{}", command);
  char buffer[4096];
  size_t count;
  while ((count = ::fread(buffer, 1, sizeof(buffer), pipe)) > 0) {
    result.output.append(buffer, count);
  }
  const int status = ::pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

inline bool HasAcpica() {
  return RunCommand("sh -c 'command -v iasl && command -v acpiexec'").status == 0;
}

#define SKIP_WITHOUT_ACPICA()                                                     \
  if (!HasAcpica()) {                                                             \
    GTEST_SKIP() << "iasl and acpiexec are not installed (Debian: acpica-tools)"; \
  }

inline void WriteBytes(const std::filesystem::path& path, std::span<const uint8_t> bytes) {
  std::ofstream file(path, std::ios::binary);
  for (const uint8_t byte : bytes) {
    file.put(static_cast<char>(byte));
  }
  CHECK(file.good(), "{}", path.string());
}

inline std::string ReadText(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  CHECK(file.good(), "{}", path.string());
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// One table on disk, named as its signature says.
class TableFile {
 public:
  explicit TableFile(std::span<const uint8_t> table) : path_(directory_.path() / "table.dat") {
    WriteBytes(path_, table);
  }

  // `options` of iasl, which takes its files from and leaves them in this directory.
  CommandResult Iasl(const std::string& options) const {
    return RunCommand("sh -c 'cd " + directory_.path().string() + " && iasl " + options + "'");
  }
  // One batch command of the interpreter, as on hardware-reduced machines.
  CommandResult Execute(const std::string& command, const std::string& options = "") const {
    return RunCommand("acpiexec -r " + options + " -b \"" + command + "\" " + path_.string());
  }
  std::filesystem::path directory() const { return directory_.path(); }

 private:
  TemporaryDirectory directory_;
  std::filesystem::path path_;
};

}  // namespace pacsvisor
