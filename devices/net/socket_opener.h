// Which frames of a guest can make a user-mode network open a socket of the host's for it, or keep
// memory until something else arrives. Threads: any.
#pragma once

#include <cstdint>
#include <span>

namespace pacsvisor {

enum class SocketNeed {
  kNone,      // of a connection that is open already, or no IPv4
  kStream,    // opens a TCP connection
  kDatagram,  // UDP or ICMP: opens a socket where its addresses are new
  kFragment,  // part of a datagram, kept until the others have come (RFC 791, 3.2)
};

// Of any bytes: what is cut short, or unknown, is taken for what costs most.
SocketNeed SocketNeedOf(std::span<const uint8_t> frame);

}  // namespace pacsvisor
