// A new file on its way: gathers small writes into large ones. Threads: one at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/align.h"
#include "vmm/base/result.h"
#include "vmm/store/store_files.h"

namespace pacsvisor {

class AppendBuffer {
 public:
  explicit AppendBuffer(std::unique_ptr<StoreFile> file) : file_(std::move(file)) {}

  Status Append(std::span<const uint8_t> bytes) {
    offset_ += bytes.size();
    while (!bytes.empty()) {
      const size_t part = std::min(bytes.size(), kWriteBytes - buffer_.size());
      buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(part));
      bytes = bytes.subspan(part);
      if (buffer_.size() == kWriteBytes) {
        TRY(Flush());
      }
    }
    return {};
  }
  // Hands everything to the file; durable after Sync.
  Status Flush() {
    if (!buffer_.empty()) {
      TRY(file_->Append(buffer_));
      buffer_.clear();
    }
    return {};
  }
  Status Sync() {
    TRY(Flush());
    return file_->Sync();
  }
  uint64_t offset_bytes() const { return offset_; }  // of the next byte

 private:
  static constexpr size_t kWriteBytes = kMiB;

  std::unique_ptr<StoreFile> file_;
  std::vector<uint8_t> buffer_;
  uint64_t offset_ = 0;
};

}  // namespace pacsvisor
