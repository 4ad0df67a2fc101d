#include "devices/net/control_commands.h"

#include <gtest/gtest.h>

#include "tests/unit/devices/net/packets.h"

namespace pacsvisor {
namespace {

using net_test::Bytes;

constexpr uint64_t kAll = kNetFeatureControlRx | kNetFeatureControlRxExtra | kNetFeatureControlMac |
                          kNetFeatureGuestAnnounce;
const Bytes kNewMac = {kNetControlMacClass, kNetControlMacAddressSet, 2, 4, 6, 8, 10, 12};

bool Execute(const Bytes& command, NetControlState& state, uint64_t features = kAll) {
  return ExecuteControlCommand(command, features, state) == kNetControlOk;
}

TEST(NetControl, SetsTheAddress) {
  NetControlState state;
  EXPECT_TRUE(Execute(kNewMac, state));
  EXPECT_EQ(state.mac, (MacAddress{2, 4, 6, 8, 10, 12}));
}

TEST(NetControl, RefusesAGroupAddress) {
  NetControlState state;
  Bytes group = kNewMac;
  group[2] = 3;
  EXPECT_FALSE(Execute(group, state));
  EXPECT_EQ(state.mac, MacAddress{});
}

TEST(NetControl, TakesTheAnnouncementBack) {
  NetControlState state{.announce = true};
  EXPECT_TRUE(Execute({kNetControlAnnounceClass, kNetControlAnnounceAck}, state));
  EXPECT_FALSE(state.announce);
}

TEST(NetControl, SetsReceiveModes) {
  NetControlState state;
  EXPECT_TRUE(Execute({kNetControlRxClass, kNetControlRxPromiscuous, 0}, state));
  EXPECT_FALSE(state.filter.Wants(Bytes(20, 0x22), {}));
  EXPECT_TRUE(Execute({kNetControlRxClass, kNetControlRxAllUnicast, 1}, state));
  EXPECT_TRUE(state.filter.Wants(Bytes(20, 0x22), {}));
}

TEST(NetControl, RefusesCommandsWithoutTheirFeature) {
  NetControlState state;
  EXPECT_FALSE(Execute(kNewMac, state, kAll & ~kNetFeatureControlMac));
  EXPECT_FALSE(Execute({kNetControlAnnounceClass, kNetControlAnnounceAck}, state,
                       kAll & ~kNetFeatureGuestAnnounce));
  EXPECT_FALSE(Execute({kNetControlRxClass, kNetControlRxPromiscuous, 0}, state,
                       kAll & ~kNetFeatureControlRx));
  EXPECT_FALSE(Execute({kNetControlRxClass, kNetControlRxNoUnicast, 0}, state,
                       kAll & ~kNetFeatureControlRxExtra));
  EXPECT_FALSE(Execute({kNetControlMacClass, kNetControlMacTableSet, 0, 0, 0, 0, 0, 0, 0, 0}, state,
                       kAll & ~kNetFeatureControlRx));
}

// Every class and command with data of every length up to 16: an answer, and no other change than
// those above.
TEST(NetControl, AnswersEveryCommand) {
  for (unsigned type = 0; type < 256; ++type) {
    for (unsigned command = 0; command < 8; ++command) {
      for (size_t size = 0; size < 16; ++size) {
        Bytes bytes = {static_cast<uint8_t>(type), static_cast<uint8_t>(command)};
        bytes.resize(2 + size);
        NetControlState state;
        const uint8_t answer = ExecuteControlCommand(bytes, kAll, state);
        ASSERT_LE(answer, kNetControlError);
        if (type != kNetControlRxClass && type != kNetControlMacClass &&
            type != kNetControlAnnounceClass) {
          ASSERT_EQ(answer, kNetControlError);
        }
      }
    }
  }
  NetControlState state;
  EXPECT_FALSE(Execute({}, state));
  EXPECT_FALSE(Execute({0}, state));
}

}  // namespace
}  // namespace pacsvisor
