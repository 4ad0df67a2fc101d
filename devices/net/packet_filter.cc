#include "devices/net/packet_filter.h"

#include <algorithm>
#include <utility>

#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kPacketFilterStateVersion = 1;
constexpr MacAddress kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

MacAddress AddressAt(std::span<const uint8_t> bytes) {
  MacAddress address;
  std::copy_n(bytes.begin(), address.size(), address.begin());
  return address;
}

}  // namespace

bool PacketFilter::Table::Holds(const MacAddress& address) const {
  return overflow || std::ranges::find(addresses, address) != addresses.end();
}

bool PacketFilter::SetMode(uint8_t command, bool on) {
  switch (command) {
    case kNetControlRxPromiscuous:
      promiscuous_ = on;
      return true;
    case kNetControlRxAllMulticast:
      all_multicast_ = on;
      return true;
    case kNetControlRxAllUnicast:
      all_unicast_ = on;
      return true;
    case kNetControlRxNoMulticast:
      no_multicast_ = on;
      return true;
    case kNetControlRxNoUnicast:
      no_unicast_ = on;
      return true;
    case kNetControlRxNoBroadcast:
      no_broadcast_ = on;
      return true;
    default:
      return false;
  }
}

// Takes one table off the front of `data`.
bool PacketFilter::ReadTable(std::span<const uint8_t>& data, Table& table) {
  if (data.size() < sizeof(uint32_t)) {
    return false;
  }
  const uint64_t count = LoadLe<uint32_t>(data.data());
  data = data.subspan(sizeof(uint32_t));
  if (count * sizeof(MacAddress) > data.size()) {
    return false;
  }
  const std::span<const uint8_t> addresses = data.first(count * sizeof(MacAddress));
  data = data.subspan(addresses.size());
  table.overflow = count > kMaxAddresses;
  for (size_t i = 0; i < addresses.size() && !table.overflow; i += sizeof(MacAddress)) {
    table.addresses.push_back(AddressAt(addresses.subspan(i)));
  }
  return true;
}

bool PacketFilter::SetTables(std::span<const uint8_t> data) {
  Table unicast;
  Table multicast;
  if (!ReadTable(data, unicast) || !ReadTable(data, multicast) || !data.empty()) {
    return false;
  }
  unicast_ = std::move(unicast);
  multicast_ = std::move(multicast);
  return true;
}

bool PacketFilter::Wants(std::span<const uint8_t> frame, const MacAddress& own) const {
  if (promiscuous_ || frame.size() < sizeof(MacAddress)) {
    return true;
  }
  const MacAddress to = AddressAt(frame);
  if (to == kBroadcast) {
    return !no_broadcast_;
  }
  const bool is_multicast = (to[0] & 1) != 0;
  if (is_multicast) {
    return !no_multicast_ && (all_multicast_ || multicast_.Holds(to));
  }
  return !no_unicast_ && (all_unicast_ || to == own || unicast_.Holds(to));
}

void PacketFilter::SaveTable(StateNode& node, const Table& table) {
  node.SetBool("overflow", table.overflow);
  std::vector<uint8_t> bytes;
  for (const MacAddress& address : table.addresses) {
    bytes.insert(bytes.end(), address.begin(), address.end());
  }
  node.SetBytes("addresses", bytes);
}

Status PacketFilter::LoadTable(const StateNode& node, Table& table) {
  table.overflow = TRY(node.Bool("overflow"));
  const std::span<const uint8_t> bytes = TRY(node.BytesOf("addresses"));
  if (bytes.size() % sizeof(MacAddress) != 0 || bytes.size() / sizeof(MacAddress) > kMaxAddresses) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: {} bytes of network addresses",
                       bytes.size());
  }
  table.addresses.clear();
  for (size_t i = 0; i < bytes.size(); i += sizeof(MacAddress)) {
    table.addresses.push_back(AddressAt(bytes.subspan(i)));
  }
  return {};
}

void PacketFilter::Save(StateNode& node) const {
  node.SetVersion(kPacketFilterStateVersion);
  node.SetBool("promiscuous", promiscuous_);
  node.SetBool("all_multicast", all_multicast_);
  node.SetBool("all_unicast", all_unicast_);
  node.SetBool("no_multicast", no_multicast_);
  node.SetBool("no_unicast", no_unicast_);
  node.SetBool("no_broadcast", no_broadcast_);
  SaveTable(node.AddChild("unicast"), unicast_);
  SaveTable(node.AddChild("multicast"), multicast_);
}

Status PacketFilter::Load(const StateNode& node) {
  TRY(node.Version(kPacketFilterStateVersion));
  promiscuous_ = TRY(node.Bool("promiscuous"));
  all_multicast_ = TRY(node.Bool("all_multicast"));
  all_unicast_ = TRY(node.Bool("all_unicast"));
  no_multicast_ = TRY(node.Bool("no_multicast"));
  no_unicast_ = TRY(node.Bool("no_unicast"));
  no_broadcast_ = TRY(node.Bool("no_broadcast"));
  const StateNode* unicast = TRY(node.Child("unicast"));
  const StateNode* multicast = TRY(node.Child("multicast"));
  TRY(LoadTable(*unicast, unicast_));
  return LoadTable(*multicast, multicast_);
}

}  // namespace pacsvisor
