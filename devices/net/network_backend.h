// The host's side of a network card: a TAP interface, libslirp, or a cable that leads nowhere.
//
// A back end lives on its device's event loop: everything below is called on the loop's thread,
// unless a line says otherwise, and calls the receiver there. It never blocks.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "devices/net/virtio_net_abi.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/result.h"

namespace pacsvisor {

// What may be left undone in a frame, for the other side to complete.
struct NetOffloads {
  bool checksum = false;
  bool tcp4_segments = false;
  bool tcp6_segments = false;
  bool ecn_segments = false;  // segmentation of TCP with ECN

  friend bool operator==(const NetOffloads&, const NetOffloads&) = default;
};

struct NetCapabilities {
  NetOffloads from_guest;  // Send takes such frames
  NetOffloads to_guest;    // frames received may be so, where SetGuestOffloads allows it
  // Send hands the frame to the kernel where it lies in guest memory. Else the device copies it
  // first, and Send may write to the copy.
  bool gathers = false;
};

// A frame received, in memory of the back end.
struct NetPacket {
  VirtioNetHeader header;
  std::span<uint8_t> frame;
};

// What a back end tells its device.
class NetReceiver {
 public:
  virtual ~NetReceiver() = default;
  // Takes the first so many of `packets` (delivered, or dropped on purpose). Fewer than all: the
  // guest has no room; the back end keeps the others and takes in no more until ResumeReceive.
  [[nodiscard]] virtual size_t Receive(std::span<NetPacket> packets) = 0;
  virtual void TransmitReady() = 0;  // after kWouldBlock
  virtual void BackendLinkChanged() = 0;
};

class NetworkBackend {
 public:
  enum class SendResult {
    kSent,
    kDropped,     // the host refuses this frame
    kWouldBlock,  // not taken: again after TransmitReady
  };

  virtual ~NetworkBackend() = default;

  // Constant. Any thread.
  virtual const NetCapabilities& capabilities() const = 0;
  virtual std::string Description() const = 0;  // for messages: "TAP interface tap0"
  virtual ThreadKind thread_kind() const { return ThreadKind::kDevice; }  // of the loop it needs

  // Called once, before the loop runs. Both outlive the back end.
  virtual Status Start(EventLoop& loop, NetReceiver& receiver) = 0;
  // What the driver can take, a part of capabilities().to_guest.
  virtual Status SetGuestOffloads(const NetOffloads& offloads) = 0;
  virtual SendResult Send(const VirtioNetHeader& header, std::span<const iovec> frame) = 0;
  // After one or more Send.
  virtual void EndOfBatch() {}
  virtual void ResumeReceive() = 0;
  // Any thread.
  virtual bool link_up() const = 0;
};

}  // namespace pacsvisor
