// One port of the console device: bytes between a pair of queues (virtio 1.2, 5.3.6) and a client
// of a socket.
//
// The client may also be the process itself (PortSocket).
//
// Output: a port whose client does not read keeps the driver's buffers until it does, so that
// neither the host's memory grows nor the worker waits. Two cases drop: nobody is connected; or the
// port is a console, whose drivers wait for the device with the guest's interrupts off. Input: what
// a client writes waits in its socket until the driver has opened the port and has buffers.
//
// Threads: the worker's, under the device's queue lock.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "devices/console/port_socket.h"
#include "devices/virtio/virtqueue.h"
#include "vmm/base/log.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

class ConsolePort {
 public:
  // What the control queue has told the driver and has still to tell it.
  struct Announcement {
    bool add = false;
    bool console = false;
    bool name = false;
    bool ready = false;      // the driver knows the port
    bool told_open = false;  // the driver believes that somebody is at our end
  };
  enum class Outcome {
    kIdle,    // until something happens
    kMore,    // there is more than one turn's share
    kBroken,  // the driver broke the rules: broken_reason()
  };

  ConsolePort(uint32_t id, std::string name, std::optional<PortSocket> socket)
      : id_(id), name_(std::move(name)), socket_(std::move(socket)) {}

  uint32_t id() const { return id_; }
  const std::string& name() const { return name_; }
  bool is_console() const { return id_ == 0; }
  // A port without a socket is not announced; what a driver writes to it is dropped.
  bool exists() const { return socket_.has_value(); }
  bool host_open() const { return exists() && socket_->connected(); }

  // Once, before the loop runs. `on_events`: the port wants Service.
  void Start(EventLoop& loop, std::function<void()> on_events);
  void Bind(GuestMemory& memory, Virtqueue* receive, Virtqueue* transmit);
  void Unbind();

  Announcement& announcement() { return announcement_; }
  bool guest_open() const { return guest_open_; }
  void set_guest_open(bool open);

  // Moves bytes both ways as far as possible, then waits for what can go on. `run`: the queues may
  // be used.
  Outcome Service(bool run);
  // Paused: no event until the next Service.
  void Sleep();

  const std::string& broken_reason() const { return broken_reason_; }
  GuestFault broken_rule() const { return broken_rule_; }

  void Save(StateNode& node) const;
  Status Load(const StateNode& node);
  // After Load and Bind, once: false: the state does not fit the queues.
  [[nodiscard]] bool FinishRestore();

 private:
  // A chain that the client has taken the first bytes of.
  struct Output {
    DescriptorChain chain;
    uint64_t offset = 0;
  };
  enum class Input { kIdle, kNoRoom, kMore, kBroken };

  void OnEvents(uint32_t events);
  Outcome PumpOutput();
  Outcome PopOutput();
  // False: the client does not take more now.
  bool WriteOutput();
  Input PumpInput();
  Input ReadInto(const DescriptorChain& chain);
  void Break(GuestFault rule, std::string reason) {
    broken_rule_ = rule;
    broken_reason_ = std::move(reason);
  }
  bool WatchSocket(bool want_input);

  // Constant after construction, or Start and Bind.
  const uint32_t id_;
  const std::string name_;
  GuestMemory* memory_ = nullptr;
  Virtqueue* receive_ = nullptr;
  Virtqueue* transmit_ = nullptr;
  std::function<void()> on_events_;

  std::optional<PortSocket> socket_;
  bool hung_up_ = false;  // the client has; what it wrote may still be there
  Announcement announcement_;
  bool guest_open_ = false;
  bool output_blocked_ = false;
  std::optional<Output> output_;
  std::optional<std::pair<uint16_t, uint64_t>> restored_output_;  // head and offset
  std::string broken_reason_;
  RateLimitedLog log_;
  GuestFault broken_rule_ = GuestFault::kBufferDirection;
};

}  // namespace pacsvisor
