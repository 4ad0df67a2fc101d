// A machine of nothing but bytes: memory and disks in vectors, dirty sets that the test's writes
// fill, and hooks at each step of a snapshot.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "vmm/base/clock.h"
#include "vmm/snapshot/snapshot_subject.h"

namespace pacsvisor::snapshot_test {

constexpr uint32_t kTestBlockBytes = 4096;

class FakeMemory : public Space {
 public:
  explicit FakeMemory(uint64_t pages) : bytes(pages * kTestBlockBytes) {}

  const std::string& name() const override { return name_; }
  uint32_t block_bytes() const override { return kTestBlockBytes; }
  uint64_t block_count() const override { return bytes.size() / kTestBlockBytes; }
  Status Read(BlockIndex first, std::span<uint8_t> to) const override {
    if (before_read) {
      before_read();
    }
    std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(first.raw() * kTestBlockBytes), to.size(),
                to.begin());
    return {};
  }
  Status Write(BlockIndex first, std::span<const uint8_t> from) override {
    std::copy(from.begin(), from.end(),
              bytes.begin() + static_cast<ptrdiff_t>(first.raw() * kTestBlockBytes));
    return {};
  }

  std::vector<uint8_t> bytes;
  std::function<void()> before_read;

 private:
  const std::string name_ = "memory";
};

// What vCPUs would have written, as the test says.
class FakeSource : public DirtySource {
 public:
  explicit FakeSource(uint64_t pages) : written(pages) {}

  std::string_view name() const override { return "fake"; }
  Status Start() override {
    std::vector<uint64_t> none(written.word_count());
    written.TakeInto(none);
    return {};
  }
  void Stop() override {}
  Status Harvest(std::span<uint64_t> words) override {
    if (fail_harvests > 0 && --fail_harvests == 0) {
      return Error::Make(ErrorCode::kIo, "the harvest fails");
    }
    written.TakeInto(words);
    return {};
  }

  DirtyBitmap written;
  int fail_harvests = 0;  // the n-th from now on fails
};

class FakeDisk : public FrozenSpace {
 public:
  FakeDisk(std::string name, uint64_t size_bytes)
      : bytes((size_bytes + kTestBlockBytes - 1) / kTestBlockBytes * kTestBlockBytes),
        dirty(bytes.size() / kTestBlockBytes),
        name_(std::move(name)),
        size_bytes_(size_bytes) {}

  const std::string& name() const override { return name_; }
  uint32_t block_bytes() const override { return kTestBlockBytes; }
  uint64_t size_bytes() const override { return size_bytes_; }
  Status Prepare() override {
    prepared = true;
    return fail_prepare ? Error::Make(ErrorCode::kNoSpace, "no room for a layer") : Status();
  }
  void Freeze(std::span<uint64_t> words) override {
    CHECK(prepared && frozen.empty());
    frozen = bytes;
    dirty.TakeInto(words);
  }
  Status Read(BlockIndex first, std::span<uint8_t> to, uint32_t) override {
    if (late_reads > 0) {
      --late_reads;
      return Error::Make(ErrorCode::kTimeout, "a write of before the instant is not done yet");
    }
    if (fail_read) {
      return Error::Make(ErrorCode::kIo, "the disk cannot be read");
    }
    std::copy_n(frozen.begin() + static_cast<ptrdiff_t>(first.raw() * kTestBlockBytes), to.size(),
                to.begin());
    return {};
  }
  void Release() override {
    CHECK(prepared);
    prepared = false;
    frozen.clear();
  }
  void Return(std::span<const uint64_t> words) override { dirty.Return(words); }

  void WriteBlock(uint64_t block, uint8_t value) {
    std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(block * kTestBlockBytes), kTestBlockBytes,
                value);
    dirty.Mark(BlockIndex(block));
  }

  std::vector<uint8_t> bytes;
  std::vector<uint8_t> frozen;
  DirtyBitmap dirty;
  bool prepared = false;
  bool fail_prepare = false;
  bool fail_read = false;
  int late_reads = 0;

 private:
  const std::string name_;
  const uint64_t size_bytes_;
};

class FakeSubject : public SnapshotSubject {
 public:
  explicit FakeSubject(uint64_t pages) : memory_space(pages), marks(pages) {
    auto fake = std::make_unique<FakeSource>(pages);
    source = fake.get();
    tracker_ = std::make_unique<DirtyTracker>(marks, std::move(fake));
  }

  FakeDisk& AddDisk(uint64_t size_bytes) {
    return disk_spaces.emplace_back("disk" + std::to_string(disk_spaces.size()), size_bytes);
  }

  const Space& memory() const override { return memory_space; }
  DirtyTracker& tracker() override { return *tracker_; }
  std::vector<FrozenSpace*> disks() override {
    std::vector<FrozenSpace*> all;
    for (FakeDisk& disk : disk_spaces) {
      all.push_back(&disk);
    }
    return all;
  }
  WriteProtection* write_protection() override { return protection; }
  Status AtInstant(const std::function<Status()>& work, PauseTimes& times) override {
    times.begun_ns = MonotonicNs();
    if (before_instant) {
      before_instant();
    }
    times.stopped_ns = MonotonicNs();
    paused = true;
    Status done = work();
    paused = false;
    memory_at_instant = memory_space.bytes;
    disks_at_instant.clear();
    for (const FakeDisk& disk : disk_spaces) {
      disks_at_instant.push_back(disk.bytes);
    }
    times.resuming_ns = MonotonicNs();
    if (after_instant) {
      after_instant();
    }
    times.resumed_ns = MonotonicNs();
    return done;
  }
  Status SaveState(StateNode& node) override {
    CHECK(paused);
    if (fail_state) {
      return Error::Make(ErrorCode::kIo, "a vCPU cannot be read");
    }
    node.SetVersion(1);
    node.SetU64("count", ++states);
    return {};
  }

  // A vCPU writes a page; the VMM does.
  void GuestWrites(uint64_t page, uint8_t value) {
    FillPage(page, value);
    source->written.Mark(BlockIndex(page));
  }
  void VmmWrites(uint64_t page, uint8_t value) {
    FillPage(page, value);
    marks.Mark(BlockIndex(page));
  }

  FakeMemory memory_space;
  DirtyBitmap marks;
  FakeSource* source = nullptr;
  std::deque<FakeDisk> disk_spaces;
  std::function<void()> before_instant;
  std::function<void()> after_instant;
  WriteProtection* protection = nullptr;
  std::function<void(uint64_t page)> before_write;
  bool fail_state = false;
  bool paused = false;
  uint64_t states = 0;
  // What the last snapshot must hold.
  std::vector<uint8_t> memory_at_instant;
  std::vector<std::vector<uint8_t>> disks_at_instant;

 private:
  void FillPage(uint64_t page, uint8_t value) {
    if (before_write) {
      before_write(page);
    }
    std::fill_n(memory_space.bytes.begin() + static_cast<ptrdiff_t>(page * kTestBlockBytes),
                kTestBlockBytes, value);
  }

  std::unique_ptr<DirtyTracker> tracker_;
};

}  // namespace pacsvisor::snapshot_test
