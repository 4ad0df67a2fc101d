#include "devices/virtio/virtio_pci_transport.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "devices/pci/msix_table.h"
#include "devices/virtio/virtio_common_config.h"
#include "devices/virtio/virtio_doorbells.h"
#include "devices/virtio/virtio_interrupts.h"
#include "devices/virtio/virtio_pci_capabilities.h"
#include "devices/virtio/virtio_pci_registers.h"
#include "devices/virtio/virtio_status.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/thread_annotations.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kVirtioPciTransportStateVersion = 1;
constexpr uint64_t kShutdownWaitNs = 1'000'000'000;

uint32_t ClassCode(VirtioDeviceType type) {
  switch (type) {
    case VirtioDeviceType::kNet:
      return 0x020000;  // Ethernet controller
    case VirtioDeviceType::kBlock:
      return 0x010000;  // mass storage
    case VirtioDeviceType::kConsole:
      return 0x078000;  // other communication controller
    case VirtioDeviceType::kEntropy:
      return 0xff0000;  // no class fits
  }
  CHECK(false, "device type {}", static_cast<int>(type));
}

PciIdentity IdentityOf(const VirtioDevice& device) {
  const auto type = static_cast<uint16_t>(device.type());
  // Revision and subsystem as non-transitional devices should have them (4.1.2.1).
  return {.vendor = kVirtioPciVendor,
          .device = static_cast<uint16_t>(kVirtioPciModernDeviceBase + type),
          .revision = 1,
          .class_code = ClassCode(device.type()),
          .subsystem_vendor = kVirtioPciVendor,
          .subsystem = static_cast<uint16_t>(0x40 + type)};
}

}  // namespace

// BAR 0, and everything behind it.
class VirtioPciTransport::Impl : public BusDevice {
 public:
  Impl(VirtioPciTransport& transport, VirtioDevice& device, GuestMemory& memory,
       std::unique_ptr<MsiVectors> vectors, DoorbellRegistrar& registrar,
       std::vector<EventFd> events)
      : device_(device),
        interrupts_(std::string(device.name()), std::move(vectors),
                    static_cast<uint16_t>(events.size()), transport.guest_faults()),
        doorbells_(std::string(device.name()), registrar, std::move(events),
                   transport.guest_faults()),
        common_(device, memory, interrupts_, status_, doorbells_.events(), transport) {}

  ~Impl() override;

  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  VirtioInterrupts& interrupts() { return interrupts_; }
  MsixTable& msix() { return interrupts_.msix(); }
  void NeedsReset(std::string_view reason);
  void MoveDoorbells(std::optional<uint64_t> bar);

  void Pause();
  void Resume();
  void Save(StateNode& node) const;
  Status Load(const StateNode& node);

  VirtioPciCapabilities capabilities;

 private:
  void SignalEverything() REQUIRES(mutex_);

  // Constant, or with locks of their own.
  VirtioDevice& device_;
  VirtioStatus status_;
  VirtioInterrupts interrupts_;
  RateLimitedLog log_;
  // Guarded.
  mutable Mutex mutex_;
  VirtioDoorbells doorbells_;  // Ring needs no lock
  VirtioCommonConfig common_ GUARDED_BY(mutex_);
  bool paused_ GUARDED_BY(mutex_) = false;
  bool restored_ GUARDED_BY(mutex_) = false;  // nothing ran since Load
};

VirtioPciTransport::Impl::~Impl() {
  const MutexLock lock(mutex_);
  if (!common_.active()) {
    return;
  }
  if (!common_.resetting()) {
    device_.StartReset();
  }
  if (paused_) {
    device_.Resume();  // completions wait at its gate
  }
  // The worker lets go of doorbells and rings. Host I/O that hangs is not waited for: it touches
  // neither any more.
  const uint64_t deadline_ns = MonotonicNs() + kShutdownWaitNs;
  while (!device_.ResetComplete() && MonotonicNs() < deadline_ns) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

void VirtioPciTransport::Impl::Read(uint64_t offset, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0});
  if (offset < kIsrOffset) {
    const MutexLock lock(mutex_);
    common_.Read(offset - kCommonOffset, data);
  } else if (offset < kDeviceConfigOffset) {
    if (offset == kIsrOffset) {
      data[0] = interrupts_.TakeIsr();
    }
  } else if (offset < kNotifyOffset) {
    const MutexLock lock(mutex_);
    device_.ReadConfig(offset - kDeviceConfigOffset, data);
  }
}

void VirtioPciTransport::Impl::Write(uint64_t offset, std::span<const uint8_t> data) {
  if (offset < kIsrOffset) {
    const MutexLock lock(mutex_);
    common_.Write(offset - kCommonOffset, data);
  } else if (offset >= kNotifyOffset) {
    doorbells_.Ring(offset - kNotifyOffset);
  } else if (offset >= kDeviceConfigOffset) {
    const MutexLock lock(mutex_);
    device_.WriteConfig(offset - kDeviceConfigOffset, data);
  }
}

void VirtioPciTransport::Impl::NeedsReset(std::string_view reason) {
  const uint8_t before = status_.Add(kVirtioStatusNeedsReset);
  if ((before & kVirtioStatusNeedsReset) != 0) {
    return;
  }
  log_.Log(LogLevel::kWarning, "{}: the guest's driver broke the rules, reset needed: {}",
           device_.name(), reason);
  if ((before & kVirtioStatusDriverOk) != 0) {
    interrupts_.InterruptConfigChange();  // 2.1.2
  }
}

void VirtioPciTransport::Impl::MoveDoorbells(std::optional<uint64_t> bar) {
  const MutexLock lock(mutex_);
  doorbells_.Move(bar.has_value() ? GuestAddress(*bar).Plus(kNotifyOffset) : std::nullopt);
}

void VirtioPciTransport::Impl::Pause() {
  const MutexLock lock(mutex_);
  if (!std::exchange(paused_, true)) {
    device_.Pause();
  }
}

void VirtioPciTransport::Impl::Resume() {
  const MutexLock lock(mutex_);
  if (!std::exchange(paused_, false)) {
    return;
  }
  device_.Resume();
  if (std::exchange(restored_, false)) {
    SignalEverything();
  }
}

void VirtioPciTransport::Impl::SignalEverything() {
  // What was on its way between device and guest when the snapshot was taken is in no saved state:
  // an interrupt or a notification too many is legal, one too few is a hang.
  if (!common_.active()) {
    return;
  }
  interrupts_.InterruptConfigChange();
  const std::span<const EventFd> events = doorbells_.events();
  for (uint16_t i = 0; i < events.size(); ++i) {
    if (common_.QueueEnabled(i)) {
      interrupts_.InterruptQueue(i);
      events[i].Signal();
    }
  }
}

void VirtioPciTransport::Impl::Save(StateNode& node) const {
  const MutexLock lock(mutex_);
  CHECK(paused_, "{} saved while it runs", device_.name());
  node.SetVersion(kVirtioPciTransportStateVersion);
  node.SetString("name", std::string(device_.name()));
  common_.Save(node.AddChild("common"));
  interrupts_.msix().Save(node.AddChild("msix"));
  device_.Save(node.AddChild("device"));
}

Status VirtioPciTransport::Impl::Load(const StateNode& node) {
  const MutexLock lock(mutex_);
  TRY(node.Version(kVirtioPciTransportStateVersion));
  const std::string name = TRY(node.String("name"));
  if (name != device_.name()) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: device '{}' is not '{}'", name,
                       device_.name());
  }
  if (!std::exchange(paused_, true)) {
    device_.Pause();
  }
  const StateNode* msix = TRY(node.Child("msix"));
  TRY(interrupts_.msix().Load(*msix));
  const StateNode* common = TRY(node.Child("common"));
  TRY(common_.Load(*common));
  const StateNode* device = TRY(node.Child("device"));
  TRY(device_.Load(*device));
  common_.ActivateLoaded();
  restored_ = true;
  return {};
}

Result<std::unique_ptr<VirtioPciTransport>> VirtioPciTransport::Create(
    VirtioDevice& device, GuestMemory& memory, MsiController& msi, DoorbellRegistrar& doorbells) {
  const size_t queue_count = device.queue_sizes().size();
  CHECK(queue_count < MsixTable::kMaxVectors, "{}: {} queues", device.name(), queue_count);
  const auto vector_count = static_cast<unsigned>(queue_count + 1);
  std::unique_ptr<MsiVectors> vectors = TRY(msi.Allocate(vector_count));
  std::vector<EventFd> events = TRY(VirtioDoorbells::CreateEvents(queue_count));
  std::unique_ptr<VirtioPciTransport> transport(new VirtioPciTransport(device, IdentityOf(device)));
  transport->impl_ = std::make_unique<Impl>(*transport, device, memory, std::move(vectors),
                                            doorbells, std::move(events));
  Impl& impl = *transport->impl_;
  transport->AddBar(kVirtioConfigBar, PciBarKind::kMemory64, kBarSizeBytes, impl);
  transport->AddBar(kVirtioMsixBar, PciBarKind::kMemory64, kMsixBarSizeBytes, impl.msix());
  impl.capabilities = AddVirtioPciCapabilities(*transport, vector_count);
  TRY(device.Attach(*transport, memory));
  return transport;
}

VirtioPciTransport::VirtioPciTransport(VirtioDevice& device, const PciIdentity& identity)
    : PciFunction(std::string(device.name()), identity) {}

VirtioPciTransport::~VirtioPciTransport() = default;

void VirtioPciTransport::InterruptQueue(uint16_t queue) {
  impl_->interrupts().InterruptQueue(queue);
}

void VirtioPciTransport::InterruptConfigChange() { impl_->interrupts().InterruptConfigChange(); }

void VirtioPciTransport::NeedsReset(std::string_view reason) { impl_->NeedsReset(reason); }

void VirtioPciTransport::Pause() { impl_->Pause(); }

void VirtioPciTransport::Resume() { impl_->Resume(); }

void VirtioPciTransport::Save(StateNode& node) const { impl_->Save(node); }

Status VirtioPciTransport::Load(const StateNode& node) { return impl_->Load(node); }

void VirtioPciTransport::ApplyMsixControl() {
  const MsixControl control =
      ReadMsixControl(std::span(config()).subspan(impl_->capabilities.msix));
  impl_->msix().SetControl(control.enabled, control.function_masked);
}

void VirtioPciTransport::OnConfigLoaded() { ApplyMsixControl(); }

void VirtioPciTransport::OnBarMoved(unsigned index, std::optional<uint64_t> address) {
  if (index == kVirtioConfigBar) {
    impl_->MoveDoorbells(address);
  }
}

namespace {

// The BAR device and range that the configuration access window names, if there are such.
BusDevice* WindowTarget(const PciFunction& function, const ConfigAccessWindow& window) {
  if (window.bar >= kPciBarCount) {
    return nullptr;
  }
  const PciFunction::Bar& bar = function.bars()[window.bar];
  if (window.offset >= bar.size_bytes || window.length_bytes > bar.size_bytes - window.offset) {
    return nullptr;
  }
  return bar.device;
}

bool TouchesWindowData(uint32_t first, size_t count) {
  return first + count > kConfigAccessData && first < kConfigAccessData + kConfigAccessDataBytes;
}

}  // namespace

void VirtioPciTransport::OnCapabilityWrite(uint8_t capability, uint32_t first, size_t count) {
  const std::span<uint8_t> bytes = std::span(config()).subspan(capability);
  if (capability == impl_->capabilities.msix) {
    ApplyMsixControl();
  } else if (capability == impl_->capabilities.config_access && TouchesWindowData(first, count)) {
    const std::optional<ConfigAccessWindow> window = ReadConfigAccessWindow(bytes);
    BusDevice* target = window.has_value() ? WindowTarget(*this, *window) : nullptr;
    if (target != nullptr) {
      target->Write(window->offset, bytes.subspan(kConfigAccessData, window->length_bytes));
    } else {
      faults().Count(GuestFault::kConfigWindow);
    }
  }
}

void VirtioPciTransport::OnCapabilityRead(uint8_t capability, uint32_t first, size_t count) {
  if (capability != impl_->capabilities.config_access || !TouchesWindowData(first, count)) {
    return;
  }
  const std::span<uint8_t> bytes = std::span(config()).subspan(capability);
  const std::optional<ConfigAccessWindow> window = ReadConfigAccessWindow(bytes);
  BusDevice* target = window.has_value() ? WindowTarget(*this, *window) : nullptr;
  if (target != nullptr) {
    target->Read(window->offset, bytes.subspan(kConfigAccessData, window->length_bytes));
  } else {
    faults().Count(GuestFault::kConfigWindow);
  }
}

}  // namespace pacsvisor
