// A disk of a snapshot in a store, block by block: what a disk that is restored lazily fetches
// from, and the name by which its record finds that again after a restart.
// Threads: any, several at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "vmm/disk/block_source.h"
#include "vmm/store/snapshot_reader.h"

namespace pacsvisor {

struct BlockOrigin {
  std::string store;  // its path
  SnapshotId snapshot;
  std::string space;  // "disk0"

  // "disk0 of snapshot HEX in the store /srv/store"
  std::string Name() const;
  // kCorrupt: no such name.
  static Result<BlockOrigin> Parse(std::string_view name);
  friend bool operator==(const BlockOrigin&, const BlockOrigin&) = default;
};

class SnapshotBlocks : public BlockSource {
 public:
  // `snapshot` is that of `origin`. kInvalidArgument: it has no such disk, or of another size than
  // `disk_bytes`.
  static Result<std::shared_ptr<SnapshotBlocks>> Create(std::shared_ptr<SnapshotReader> snapshot,
                                                        const BlockOrigin& origin,
                                                        uint64_t disk_bytes);

  std::string_view name() const override { return name_; }
  Status Fetch(BlockIndex first, std::span<uint8_t> bytes) override {
    return snapshot_->Read(space_, first, bytes);
  }
  Result<uint64_t> ZeroRun(BlockIndex first) override { return snapshot_->ZeroRun(space_, first); }

 private:
  SnapshotBlocks(std::shared_ptr<SnapshotReader> snapshot, std::string name, uint32_t space)
      : snapshot_(std::move(snapshot)), name_(std::move(name)), space_(space) {}

  const std::shared_ptr<SnapshotReader> snapshot_;
  const std::string name_;
  const uint32_t space_;  // of the snapshot
};

}  // namespace pacsvisor
