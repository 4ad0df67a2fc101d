// A protection of FakeMemory's pages: whoever writes one through FakeSubject comes here first.
#pragma once

#include <functional>
#include <set>

#include "tests/unit/vmm/snapshot/fake_subject.h"
#include "vmm/snapshot/write_protection.h"

namespace pacsvisor::snapshot_test {

class FakeProtection : public WriteProtection {
 public:
  // Becomes the subject's, which outlives it.
  explicit FakeProtection(FakeSubject& subject) : subject_(subject) {
    subject.protection = this;
    subject.before_write = [this](uint64_t page) { ServeWrite(page); };
  }

  Status Prepare() override { return Step(); }
  Status Arm(std::span<const Extent> pages) override {
    CHECK(!subject_.paused && sink_ == nullptr);
    TRY(Step());
    Add(pages, listed_);
    if (on_arm) {
      on_arm();
    }
    return {};
  }
  Status Begin(ResidueSink& sink, std::span<uint64_t> listed) override {
    CHECK(subject_.paused && sink_ == nullptr);
    TRY(Step());
    for (const uint64_t page : listed_) {
      listed[page / 64] |= uint64_t{1} << page % 64;
    }
    listed_.clear();
    sink_ = &sink;
    return {};
  }
  void AddPinned(std::span<uint64_t> words) override {
    for (const uint64_t page : pinned) {
      words[page / 64] |= uint64_t{1} << page % 64;
    }
  }
  Status CopyNow(std::span<const Extent> pages) override {
    CHECK(subject_.paused);
    TRY(Step());
    for (const Extent& extent : pages) {
      for (uint64_t i = 0; i < extent.count; ++i) {
        Release(extent.first.raw() + i);
      }
    }
    return {};
  }
  Status Protect(std::span<const Extent> pages) override {
    CHECK(subject_.paused && sink_ != nullptr);
    TRY(Step());
    std::set<uint64_t> none;
    Add(pages, none);
    return {};
  }
  Result<bool> CopySome() override {
    CHECK(!subject_.paused);
    TRY(Step());
    if (pages_.empty()) {
      return false;
    }
    Release(*pages_.begin());
    return true;
  }
  Status Finish() override {
    TRY(Step());
    sink_ = nullptr;
    return {};
  }
  void Abandon() override { Drop(); }

  // The call after this many more fails.
  void FailAfter(uint64_t calls) { left_ = calls; }
  bool failed() const { return failed_; }
  const std::set<uint64_t>& pages() const { return pages_; }  // protected now
  uint64_t written() const { return written_; }               // while they were

  std::set<uint64_t> pinned;
  std::function<void()> on_arm;

 private:
  // As the real one: of a call that fails nothing stays protected.
  Status Step() {
    if (left_-- == 0) {
      failed_ = true;
      Drop();
      return Error::Make(ErrorCode::kIo, "userfaultfd fails");
    }
    return {};
  }
  void Drop() {
    pages_.clear();
    listed_.clear();
    sink_ = nullptr;
  }
  void Add(std::span<const Extent> pages, std::set<uint64_t>& no_longer) {
    for (const Extent& extent : pages) {
      for (uint64_t i = 0; i < extent.count; ++i) {
        pages_.insert(extent.first.raw() + i);
        no_longer.erase(extent.first.raw() + i);
      }
    }
  }
  void ServeWrite(uint64_t page) {
    if (pages_.contains(page)) {
      ++written_;
      Release(page);
    }
  }
  // Copied after the instant, listed before it.
  void Release(uint64_t page) {
    if (pages_.erase(page) == 0) {
      return;
    }
    if (sink_ == nullptr) {
      listed_.insert(page);
      return;
    }
    const Extent extent = {BlockIndex(page), 1};
    const std::span<uint8_t> room = sink_->Reserve(extent).value();
    std::copy_n(
        subject_.memory_space.bytes.begin() + static_cast<ptrdiff_t>(page * kTestBlockBytes),
        kTestBlockBytes, room.begin());
    sink_->Landed(extent);
  }

  FakeSubject& subject_;
  std::set<uint64_t> pages_;
  std::set<uint64_t> listed_;
  ResidueSink* sink_ = nullptr;
  uint64_t left_ = ~uint64_t{0};
  bool failed_ = false;
  uint64_t written_ = 0;
};

}  // namespace pacsvisor::snapshot_test
