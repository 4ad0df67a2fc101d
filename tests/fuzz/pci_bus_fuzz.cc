// The PCI bus with several functions: any accesses by ECAM and by CF8/CFC, BARs of every kind
// sized, moved over each other, over the ECAM and to the ends of the space, MSI-X tables pointing
// anywhere, vectors triggered meanwhile; saved, and loaded as it was and with changes. Wherever the
// guest put them, a BAR answers as itself or not at all.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "devices/pci/msix_table.h"
#include "devices/pci/pci_registers.h"
#include "tests/fuzz/state_mutation.h"
#include "tests/support/fake_msi.h"
#include "tests/support/pci_machine.h"
#include "vmm/base/log.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {
namespace {

// Reads as its tag, and notices accesses beyond its end.
class TaggedBar : public BusDevice {
 public:
  TaggedBar(uint8_t tag, uint64_t size_bytes) : tag_(tag), size_bytes_(size_bytes) {}
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    CHECK(offset < size_bytes_ && data.size() <= size_bytes_ - offset);
    std::ranges::fill(data, tag_);
  }
  void Write(uint64_t offset, std::span<const uint8_t> data) override {
    CHECK(offset < size_bytes_ && data.size() <= size_bytes_ - offset);
  }
  uint8_t tag() const { return tag_; }

 private:
  const uint8_t tag_;
  const uint64_t size_bytes_;
};

struct BarShape {
  unsigned index;
  PciBarKind kind;
  uint64_t size_bytes;
};
const std::vector<std::vector<BarShape>> kFunctions = {
    {{0, PciBarKind::kMemory32, 16}, {1, PciBarKind::kMemory32, kMiB}},
    {{0, PciBarKind::kMemory64, 16 * kKiB}, {4, PciBarKind::kMemory64Prefetchable, 4 * kGiB}},
    {{5, PciBarKind::kMemory32, 4 * kKiB}, {2, PciBarKind::kMemory64, 16}},
};
constexpr unsigned kMsixBar[] = {2, 2, 0};
constexpr unsigned kVectors[] = {1, 65, MsixTable::kMaxVectors};

class FuzzFunction : public PciFunction {
 public:
  FuzzFunction(unsigned number, MsiController& msi)
      : PciFunction(
            "function" + std::to_string(number),
            {.vendor = 0x1234, .device = static_cast<uint16_t>(number), .class_code = 0xff0000}),
        msix_(name(), msi.Allocate(kVectors[number]).value(), kVectors[number], faults()) {
    for (const BarShape& shape : kFunctions[number]) {
      bars_owned_.push_back(std::make_unique<TaggedBar>(
          static_cast<uint8_t>(0x10 * (number + 1) + shape.index), shape.size_bytes));
      AddBar(shape.index, shape.kind, shape.size_bytes, *bars_owned_.back());
    }
    AddBar(kMsixBar[number], PciBarKind::kMemory64, MsixTable::kBarSizeBytes, msix_);
    const uint8_t control[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    const uint8_t writable[] = {0, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0};
    msix_capability_ = AddCapability(kPciCapabilityMsix, control, writable);
    const uint8_t vendor[3] = {};
    const uint8_t vendor_writable[3] = {0xff, 0x0f, 0xf0};
    AddCapability(kPciCapabilityVendor, vendor, vendor_writable);
  }

  MsixTable& msix() { return msix_; }

  // Every mapped BAR is where configuration space says, answers there, and as itself.
  void Check(Bus& mmio) const {
    const bool enabled = (config()[kPciCommand] & kPciCommandMemory) != 0;
    for (unsigned i = 0; i < kPciBarCount; ++i) {
      const Bar& bar = bars()[i];
      if (!bar.mapped.has_value()) {
        continue;
      }
      CHECK(enabled && *bar.mapped % bar.size_bytes == 0, "{}: BAR {}", name(), i);
      uint8_t byte = 0;
      CHECK(mmio.Read(*bar.mapped + bar.size_bytes - 1, {&byte, 1}), "{}: BAR {}", name(), i);
      const auto* tagged = dynamic_cast<const TaggedBar*>(bar.device);
      CHECK(tagged == nullptr || byte == tagged->tag(), "{}: BAR {} answers as {:#x}", name(), i,
            byte);
    }
  }

 private:
  void OnCapabilityWrite(uint8_t capability, uint32_t first, size_t count) override {
    CHECK(capability >= kPciHeaderEnd && count > 0 && first + count <= 12);
    ApplyMsix();
  }
  void OnCapabilityRead(uint8_t capability, uint32_t first, size_t count) override {
    CHECK(capability >= kPciHeaderEnd && count > 0 && first + count <= 12);
  }
  void OnConfigLoaded() override { ApplyMsix(); }
  void ApplyMsix() {
    const uint8_t control = config()[msix_capability_ + 3u];
    msix_.SetControl((control & 0x80) != 0, (control & 0x40) != 0);
  }

  std::vector<std::unique_ptr<TaggedBar>> bars_owned_;
  MsixTable msix_;
  uint8_t msix_capability_ = 0;
};

struct Machine {
  Machine() {
    for (unsigned i = 0; i < kFunctions.size(); ++i) {
      functions.push_back(std::make_unique<FuzzFunction>(i, msi));
      slots.push_back(pci.pci().Add(*functions.back()).value());
      pci.EnableMemory(slots.back());
    }
  }

  StateNode Save() const {
    StateNode state;
    const_cast<PciMachine&>(pci).pci().Save(state.AddChild("pci"));
    for (const auto& function : functions) {
      function->msix().Save(state.AppendTo("msix"));
    }
    return state;
  }
  Status Load(const StateNode& state) {
    const std::span<const StateNode> tables = TRY(state.Children("msix"));
    for (size_t i = 0; i < std::min(tables.size(), functions.size()); ++i) {
      TRY(functions[i]->msix().Load(tables[i]));
    }
    return pci.pci().Load(*TRY(state.Child("pci")));
  }

  FakeMsiController msi;
  PciMachine pci;
  std::vector<std::unique_ptr<FuzzFunction>> functions;
  std::vector<uint8_t> slots;
};

constexpr int kMaxRestores = 4;

class Session {
 public:
  explicit Session(FuzzInput input) : input_(input), machine_(std::make_unique<Machine>()) {}

  void Run() {
    while (!input_.empty()) {
      Step();
      for (const auto& function : machine_->functions) {
        function->Check(machine_->pci.mmio());
      }
    }
  }

 private:
  void Step() {
    const auto step = input_.Take<uint8_t>();
    const auto which = input_.Take<uint8_t>();
    const size_t size = 1 + which / 32;  // 1 to 8: the bus splits what is not natural
    PciMachine& pci = machine_->pci;
    const uint8_t slot = machine_->slots[which % machine_->slots.size()];
    FuzzFunction& function = *machine_->functions[which % machine_->functions.size()];
    switch (step % 10) {
      case 0:
        return Access(pci.mmio(), PciMachine::Ecam(slot, input_.Take<uint16_t>() % 0x1000), size);
      case 1:  // the whole ECAM and its end
        return Access(pci.mmio(), kEcamStart.raw() + input_.Take<uint32_t>() % kEcamSizeBytes,
                      size);
      case 2:
        pci.WritePort<uint32_t>(0xcf8, input_.Take<uint32_t>());
        return Access(pci.ports(), 0xcfc + step / 10 % 4, size);
      case 3:
        return Access(pci.ports(), 0xcf8 + step / 10 % 8, size);
      case 4:
        return pci.WriteConfig<uint16_t>(slot, kPciCommand, input_.Take<uint8_t>());
      case 5:
      case 6:
        return MoveBar(slot, step / 10 % kPciBarCount);
      case 7:
        return TouchMsix(function, size);
      case 8:
        return function.msix().Trigger(input_.Take<uint8_t>());
      default:
        if (restores_++ < kMaxRestores) {
          Restore();
        }
    }
  }

  void MoveBar(uint8_t slot, unsigned index) {
    const uint32_t offset = kPciBar0 + 4 * index;
    const auto kind = input_.Take<uint8_t>();
    const FuzzFunction& other = *machine_->functions[kind / 8 % machine_->functions.size()];
    const uint64_t there = other.bars()[kind / 32 % kPciBarCount].mapped.value_or(0);
    const uint64_t addresses[] = {~uint64_t{0},
                                  kEcamStart.raw(),
                                  there,
                                  there + 16,
                                  (uint64_t{1} << 52) - 16,
                                  input_.Take<uint32_t>(),
                                  0,
                                  PciMachine::kMmio64Start};
    const uint64_t address = addresses[kind % 8];
    machine_->pci.WriteConfig<uint32_t>(slot, offset, static_cast<uint32_t>(address));
    (void)machine_->pci.ReadConfig<uint32_t>(slot, offset);
    if (index + 1 < kPciBarCount && (kind & 0x10) != 0) {
      machine_->pci.WriteConfig<uint32_t>(slot, offset + 4, static_cast<uint32_t>(address >> 32));
    }
  }

  void TouchMsix(FuzzFunction& function, size_t size) {
    for (const PciFunction::Bar& bar : function.bars()) {
      if (bar.device == &function.msix() && bar.mapped.has_value()) {
        Access(machine_->pci.mmio(), *bar.mapped + input_.Take<uint16_t>() % bar.size_bytes, size);
      }
    }
  }

  // Reads, then writes the next bytes of the input.
  void Access(Bus& bus, uint64_t address, size_t size) {
    uint8_t bytes[8] = {};
    bus.Read(address, std::span(bytes, size));
    const std::span<const uint8_t> value = input_.TakeBytes(size);
    std::copy(value.begin(), value.end(), bytes);
    bus.Write(address, std::span(bytes, size));
  }

  void Restore() {
    StateNode state = machine_->Save();
    const unsigned changes = StateMutation::Apply(state, input_);
    auto twin = std::make_unique<Machine>();
    const Status loaded = twin->Load(state);
    CHECK(loaded.ok() || changes > 0, "{}", loaded.error().message());
    CHECK(loaded.ok() || !loaded.error().message().empty());
    if (loaded.ok()) {
      machine_ = std::move(twin);
    }
  }

  FuzzInput input_;
  std::unique_ptr<Machine> machine_;
  int restores_ = 0;
};

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pacsvisor::SetLogLevel(pacsvisor::LogLevel::kOff);
  pacsvisor::Session(pacsvisor::FuzzInput({data, size})).Run();
  return 0;
}
