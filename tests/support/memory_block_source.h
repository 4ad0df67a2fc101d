// A BlockSource in memory whose fetches can be held back and fail: the store's snapshot in the
// tests of disks that are fetched lazily. Threads: any.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "vmm/base/thread_annotations.h"
#include "vmm/disk/block_source.h"

namespace pacsvisor {

class MemoryBlockSource : public BlockSource {
 public:
  static constexpr uint64_t kBlockBytes = 4096;

  explicit MemoryBlockSource(std::vector<uint8_t> bytes, std::string name = "snapshot 1 of /store")
      : name_(std::move(name)), bytes_(std::move(bytes)) {}

  // The test's side. Fetches of the thread that calls this are never held; 0: none is.
  void HoldOneIn(uint64_t number) {
    const MutexLock lock(mutex_);
    hold_one_in_ = number;
    free_thread_ = std::this_thread::get_id();
  }
  // The next fetch is held, whoever asks.
  void HoldNext() {
    const MutexLock lock(mutex_);
    hold_next_ = true;
  }
  // The record that names it stays until this is true again.
  void SetMayForget(bool may) { may_forget_ = may; }
  // What is held now goes on; what comes is held as before.
  void Release() {
    {
      const MutexLock lock(mutex_);
      ++releases_;
    }
    changed_.notify_all();
  }
  // The fetches numbered from `first` on, `count` of them, fail.
  void FailFrom(uint64_t first, uint64_t count) {
    const MutexLock lock(mutex_);
    fail_from_ = fetches_ + first;
    fail_until_ = count > UINT64_MAX - fail_from_ ? UINT64_MAX : fail_from_ + count;
  }
  void Mend() {
    const MutexLock lock(mutex_);
    fail_from_ = fail_until_ = 0;
  }
  uint64_t fetches() const {
    const MutexLock lock(mutex_);
    return fetches_;
  }
  size_t held() const {
    const MutexLock lock(mutex_);
    return held_;
  }
  uint64_t failures() const {
    const MutexLock lock(mutex_);
    return failures_;
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

  // BlockSource.
  std::string_view name() const override { return name_; }
  Status Fetch(BlockIndex first, std::span<uint8_t> bytes) override {
    const MutexLock lock(mutex_);
    const uint64_t number = fetches_++;
    const bool chosen = hold_one_in_ != 0 && random_() % hold_one_in_ == 0 &&
                        std::this_thread::get_id() != free_thread_;
    if (std::exchange(hold_next_, false) || chosen) {
      const uint64_t releases = releases_;
      ++held_;
      while (releases_ == releases) {
        changed_.wait(mutex_);
      }
      --held_;
    }
    if (number >= fail_from_ && number < fail_until_) {
      ++failures_;
      // Whoever looks at these all the same sees that they are wrong.
      std::fill(bytes.begin(), bytes.end(), uint8_t{0xdd});
      return Error::Make(ErrorCode::kCorrupt, "chunk {} fails its check", number);
    }
    const uint64_t at = first.raw() * kBlockBytes;
    const uint64_t inside = std::min<uint64_t>(bytes.size(), bytes_.size() - at);
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(at), inside, bytes.begin());
    std::fill(bytes.begin() + static_cast<ptrdiff_t>(inside), bytes.end(), uint8_t{0xcc});
    return {};
  }
  bool MayForget() const override { return may_forget_; }
  Result<uint64_t> ZeroRun(BlockIndex first) override {
    const uint64_t at = first.raw() * kBlockBytes;
    const auto begin = bytes_.begin() + static_cast<ptrdiff_t>(at);
    const auto data = std::find_if(begin, bytes_.end(), [](uint8_t byte) { return byte != 0; });
    const auto zeroes = static_cast<uint64_t>(data - begin);
    return data == bytes_.end() ? (zeroes + kBlockBytes - 1) / kBlockBytes : zeroes / kBlockBytes;
  }

 private:
  const std::string name_;
  const std::vector<uint8_t> bytes_;
  std::atomic<bool> may_forget_ = true;
  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  std::mt19937_64 random_ GUARDED_BY(mutex_);
  uint64_t hold_one_in_ GUARDED_BY(mutex_) = 0;
  bool hold_next_ GUARDED_BY(mutex_) = false;
  std::thread::id free_thread_ GUARDED_BY(mutex_);
  uint64_t releases_ GUARDED_BY(mutex_) = 0;
  uint64_t fetches_ GUARDED_BY(mutex_) = 0;
  uint64_t failures_ GUARDED_BY(mutex_) = 0;
  uint64_t fail_from_ GUARDED_BY(mutex_) = 0;
  uint64_t fail_until_ GUARDED_BY(mutex_) = 0;
  size_t held_ GUARDED_BY(mutex_) = 0;
};

}  // namespace pacsvisor
