#include "devices/net/control_commands.h"

#include <algorithm>

namespace pacsvisor {
namespace {

bool SetReceiveMode(uint8_t command, std::span<const uint8_t> data, uint64_t features,
                    NetControlState& state) {
  const uint64_t needed =
      command <= kNetControlRxAllMulticast ? kNetFeatureControlRx : kNetFeatureControlRxExtra;
  return (features & needed) != 0 && data.size() == 1 && data[0] <= 1 &&
         state.filter.SetMode(command, data[0] != 0);
}

bool SetAddress(uint8_t command, std::span<const uint8_t> data, uint64_t features,
                NetControlState& state) {
  if (command == kNetControlMacTableSet) {
    return (features & kNetFeatureControlRx) != 0 && state.filter.SetTables(data);
  }
  const bool is_address = data.size() == sizeof(MacAddress) && (data[0] & 1) == 0;
  if (command != kNetControlMacAddressSet || (features & kNetFeatureControlMac) == 0 ||
      !is_address) {
    return false;
  }
  std::copy(data.begin(), data.end(), state.mac.begin());
  return true;
}

bool Announced(uint8_t command, uint64_t features, NetControlState& state) {
  if (command != kNetControlAnnounceAck || (features & kNetFeatureGuestAnnounce) == 0) {
    return false;
  }
  state.announce = false;
  return true;
}

}  // namespace

uint8_t ExecuteControlCommand(std::span<const uint8_t> command, uint64_t features,
                              NetControlState& state) {
  if (command.size() < 2) {
    return kNetControlError;
  }
  const std::span<const uint8_t> data = command.subspan(2);
  bool done = false;
  switch (command[0]) {
    case kNetControlRxClass:
      done = SetReceiveMode(command[1], data, features, state);
      break;
    case kNetControlMacClass:
      done = SetAddress(command[1], data, features, state);
      break;
    case kNetControlAnnounceClass:
      done = Announced(command[1], features, state);
      break;
    default:
      break;
  }
  return done ? kNetControlOk : kNetControlError;
}

}  // namespace pacsvisor
