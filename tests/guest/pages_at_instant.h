// A machine as a snapshot sees it, and what each page of its memory was at the instant, as somebody
// reads them who knows no dirty set.
#pragma once

#include <gtest/gtest.h>
#include <xxhash.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "vmm/machine/machine_subject.h"
#include "vmm/store/snapshot_reader.h"

namespace pacsvisor {

using PageSums = std::vector<uint64_t>;

inline PageSums SumsOf(std::span<const uint8_t> pages) {
  PageSums sums;
  for (size_t at = 0; at < pages.size(); at += kPageSizeBytes) {
    sums.push_back(XXH3_64bits(pages.data() + at, kPageSizeBytes));
  }
  return sums;
}

inline PageSums SumsOf(Machine& machine) {
  const MemorySpace memory(machine.memory());
  std::vector<uint8_t> page(kPageSizeBytes);
  PageSums sums;
  for (uint64_t i = 0; i < memory.block_count(); ++i) {
    CHECK(memory.Read(BlockIndex(i), page).ok());
    sums.push_back(SumsOf(page).front());
  }
  return sums;
}

inline PageSums SumsOf(SnapshotReader& snapshot) {
  constexpr uint64_t kPagesAtOnce = 64;
  const uint64_t count = snapshot.info().spaces[0].block_count();
  std::vector<uint8_t> bytes(kPagesAtOnce * kPageSizeBytes);
  PageSums sums;
  for (uint64_t first = 0; first < count; first += kPagesAtOnce) {
    const Status read = snapshot.Read(0, BlockIndex(first), bytes);
    EXPECT_TRUE(read.ok()) << read.error().message();
    const PageSums some = SumsOf(bytes);
    sums.insert(sums.end(), some.begin(), some.end());
  }
  return sums;
}

inline uint64_t CountDifferent(const PageSums& one, const PageSums& other) {
  EXPECT_EQ(one.size(), other.size());
  uint64_t different = 0;
  for (size_t i = 0; i < one.size() && i < other.size(); ++i) {
    different += one[i] == other[i] ? 0 : 1;
  }
  return different;
}

class PagesAtInstant : public SnapshotSubject {
 public:
  explicit PagesAtInstant(Machine& machine)
      : machine_(machine), subject_(MachineSubject::Create(machine).value()) {}

  const Space& memory() const override { return subject_->memory(); }
  DirtyTracker& tracker() override { return subject_->tracker(); }
  std::vector<FrozenSpace*> disks() override { return subject_->disks(); }
  WriteProtection* write_protection() override { return subject_->write_protection(); }
  Status AtInstant(const std::function<Status()>& work, PauseTimes& times) override {
    return subject_->AtInstant(
        [&] {
          Status done = work();
          if (before_reading_) {
            before_reading_();
          }
          sums_ = SumsOf(machine_);
          return done;
        },
        times);
  }
  Status SaveState(StateNode& node) override { return subject_->SaveState(node); }

  // In the pause, after the snapshot's part of it.
  void BeforeReading(std::function<void()> call) { before_reading_ = std::move(call); }
  const PageSums& sums() const { return sums_; }

 private:
  Machine& machine_;
  const std::unique_ptr<MachineSubject> subject_;
  std::function<void()> before_reading_;
  PageSums sums_;
};

}  // namespace pacsvisor
