// PCI and its virtio transport: any accesses to configuration space, ports and BARs, between which
// a device serves its queues, asks for reset, and the machine is saved and restored. Whatever a
// guest did, its state can be loaded, and the restored machine goes on from it; state that somebody
// changed is refused, or works.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "devices/virtio/virtio_pci_transport.h"
#include "tests/fuzz/fuzz_memory.h"
#include "tests/fuzz/state_mutation.h"
#include "tests/support/fake_msi.h"
#include "tests/support/fuzz_input.h"
#include "tests/support/pci_machine.h"
#include "tests/support/virtio_driver.h"
#include "vmm/base/log.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {
namespace {

// Serves when it is told to; a reset is complete when the input says so.
class FuzzDevice : public VirtioDevice {
 public:
  VirtioDeviceType type() const override { return VirtioDeviceType::kBlock; }
  std::string_view name() const override { return "fuzz0"; }
  uint64_t device_features() const override { return 0xff; }
  std::vector<uint16_t> queue_sizes() const override { return {32, 8}; }
  Status Attach(VirtioTransport& transport, GuestMemory& /*memory*/) override {
    transport_ = &transport;
    return {};
  }
  void ReadConfig(uint64_t offset, std::span<uint8_t> data) override {
    CHECK(offset < 0x1000);
    std::fill(data.begin(), data.end(), static_cast<uint8_t>(offset));
  }
  void WriteConfig(uint64_t offset, std::span<const uint8_t> /*data*/) override {
    CHECK(offset < 0x1000);
  }
  void Activate(const VirtioActivation& activation) override {
    CHECK(!activation_.has_value() && reset_complete_, "activated twice");
    CHECK((activation.features & kVirtioFeatureVersion1) != 0);
    activation_ = activation;
  }
  void StartReset() override {
    CHECK(activation_.has_value(), "reset while not active");
    activation_.reset();
    reset_complete_ = ending_;
  }
  bool ResetComplete() const override { return reset_complete_; }
  void Pause() override {}
  void Resume() override {}
  void Save(StateNode& node) const override { node.SetVersion(1); }
  Status Load(const StateNode& node) override {
    TRY(node.Version(1));
    return {};
  }

  void CompleteReset() { reset_complete_ = true; }
  // The transport goes: its reset is complete at once.
  void End() { reset_complete_ = ending_ = true; }
  void NeedReset() { transport_->NeedsReset("the input says so"); }
  void Serve() {
    if (!activation_.has_value()) {
      return;
    }
    DescriptorChain chain;
    for (const VirtioQueueHandle& handle : activation_->queues) {
      while (handle.queue->Pop(chain) == Virtqueue::PopResult::kChain) {
        handle.queue->Push(chain.head, 0);
      }
      if (handle.queue->broken()) {
        transport_->NeedsReset(handle.queue->broken_reason());
      } else if (handle.queue->ShouldInterrupt()) {
        transport_->InterruptQueue(handle.index);
      }
    }
  }

 private:
  VirtioTransport* transport_ = nullptr;
  std::optional<VirtioActivation> activation_;
  bool reset_complete_ = true;
  bool ending_ = false;
};

constexpr int kMaxRestores = 4;  // what an input does most slowly

struct Machine {
  explicit Machine(GuestMemory& memory)
      : transport(VirtioPciTransport::Create(device, memory, msi, doorbells).value()),
        slot(pci.pci().Add(*transport).value()) {}
  ~Machine() { device.End(); }

  Status Load(const StateNode& state) {
    const StateNode* bus = TRY(state.Child("pci"));
    TRY(pci.pci().Load(*bus));
    const StateNode* function = TRY(state.Child("transport"));
    return transport->Load(*function);
  }

  PciMachine pci;
  FakeMsiController msi;
  FakeDoorbellRegistrar doorbells;
  FuzzDevice device;
  std::unique_ptr<VirtioPciTransport> transport;
  uint8_t slot;
};

class Session {
 public:
  explicit Session(FuzzInput input)
      : input_(input), memory_(CleanMemory()), machine_(std::make_unique<Machine>(memory_)) {}

  void Run() {
    machine_->pci.EnableMemory(machine_->slot);
    while (!input_.empty()) {
      Step();
    }
  }

 private:
  static GuestMemory& CleanMemory() {
    static FuzzMemory memory;
    return memory.Clean();
  }

  void Step() {
    const auto step = input_.Take<uint8_t>();
    const size_t size = size_t{1} << (step >> 6);
    const uint64_t offset = input_.Take<uint16_t>();
    switch (step & 0x0f) {
      case 0:
        Access(machine_->pci.mmio(), PciMachine::Ecam(machine_->slot, offset & 0xfff), size);
        break;
      case 1:
        Access(machine_->pci.mmio(), PciMachine::Ecam(0, 0) + offset, size);
        break;
      case 2:
        Access(machine_->pci.ports(), 0xcf8 + offset % 8, size);
        break;
      case 3:
      case 4:
        Access(machine_->pci.mmio(), machine_->pci.BarAddress(machine_->slot, 0) + offset % 0x4000,
               size);
        break;
      case 5:
        Access(machine_->pci.mmio(), machine_->pci.BarAddress(machine_->slot, 0) + offset % 0x38,
               size);
        break;
      case 6:
        Access(machine_->pci.mmio(), machine_->pci.BarAddress(machine_->slot, 2) + offset % 0x2000,
               size);
        break;
      case 7:
        machine_->device.Serve();
        break;
      case 8:
        machine_->device.NeedReset();
        break;
      case 9:
        machine_->device.CompleteReset();
        break;
      case 10:
        if (restores_++ < kMaxRestores) {
          Restore();
        }
        break;
      case 11:
        machine_->transport->InterruptQueue(offset % 2);
        machine_->transport->InterruptConfigChange();
        break;
      default:
        CHECK(memory_.Write(GuestAddress(offset), input_.TakeBytes(16)));
        break;
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
    machine_->transport->Pause();
    StateNode state;
    machine_->pci.pci().Save(state.AddChild("pci"));
    machine_->transport->Save(state.AddChild("transport"));
    const unsigned changes = StateMutation::Apply(state, input_);
    auto twin = std::make_unique<Machine>(memory_);
    const Status loaded = twin->Load(state);
    CHECK(loaded.ok() || changes > 0, "{}", loaded.error().message());
    if (!loaded.ok()) {
      machine_->transport->Resume();
      return;
    }
    twin->transport->Resume();
    machine_ = std::move(twin);
  }

  FuzzInput input_;
  GuestMemory& memory_;
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
