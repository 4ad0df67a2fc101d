// Carries requests through an IoEngine to their end: short reads and writes go on where they
// stopped, EINTR and EAGAIN are tried again, what a file system cannot do natively is done
// otherwise (a range that cannot be zeroed is overwritten with zeroes; a discard that is refused
// was a hint), durable changes end with fdatasync, requests that do not fit O_DIRECT's alignment go
// through the page cache. Threads: one at a time (the disk's worker).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "vmm/disk/block_request.h"
#include "vmm/disk/io_engine.h"

namespace pacsvisor {

// One image file as an engine knows it. With O_DIRECT it is open twice; without, `direct` is
// `buffered`.
struct TransferFile {
  unsigned buffered = 0;
  unsigned direct = 0;
  uint32_t memory_alignment_bytes = 1;  // of O_DIRECT; powers of two
  uint32_t offset_alignment_bytes = 1;
  bool in_engine = false;  // for its owner: whether the engine has it
};

struct Transfer {
  BlockOperation operation = BlockOperation::kRead;
  bool durable = false;
  bool may_unmap = false;
  TransferFile file;
  uint64_t offset_bytes = 0;  // in the file
  uint64_t size_bytes = 0;
  std::span<const iovec> iovecs;
  void* owner = nullptr;
};

class TransferRunner {
 public:
  struct Finished {
    void* owner;
    int error_number;  // 0: the whole transfer is done
  };
  // Tries in a row without progress before EINTR or EAGAIN is reported as the error it is.
  static constexpr unsigned kMaxRetries = 128;

  explicit TransferRunner(std::shared_ptr<IoEngine> engine) : engine_(std::move(engine)) {}

  IoEngine& engine() { return *engine_; }
  const IoEngine& engine() const { return *engine_; }

  void Start(const Transfer& transfer);
  // Hands to the host what was started; may enter the kernel.
  void Kick();
  // Collects and carries on; appends what has come to its end.
  void Poll(std::vector<Finished>& finished);

 private:
  // What a change that is not a plain write tries in turn.
  enum class Method : uint8_t { kPunchHole, kZeroRange, kWriteZeroes };
  struct Active : IoOperation {
    Transfer transfer;
    Method method = Method::kPunchHole;
    bool syncing = false;
    unsigned retries = 0;
    uint64_t done_bytes = 0;
    std::vector<iovec> rest;  // what is left after a short count
  };

  void Prepare(Active& active);
  void PrepareData(Active& active);
  void PrepareZeroes(Active& active);
  // Looks at the host's answer: the final errno, or none when it goes on.
  std::optional<int> Advance(Active& active);
  std::optional<int> AdvanceOnError(Active& active, int error_number);
  std::optional<int> AdvanceData(Active& active);
  std::optional<int> EndOfChange(Active& active);

  std::deque<Active> storage_;  // stable addresses; grows to the most that were ever in flight
  std::vector<Active*> free_;
  std::deque<Active*> waiting_;  // for room in the engine
  std::vector<IoOperation*> reaped_;
  const std::shared_ptr<IoEngine> engine_;  // goes first: it may still hold operations of storage_
};

}  // namespace pacsvisor
