#include "vmm/store/store_holds.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "vmm/base/clock.h"
#include "vmm/store/byte_stream.h"

namespace pacsvisor {
namespace {

constexpr size_t kWordDigits = 8;

// The same hold made twice is one.
std::string WordOf(uint64_t until_ns, std::string_view reason) {
  ByteWriter writer;
  writer.Number(until_ns);
  writer.Text(reason);
  return HexText(Sha256(writer.bytes())).substr(0, kWordDigits);
}

// Each is one, whatever it says: whoever releases it releases no other's.
Result<std::string> FetchWord() {
  std::array<uint8_t, 8> random;
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    return Error::FromErrno(errno, "getrandom");
  }
  std::string word(kFetchHoldPrefix);
  for (const uint8_t byte : random) {
    word += fmt::format("{:02x}", byte);
  }
  return word;
}

// `word` empty: by its end and reason.
Result<Hold> AddHoldOf(StoreCore& core, const SnapshotId& id, std::string word, uint64_t until_ns,
                       std::string_view reason) {
  StoreFiles& files = core.files();
  if (reason.empty() || reason.size() > kMostReasonBytes ||
      reason.find('\0') != std::string_view::npos) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "a hold says why, in at most {} bytes without a NUL", kMostReasonBytes);
  }
  // No prune is on its way meanwhile.
  const std::unique_ptr<StoreFiles::Lock> lock = TRY(core.LockForWriting(", which makes a hold"));
  TRY(core.CleanUp());
  TRY(core.ReadRoot(id));
  const uint64_t now_ns = RealtimeNs();
  if (until_ns != 0 && until_ns <= now_ns) {
    return Error::Make(ErrorCode::kInvalidArgument, "the hold would be over already");
  }
  Hold hold{.snapshot = id,
            .word = word.empty() ? WordOf(until_ns, reason) : std::move(word),
            .until_ns = until_ns,
            .made_ns = now_ns,
            .reason = std::string(reason)};
  TRY(files.CreateDirectory("holds"));
  TRY(files.SyncDirectory("."));
  TRY(WriteWholeFile(files, HoldPath(id, hold.word), EncodeHold(hold)));
  TRY(files.SyncDirectory("holds"));
  return hold;
}

}  // namespace

uint64_t GreatestTime(const std::vector<SnapshotRoot>& roots, const std::vector<Hold>& holds) {
  uint64_t greatest_ns = 0;
  for (const SnapshotRoot& root : roots) {
    greatest_ns = std::max(greatest_ns, root.info.draft.instant_ns);
  }
  for (const Hold& hold : holds) {
    greatest_ns = std::max(greatest_ns, hold.made_ns);
  }
  return greatest_ns;
}

Result<uint64_t> GreatestTimeOf(StoreCore& core) {
  std::vector<SnapshotRoot> roots;
  for (const SnapshotId& id : TRY(core.ListIds())) {
    Result<SnapshotRoot> root = core.ReadRoot(id);
    if (root.ok()) {
      roots.push_back(std::move(root).value());
    }
  }
  return GreatestTime(roots, TRY(ReadHolds(core.files())));
}

Result<Hold> AddStoreHold(StoreCore& core, const SnapshotId& id, uint64_t until_ns,
                          std::string_view reason) {
  return AddHoldOf(core, id, {}, until_ns, reason);
}

Result<Hold> AddStoreFetchHold(StoreCore& core, const SnapshotId& id, std::string_view reason) {
  return AddHoldOf(core, id, TRY(FetchWord()), 0, reason);
}

Result<size_t> ReleaseStoreHolds(StoreCore& core, const SnapshotId& id, std::string_view word) {
  const std::unique_ptr<StoreFiles::Lock> lock =
      TRY(core.LockForWriting(", which releases a hold"));
  size_t released = 0;
  for (const Hold& hold : TRY(ReadHolds(core.files()))) {
    if (hold.snapshot == id && (word.empty() ? !hold.IsFetch() : hold.word == word)) {
      TRY(core.files().Remove(HoldPath(id, hold.word)));
      ++released;
    }
  }
  if (released > 0) {
    TRY(core.files().SyncDirectory("holds"));
  }
  return released;
}

}  // namespace pacsvisor
