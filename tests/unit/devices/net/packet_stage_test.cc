#include "devices/net/packet_stage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "tests/unit/devices/net/packets.h"

namespace pacsvisor {
namespace {

using net_test::Bytes;
using net_test::Pattern;

bool Add(PacketStage& stage, const Bytes& frame) {
  const std::span<uint8_t> room = stage.Reserve(frame.size());
  if (room.empty()) {
    return false;
  }
  std::copy(frame.begin(), frame.end(), room.begin());
  stage.Commit(frame.size(), {});
  return true;
}

TEST(PacketStage, IsBoundedInPackets) {
  PacketStage stage;
  for (size_t i = 0; i < PacketStage::kMaxPackets; ++i) {
    ASSERT_TRUE(Add(stage, Bytes(14)));
  }
  EXPECT_FALSE(Add(stage, Bytes(14)));
  stage.Take(1);
  EXPECT_TRUE(Add(stage, Bytes(14)));
  EXPECT_FALSE(Add(stage, Bytes(14)));
}

TEST(PacketStage, IsBoundedInBytes) {
  PacketStage stage;
  ASSERT_TRUE(Add(stage, Bytes(PacketStage::kCapacityBytes)));
  EXPECT_FALSE(Add(stage, Bytes(1)));
  stage.Take(1);
  EXPECT_TRUE(stage.empty());
  EXPECT_TRUE(Add(stage, Bytes(PacketStage::kCapacityBytes)));
}

TEST(PacketStage, KeepsWhatItHoldsThroughAnyAddingAndTaking) {
  PacketStage stage;
  std::deque<Bytes> model;
  uint32_t random = 1;
  for (uint32_t i = 0; i < 20000; ++i) {
    random = random * 1664525u + 1013904223u;
    if (random >> 30 != 0) {
      const Bytes frame = Pattern(14 + (random >> 8) % 9000, i);
      if (Add(stage, frame)) {
        model.push_back(frame);
      }
    } else {
      const size_t count = (random >> 8) % (model.size() + 1);
      for (size_t at = 0; at < count; ++at) {
        const NetPacket& packet = stage.packets()[at];
        ASSERT_TRUE(std::ranges::equal(packet.frame, model.front()));
        model.pop_front();
      }
      stage.Take(count);
    }
    ASSERT_EQ(stage.packets().size(), model.size());
  }
}

}  // namespace
}  // namespace pacsvisor
