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
#include "vmm/store/write_behind.h"

namespace pacsvisor {

class AppendBuffer {
 public:
  // `behind` is borrowed, and this one's alone while it lives; null: whoever appends writes.
  explicit AppendBuffer(std::unique_ptr<StoreFile> file, WriteBehind* behind = nullptr)
      : file_(std::move(file)), behind_(behind) {}
  ~AppendBuffer() {
    if (behind_ != nullptr) {
      behind_->Discard();
    }
  }
  AppendBuffer(const AppendBuffer&) = delete;
  AppendBuffer& operator=(const AppendBuffer&) = delete;

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
    if (buffer_.empty()) {
      return {};
    }
    if (behind_ != nullptr) {
      return behind_->Append(*file_, buffer_);
    }
    TRY(file_->Append(buffer_));
    buffer_.clear();
    return {};
  }
  Status Sync() {
    TRY(Flush());
    if (behind_ != nullptr) {
      TRY(behind_->Drain());
    }
    return file_->Sync();
  }
  uint64_t offset_bytes() const { return offset_; }  // of the next byte

 private:
  static constexpr size_t kWriteBytes = kMiB;

  std::unique_ptr<StoreFile> file_;
  WriteBehind* const behind_;
  std::vector<uint8_t> buffer_;
  uint64_t offset_ = 0;
};

}  // namespace pacsvisor
