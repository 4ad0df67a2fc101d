#include "vmm/machine/machine_subject.h"

#include <utility>

#include "vmm/disk/sealed_view.h"

namespace pacsvisor {
class MachineSubject::Disk : public FrozenSpace {
 public:
  Disk(std::string name, SealedView& view) : name_(std::move(name)), view_(view) {}

  const std::string& name() const override { return name_; }
  uint32_t block_bytes() const override { return SealedView::kBlockBytes; }
  uint64_t size_bytes() const override { return view_.size_bytes(); }
  Status Prepare() override { return WithName(view_.Prepare()); }
  void Freeze(std::span<uint64_t> words) override { view_.Flip(words); }
  Status Read(BlockIndex first, std::span<uint8_t> bytes, uint32_t timeout_ms) override {
    return WithName(view_.Read(first, bytes, timeout_ms));
  }
  void Release() override { view_.Release(); }
  void Return(std::span<const uint64_t> words) override { view_.Return(words); }

 private:
  Status WithName(Status status) const {
    return status.ok() ? std::move(status) : std::move(status).error().WithContext(name_);
  }

  const std::string name_;
  SealedView& view_;
};

class MachineSubject::Protection : public WriteProtection {
 public:
  Protection(MemoryFaults& faults, const GuestMemory& memory) : faults_(faults), memory_(memory) {}

  Status Prepare() override { return faults_.PrepareResidue(); }
  Status Arm(std::span<const Extent> pages) override { return faults_.ArmResidue(pages); }
  Status Begin(ResidueSink& sink, std::span<uint64_t> listed) override {
    return faults_.BeginResidue(sink, listed);
  }
  void AddPinned(std::span<uint64_t> words) override { memory_.AddPagesInFlight(words); }
  Status CopyNow(std::span<const Extent> pages) override { return faults_.CopyResidueNow(pages); }
  Status Protect(std::span<const Extent> pages) override { return faults_.ProtectResidue(pages); }
  Result<bool> CopySome() override { return faults_.CopySome(); }
  Status Finish() override { return faults_.CopyRest(); }
  void Abandon() override {
    const Status done = faults_.AbandonResidue();
    // A page that stays protected would hold its writers up for good.
    CHECK(done.ok(), "{}", done.error().message());
  }

 private:
  MemoryFaults& faults_;
  const GuestMemory& memory_;
};

MachineSubject::MachineSubject(Machine& machine) : machine_(machine), memory_(machine.memory()) {
  if (MemoryFaults* const faults = machine.memory_faults()) {
    protection_ = std::make_unique<Protection>(*faults, machine.memory());
  }
}

WriteProtection* MachineSubject::write_protection() { return protection_.get(); }

Result<std::unique_ptr<MachineSubject>> MachineSubject::Create(Machine& machine) {
  const std::vector<SealedView*>& views = machine.sealed_views();
  if (views.size() != machine.config().disks.size()) {
    return Error::Make(
        ErrorCode::kUnsupported,
        "machine {} was started without a store, and its disks cannot be frozen: add "
        "[store] to its VM.toml and start it again",
        machine.config().name);
  }
  std::unique_ptr<MachineSubject> subject(new MachineSubject(machine));
  for (size_t i = 0; i < views.size(); ++i) {
    subject->disks_.push_back(std::make_unique<Disk>(fmt::format("disk{}", i), *views[i]));
  }
  return subject;
}

MachineSubject::~MachineSubject() = default;

std::vector<FrozenSpace*> MachineSubject::disks() {
  std::vector<FrozenSpace*> all;
  for (const std::unique_ptr<Disk>& disk : disks_) {
    all.push_back(disk.get());
  }
  return all;
}

}  // namespace pacsvisor
