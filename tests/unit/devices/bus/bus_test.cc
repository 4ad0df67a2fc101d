#include "devices/bus/bus.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace pacsvisor {
namespace {

class Recorder : public BusDevice {
 public:
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    last_offset = offset;
    for (size_t i = 0; i < data.size(); ++i) {
      data[i] = static_cast<uint8_t>(offset + i);
    }
  }
  void Write(uint64_t offset, std::span<const uint8_t> data) override {
    last_offset = offset;
    written.assign(data.begin(), data.end());
  }

  std::atomic<uint64_t> last_offset = 0;
  std::vector<uint8_t> written;
};

TEST(BusTest, AccessesReachTheDeviceAtTheirOffset) {
  Bus bus("MMIO", 0x10000);
  Recorder device;
  ASSERT_TRUE(bus.Insert(0x1000, 0x100, device).ok());
  uint8_t data[4];
  EXPECT_TRUE(bus.Read(0x1010, data));
  EXPECT_EQ(data[3], 0x13);
  EXPECT_TRUE(bus.Write(0x10fc, data));
  EXPECT_EQ(device.last_offset, 0xfcu);
  EXPECT_EQ(device.written.size(), 4u);
}

TEST(BusTest, WhatNobodyAnswersReadsAsOnes) {
  Bus bus("MMIO", 0x10000);
  Recorder device;
  ASSERT_TRUE(bus.Insert(0x1000, 0x100, device).ok());
  for (const uint64_t address : {0x0u, 0xfffu, 0xffdu, 0x10fdu, 0x1100u, 0xffffu, 0xffff'fff0u}) {
    uint8_t data[4] = {};
    EXPECT_FALSE(bus.Read(address, data)) << address;
    EXPECT_EQ(data[0] & data[1] & data[2] & data[3], 0xff);
    EXPECT_FALSE(bus.Write(address, data)) << address;
  }
  EXPECT_TRUE(device.written.empty());
}

TEST(BusTest, RangesThatOverlapAreRefused) {
  Bus bus("MMIO", 0x10000);
  Recorder device;
  ASSERT_TRUE(bus.Insert(0x1000, 0x100, device).ok());
  const std::pair<uint64_t, uint64_t> overlapping[] = {
      {0x1000, 0x100}, {0x1000, 1}, {0x10ff, 1}, {0xfff, 2}, {0, 0x10000}, {0x1050, 0x1000}};
  for (const auto& [start, size] : overlapping) {
    const Status inserted = bus.Insert(start, size, device);
    ASSERT_FALSE(inserted.ok()) << start;
    EXPECT_EQ(inserted.error().code(), ErrorCode::kBusy);
  }
  EXPECT_TRUE(bus.Insert(0xf00, 0x100, device).ok());
  EXPECT_TRUE(bus.Insert(0x1100, 0x100, device).ok());
}

TEST(BusTest, RangesOutsideTheSpaceAreRefused) {
  Bus bus("MMIO", 0x10000);
  Recorder device;
  const std::pair<uint64_t, uint64_t> outside[] = {
      {0x10000, 1}, {0xffff, 2}, {~uint64_t{0}, 1}, {1, ~uint64_t{0}}, {0, 0x10001}};
  for (const auto& [start, size] : outside) {
    const Status inserted = bus.Insert(start, size, device);
    ASSERT_FALSE(inserted.ok()) << start;
    EXPECT_EQ(inserted.error().code(), ErrorCode::kInvalidArgument);
  }
  EXPECT_TRUE(bus.Insert(0, 0x10000, device).ok());
}

TEST(BusTest, NothingIsInsertedOverAReservedRange) {
  Bus bus("MMIO", 0x10000);
  Recorder device;
  bus.Reserve(0x1000, 0x1000);
  for (const auto& [start, size] :
       {std::pair<uint64_t, uint64_t>{0x1000, 0x1000}, {0x1fff, 1}, {0xfff, 2}, {0, 0x10000}}) {
    const Status inserted = bus.Insert(start, size, device);
    ASSERT_FALSE(inserted.ok()) << start;
    EXPECT_EQ(inserted.error().code(), ErrorCode::kPermissionDenied);
  }
  uint8_t data[1];
  EXPECT_FALSE(bus.Read(0x1000, data));
  EXPECT_TRUE(bus.Insert(0x2000, 0x100, device).ok());
}

TEST(BusTest, WhatNobodyAnswersIsCounted) {
  Bus bus("I/O port", 0x10000, GuestFault::kPortUnanswered);
  Recorder device;
  ASSERT_TRUE(bus.Insert(0x1000, 2, device).ok());
  uint8_t data[2] = {};
  bus.Read(0x1000, data);
  bus.Write(0x1000, data);
  EXPECT_TRUE(bus.faults().NonZero().empty());
  bus.Read(0x2000, data);
  bus.Write(0x1001, data);  // over the end
  const std::vector<GuestFaultCount> two = {{GuestFault::kPortUnanswered, 2}};
  EXPECT_EQ(bus.faults().NonZero(), two);
}

TEST(BusTest, ARemovedRangeIsFreeAgain) {
  Bus bus("MMIO", 0x10000);
  Recorder device;
  ASSERT_TRUE(bus.Insert(0x1000, 0x100, device).ok());
  bus.Remove(0x1000);
  uint8_t data[1];
  EXPECT_FALSE(bus.Read(0x1000, data));
  EXPECT_TRUE(bus.Insert(0x1080, 0x100, device).ok());
}

TEST(BusTest, RangesComeAndGoWhileOthersAreRead) {
  Bus bus("MMIO", 0x10000);
  Recorder steady;
  Recorder moving;
  ASSERT_TRUE(bus.Insert(0x1000, 0x100, steady).ok());
  std::atomic<bool> stop = false;
  std::thread mover([&] {
    while (!stop) {
      EXPECT_TRUE(bus.Insert(0x2000, 0x100, moving).ok());
      bus.Remove(0x2000);
    }
  });
  for (int i = 0; i < 20000; ++i) {
    uint8_t data[2];
    ASSERT_TRUE(bus.Read(0x1000, data));
    bus.Read(0x2000, data);
  }
  stop = true;
  mover.join();
}

}  // namespace
}  // namespace pacsvisor
