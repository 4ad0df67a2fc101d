#include "vmm/store/store_reader.h"

#include <algorithm>
#include <cstring>

#include "vmm/store/chunk_codec.h"
#include "vmm/store/lease.h"
#include "vmm/store/table.h"

namespace pacsvisor {
namespace {

constexpr size_t kMostPieces = 256;  // blocks read with one call: 1 MiB

class StoreReader : public SnapshotReader {
 public:
  StoreReader(std::shared_ptr<StoreCore> core, std::unique_ptr<StoreFiles::Lock> lease,
              SnapshotRoot root, TableStack tables)
      : core_(std::move(core)),
        lease_(std::move(lease)),
        root_(std::move(root)),
        tables_(std::move(tables)) {}

  const SnapshotInfo& info() const override { return root_.info; }

  Result<std::vector<uint8_t>> State() override {
    return ReadStateObject(core_->files(), root_.state);
  }

  Status Read(uint32_t space, BlockIndex first, std::span<uint8_t> bytes) override {
    CHECK(bytes.size() % kStoreBlockBytes == 0);
    const uint64_t count = bytes.size() / kStoreBlockBytes;
    CHECK(space < root_.info.spaces.size() &&
              first.raw() <= root_.info.spaces[space].block_count() &&
              count <= root_.info.spaces[space].block_count() - first.raw(),
          "blocks {}+{} of space {}", first, count, space);
    std::vector<Piece> pieces;
    for (uint64_t done = 0; done < count;) {
      const TableAnswer answer = TRY(Find(space, first.raw() + done));
      const std::span<uint8_t> rest = bytes.subspan(done * kStoreBlockBytes);
      if (answer.kind == BlockKind::kZero) {
        const uint64_t run = std::min(answer.end - Key(space, first.raw() + done), count - done);
        std::memset(rest.data(), 0, run * kStoreBlockBytes);
        done += run;
        continue;
      }
      const Piece piece{.place = answer.place,
                        .chunk = answer.chunk,
                        .block = BlockIndex(first.raw() + done),
                        .bytes = rest.first(kStoreBlockBytes)};
      if (!pieces.empty() && (pieces.size() == kMostPieces || !Follows(pieces.back(), piece))) {
        TRY(ReadPieces(space, pieces));
        pieces.clear();
      }
      pieces.push_back(piece);
      ++done;
    }
    return ReadPieces(space, pieces);
  }

  Result<uint64_t> ZeroRun(uint32_t space, BlockIndex first) override {
    const uint64_t block_count = root_.info.spaces[space].block_count();
    CHECK(first.raw() < block_count);
    const uint64_t begin = Key(space, first.raw());
    const uint64_t end = Key(space, block_count);
    uint64_t key = begin;
    while (key < end) {
      const TableAnswer answer = TRY(Find(space, KeyBlock(key)));
      if (answer.kind != BlockKind::kZero) {
        break;
      }
      key = std::min(answer.end, end);
    }
    return key - begin;
  }

 private:
  struct Piece {
    ChunkPlace place;
    ChunkId chunk;
    BlockIndex block;
    std::span<uint8_t> bytes;
  };

  static bool Follows(const Piece& before, const Piece& piece) {
    return before.place.pack == piece.place.pack &&
           before.place.offset + before.place.length == piece.place.offset;
  }

  uint64_t Key(uint32_t space, uint64_t block) const {
    return TableKey(root_.space_numbers[space], block);
  }

  Result<TableAnswer> Find(uint32_t space, uint64_t block) const {
    TableAnswer answer = TRY(tables_.Find(Key(space, block)));
    if (answer.kind == BlockKind::kNone) {
      return Error::Make(ErrorCode::kCorrupt,
                         "{}: none of its tables answers for block {} of space {}",
                         SnapshotPath(root_.info.id), block, root_.info.spaces[space].name);
    }
    return answer;
  }

  // Chunks that follow each other in a pack.
  Status ReadPieces(uint32_t space, std::span<const Piece> pieces) {
    if (pieces.empty()) {
      return {};
    }
    const ChunkPlace& first = pieces.front().place;
    const ChunkPlace& last = pieces.back().place;
    const size_t size_bytes = last.offset + last.length - first.offset;
    const auto buffer = std::make_unique_for_overwrite<uint8_t[]>(size_bytes);
    const std::span<uint8_t> stored(buffer.get(), size_bytes);
    const bool read = core_->packs().Read(first, stored).ok();
    for (const Piece& piece : pieces) {
      const std::span<const uint8_t> chunk =
          stored.subspan(piece.place.offset - first.offset, piece.place.length);
      if (read && core_->codec().Decode(chunk, piece.chunk, piece.bytes)) {
        continue;
      }
      // Slowly, one by one: from elsewhere, or with an error that says which.
      const Status again = core_->ReadChunk(piece.chunk, piece.place, piece.bytes);
      if (!again.ok()) {
        std::memset(piece.bytes.data(), 0, piece.bytes.size());
        Error error = again.error();
        return std::move(error).WithContext(fmt::format("block {} of space {} of snapshot {}",
                                                        piece.block, root_.info.spaces[space].name,
                                                        root_.info.id.Short()));
      }
    }
    return {};
  }

  const std::shared_ptr<StoreCore> core_;
  const std::unique_ptr<StoreFiles::Lock> lease_;  // what the tables name stays as long
  const SnapshotRoot root_;
  const TableStack tables_;
};

}  // namespace

Result<std::unique_ptr<SnapshotReader>> OpenStoreReader(std::shared_ptr<StoreCore> core,
                                                        const SnapshotId& id) {
  std::unique_ptr<StoreFiles::Lock> lease = TRY(TakeLease(core->files(), core->tuning().owner, id));
  SnapshotRoot root = TRY(core->ReadRoot(id));
  TableStack tables = TRY(TableStack::Open(core->files(), root.tables));
  return std::unique_ptr<SnapshotReader>(std::make_unique<StoreReader>(
      std::move(core), std::move(lease), std::move(root), std::move(tables)));
}

Result<std::vector<uint8_t>> ReadStateObject(StoreFiles& files, const StateRef& state) {
  if (state.plain_bytes == 0) {
    return std::vector<uint8_t>();
  }
  return ReadStateFile(files, ObjectPath(state.name), state);
}

Result<std::vector<uint8_t>> ReadStateFile(StoreFiles& files, const std::string& path,
                                           const StateRef& state) {
  std::vector<uint8_t> bytes = TRY(ReadWholeFile(files, path, state.file_bytes));
  if (Sha256(bytes) != state.name) {
    return Error::Make(ErrorCode::kCorrupt, "{}: its SHA-256 is not its name", path);
  }
  if (state.key.has_value()) {
    std::optional<std::vector<uint8_t>> object =
        UnsealPadded(*state.key, SealType::kState, {}, bytes);
    if (!object.has_value()) {
      return Error::Make(ErrorCode::kCorrupt, "{}: it was sealed with another key", path);
    }
    bytes = std::move(*object);
  }
  Result<std::vector<uint8_t>> plain = DecodeStateObject(bytes, state.plain_bytes);
  if (!plain.ok()) {
    return std::move(plain).error().WithContext(path);
  }
  return plain;
}

}  // namespace pacsvisor
