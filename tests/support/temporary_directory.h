// A directory of a test's own, removed with all it holds.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "vmm/base/check.h"

namespace pacsvisor {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "pacsvisor-XXXXXX").string();
    CHECK(::mkdtemp(name.data()) != nullptr, "{}", name);
    path_ = name;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // A file of `size_bytes` zeroes.
  std::filesystem::path MakeFile(const std::string& name, uint64_t size_bytes) const {
    const std::filesystem::path file = path_ / name;
    const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ::ftruncate(fd, static_cast<off_t>(size_bytes)) == 0, "{}", file.string());
    ::close(fd);
    return file;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace pacsvisor
