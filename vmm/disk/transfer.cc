#include "vmm/disk/transfer.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "vmm/base/align.h"
#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr size_t kZeroBufferBytes = 64 * kKiB;
constexpr size_t kZeroIovecs = 256;
// Only ever read, by the kernel; not const, so that it takes no room in the program file.
alignas(4096) std::array<uint8_t, kZeroBufferBytes> zero_buffer;

bool IsData(BlockOperation operation) {
  return operation == BlockOperation::kRead || operation == BlockOperation::kWrite;
}

bool FitsDirect(const TransferFile& file, uint64_t offset_bytes, std::span<const iovec> iovecs) {
  if (file.direct == file.buffered) {
    return false;
  }
  uintptr_t addresses = 0;
  uint64_t sizes = offset_bytes;
  for (const iovec& part : iovecs) {
    // The address as a number, for its alignment only.
    addresses |= reinterpret_cast<uintptr_t>(part.iov_base);
    sizes |= part.iov_len;
  }
  return IsAligned<uint64_t>(addresses, file.memory_alignment_bytes) &&
         IsAligned<uint64_t>(sizes, file.offset_alignment_bytes);
}

std::vector<iovec> SkipBytes(std::span<const iovec> iovecs, uint64_t bytes) {
  std::vector<iovec> rest;
  for (const iovec& part : iovecs) {
    const size_t skipped = std::min<uint64_t>(bytes, part.iov_len);
    bytes -= skipped;
    if (skipped < part.iov_len) {
      rest.push_back({static_cast<uint8_t*>(part.iov_base) + skipped, part.iov_len - skipped});
    }
  }
  return rest;
}

}  // namespace

void TransferRunner::Start(const Transfer& transfer) {
  if (free_.empty()) {
    free_.push_back(&storage_.emplace_back());
  }
  Active& active = *free_.back();
  free_.pop_back();
  active.transfer = transfer;
  active.method = transfer.operation == BlockOperation::kWriteZeroes && !transfer.may_unmap
                      ? Method::kZeroRange
                      : Method::kPunchHole;
  active.syncing = transfer.operation == BlockOperation::kFlush;
  active.retries = 0;
  active.done_bytes = 0;
  active.rest.clear();
  Prepare(active);
  waiting_.push_back(&active);
}

void TransferRunner::Prepare(Active& active) {
  const Transfer& transfer = active.transfer;
  active.file = transfer.file.buffered;
  active.durable = false;
  if (active.syncing) {
    active.kind = IoKind::kSync;
  } else if (IsData(transfer.operation)) {
    PrepareData(active);
  } else if (active.method == Method::kWriteZeroes) {
    PrepareZeroes(active);
  } else {
    active.kind = active.method == Method::kPunchHole ? IoKind::kPunchHole : IoKind::kZeroRange;
    active.offset_bytes = transfer.offset_bytes;
    active.size_bytes = transfer.size_bytes;
  }
}

void TransferRunner::PrepareData(Active& active) {
  const Transfer& transfer = active.transfer;
  const std::span<const iovec> iovecs =
      active.done_bytes == 0 ? transfer.iovecs : std::span<const iovec>(active.rest);
  active.kind = transfer.operation == BlockOperation::kRead ? IoKind::kRead : IoKind::kWrite;
  active.durable = transfer.durable && transfer.operation == BlockOperation::kWrite;
  active.offset_bytes = transfer.offset_bytes + active.done_bytes;
  active.iovecs = iovecs.data();
  active.iovec_count = static_cast<unsigned>(iovecs.size());
  if (FitsDirect(transfer.file, active.offset_bytes, iovecs)) {
    active.file = transfer.file.direct;
  }
}

void TransferRunner::PrepareZeroes(Active& active) {
  uint64_t left = std::min<uint64_t>(active.transfer.size_bytes - active.done_bytes,
                                     kZeroBufferBytes * kZeroIovecs);
  active.rest.clear();
  while (left > 0) {
    const size_t part = std::min<uint64_t>(left, kZeroBufferBytes);
    active.rest.push_back({zero_buffer.data(), part});
    left -= part;
  }
  active.kind = IoKind::kWrite;
  active.offset_bytes = active.transfer.offset_bytes + active.done_bytes;
  active.iovecs = active.rest.data();
  active.iovec_count = static_cast<unsigned>(active.rest.size());
  if (FitsDirect(active.transfer.file, active.offset_bytes, active.rest)) {
    active.file = active.transfer.file.direct;
  }
}

void TransferRunner::Kick() {
  while (!waiting_.empty()) {
    if (engine_->Queue(*waiting_.front())) {
      waiting_.pop_front();
      continue;
    }
    engine_->Submit();
    if (!engine_->Queue(*waiting_.front())) {
      break;  // full: the next completion makes room
    }
    waiting_.pop_front();
  }
  engine_->Submit();
}

void TransferRunner::Poll(std::vector<Finished>& finished) {
  reaped_.clear();
  engine_->Reap(reaped_);
  for (IoOperation* operation : reaped_) {
    // Every operation this engine has ever seen is the base of an Active.
    auto& active = static_cast<Active&>(*operation);
    const std::optional<int> error_number = Advance(active);
    if (error_number.has_value()) {
      finished.push_back({active.transfer.owner, *error_number});
      free_.push_back(&active);
    } else {
      Prepare(active);
      waiting_.push_back(&active);
    }
  }
  if (!reaped_.empty()) {
    Kick();
  }
}

std::optional<int> TransferRunner::Advance(Active& active) {
  if (active.result < 0) {
    return AdvanceOnError(active, static_cast<int>(-active.result));
  }
  active.retries = 0;
  if (active.syncing) {
    return 0;
  }
  if (active.kind == IoKind::kRead || active.kind == IoKind::kWrite) {
    return AdvanceData(active);
  }
  return EndOfChange(active);
}

std::optional<int> TransferRunner::AdvanceOnError(Active& active, int error_number) {
  if (error_number == EINTR || error_number == EAGAIN) {
    return ++active.retries > kMaxRetries ? std::optional(error_number) : std::nullopt;
  }
  // EINVAL: a device or file system that wants other alignments for holes than for data.
  const bool refused =
      error_number == EOPNOTSUPP || error_number == ENOSYS || error_number == EINVAL;
  const bool hole = active.kind == IoKind::kPunchHole || active.kind == IoKind::kZeroRange;
  if (!refused || !hole) {
    return error_number;
  }
  if (active.transfer.operation == BlockOperation::kDiscard) {
    return 0;
  }
  active.method = active.method == Method::kPunchHole ? Method::kZeroRange : Method::kWriteZeroes;
  return std::nullopt;
}

std::optional<int> TransferRunner::AdvanceData(Active& active) {
  const auto bytes = static_cast<uint64_t>(active.result);
  const uint64_t left = active.transfer.size_bytes - active.done_bytes;
  CHECK(bytes <= left, "the host transferred {} bytes of {}", bytes, left);
  if (bytes == 0) {
    return EIO;  // the end of a file that was longer when it was opened
  }
  if (bytes < left && IsData(active.transfer.operation)) {
    active.rest = SkipBytes({active.iovecs, active.iovec_count}, bytes);
  }
  active.done_bytes += bytes;
  if (bytes < left) {
    return std::nullopt;
  }
  return IsData(active.transfer.operation) ? std::optional(0) : EndOfChange(active);
}

std::optional<int> TransferRunner::EndOfChange(Active& active) {
  if (!active.transfer.durable) {
    return 0;
  }
  active.syncing = true;
  return std::nullopt;
}

}  // namespace pacsvisor
