#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <vector>

#include "vmm/base/unique_fd.h"
#include "vmm/snapshot/full_copy.h"
#include "vmm/snapshot/full_copy_checksum.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

class Writer {
 public:
  explicit Writer(UniqueFd fd) : fd_(std::move(fd)) {}

  Status Bytes(std::span<const uint8_t> bytes) {
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t written = ::write(fd_.get(), bytes.data() + done, bytes.size() - done);
      if (written < 0 && errno != EINTR) {
        return Error::FromErrno(errno, "cannot write the copy");
      }
      done += written > 0 ? static_cast<size_t>(written) : 0;
    }
    return {};
  }

  Status Record(FullCopyKind kind, FullCopyRecord record, std::span<const uint8_t> payload) {
    CHECK(payload.size() <= kFullCopyMaxPayloadBytes, "payload of {} bytes", payload.size());
    record.kind = static_cast<uint32_t>(kind);
    record.payload_bytes = payload.size();
    record.checksum = FullCopyChecksum(record, payload);
    ++records_;
    // A record without padding, as bytes.
    TRY(Bytes({reinterpret_cast<const uint8_t*>(&record), sizeof(record)}));
    return Bytes(payload);
  }

  uint64_t records() const { return records_; }

  Status Sync() {
    if (::fsync(fd_.get()) != 0) {
      return Error::FromErrno(errno, "cannot make the copy durable");
    }
    return {};
  }

 private:
  UniqueFd fd_;
  uint64_t records_ = 0;
};

bool IsZero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

// The runs of blocks that are not zero, each as one record.
Status WriteSpace(Writer& writer, uint32_t number, const Space& space) {
  const uint32_t block_bytes = space.block_bytes();
  const uint64_t run_blocks = kFullCopyRunBytes / block_bytes;
  std::vector<uint8_t> buffer(run_blocks * block_bytes);
  for (uint64_t first = 0; first < space.block_count(); first += run_blocks) {
    const uint64_t count = std::min(run_blocks, space.block_count() - first);
    const std::span<uint8_t> run(buffer.data(), count * block_bytes);
    TRY(space.Read(BlockIndex(first), run));
    const auto is_zero = [&](uint64_t block) {
      return IsZero(run.subspan(block * block_bytes, block_bytes));
    };
    for (uint64_t block = 0; block < count;) {
      if (is_zero(block)) {
        ++block;
        continue;
      }
      uint64_t end = block + 1;
      while (end < count && !is_zero(end)) {
        ++end;
      }
      TRY(writer.Record(FullCopyKind::kBlocks,
                        {.space = number, .first = first + block, .count = end - block},
                        run.subspan(block * block_bytes, (end - block) * block_bytes)));
      block = end;
    }
  }
  return {};
}

Status WriteAll(Writer& writer, const StateNode& state, std::span<const Space* const> spaces) {
  // The magic's characters as bytes.
  TRY(writer.Bytes({reinterpret_cast<const uint8_t*>(kFullCopyMagic), sizeof(kFullCopyMagic)}));
  TRY(writer.Record(FullCopyKind::kState, {}, EncodeState(state)));
  for (uint32_t number = 0; number < spaces.size(); ++number) {
    const Space& space = *spaces[number];
    const std::vector<uint8_t> name(space.name().begin(), space.name().end());
    TRY(writer.Record(FullCopyKind::kSpace,
                      {.space = number, .first = space.block_bytes(), .count = space.block_count()},
                      name));
    TRY(WriteSpace(writer, number, space));
  }
  TRY(writer.Record(FullCopyKind::kEnd, {.first = writer.records()}, {}));
  return writer.Sync();
}

Status SyncDirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) {
    return Error::FromErrno(errno, "cannot make the directory {} durable", directory);
  }
  return {};
}

}  // namespace

Status WriteFullCopy(const std::string& path, const StateNode& state,
                     std::span<const Space* const> spaces) {
  CHECK(spaces.size() <= kFullCopyMaxSpaces);
  if (::access(path.c_str(), F_OK) == 0) {
    return Error::Make(ErrorCode::kBusy, "{} exists: choose another name or remove it", path);
  }
  const std::string temporary = path + ".incomplete";
  UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot create {}", temporary);
  }
  Writer writer(std::move(fd));
  Status written = WriteAll(writer, state, spaces);
  if (written.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) {
    written = Error::FromErrno(errno, "cannot rename {} to {}", temporary, path);
  }
  if (!written.ok()) {
    ::unlink(temporary.c_str());
    return std::move(written).error().WithContext(path);
  }
  return SyncDirectoryOf(path);
}

}  // namespace pacsvisor
