// A file that is there under its name only when it is whole: it is written beside it under a
// temporary one, which goes when the object does. Threads: one.
#pragma once

#include <optional>
#include <string>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"
#include "vmm/disk/image_lock.h"

namespace pacsvisor {

class NewDiskFile {
 public:
  enum class Existing { kRefuse, kReplace };

  // Refused: a path that is there (unless it is to be replaced, is a file, and no machine uses it),
  // one beside which layers of an earlier disk lie. Mode 0600: what patients' data go to.
  static Result<NewDiskFile> Create(const std::string& path, Existing existing);
  NewDiskFile(NewDiskFile&& other) noexcept;
  NewDiskFile& operator=(NewDiskFile&&) = delete;
  ~NewDiskFile();

  int fd() const { return fd_.get(); }
  const std::string& temporary_path() const { return temporary_path_; }  // absolute
  // What was written is durable, and under its name, when it returns.
  Status Finish();

 private:
  NewDiskFile(std::string path, std::string temporary_path, UniqueFd fd, Existing existing)
      : path_(std::move(path)),
        temporary_path_(std::move(temporary_path)),
        fd_(std::move(fd)),
        existing_(existing) {}

  std::string path_;  // absolute
  std::string temporary_path_;
  UniqueFd fd_;
  Existing existing_;
  std::optional<ImageLock> replaced_;  // the claim on the file that is to be replaced
};

}  // namespace pacsvisor
