// Which received frames the driver wants (virtio 1.2, 5.1.6.5.1 and 5.1.6.5.2). A new filter lets
// everything through, as a device does until the driver has said otherwise.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "devices/net/virtio_net_abi.h"
#include "vmm/base/result.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

class PacketFilter {
 public:
  // Addresses of a kind that are kept; more than these, and all of that kind are let through, which
  // 5.1.6.5.2 allows.
  static constexpr size_t kMaxAddresses = 64;

  // A command of class VIRTIO_NET_CTRL_RX, its value. False: no such command.
  [[nodiscard]] bool SetMode(uint8_t command, bool on);
  // The data of VIRTIO_NET_CTRL_MAC_TABLE_SET: two tables, each a count and so many addresses.
  // False: malformed, and nothing changed.
  [[nodiscard]] bool SetTables(std::span<const uint8_t> data);

  // `own` is the device's address. Frames shorter than an address pass.
  bool Wants(std::span<const uint8_t> frame, const MacAddress& own) const;

  void Save(StateNode& node) const;
  Status Load(const StateNode& node);

 private:
  struct Table {
    std::vector<MacAddress> addresses;
    bool overflow = false;
    bool Holds(const MacAddress& address) const;
  };
  static bool ReadTable(std::span<const uint8_t>& data, Table& table);
  static void SaveTable(StateNode& node, const Table& table);
  static Status LoadTable(const StateNode& node, Table& table);

  bool promiscuous_ = true;
  bool all_multicast_ = false;
  bool all_unicast_ = false;
  bool no_multicast_ = false;
  bool no_unicast_ = false;
  bool no_broadcast_ = false;
  Table unicast_;
  Table multicast_;
};

}  // namespace pacsvisor
