// What a driver says on the control queue (virtio 1.2, 5.1.6.5), and what it changes.
// Threads: one at a time, under the device's queue lock.
#pragma once

#include <cstdint>
#include <span>

#include "devices/net/packet_filter.h"
#include "devices/net/virtio_net_abi.h"

namespace pacsvisor {

struct NetControlState {
  PacketFilter filter;
  MacAddress mac = {};
  bool announce = false;  // VIRTIO_NET_S_ANNOUNCE
};

// A command with its data is at most this long: two tables far longer than the filter keeps.
inline constexpr size_t kNetControlMaxBytes = 8192;

// Executes one command: class, command, data. Returns the acknowledgement, kNetControlOk or
// kNetControlError; a command in error changes nothing. `features` are the negotiated ones.
[[nodiscard]] uint8_t ExecuteControlCommand(std::span<const uint8_t> command, uint64_t features,
                                            NetControlState& state);

}  // namespace pacsvisor
