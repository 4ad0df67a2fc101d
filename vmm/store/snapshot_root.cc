#include "vmm/store/snapshot_root.h"

#include <algorithm>
#include <set>
#include <string>

#include "vmm/store/byte_stream.h"
#include "vmm/store/store_format.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kRootMagic = "PVSNAP01";
constexpr size_t kRootHeadBytes = 16;
constexpr size_t kSealedHeadBytes = kRootHeadBytes + 8 + sizeof(uint32_t);  // before the nonce
constexpr uint32_t kSealAlgorithm = 1;

enum class RootTag : uint16_t {
  kParent = 1,
  kMachine = 2,
  kMessage = 3,
  kInstant = 4,
  kConsistency = 5,
  kText = 6,
  kFigure = 7,
  kSpace = 8,
  kCounts = 9,
  kState = 10,
  kTable = 11,
  kPacks = 12,
  kKey = 13,  // of a sealed root: its first
};

constexpr uint16_t kMandatory = 1;

bool IsMandatory(RootTag tag) {
  return tag != RootTag::kParent && tag != RootTag::kText && tag != RootTag::kFigure &&
         tag != RootTag::kCounts;
}

bool MayRepeat(RootTag tag) {
  return tag == RootTag::kText || tag == RootTag::kFigure || tag == RootTag::kSpace ||
         tag == RootTag::kTable;
}

std::string TextOf(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

bool GoodText(std::string_view text, size_t limit_bytes) {
  return text.size() <= limit_bytes && text.find('\0') == std::string_view::npos;
}
bool GoodKey(std::string_view key) { return !key.empty() && GoodText(key, kMaxNameBytes); }

class FieldWriter {
 public:
  explicit FieldWriter(ByteWriter& out) : out_(out) {}

  template <typename Fill>
  void Field(RootTag tag, const Fill& fill) {
    contents_.Clear();
    fill(contents_);
    out_.Number(static_cast<uint16_t>(tag));
    out_.Number(IsMandatory(tag) ? kMandatory : uint16_t{0});
    out_.Number(static_cast<uint32_t>(contents_.size()));
    out_.Bytes(contents_.bytes());
  }

 private:
  ByteWriter& out_;
  ByteWriter contents_;
};

void PutKey(ByteWriter& value, const std::optional<SealKey>& key) {
  if (key.has_value()) {
    value.Bytes(*key);
  }
}

class RootReader {
 public:
  RootReader(std::span<const uint8_t> bytes, PageKeys keys) : reader_(bytes), keys_(keys) {}

  Result<SnapshotRoot> Run() {
    if (!reader_.Expect(kRootMagic)) {
      return Error::Make(ErrorCode::kCorrupt, "this is not the root of a snapshot");
    }
    const uint32_t version = reader_.Number<uint32_t>();
    if (reader_.ok() && version > kStoreVersion) {
      return Error::Make(ErrorCode::kUnsupported,
                         "it has format version {}, this program reads up to {}", version,
                         kStoreVersion);
    }
    if (version != kStoreVersion || !reader_.ExpectZeroes(4)) {
      return Error::Make(ErrorCode::kCorrupt, "its beginning is damaged");
    }
    while (reader_.left() > 0) {
      TRY(ReadField());
    }
    TRY(CheckWhole());
    return std::move(root_);
  }

 private:
  Status ReadField() {
    const uint16_t tag = reader_.Number<uint16_t>();
    const uint16_t flags = reader_.Number<uint16_t>();
    const std::span<const uint8_t> contents = reader_.Bytes(reader_.Number<uint32_t>());
    if (!reader_.ok() || flags > kMandatory || tag < last_tag_) {
      return Error::Make(ErrorCode::kCorrupt, "field {} is damaged", tag);
    }
    const bool known = tag >= static_cast<uint16_t>(RootTag::kParent) &&
                       tag <= static_cast<uint16_t>(RootTag::kPacks);
    if (!known) {
      if (flags == kMandatory) {
        return Error::Make(ErrorCode::kUnsupported,
                           "it has field {}, which this program does not know: use a newer "
                           "pacsvisor",
                           tag);
      }
      last_tag_ = tag;
      return {};
    }
    const RootTag field = static_cast<RootTag>(tag);
    ByteReader value(contents);
    const bool again = tag == last_tag_ && !MayRepeat(field);
    if (again || (flags == kMandatory) != IsMandatory(field) || !ReadValue(field, value) ||
        !value.ok() || value.left() > 0) {
      return Error::Make(ErrorCode::kCorrupt, "field {} breaks the format", tag);
    }
    last_tag_ = tag;
    seen_.insert(field);
    return {};
  }

  bool ReadValue(RootTag tag, ByteReader& value) {
    SnapshotInfo& info = root_.info;
    switch (tag) {
      case RootTag::kParent:
        info.parent = SnapshotId(ReadHash(value));
        return true;
      case RootTag::kMachine:
        return ReadText(value, kMaxNameBytes, info.draft.machine);
      case RootTag::kMessage:
        return ReadText(value, kMaxMessageBytes, info.draft.message);
      case RootTag::kInstant:
        info.draft.instant_ns = value.Number<uint64_t>();
        return true;
      case RootTag::kConsistency:
        return ReadText(value, kMaxNameBytes, info.draft.consistency);
      case RootTag::kText: {
        const std::string key = TextOf(value.Bytes(value.Number<uint16_t>()));
        std::string text;
        return GoodKey(key) && ReadText(value, kMaxTextBytes, text) &&
               InsertLast(info.draft.texts, key, text, kMaxTexts);
      }
      case RootTag::kFigure: {
        const uint64_t figure = value.Number<uint64_t>();
        const std::string key = TextOf(value.Rest());
        return GoodKey(key) && InsertLast(info.draft.figures, key, figure, kMaxFigures);
      }
      case RootTag::kSpace: {
        const uint32_t number = value.Number<uint32_t>();
        StoredSpace space;
        space.block_bytes = value.Number<uint32_t>();
        space.size_bytes = value.Number<uint64_t>();
        space.name = TextOf(value.Rest());
        info.spaces.push_back(space);
        root_.space_numbers.push_back(number);
        return info.spaces.size() <= kMaxSpaces && number < kMaxSpaces;
      }
      case RootTag::kCounts:
        ReadCounts(value, info.counts);
        return true;
      case RootTag::kState:
        root_.state.name = ReadHash(value);
        root_.state.file_bytes = value.Number<uint64_t>();
        root_.state.plain_bytes = value.Number<uint64_t>();
        ReadKey(value, root_.state.key);
        info.state_bytes = root_.state.plain_bytes;
        return root_.state.plain_bytes > 0 && root_.state.plain_bytes <= kMaxStateBytes &&
               root_.state.file_bytes <= kMaxStateBytes + kMiB;
      case RootTag::kTable: {
        TableRef& table = root_.tables.emplace_back();
        table.name = ReadHash(value);
        table.file_bytes = value.Number<uint64_t>();
        table.entries = value.Number<uint64_t>();
        ReadKey(value, table.key);
        return root_.tables.size() <= kMaxTables;
      }
      case RootTag::kPacks:
        root_.last_pack = value.Number<uint32_t>();
        return true;
      case RootTag::kKey:
        return false;
    }
    return false;
  }

  static Hash ReadHash(ByteReader& value) {
    Hash hash = {};
    const std::span<const uint8_t> bytes = value.Bytes(hash.size());
    std::copy(bytes.begin(), bytes.end(), hash.begin());
    return hash;
  }

  void ReadKey(ByteReader& value, std::optional<SealKey>& key) const {
    if (keys_ == PageKeys::kHeld) {
      key = ReadHash(value);
    }
  }

  static bool ReadText(ByteReader& value, size_t limit_bytes, std::string& text) {
    text = TextOf(value.Rest());
    return GoodText(text, limit_bytes);
  }

  // Keys ascend, so that there is one way to write a root.
  template <typename Map, typename Value>
  static bool InsertLast(Map& map, const std::string& key, const Value& value, size_t limit) {
    if (map.size() >= limit || (!map.empty() && map.rbegin()->first >= key)) {
      return false;
    }
    map.emplace_hint(map.end(), key, value);
    return true;
  }

  static void ReadCounts(ByteReader& value, WriterCounts& counts) {
    for (uint64_t* count : {&counts.given, &counts.zero, &counts.unchanged, &counts.known,
                            &counts.fresh, &counts.fresh_bytes, &counts.stored_bytes}) {
      *count = value.Number<uint64_t>();
    }
  }

  Status CheckWhole() {
    for (const RootTag tag : {RootTag::kMachine, RootTag::kMessage, RootTag::kInstant,
                              RootTag::kConsistency, RootTag::kSpace, RootTag::kPacks}) {
      if (!seen_.contains(tag)) {
        return Error::Make(ErrorCode::kCorrupt, "field {} is missing", static_cast<int>(tag));
      }
    }
    const std::set<uint32_t> numbers(root_.space_numbers.begin(), root_.space_numbers.end());
    const Status spaces = CheckSpaces(root_.info.spaces);
    if (numbers.size() != root_.space_numbers.size() || !spaces.ok()) {
      return Error::Make(ErrorCode::kCorrupt, "{}",
                         spaces.ok() ? "a number of two spaces" : spaces.error().message());
    }
    return {};
  }

  ByteReader reader_;
  const PageKeys keys_;
  uint16_t last_tag_ = 0;
  std::set<RootTag> seen_;
  SnapshotRoot root_;
};

}  // namespace

Status CheckDraft(const SnapshotDraft& draft) {
  const auto refuse = [](std::string_view what) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "the snapshot's {} is too long or holds a NUL: shorten it", what);
  };
  if (!GoodText(draft.machine, kMaxNameBytes)) {
    return refuse("machine name");
  }
  if (!GoodText(draft.message, kMaxMessageBytes)) {
    return refuse("message");
  }
  if (!GoodText(draft.consistency, kMaxNameBytes)) {
    return refuse("consistency");
  }
  if (draft.texts.size() > kMaxTexts || draft.figures.size() > kMaxFigures) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "a snapshot takes {} texts and {} figures at most, not {} and {}", kMaxTexts,
                       kMaxFigures, draft.texts.size(), draft.figures.size());
  }
  size_t bytes = draft.message.size();
  for (const auto& [key, text] : draft.texts) {
    bytes += key.size() + text.size();
    if (!GoodKey(key) || !GoodText(text, kMaxTextBytes)) {
      return refuse(fmt::format("text '{}'", key));
    }
  }
  for (const auto& [key, figure] : draft.figures) {
    if (!GoodKey(key)) {
      return refuse(fmt::format("figure '{}'", key));
    }
  }
  // What else is in a root has limits that add up to less than the rest.
  if (bytes > kMaxRootBytes - kMiB) {
    return refuse("texts together");
  }
  return {};
}

Status CheckSpaces(const std::vector<StoredSpace>& spaces) {
  std::set<std::string> names;
  if (spaces.empty() || spaces.size() > kMaxSpaces) {
    return Error::Make(ErrorCode::kInvalidArgument, "a snapshot has 1 to {} spaces, not {}",
                       kMaxSpaces, spaces.size());
  }
  for (const StoredSpace& space : spaces) {
    if (!GoodKey(space.name) || !names.insert(space.name).second) {
      return Error::Make(ErrorCode::kInvalidArgument,
                         "space '{}' has no name of its own of up to {} bytes", space.name,
                         kMaxNameBytes);
    }
    if (space.block_bytes != kStoreBlockBytes || space.size_bytes == 0 ||
        space.size_bytes > kMaxSpaceBytes) {
      return Error::Make(ErrorCode::kInvalidArgument,
                         "space '{}' of {} bytes in blocks of {}: the store takes blocks of {} "
                         "and up to 2^60 bytes",
                         space.name, space.size_bytes, space.block_bytes, kStoreBlockBytes);
    }
  }
  return {};
}

std::vector<uint8_t> EncodeRoot(const SnapshotRoot& root) {
  const SnapshotInfo& info = root.info;
  CHECK(root.space_numbers.size() == info.spaces.size() && root.tables.size() <= kMaxTables);
  ByteWriter out;
  out.Text(kRootMagic);
  out.Number(kStoreVersion);
  out.Zeroes(4);
  FieldWriter writer(out);
  if (info.parent.has_value()) {
    writer.Field(RootTag::kParent, [&](ByteWriter& value) { value.Bytes(info.parent->bytes()); });
  }
  writer.Field(RootTag::kMachine, [&](ByteWriter& value) { value.Text(info.draft.machine); });
  writer.Field(RootTag::kMessage, [&](ByteWriter& value) { value.Text(info.draft.message); });
  writer.Field(RootTag::kInstant, [&](ByteWriter& value) { value.Number(info.draft.instant_ns); });
  writer.Field(RootTag::kConsistency,
               [&](ByteWriter& value) { value.Text(info.draft.consistency); });
  for (const auto& text : info.draft.texts) {
    writer.Field(RootTag::kText, [&](ByteWriter& value) {
      value.Number(static_cast<uint16_t>(text.first.size()));
      value.Text(text.first);
      value.Text(text.second);
    });
  }
  for (const auto& figure : info.draft.figures) {
    writer.Field(RootTag::kFigure, [&](ByteWriter& value) {
      value.Number(figure.second);
      value.Text(figure.first);
    });
  }
  for (size_t i = 0; i < info.spaces.size(); ++i) {
    writer.Field(RootTag::kSpace, [&](ByteWriter& value) {
      value.Number(root.space_numbers[i]);
      value.Number(info.spaces[i].block_bytes);
      value.Number(info.spaces[i].size_bytes);
      value.Text(info.spaces[i].name);
    });
  }
  const WriterCounts& counts = info.counts;
  writer.Field(RootTag::kCounts, [&](ByteWriter& value) {
    for (const uint64_t count : {counts.given, counts.zero, counts.unchanged, counts.known,
                                 counts.fresh, counts.fresh_bytes, counts.stored_bytes}) {
      value.Number(count);
    }
  });
  if (root.state.plain_bytes > 0) {
    writer.Field(RootTag::kState, [&](ByteWriter& value) {
      value.Bytes(root.state.name);
      value.Number(root.state.file_bytes);
      value.Number(root.state.plain_bytes);
      PutKey(value, root.state.key);
    });
  }
  for (const TableRef& table : root.tables) {
    writer.Field(RootTag::kTable, [&](ByteWriter& value) {
      value.Bytes(table.name);
      value.Number(table.file_bytes);
      value.Number(table.entries);
      PutKey(value, table.key);
    });
  }
  writer.Field(RootTag::kPacks, [&](ByteWriter& value) { value.Number(root.last_pack); });
  CHECK(out.size() <= kMaxRootBytes);
  return std::move(out.bytes());
}

Result<SnapshotRoot> DecodeRoot(std::span<const uint8_t> bytes, PageKeys keys) {
  if (bytes.size() > kMaxRootBytes) {
    return Error::Make(ErrorCode::kCorrupt, "a root of {} bytes", bytes.size());
  }
  SnapshotRoot root = TRY(RootReader(bytes, keys).Run());
  root.info.id = SnapshotId(Sha256(bytes));
  return root;
}

std::vector<uint8_t> SealRoot(const SealKey& key, std::span<const uint8_t> root) {
  ByteWriter writer;
  writer.Bytes(root.first(kRootHeadBytes));
  writer.Number(static_cast<uint16_t>(RootTag::kKey));
  writer.Number(kMandatory);
  writer.Number(uint32_t{sizeof(uint32_t) + kSealNonceBytes});
  writer.Number(kSealAlgorithm);
  CHECK(writer.size() == kSealedHeadBytes);
  writer.Bytes(SealPadded(key, SealType::kRoot, writer.bytes(), root.subspan(kRootHeadBytes)));
  return std::move(writer.bytes());
}

size_t SealedRootBytes(size_t root_bytes) {
  return kSealedHeadBytes + PaddedSealBytes(root_bytes - kRootHeadBytes);
}

Result<SnapshotRoot> UnsealRoot(const SealKey& key, std::span<const uint8_t> file) {
  const auto damaged = [] { return Error::Make(ErrorCode::kCorrupt, "its beginning is damaged"); };
  if (file.size() < kSealedHeadBytes || file.size() > SealedRootBytes(kMaxRootBytes)) {
    return damaged();
  }
  ByteReader reader(file.subspan(kRootHeadBytes));
  const bool sealed = reader.Number<uint16_t>() == static_cast<uint16_t>(RootTag::kKey) &&
                      reader.Number<uint16_t>() == kMandatory &&
                      reader.Number<uint32_t>() == sizeof(uint32_t) + kSealNonceBytes &&
                      reader.Number<uint32_t>() == kSealAlgorithm;
  if (!sealed) {
    return damaged();
  }
  const std::optional<std::vector<uint8_t>> fields = UnsealPadded(
      key, SealType::kRoot, file.first(kSealedHeadBytes), file.subspan(kSealedHeadBytes));
  if (!fields.has_value()) {
    return Error::Make(ErrorCode::kCorrupt, "its key is not that of this snapshot");
  }
  std::vector<uint8_t> root(file.begin(), file.begin() + kRootHeadBytes);
  root.insert(root.end(), fields->begin(), fields->end());
  SnapshotRoot decoded = TRY(DecodeRoot(root, PageKeys::kHeld));
  decoded.info.id = SnapshotId(Sha256(file));
  return decoded;
}

}  // namespace pacsvisor
