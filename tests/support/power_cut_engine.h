// An IoEngine on a disk with a volatile cache, in memory: what is written is read back at once, but
// outlives a power cut for certain only when a sync followed its completion (or it was written
// durably). Of the rest a cut keeps any part, sector by sector, in any order.
// The host finishes operations in an order of its own choosing. Threads: one.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "vmm/base/event_fd.h"
#include "vmm/disk/block_request.h"
#include "vmm/disk/io_engine.h"

namespace pacsvisor {

class PowerCutEngine : public IoEngine {
 public:
  PowerCutEngine(uint64_t size_bytes, uint64_t seed)
      : random_(seed),
        event_(EventFd::Create().value()),
        durable_(size_bytes),
        current_(size_bytes) {}

  // The test's side: what the disk holds after a cut that happens now.
  std::vector<uint8_t> Cut() {
    std::vector<uint8_t> left = durable_;
    for (const auto& [sector, versions] : unsynced_) {
      // The latest of the versions that got through; or none, and the durable one stays.
      const size_t kept = random_() % (versions.size() + 1);
      if (kept > 0) {
        std::copy(versions[kept - 1].begin(), versions[kept - 1].end(), At(left, sector));
      }
    }
    return left;
  }
  uint64_t operation_count() const { return count_; }

  // IoEngine.
  std::string_view name() const override { return "power cut"; }
  Result<unsigned> AddFile(int) override { return next_file_++; }
  void RemoveFile(unsigned) override {}
  int wait_fd() const override { return event_.fd(); }
  bool Queue(IoOperation& operation) override {
    waiting_.push_back(&operation);
    return true;
  }
  void Submit() override { event_.Signal(); }
  // Carries out some of what waits, at least one.
  void Reap(std::vector<IoOperation*>& done) override {
    std::shuffle(waiting_.begin(), waiting_.end(), random_);
    const size_t count =
        waiting_.empty() ? 0 : 1 + static_cast<size_t>(random_()) % waiting_.size();
    for (size_t i = 0; i < count; ++i) {
      Run(*waiting_[i]);
      done.push_back(waiting_[i]);
    }
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(count));
    if (waiting_.empty()) {
      event_.Consume();
    }
  }
  unsigned in_flight() const override { return static_cast<unsigned>(waiting_.size()); }

 private:
  using Sector = std::vector<uint8_t>;

  static std::vector<uint8_t>::iterator At(std::vector<uint8_t>& bytes, uint64_t sector) {
    return bytes.begin() + static_cast<ptrdiff_t>(sector * kSectorSizeBytes);
  }

  void Run(IoOperation& operation) {
    ++count_;
    operation.result = 0;
    switch (operation.kind) {
      case IoKind::kRead:
        operation.result = CopyOut(operation);
        break;
      case IoKind::kWrite: {
        const std::vector<uint8_t> bytes = Gather(operation);
        Change(operation.offset_bytes, bytes, operation.durable);
        operation.result = static_cast<int64_t>(bytes.size());
        break;
      }
      case IoKind::kSync:
        durable_ = current_;
        unsynced_.clear();
        break;
      case IoKind::kPunchHole:
      case IoKind::kZeroRange:
        Change(operation.offset_bytes, std::vector<uint8_t>(operation.size_bytes), false);
        break;
    }
  }

  int64_t CopyOut(const IoOperation& operation) {
    uint64_t at = operation.offset_bytes;
    for (unsigned i = 0; i < operation.iovec_count; ++i) {
      std::memcpy(operation.iovecs[i].iov_base, current_.data() + at, operation.iovecs[i].iov_len);
      at += operation.iovecs[i].iov_len;
    }
    return static_cast<int64_t>(at - operation.offset_bytes);
  }

  static std::vector<uint8_t> Gather(const IoOperation& operation) {
    std::vector<uint8_t> bytes;
    for (unsigned i = 0; i < operation.iovec_count; ++i) {
      const auto* part = static_cast<const uint8_t*>(operation.iovecs[i].iov_base);
      bytes.insert(bytes.end(), part, part + operation.iovecs[i].iov_len);
    }
    return bytes;
  }

  void Change(uint64_t offset_bytes, const std::vector<uint8_t>& bytes, bool durable) {
    for (uint64_t at = 0; at < bytes.size(); at += kSectorSizeBytes) {
      const uint64_t sector = (offset_bytes + at) / kSectorSizeBytes;
      const Sector data(bytes.begin() + static_cast<ptrdiff_t>(at),
                        bytes.begin() + static_cast<ptrdiff_t>(at + kSectorSizeBytes));
      std::copy(data.begin(), data.end(), At(current_, sector));
      if (durable) {
        std::copy(data.begin(), data.end(), At(durable_, sector));
        unsynced_.erase(sector);
      } else {
        unsynced_[sector].push_back(data);
      }
    }
  }

  std::mt19937_64 random_;
  const EventFd event_;
  unsigned next_file_ = 0;
  uint64_t count_ = 0;
  std::vector<IoOperation*> waiting_;
  std::vector<uint8_t> durable_;
  std::vector<uint8_t> current_;
  std::map<uint64_t, std::vector<Sector>> unsynced_;  // by sector, oldest first
};

}  // namespace pacsvisor
