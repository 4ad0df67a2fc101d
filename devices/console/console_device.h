// virtio-console (virtio 1.2, section 5.3) with several ports: port 0 is the guest's console (hvc0)
// where it is given a listener, the others carry names, such as the guest agent's.
// One worker, the device's event loop, moves all bytes; it never waits but for events.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/console/console_port.h"
#include "devices/console/virtio_console_abi.h"
#include "devices/virtio/doorbell_watch.h"
#include "devices/virtio/virtio_device.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/log.h"
#include "vmm/base/thread_annotations.h"

namespace pacsvisor {

// The port where qemu-guest-agent looks by default: /dev/virtio-ports/org.qemu.guest_agent.0.
inline constexpr const char* kGuestAgentPortName = "org.qemu.guest_agent.0";

struct ConsoleDeviceOptions {
  struct NamedPort {
    std::string name;                              // 1 to 64 printable characters, no '/'
    std::shared_ptr<const UnixListener> listener;  // the host's end
    std::shared_ptr<LocalLine> line;               // likewise, this process's own; null: none
  };
  std::string name;  // "console0"
  // The host's end of port 0; none: the guest has no such console.
  std::shared_ptr<const UnixListener> console;
  std::vector<NamedPort> ports;  // 1, 2, ...
};

class ConsoleDevice final : public VirtioDevice {
 public:
  static constexpr uint16_t kPortQueueSize = 64;
  static constexpr uint16_t kControlQueueSize = 32;
  static constexpr size_t kMaxNamedPorts = 7;

  // Errors: kInvalidArgument (options), the host's.
  static Result<std::unique_ptr<ConsoleDevice>> Create(ConsoleDeviceOptions options);
  ~ConsoleDevice() override;  // ends the worker

  VirtioDeviceType type() const override { return VirtioDeviceType::kConsole; }
  std::string_view name() const override { return name_; }
  uint64_t device_features() const override { return kConsoleFeatureMultiport; }
  std::vector<uint16_t> queue_sizes() const override;
  Status Attach(VirtioTransport& transport, GuestMemory& memory) override;

  void ReadConfig(uint64_t offset, std::span<uint8_t> data) override;
  void WriteConfig(uint64_t offset, std::span<const uint8_t> data) override;

  void Activate(const VirtioActivation& activation) override;
  void StartReset() override;
  bool ResetComplete() const override;
  void Pause() override;
  void Resume() override;
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

  // Whether the driver has the port open: the guest agent runs. Any thread.
  bool GuestOpen(uint32_t port) const;

 private:
  ConsoleDevice(std::string name, std::vector<std::unique_ptr<ConsolePort>> ports,
                std::unique_ptr<EventLoop> loop);

  // Worker.
  void TakeOver(const DoorbellWatch::Doorbells& doorbells, uint64_t generation);
  void AcknowledgeReset();
  void OnDoorbell(uint16_t queue);
  void ServiceAll();
  void ServiceOne(ConsolePort& port);
  void ServicePort(ConsolePort& port) REQUIRES(mutex_);
  void FinishRestore() REQUIRES(mutex_);

  // Control queues (console_control.cc).
  void ReadControl() REQUIRES(mutex_);
  bool ReadMessage(const DescriptorChain& chain) REQUIRES(mutex_);
  void HandleMessage(const VirtioConsoleControl& message) REQUIRES(mutex_);
  void TellDriver() REQUIRES(mutex_);
  bool TellOf(ConsolePort& port) REQUIRES(mutex_);
  bool Tell(const ConsolePort& port, ConsoleEvent event, uint16_t value, std::string_view text)
      REQUIRES(mutex_);

  bool CanRun() const REQUIRES(mutex_) { return running_ && !paused_ && !failed_; }
  bool Multiport() const REQUIRES(mutex_) { return (features_ & kConsoleFeatureMultiport) != 0; }
  void InterruptIfWanted(uint16_t queue) REQUIRES(mutex_);
  void Fail(std::string_view reason) REQUIRES(mutex_);
  void Fail(GuestFault rule, std::string_view reason) REQUIRES(mutex_);

  // Constant after construction; transport_ and memory_ after Attach.
  const std::string name_;
  VirtioTransport* transport_ = nullptr;
  GuestMemory* memory_ = nullptr;
  // The ports' sockets live in the loop: it ends last.
  const std::unique_ptr<EventLoop> loop_;
  // The worker.
  DoorbellWatch doorbells_;
  RateLimitedLog control_log_;
  // Guarded: the queue lock.
  mutable Mutex mutex_;
  const std::vector<std::unique_ptr<ConsolePort>>
      ports_;                                // by id; the ports themselves are guarded
  bool running_ GUARDED_BY(mutex_) = false;  // active, and the worker has taken over
  bool paused_ GUARDED_BY(mutex_) = false;
  bool failed_ GUARDED_BY(mutex_) = false;    // asked for a reset
  bool restored_ GUARDED_BY(mutex_) = false;  // from Load to the first Resume
  uint64_t generation_ GUARDED_BY(mutex_) = 0;
  unsigned resets_pending_ GUARDED_BY(mutex_) = 0;
  uint64_t features_ GUARDED_BY(mutex_) = 0;
  std::vector<Virtqueue*> queues_ GUARDED_BY(mutex_);
};

}  // namespace pacsvisor
