#include "vmm/store/hold.h"

#include <algorithm>
#include <optional>

#include "vmm/store/byte_stream.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kHoldMagic = "PVHOLD01";
constexpr size_t kMostHoldBytes = 4 * kKiB;
constexpr size_t kMostWordBytes = 32;
constexpr size_t kIdDigits = 2 * SnapshotId::kBytes;

// The snapshot and the word of a file of holds/; nothing for other names.
std::optional<Hold> HoldOfFile(std::string_view name) {
  if (name.size() <= kIdDigits || name[kIdDigits] != '-') {
    return std::nullopt;
  }
  const std::optional<SnapshotId> id = SnapshotId::FromHex(name.substr(0, kIdDigits));
  const std::string_view word = name.substr(kIdDigits + 1);
  if (!id.has_value() || !IsHoldWord(word)) {
    return std::nullopt;
  }
  return Hold{.snapshot = *id, .word = std::string(word)};
}

}  // namespace

bool IsHoldWord(std::string_view word) {
  constexpr std::string_view kCharacters = "abcdefghijklmnopqrstuvwxyz0123456789";
  return !word.empty() && word.size() <= kMostWordBytes &&
         word.find_first_not_of(kCharacters) == std::string_view::npos;
}

std::string HoldPath(const SnapshotId& snapshot, std::string_view word) {
  return fmt::format("holds/{}-{}", snapshot.Hex(), word);
}

std::vector<uint8_t> EncodeHold(const Hold& hold) {
  CHECK(hold.reason.size() <= kMostReasonBytes);
  ByteWriter writer;
  writer.Text(kHoldMagic);
  writer.Number(kStoreVersion);
  writer.Number(static_cast<uint32_t>(hold.reason.size()));
  writer.Number(hold.until_ns);
  writer.Number(hold.made_ns);
  writer.Text(hold.reason);
  writer.Bytes(Sha256(writer.bytes()));
  return std::move(writer.bytes());
}

Result<Hold> DecodeHold(std::span<const uint8_t> bytes) {
  Hold hold;
  ByteReader reader(bytes);
  const bool known = reader.Expect(kHoldMagic) && reader.Number<uint32_t>() == kStoreVersion;
  const uint32_t reason_bytes = reader.Number<uint32_t>();
  hold.until_ns = reader.Number<uint64_t>();
  hold.made_ns = reader.Number<uint64_t>();
  const std::span<const uint8_t> reason =
      reader.Bytes(reason_bytes <= kMostReasonBytes ? reason_bytes : SIZE_MAX);
  const std::span<const uint8_t> hash = reader.Bytes(sizeof(Hash));
  if (!known || !reader.ok() || reader.left() != 0 ||
      !std::ranges::equal(hash, Sha256(bytes.first(bytes.size() - sizeof(Hash))))) {
    return Error::Make(ErrorCode::kCorrupt,
                       "the hold is damaged: it holds its snapshot until it is released");
  }
  hold.reason.assign(reason.begin(), reason.end());
  return hold;
}

Result<std::vector<Hold>> ReadHolds(StoreFiles& files) {
  std::vector<Hold> holds;
  const Result<std::vector<std::string>> names = files.List("holds");
  if (!names.ok() && names.error().code() == ErrorCode::kNotFound) {
    return holds;
  }
  for (const std::string& name : TRY(names)) {
    const std::optional<Hold> named = HoldOfFile(name);
    if (!named.has_value()) {
      continue;
    }
    const Result<std::vector<uint8_t>> bytes =
        ReadWholeFile(files, "holds/" + name, kMostHoldBytes);
    if (!bytes.ok() && bytes.error().code() == ErrorCode::kNotFound) {
      continue;  // released just now
    }
    if (!bytes.ok() && bytes.error().code() != ErrorCode::kCorrupt) {
      return bytes.error();
    }
    Result<Hold> hold = bytes.ok() ? DecodeHold(*bytes) : Result<Hold>(bytes.error());
    holds.push_back(hold.ok() ? std::move(hold).value() : Hold{.damaged = true});
    holds.back().snapshot = named->snapshot;
    holds.back().word = named->word;
  }
  return holds;
}

}  // namespace pacsvisor
