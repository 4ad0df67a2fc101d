// Random histories of several machines in a store, and what they must read as.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/vmm/store/store_model.h"

namespace pacsvisor::store_test {

// Writes snapshots whose blocks are given in every way that there is, and remembers them.
class RandomHistory {
 public:
  explicit RandomHistory(uint64_t seed) : random_(seed) {}

  // A child of a random earlier snapshot, most often of the last one; or a new machine's first.
  void Step(Store& store) {
    const bool first = snapshots_.empty() || Chance(40);
    const Snapshot* parent = nullptr;
    if (!first) {
      parent = Chance(5) ? &snapshots_[Below(snapshots_.size())] : &snapshots_.back();
    }
    Snapshot next;
    if (parent != nullptr) {
      next = *parent;
    }
    ChangeSpaces(next);
    next.state.assign(Below(3) * 1000, static_cast<uint8_t>(Below(256)));
    std::vector<StoredSpace> spaces = next.spaces;
    auto writer = store.Begin(parent == nullptr ? std::nullopt : std::optional(parent->id), spaces);
    ASSERT_TRUE(writer.ok()) << MessageOf(writer);
    for (uint32_t space = 0; space < next.spaces.size(); ++space) {
      bool inherited = false;
      for (size_t i = 0; parent != nullptr && i < parent->spaces.size(); ++i) {
        inherited = inherited || parent->spaces[i] == next.spaces[space];
      }
      Write(**writer, space, next.values[space], !inherited);
    }
    const Result<SnapshotInfo> info = (*writer)->Commit(DraftOf(snapshots_.size() + 1), next.state);
    ASSERT_TRUE(info.ok()) << MessageOf(info);
    next.id = info->id;
    snapshots_.push_back(std::move(next));
  }

  const std::vector<Snapshot>& snapshots() const { return snapshots_; }

 private:
  uint64_t Below(uint64_t limit) { return random_() % limit; }
  bool Chance(uint64_t one_in) { return Below(one_in) == 0; }

  // Of a few thousand values, so that blocks of equal contents meet.
  uint64_t Value() { return Chance(4) ? 0 : 1 + Below(3000); }

  void ChangeSpaces(Snapshot& next) {
    if (next.spaces.empty()) {
      next.spaces = {SpaceOf("memory", 60), SpaceOf("disk0", 40)};
      next.values = {Values(60), Values(40)};
    }
    if (Chance(15)) {  // grown or shrunk
      const size_t space = Below(next.spaces.size());
      const uint64_t blocks = 1 + Below(80);
      next.spaces[space] = SpaceOf(next.spaces[space].name, blocks);
      next.values[space].resize(blocks);
    }
    if (Chance(15) && next.spaces.size() < 4) {
      next.spaces.insert(next.spaces.begin(), SpaceOf("disk" + std::to_string(++disks_), 20));
      next.values.insert(next.values.begin(), Values(20));
    }
    if (Chance(15) && next.spaces.size() > 1) {
      next.spaces.pop_back();
      next.values.pop_back();
    }
  }

  void Write(SnapshotWriter& writer, uint32_t space, Values& values, bool whole) {
    std::vector<bool> given(values.size(), !whole);
    const auto give = [&](uint64_t block, uint64_t value) {
      values[block] = value;
      given[block] = true;
      const Status added = writer.Add(space, BlockIndex(block), BlockOf(value));
      ASSERT_TRUE(added.ok()) << MessageOf(added);
    };
    const uint64_t steps = Below(25);
    for (uint64_t i = 0; i < steps; ++i) {
      const uint64_t block = Below(values.size());
      if (Chance(6)) {
        const uint64_t count = 1 + Below(values.size() - block);
        const Status added = writer.AddZeroes(space, BlockIndex(block), count);
        ASSERT_TRUE(added.ok()) << MessageOf(added);
        for (uint64_t at = block; at < block + count; ++at) {
          values[at] = 0;
          given[at] = true;
        }
      } else if (Chance(5)) {
        give(block, Value());
        give(block, Value());
      } else if (Chance(5)) {
        const uint64_t before = values[block];
        give(block, Value());
        give(block, before);  // back again
      } else {
        give(block, Chance(5) ? values[block] : Value());
      }
    }
    for (uint64_t block = 0; block < values.size(); ++block) {
      if (!given[block]) {
        give(block, Value());
      }
    }
  }

  std::mt19937_64 random_;
  std::vector<Snapshot> snapshots_;
  int disks_ = 0;
};

}  // namespace pacsvisor::store_test
