#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "vmm/base/unique_fd.h"
#include "vmm/snapshot/full_copy.h"
#include "vmm/snapshot/full_copy_checksum.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

class Reader {
 public:
  Reader(UniqueFd fd, std::span<Space* const> spaces) : fd_(std::move(fd)), spaces_(spaces) {}

  Result<StateNode> ReadAll() {
    char magic[sizeof(kFullCopyMagic)];
    // The magic's characters as bytes.
    TRY(Bytes({reinterpret_cast<uint8_t*>(magic), sizeof(magic)}));
    if (std::memcmp(magic, kFullCopyMagic, sizeof(magic)) != 0) {
      return Error::Make(ErrorCode::kCorrupt, "this is not a full copy of a machine");
    }
    while (!ended_) {
      FullCopyRecord record;
      const Status served = ReadRecord(record);
      if (!served.ok()) {
        Error error = served.error();
        return std::move(error).WithContext(fmt::format("record {}", records_));
      }
      ++records_;
    }
    if (!state_.has_value() || next_space_ != spaces_.size()) {
      return Error::Make(ErrorCode::kCorrupt, "it holds {} of the machine's {} spaces{}",
                         next_space_, spaces_.size(), state_.has_value() ? "" : " and no state");
    }
    return std::move(*state_);
  }

 private:
  Status Bytes(std::span<uint8_t> bytes) {
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t got = ::read(fd_.get(), bytes.data() + done, bytes.size() - done);
      if (got < 0 && errno != EINTR) {
        return Error::FromErrno(errno, "cannot read the copy");
      }
      if (got == 0) {
        return Error::Make(ErrorCode::kCorrupt, "the file ends too early");
      }
      done += got > 0 ? static_cast<size_t>(got) : 0;
    }
    return {};
  }

  Status ReadRecord(FullCopyRecord& record) {
    // A record without padding, as bytes.
    TRY(Bytes({reinterpret_cast<uint8_t*>(&record), sizeof(record)}));
    if (record.payload_bytes > kFullCopyMaxPayloadBytes) {
      return Error::Make(ErrorCode::kCorrupt, "a payload of {} bytes", record.payload_bytes);
    }
    payload_.resize(record.payload_bytes);
    TRY(Bytes(payload_));
    if (FullCopyChecksum(record, payload_) != record.checksum) {
      return Error::Make(ErrorCode::kCorrupt, "the checksum is wrong");
    }
    switch (static_cast<FullCopyKind>(record.kind)) {
      case FullCopyKind::kState:
        state_ = TRY(DecodeState(payload_));
        return {};
      case FullCopyKind::kSpace:
        return OpenSpace(record);
      case FullCopyKind::kBlocks:
        return FillBlocks(record);
      case FullCopyKind::kEnd:
        ended_ = true;
        return record.first == records_
                   ? Status()
                   : Error::Make(ErrorCode::kCorrupt, "{} records, {} were written", records_,
                                 record.first);
    }
    return Error::Make(ErrorCode::kUnsupported, "kind {} is unknown", record.kind);
  }

  Status OpenSpace(const FullCopyRecord& record) {
    const std::string name(payload_.begin(), payload_.end());
    if (record.space != next_space_ || next_space_ >= spaces_.size()) {
      return Error::Make(ErrorCode::kCorrupt, "space '{}' where none is expected", name);
    }
    const Space& space = *spaces_[next_space_];
    if (space.name() != name || space.block_bytes() != record.first ||
        space.block_count() != record.count) {
      return Error::Make(ErrorCode::kInvalidArgument,
                         "space '{}' of {} blocks does not fit the machine's '{}' of {}", name,
                         record.count, space.name(), space.block_count());
    }
    ++next_space_;
    return {};
  }

  Status FillBlocks(const FullCopyRecord& record) {
    if (record.space >= next_space_) {
      return Error::Make(ErrorCode::kCorrupt, "blocks of a space that was not named");
    }
    Space& space = *spaces_[record.space];
    if (record.first > space.block_count() || record.count > space.block_count() - record.first ||
        record.count * space.block_bytes() != payload_.size()) {
      return Error::Make(ErrorCode::kCorrupt, "blocks {}+{} of space '{}'", record.first,
                         record.count, space.name());
    }
    return space.Write(BlockIndex(record.first), payload_);
  }

  UniqueFd fd_;
  std::span<Space* const> spaces_;
  uint32_t next_space_ = 0;
  uint64_t records_ = 0;
  bool ended_ = false;
  std::optional<StateNode> state_;
  std::vector<uint8_t> payload_;
};

}  // namespace

Result<StateNode> ReadFullCopy(const std::string& path, std::span<Space* const> spaces) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot open {}", path);
  }
  Result<StateNode> read = Reader(std::move(fd), spaces).ReadAll();
  if (!read.ok()) {
    return std::move(read).error().WithContext(path);
  }
  return read;
}

}  // namespace pacsvisor
