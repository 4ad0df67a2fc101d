// virtio-console as it lies in guest memory and configuration space (virtio 1.2, section 5.3).
// Little endian.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pacsvisor {

inline constexpr uint64_t kConsoleFeatureMultiport = uint64_t{1}
                                                     << 1;  // VIRTIO_CONSOLE_F_MULTIPORT

// 5.3.4: configuration space. The size of a terminal is not offered.
struct VirtioConsoleConfigSpace {
  uint16_t columns = 0;
  uint16_t rows = 0;
  uint32_t port_limit = 0;  // max_nr_ports
  uint32_t emergency_write = 0;
};
static_assert(sizeof(VirtioConsoleConfigSpace) == 12);
static_assert(offsetof(VirtioConsoleConfigSpace, port_limit) == 4);
static_assert(offsetof(VirtioConsoleConfigSpace, emergency_write) == 8);

// 5.3.2: the queues of port 0, the control queues, then those of ports 1, 2, ...
inline constexpr uint16_t kConsoleControlReceiveQueue = 2;
inline constexpr uint16_t kConsoleControlTransmitQueue = 3;
constexpr uint16_t ConsoleReceiveQueue(uint32_t port) {
  return static_cast<uint16_t>(port == 0 ? 0 : 2 * port + 2);
}
constexpr uint16_t ConsoleTransmitQueue(uint32_t port) {
  return static_cast<uint16_t>(ConsoleReceiveQueue(port) + 1);
}

// 5.3.6.2: control messages.
struct VirtioConsoleControl {
  uint32_t port = 0;
  uint16_t event = 0;
  uint16_t value = 0;
};
static_assert(sizeof(VirtioConsoleControl) == 8);
static_assert(offsetof(VirtioConsoleControl, event) == 4);
static_assert(offsetof(VirtioConsoleControl, value) == 6);

enum class ConsoleEvent : uint16_t {
  kDeviceReady = 0,   // driver: whether it could set the device up
  kDeviceAdd = 1,     // device: there is a port
  kDeviceRemove = 2,  // device: it is gone; not sent, ports stay
  kPortReady = 3,     // driver: whether it could set the port up
  kConsolePort = 4,   // device: the port is a console
  kResize = 5,        // device: not sent
  kPortOpen = 6,      // both: somebody is at this end, or nobody any more
  kPortName = 7,      // device: followed by the name, without an end mark
};

}  // namespace pacsvisor
