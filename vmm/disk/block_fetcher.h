// Fetches from a BlockSource on threads of its own: decompressing and verifying is not the disk's
// worker's time, and a source that hangs holds up nobody but who needs its blocks.
//
// The guest's fetches come before those of merging, which never take the last thread. Bytes go to
// the guest's buffers only when they are verified, and with no lock of the source held. Threads:
// Create, Start, Poll and the destructor by one at a time (the disk's worker).
#pragma once

#include <sys/uio.h>

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "vmm/base/log.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/disk/block_source.h"
#include "vmm/disk/transfer_owner.h"

namespace pacsvisor {

class BlockFetcher {
 public:
  static constexpr size_t kThreads = 2;

  struct Fetch {
    uint64_t offset_bytes = 0;  // of the disk; any multiple of 512
    uint64_t size_bytes = 0;
    std::vector<iovec> iovecs;  // of `size_bytes`; the buffers stay until Poll reports the end
    bool background = false;    // merging: comes last, and looks for zeroes behind itself
    TransferOwner* owner = nullptr;
  };
  struct Finished {
    TransferOwner* owner = nullptr;
    int error_number = 0;
  };
  // Blocks [first, end) of the source are zeroes.
  struct Zeroes {
    uint64_t first = 0;
    uint64_t end = 0;
    bool Hold(uint64_t block) const { return first <= block && block < end; }
  };

  // `wake` is called on the fetcher's threads when Poll has something; it does not wait. `disk`:
  // its name, for messages; of `block_count` blocks.
  static Result<std::unique_ptr<BlockFetcher>> Create(std::shared_ptr<BlockSource> source,
                                                      std::string disk, uint64_t block_count,
                                                      std::function<void()> wake);
  // Waits for the fetches that are under way.
  ~BlockFetcher();

  void Start(Fetch fetch);
  // Appends what has ended. How the last background fetch found the source behind itself, if one
  // has ended.
  std::optional<Zeroes> Poll(std::vector<Finished>& finished);

 private:
  BlockFetcher(std::shared_ptr<BlockSource> source, std::string disk, uint64_t block_count,
               std::function<void()> wake)
      : source_(std::move(source)),
        disk_(std::move(disk)),
        block_count_(block_count),
        wake_(std::move(wake)) {}
  void Run();
  Status Carry(const Fetch& fetch, std::vector<uint8_t>& memory);
  std::optional<Zeroes> ZeroesBehind(const Fetch& fetch);
  std::deque<Fetch>* NextQueue() REQUIRES(mutex_);
  // Every block of it is known to be zeroes.
  Result<bool> IsZero(uint64_t first, uint64_t end);

  // Constant after Create.
  const std::shared_ptr<BlockSource> source_;
  const std::string disk_;
  const uint64_t block_count_;
  const std::function<void()> wake_;
  std::array<std::thread, kThreads> threads_;
  // Any thread.
  RateLimitedLog log_;
  // Guarded.
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Fetch> urgent_ GUARDED_BY(mutex_);
  std::deque<Fetch> background_ GUARDED_BY(mutex_);
  size_t background_running_ GUARDED_BY(mutex_) = 0;
  std::vector<Finished> finished_ GUARDED_BY(mutex_);
  std::optional<Zeroes> zeroes_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace pacsvisor
