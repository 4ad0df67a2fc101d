// A file as a space: a raw disk image, read and written outside its disk engine while nothing else
// does.
#pragma once

#include <memory>
#include <string>

#include "vmm/base/unique_fd.h"
#include "vmm/snapshot/space.h"

namespace pacsvisor {

class FileSpace : public Space {
 public:
  static constexpr uint32_t kBlockBytes = 4096;

  enum class Mode { kRead, kCreate };
  // kRead: of an existing file. kCreate: a new file of `size_bytes` zeroes; an existing one is not
  // touched (kBusy).
  static Result<std::unique_ptr<FileSpace>> Open(std::string name, const std::string& path,
                                                 Mode mode, uint64_t size_bytes = 0);

  const std::string& name() const override { return name_; }
  uint32_t block_bytes() const override { return kBlockBytes; }
  uint64_t block_count() const override { return block_count_; }
  uint64_t size_bytes() const { return size_bytes_; }
  // The last block may reach behind the file's end: it reads as zeroes there.
  Status Read(BlockIndex first, std::span<uint8_t> bytes) const override;
  Status Write(BlockIndex first, std::span<const uint8_t> bytes) override;
  Status Sync();

 private:
  FileSpace(std::string name, std::string path, UniqueFd fd, uint64_t size_bytes);

  const std::string name_;
  const std::string path_;
  const UniqueFd fd_;
  const uint64_t size_bytes_;
  const uint64_t block_count_;
};

}  // namespace pacsvisor
