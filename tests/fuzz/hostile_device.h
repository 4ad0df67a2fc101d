// A virtio device behind its PCI transport under a driver that is all input: configuration space,
// BARs, MSI-X table, every queue's size, descriptor table and available ring, and the memory that
// its descriptors may well point to; saved, loaded from state that is input too, and reset.
//
// The input: features, the shape of the queues, their rings, the bytes they point to (a length
// before them), then what the target takes for itself, then steps.
#pragma once

#include <poll.h>

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "devices/virtio/split_ring.h"
#include "devices/virtio/virtio_device.h"
#include "tests/fuzz/fuzz_memory.h"
#include "tests/fuzz/state_mutation.h"
#include "tests/support/fake_msi.h"
#include "tests/support/fuzz_input.h"
#include "tests/support/virtio_pci_driver.h"
#include "vmm/base/clock.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// A machine with one device, used for many inputs: each begins and ends with the device reset.
class HostileDevice {
 public:
  HostileDevice(std::unique_ptr<VirtioDevice> device, GuestMemory& memory)
      : memory_(memory),
        device_(std::move(device)),
        transport_(VirtioPciTransport::Create(*device_, memory, msi_, doorbells_).value()),
        slot_(machine_.pci().Add(*transport_).value()),
        config_bar_(machine_.BarAddress(slot_, 0)),
        msix_bar_(machine_.BarAddress(slot_, 2)) {
    SetUpPci();
    driver_.emplace(machine_, slot_);
    for (const auto& [address, doorbell] : doorbells_.bound()) {
      bells_.push_back(doorbell);  // by address: in the order of the queues
    }
  }
  ~HostileDevice() { Reset(); }

  // Fills rings and buffers from `input`, negotiates, sets the queues up and begins.
  void Begin(FuzzInput& input) {
    SetUpPci();
    const uint64_t features = input.Take<uint32_t>() & device_->device_features();
    const auto shape = input.Take<uint8_t>();
    const uint64_t ring_features = ((shape & 0x40) != 0 ? kVirtioFeatureIndirectDescriptors : 0) |
                                   ((shape & 0x80) != 0 ? kVirtioFeatureEventIndex : 0);
    features_ = features | ring_features | kVirtioFeatureVersion1;
    layouts_.clear();
    for (uint16_t i = 0; i < bells_.size(); ++i) {
      layouts_.push_back(PlaceRings(i, static_cast<uint16_t>(1u << (shape % 8)), input));
      driver_->SetVector(i, 0xfee0'0000, i, (shape & 0x10) != 0);
    }
    driver_->EnableMsix((shape & 0x20) == 0);
    const auto size = input.Take<uint16_t>();
    CHECK(memory_.Write(GuestAddress(kBuffers), input.TakeBytes(size % kBufferBytes)));
    BringUp();
  }

  void BringUp() {
    driver_->Negotiate(features_);
    for (uint16_t i = 0; i < bells_.size(); ++i) {
      driver_->SetUpQueue(i, layouts_[i], i);
      driver_->EnableQueue(i);
    }
    driver_->DriverOk();
  }

  // What the driver does next, until the input ends or `limit` steps are done.
  void Play(FuzzInput& input, int limit) {
    for (int i = 0; i < limit && !input.empty(); ++i) {
      Step(input);
    }
    Serve();
  }

  // Kicks every queue and waits until the worker has served them: it takes a second kick only after
  // what the first one asked for. Queues without a device behind them are not waited for.
  void Serve() {
    for (int round = 0; round < 2; ++round) {
      for (const EventFd* bell : bells_) {
        bell->Signal();
      }
      for (size_t i = 0; i < bells_.size(); ++i) {
        AwaitTaken(i);
      }
    }
  }

  // Device and transport as they are saved. Paused from then on.
  StateNode Save() {
    transport_->Pause();
    StateNode state;
    machine_.pci().Save(state.AddChild("pci"));
    transport_->Save(state.AddChild("transport"));
    return state;
  }
  // On a device that was not loaded before, or reset since.
  Status Load(const StateNode& state) {
    const StateNode* bus = TRY(state.Child("pci"));
    TRY(machine_.pci().Load(*bus));
    const StateNode* function = TRY(state.Child("transport"));
    return transport_->Load(*function);
  }
  void Pause() { transport_->Pause(); }
  void Resume() { transport_->Resume(); }

  // Whatever the guest did: the driver resets the device and gets it back.
  void Reset() {
    if (on_reset_) {
      on_reset_();
    }
    SetUpPci();
    transport_->Resume();
    driver_->SetStatus(0);
    while (driver_->status() != 0) {
      std::this_thread::yield();
    }
  }

  VirtioDevice& device() { return *device_; }
  // Called before each reset: what the host holds back must come for it to complete.
  void OnReset(std::function<void()> on_reset) { on_reset_ = std::move(on_reset); }
  // What the host does of its own accord, as the number says.
  void OnHost(std::function<void(uint16_t)> on_host) { on_host_ = std::move(on_host); }
  // The same rings: what this device's driver would use from now on.
  void TakeOver(const HostileDevice& other) {
    features_ = other.features_;
    layouts_ = other.layouts_;
  }

 private:
  static constexpr uint64_t kRings = 0x1'0000;
  static constexpr uint64_t kRingStride = 0x2000;
  static constexpr uint64_t kBuffers = 0x8000;
  static constexpr size_t kBufferBytes = 0x4000;
  static constexpr uint64_t kPatienceNs = 50'000'000;
  static constexpr uint64_t kBrokenPatienceNs = 100'000;

  void SetUpPci() {
    machine_.EnableMemory(slot_, false);
    machine_.MoveBar(slot_, 0, config_bar_);
    machine_.MoveBar(slot_, 2, msix_bar_);
    machine_.EnableMemory(slot_);
  }

  VirtqueueLayout PlaceRings(uint16_t index, uint16_t size, FuzzInput& input) {
    const uint64_t start = kRings + index * kRingStride;
    const VirtqueueLayout layout{.size = size,
                                 .descriptor_table = GuestAddress(start),
                                 .available_ring = GuestAddress(start + 0x1000),
                                 .used_ring = GuestAddress(start + 0x1800)};
    CHECK(memory_.Write(layout.descriptor_table,
                        input.TakeBytes(VirtqDescriptorTableBytes(layout.size))));
    CHECK(memory_.Write(layout.available_ring,
                        input.TakeBytes(VirtqAvailableRingBytes(layout.size))));
    return layout;
  }

  void Step(FuzzInput& input) {
    const auto step = input.Take<uint8_t>();
    const size_t size = size_t{1} << (step >> 6);
    const uint64_t offset = input.Take<uint16_t>();
    switch (step % 16) {
      case 0:
      case 1:
        return Access(config_bar_ + VirtioPciTransport::kDeviceConfigOffset + offset % 0x60, size,
                      input);
      case 2:
        return Access(config_bar_ + offset % 0x40, size, input);
      case 3:
        return Access(config_bar_ + offset % VirtioPciTransport::kBarSizeBytes, size, input);
      case 4:
        return Access(msix_bar_ + offset % VirtioPciTransport::kMsixBarSizeBytes, size, input);
      case 5:
        return Access(PciMachine::Ecam(slot_, offset % kPciConfigSpaceBytes), size, input);
      case 6:
        return Serve();
      case 7:
        transport_->Pause();
        return transport_->Resume();
      case 8:
        Reset();
        return BringUp();
      case 9:
        CHECK(memory_.Write(GuestAddress(kBuffers + offset % kBufferBytes), input.TakeBytes(16)));
        return;
      case 10:
        if (on_host_) {
          on_host_(static_cast<uint16_t>(offset));
        }
        return;
      default:
        // The rings of the first queues, in use or not.
        CHECK(memory_.Write(GuestAddress(kRings + offset), input.TakeBytes(size)));
    }
  }

  // Reads, then writes the next bytes of the input; BARs may be elsewhere by now.
  void Access(uint64_t address, size_t size, FuzzInput& input) {
    uint8_t bytes[8] = {};
    machine_.mmio().Read(address, std::span(bytes, size));
    const std::span<const uint8_t> value = input.TakeBytes(size);
    std::copy(value.begin(), value.end(), bytes);
    machine_.mmio().Write(address, std::span(bytes, size));
  }

  bool Taken(size_t bell) const {
    pollfd waiting = {.fd = bells_[bell]->fd(), .events = POLLIN, .revents = 0};
    return ::poll(&waiting, 1, 0) == 0;
  }
  // The guest may have made it so that nobody takes it: then not for long.
  void AwaitTaken(size_t bell) {
    if (Taken(bell)) {
      return;
    }
    const uint64_t deadline_ns = MonotonicNs() + Patience(static_cast<uint16_t>(bell));
    while (!Taken(bell)) {
      if (MonotonicNs() > deadline_ns) {
        (void)bells_[bell]->Consume();
        return;
      }
      std::this_thread::yield();
    }
  }
  uint64_t Patience(uint16_t queue) {
    using Common = VirtioPciCommonConfig;
    uint8_t status = 0;
    uint8_t select[2];
    uint8_t enabled = 0;
    StoreLe<uint16_t>(select, queue);
    machine_.mmio().Read(config_bar_ + offsetof(Common, device_status), {&status, 1});
    machine_.mmio().Write(config_bar_ + offsetof(Common, queue_select), select);
    machine_.mmio().Read(config_bar_ + offsetof(Common, queue_enable), {&enabled, 1});
    if (enabled != 1 || (status & kVirtioStatusDriverOk) == 0) {
      return 0;
    }
    return (status & kVirtioStatusNeedsReset) != 0 ? kBrokenPatienceNs : kPatienceNs;
  }

  GuestMemory& memory_;
  PciMachine machine_;
  FakeMsiController msi_;
  FakeDoorbellRegistrar doorbells_;
  // The transport goes before its device.
  const std::unique_ptr<VirtioDevice> device_;
  const std::unique_ptr<VirtioPciTransport> transport_;
  const uint8_t slot_;
  const uint64_t config_bar_;
  const uint64_t msix_bar_;
  std::optional<VirtioPciDriver> driver_;
  std::vector<const EventFd*> bells_;
  uint64_t features_ = 0;
  std::vector<VirtqueueLayout> layouts_;
  std::function<void()> on_reset_;
  std::function<void(uint16_t)> on_host_;
};

// The whole life of a device with one input. A Card holds `hostile`, a HostileDevice: `card` is the
// first machine, `twin` the one that takes over, made anew when it has refused a state that was
// changed: such a machine is thrown away.
template <typename Card, typename Make>
void PlayHostileLife(std::unique_ptr<Card>& card, std::unique_ptr<Card>& twin, FuzzInput& input,
                     Make make) {
  constexpr int kStepsBefore = 16;
  constexpr int kStepsAfter = 48;
  card->hostile.Serve();
  const auto before = input.Take<uint8_t>();
  card->hostile.Play(input, before % kStepsBefore);
  StateNode state = card->hostile.Save();
  const unsigned changes = StateMutation::Apply(state, input);
  card->hostile.Reset();

  twin->hostile.TakeOver(card->hostile);
  twin->hostile.Pause();
  const Status loaded = twin->hostile.Load(state);
  CHECK(loaded.ok() || changes > 0, "{}", loaded.error().message());
  if (!loaded.ok()) {
    CHECK(!loaded.error().message().empty());
    twin.reset();  // it holds sockets and locks that the next one needs
    twin = make();
    return;
  }
  twin->hostile.Resume();
  twin->hostile.Play(input, kStepsAfter);
  twin->hostile.Reset();
}

}  // namespace pacsvisor
