// PCI configuration space as a guest's kernel uses it.
#include "devices/pci/pci_bus.h"

#include <gtest/gtest.h>

#include <map>

#include "devices/pci/pci_registers.h"
#include "tests/support/pci_machine.h"

namespace pacsvisor {
namespace {

class BarDevice : public BusDevice {
 public:
  explicit BarDevice(uint8_t id) : id_(id) {}
  void Read(uint64_t /*offset*/, std::span<uint8_t> data) override {
    std::fill(data.begin(), data.end(), id_);
  }
  void Write(uint64_t /*offset*/, std::span<const uint8_t> /*data*/) override {}

 private:
  const uint8_t id_;
};

constexpr PciIdentity kIdentity = {.vendor = 0x1234,
                                   .device = 0x5678,
                                   .revision = 3,
                                   .class_code = 0x0c0330,
                                   .subsystem_vendor = 0xaaaa,
                                   .subsystem = 0xbbbb};

class TestFunction : public PciFunction {
 public:
  explicit TestFunction(std::string name) : PciFunction(std::move(name), kIdentity) {}

  struct Touch {
    uint8_t capability;
    uint32_t first;
    size_t count;
    friend bool operator==(const Touch&, const Touch&) = default;
  };
  std::vector<Touch> reads;
  std::vector<Touch> writes;
  std::map<unsigned, std::optional<uint64_t>> moves;

 private:
  void OnCapabilityRead(uint8_t capability, uint32_t first, size_t count) override {
    reads.push_back({capability, first, count});
  }
  void OnCapabilityWrite(uint8_t capability, uint32_t first, size_t count) override {
    writes.push_back({capability, first, count});
  }
  void OnBarMoved(unsigned index, std::optional<uint64_t> address) override {
    moves[index] = address;
  }
};

// A machine with one function that has BARs of every kind and two capabilities.
struct TestMachine {
  TestMachine() {
    function.AddBar(0, PciBarKind::kMemory64, 0x4000, bar0);
    function.AddBar(2, PciBarKind::kMemory64Prefetchable, 0x10000, bar2);
    function.AddBar(4, PciBarKind::kMemory32, 0x1000, bar4);
    const uint8_t bytes[] = {1, 2, 3, 4, 5};
    const uint8_t writable[] = {0, 0xff, 0x0f, 0, 0};
    first = function.AddCapability(0x09, bytes, writable);
    second = function.AddCapability(0x05, bytes, writable);
    slot = machine.pci().Add(function).value();
  }

  BarDevice bar0{0xb0};
  BarDevice bar2{0xb2};
  BarDevice bar4{0xb4};
  PciMachine machine;
  TestFunction function{"test"};
  uint8_t first = 0;
  uint8_t second = 0;
  uint8_t slot = 0;
};

class PciBusTest : public testing::Test {
 protected:
  uint8_t At(uint64_t address) { return machine_.Read<uint8_t>(address); }

  TestMachine it_;
  PciMachine& machine_ = it_.machine;
  TestFunction& function_ = it_.function;
  const uint8_t first_ = it_.first;
  const uint8_t second_ = it_.second;
  const uint8_t slot_ = it_.slot;
};

TEST_F(PciBusTest, DeviceZeroIsAHostBridge) {
  EXPECT_EQ(machine_.ReadConfig<uint32_t>(0, kPciRevisionId) >> 8, 0x060000u);
  EXPECT_EQ(machine_.ReadConfig<uint8_t>(0, 0x0e), 0) << "header type 0, one function";
}

TEST_F(PciBusTest, AFunctionShowsItsIdentity) {
  EXPECT_EQ(slot_, 1);
  EXPECT_EQ(machine_.ReadConfig<uint32_t>(slot_, 0), 0x5678'1234u);
  EXPECT_EQ(machine_.ReadConfig<uint32_t>(slot_, kPciRevisionId), 0x0c03'3003u);
  EXPECT_EQ(machine_.ReadConfig<uint32_t>(slot_, kPciSubsystemVendorId), 0xbbbb'aaaau);
  EXPECT_EQ(machine_.ReadConfig<uint16_t>(slot_, kPciStatus), kPciStatusCapabilities);
}

TEST_F(PciBusTest, WhatIsNotThereReadsAsOnes) {
  EXPECT_EQ(machine_.ReadConfig<uint32_t>(2, 0), ~0u);
  EXPECT_EQ(machine_.Read<uint32_t>(PciMachine::Ecam(slot_, 0x1000)), ~0u) << "function 1";
  uint8_t bus1[4] = {};
  machine_.mmio().Read(kEcamStart.raw() + (1u << 20), bus1);  // inside the window or not
  EXPECT_EQ(LoadLe<uint32_t>(bus1), ~0u) << "bus 1";
  EXPECT_EQ(machine_.Read<uint32_t>(kEcamStart.raw() + kEcamSizeBytes - 4), ~0u);
  machine_.WriteConfig<uint32_t>(2, 0, 0);
}

TEST_F(PciBusTest, BarsAnswerOnlyWhileMemoryIsEnabled) {
  const uint64_t bar0 = machine_.BarAddress(slot_, 0);
  EXPECT_FALSE(machine_.Answers(bar0));
  machine_.EnableMemory(slot_);
  EXPECT_EQ(At(bar0), 0xb0);
  EXPECT_EQ(At(bar0 + 0x3fff), 0xb0);
  EXPECT_EQ(At(machine_.BarAddress(slot_, 2)), 0xb2);
  EXPECT_EQ(At(machine_.ReadConfig<uint32_t>(slot_, kPciBar0 + 16)), 0xb4);
  machine_.EnableMemory(slot_, false);
  EXPECT_FALSE(machine_.Answers(bar0));
  EXPECT_EQ(function_.moves.at(0), std::nullopt);
}

TEST_F(PciBusTest, BarsArePlacedInTheirWindowsByKind) {
  EXPECT_GE(machine_.BarAddress(slot_, 0), PciMachine::kMmio64Start);
  EXPECT_EQ(machine_.BarAddress(slot_, 2) % 0x10000, 0u);
  const uint32_t bar4 = machine_.ReadConfig<uint32_t>(slot_, kPciBar0 + 16);
  EXPECT_GE(bar4, kMmio32Start.raw());
  EXPECT_LT(bar4, kMmio32Start.raw() + kMmio32SizeBytes);
  EXPECT_EQ(machine_.ReadConfig<uint32_t>(slot_, kPciBar0) & 0xf, 4u) << "64 bits";
  EXPECT_EQ(machine_.ReadConfig<uint32_t>(slot_, kPciBar0 + 8) & 0xf, 0xcu) << "prefetchable";
  EXPECT_EQ(bar4 & 0xf, 0u);
}

TEST_F(PciBusTest, WritingOnesTellsTheSize) {
  machine_.EnableMemory(slot_);
  const uint32_t bar = kPciBar0;
  const auto low = machine_.ReadConfig<uint32_t>(slot_, bar);
  const auto high = machine_.ReadConfig<uint32_t>(slot_, bar + 4);
  machine_.WriteConfig<uint32_t>(slot_, bar, ~0u);
  machine_.WriteConfig<uint32_t>(slot_, bar + 4, ~0u);
  EXPECT_EQ(machine_.ReadConfig<uint32_t>(slot_, bar), 0xffff'c004u);
  EXPECT_EQ(machine_.ReadConfig<uint32_t>(slot_, bar + 4), 0xffff'ffffu);
  machine_.WriteConfig<uint32_t>(slot_, bar, low);
  machine_.WriteConfig<uint32_t>(slot_, bar + 4, high);
  EXPECT_EQ(At(machine_.BarAddress(slot_, 0)), 0xb0);
  machine_.WriteConfig<uint32_t>(slot_, kPciBar0 + 20, ~0u);
  EXPECT_EQ(machine_.ReadConfig<uint32_t>(slot_, kPciBar0 + 20), 0u) << "no BAR 5";
}

TEST_F(PciBusTest, BarsMayBeMoved) {
  machine_.EnableMemory(slot_);
  const uint64_t before = machine_.BarAddress(slot_, 0);
  const uint64_t after = before + 0x100'0000;
  machine_.MoveBar(slot_, 0, after);
  EXPECT_FALSE(machine_.Answers(before));
  EXPECT_EQ(At(after), 0xb0);
  EXPECT_EQ(function_.moves.at(0), after);
}

TEST_F(PciBusTest, TwoBarsMayNotShareAPlaceButMaySwapThem) {
  TestFunction other("other");
  BarDevice other_bar(0xc0);
  other.AddBar(0, PciBarKind::kMemory64, 0x4000, other_bar);
  const uint8_t other_slot = machine_.pci().Add(other).value();
  machine_.EnableMemory(slot_);
  machine_.EnableMemory(other_slot);
  const uint64_t mine = machine_.BarAddress(slot_, 0);
  const uint64_t its = machine_.BarAddress(other_slot, 0);
  machine_.MoveBar(other_slot, 0, mine);
  EXPECT_EQ(At(mine), 0xb0) << "who was there first answers";
  EXPECT_FALSE(machine_.Answers(its));
  machine_.MoveBar(slot_, 0, its);
  EXPECT_EQ(At(its), 0xb0);
  EXPECT_EQ(At(mine), 0xc0) << "tried again when the place became free";
}

TEST_F(PciBusTest, PlacesThatAreImpossibleAreNotTaken) {
  machine_.EnableMemory(slot_);
  for (const uint64_t address :
       {uint64_t{0}, kEcamStart.raw(), uint64_t{1} << 63, ~uint64_t{0} << 14, uint64_t{1} << 52}) {
    machine_.MoveBar(slot_, 0, address);
    EXPECT_EQ(function_.moves.at(0), std::nullopt) << std::hex << address;
  }
  machine_.MoveBar(slot_, 0, PciMachine::kMmio64Start);
  EXPECT_EQ(function_.moves.at(0), PciMachine::kMmio64Start);
  EXPECT_EQ(machine_.ReadConfig<uint32_t>(0, kPciRevisionId) >> 8, 0x060000u);
}

TEST_F(PciBusTest, CapabilitiesAreListedInOrder) {
  EXPECT_EQ(machine_.Capabilities(slot_, 0x09), std::vector{first_});
  EXPECT_EQ(machine_.Capabilities(slot_, 0x05), std::vector{second_});
  EXPECT_EQ(first_ % 4, 0);
  EXPECT_EQ(second_ % 4, 0);
}

TEST_F(PciBusTest, OnlyWritableBitsOfACapabilityChange) {
  for (uint8_t i = 0; i < 7; ++i) {
    machine_.WriteConfig<uint8_t>(slot_, first_ + i, 0xff);
  }
  const uint8_t expected[] = {0x09, second_, 1, 0xff, 0x0f, 4, 5};
  for (uint8_t i = 0; i < 7; ++i) {
    EXPECT_EQ(machine_.ReadConfig<uint8_t>(slot_, first_ + i), expected[i]) << int{i};
  }
}

TEST_F(PciBusTest, HooksKnowWhichBytesOfACapabilityAreTouched) {
  function_.reads.clear();
  machine_.WriteConfig<uint16_t>(slot_, first_ + 2u, 0);
  machine_.ReadConfig<uint32_t>(slot_, first_ + 4u);
  EXPECT_EQ(function_.writes, (std::vector<TestFunction::Touch>{{first_, 2, 2}}));
  EXPECT_EQ(function_.reads, (std::vector<TestFunction::Touch>{{first_, 4, 3}}));
}

TEST_F(PciBusTest, PortsAndEcamShowTheSameSpace) {
  for (uint32_t offset = 0; offset < 256; offset += 4) {
    machine_.WritePort<uint32_t>(0xcf8, 0x8000'0000u | uint32_t{slot_} << 11 | offset);
    EXPECT_EQ(machine_.ReadPort<uint32_t>(0xcfc), machine_.ReadConfig<uint32_t>(slot_, offset));
    EXPECT_EQ(machine_.ReadPort<uint8_t>(0xcff), machine_.ReadConfig<uint8_t>(slot_, offset + 3));
    EXPECT_EQ(machine_.ReadPort<uint16_t>(0xcfe), machine_.ReadConfig<uint16_t>(slot_, offset + 2));
  }
  machine_.WritePort<uint32_t>(0xcf8, 0x8000'0000u | uint32_t{slot_} << 11 | kPciInterruptLine);
  machine_.WritePort<uint8_t>(0xcfc, 0x5a);
  EXPECT_EQ(machine_.ReadConfig<uint8_t>(slot_, kPciInterruptLine), 0x5a);
}

TEST_F(PciBusTest, TheAddressLatchTakesDoubleWordsOnly) {
  machine_.WritePort<uint32_t>(0xcf8, 0xffff'ffff);
  EXPECT_EQ(machine_.ReadPort<uint32_t>(0xcf8), 0x80ff'fffcu);
  machine_.WritePort<uint8_t>(0xcf8, 0);
  machine_.WritePort<uint16_t>(0xcf8, 0);
  EXPECT_EQ(machine_.ReadPort<uint32_t>(0xcf8), 0x80ff'fffcu);
  machine_.WritePort<uint32_t>(0xcf8, uint32_t{slot_} << 11);
  EXPECT_EQ(machine_.ReadPort<uint32_t>(0xcfc), ~0u) << "not enabled";
}

TEST_F(PciBusTest, ByteAccessesToThePortInsideTheLatchAreTheResetControls) {
  BarDevice reset(0x5e);
  machine_.pci().AttachResetControl(reset);
  EXPECT_EQ(machine_.ReadPort<uint8_t>(0xcf9), 0x5e);
  machine_.WritePort<uint32_t>(0xcf8, 0x8000'0000);
  EXPECT_EQ(machine_.ReadPort<uint32_t>(0xcf8), 0x8000'0000u);
  EXPECT_EQ(machine_.ReadPort<uint8_t>(0xcf9), 0x5e);
}

TEST_F(PciBusTest, EveryOffsetAndSizeIsHarmless) {
  machine_.EnableMemory(slot_);
  uint64_t pattern = 1;
  for (const uint8_t device : {uint8_t{0}, slot_, uint8_t{5}}) {
    for (const size_t size : {1u, 2u, 4u, 8u}) {
      for (uint64_t offset = 0; offset < 0x1000; ++offset) {
        uint8_t bytes[8];
        ASSERT_TRUE(
            machine_.mmio().Read(PciMachine::Ecam(device, 0) + offset, std::span(bytes, size)));
        pattern = pattern * 6364136223846793005u + 1442695040888963407u;
        StoreLe<uint64_t>(bytes, pattern);
        ASSERT_TRUE(
            machine_.mmio().Write(PciMachine::Ecam(device, 0) + offset, std::span(bytes, size)));
        machine_.ports().Write(0xcf8 + offset % 8, std::span(bytes, size));
        machine_.ports().Read(0xcf8 + offset % 8, std::span(bytes, size));
      }
    }
  }
  EXPECT_EQ(machine_.ReadConfig<uint32_t>(slot_, 0), 0x5678'1234u);
}

TEST_F(PciBusTest, TheBusIsFullWithThirtyTwoDevices) {
  std::vector<std::unique_ptr<TestFunction>> functions;
  for (int i = 2; i < 32; ++i) {
    functions.push_back(std::make_unique<TestFunction>("more"));
    EXPECT_EQ(machine_.pci().Add(*functions.back()).value(), i);
  }
  TestFunction last("last");
  const auto added = machine_.pci().Add(last);
  ASSERT_FALSE(added.ok());
  EXPECT_EQ(added.error().code(), ErrorCode::kNoSpace);
}

TEST_F(PciBusTest, AFullWindowIsNamed) {
  TestFunction big("big");
  big.AddBar(0, PciBarKind::kMemory32, kGiB, it_.bar0);
  const auto added = machine_.pci().Add(big);
  ASSERT_FALSE(added.ok());
  EXPECT_EQ(added.error().code(), ErrorCode::kNoSpace);
}

TEST_F(PciBusTest, SavedSpacesAreLoadedWithTheirBarsInPlace) {
  machine_.EnableMemory(slot_);
  const uint64_t moved = machine_.BarAddress(slot_, 0) + 0x40'0000;
  machine_.MoveBar(slot_, 0, moved);
  machine_.WriteConfig<uint8_t>(slot_, first_ + 3u, 0x77);
  machine_.WritePort<uint32_t>(0xcf8, 0x8000'0010);
  StateNode node;
  machine_.pci().Save(node);

  TestMachine twin;
  ASSERT_TRUE(twin.machine.pci().Load(node).ok());
  EXPECT_EQ(twin.machine.Read<uint8_t>(moved), 0xb0);
  EXPECT_EQ(twin.function.moves.at(0), moved);
  EXPECT_EQ(twin.machine.ReadPort<uint32_t>(0xcf8), 0x8000'0010u);
  for (uint32_t offset = 0; offset < 4096; offset += 4) {
    EXPECT_EQ(twin.machine.ReadConfig<uint32_t>(slot_, offset),
              machine_.ReadConfig<uint32_t>(slot_, offset));
  }
}

TEST_F(PciBusTest, SpacesOfOtherFunctionsAreRefused) {
  StateNode node;
  machine_.pci().Save(node);
  TestMachine twin;
  TestFunction another("another");
  ASSERT_TRUE(twin.machine.pci().Add(another).ok());
  EXPECT_FALSE(twin.machine.pci().Load(node).ok()) << "one more";

  auto& functions = std::get<StateNode::Field::Sub>(node.mutable_fields().at("functions").value);
  auto& config =
      std::get<StateNode::Bytes>(functions.nodes.at(1).mutable_fields().at("config").value);
  config[kPciDeviceId] ^= 1;
  TestMachine third;
  const Status loaded = third.machine.pci().Load(node);
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().code(), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace pacsvisor
