#include "devices/pci/msix_table.h"

#include <gtest/gtest.h>

#include "tests/support/fake_msi.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

class MsixTableTest : public testing::Test {
 protected:
  static constexpr unsigned kCount = 70;  // pending bits in two quad words

  MsixTableTest() : MsixTableTest(std::make_unique<FakeMsiVectors>(kCount)) {}
  explicit MsixTableTest(std::unique_ptr<FakeMsiVectors> vectors)
      : vectors_(*vectors), table_("test", std::move(vectors), kCount, faults_) {}

  template <typename T>
  T Read(uint64_t offset) {
    uint8_t bytes[sizeof(T)];
    table_.Read(offset, bytes);
    return LoadLe<T>(bytes);
  }
  template <typename T>
  void Write(uint64_t offset, T value) {
    uint8_t bytes[sizeof(T)];
    StoreLe<T>(bytes, value);
    table_.Write(offset, bytes);
  }
  void Set(unsigned vector, uint64_t address, uint32_t data, bool masked) {
    Write<uint64_t>(16 * vector, address);
    Write<uint32_t>(16 * vector + 8, data);
    Write<uint32_t>(16 * vector + 12, masked ? 1 : 0);
  }

  FakeMsiVectors& vectors_;
  GuestFaultCounters faults_;
  MsixTable table_;
};

TEST_F(MsixTableTest, AllVectorsAreMaskedAtFirst) {
  for (unsigned vector = 0; vector < kCount; ++vector) {
    EXPECT_EQ(Read<uint32_t>(16 * vector + 12), 1u);
  }
}

TEST_F(MsixTableTest, AnUnmaskedVectorSendsItsMessage) {
  table_.SetControl(true, false);
  Set(5, 0xfee0'1000, 0x4051, false);
  table_.Trigger(5);
  EXPECT_EQ(vectors_.triggered(5), 1u);
  EXPECT_EQ(vectors_.message(5), (MsiMessage{0xfee0'1000, 0x4051}));
}

TEST_F(MsixTableTest, AMessageChangedWhileUnmaskedIsHandedOn) {
  table_.SetControl(true, false);
  Set(5, 0xfee0'1000, 1, false);
  Write<uint32_t>(16 * 5 + 8, 2);
  EXPECT_EQ(vectors_.message(5).data, 2u);
}

TEST_F(MsixTableTest, PendingBitsAreKeptAndSentOnce) {
  table_.SetControl(true, false);
  for (const unsigned vector : {0u, 63u, 64u, 69u}) {
    table_.Trigger(vector);
    table_.Trigger(vector);
  }
  EXPECT_EQ(Read<uint64_t>(0x1000), 1u | uint64_t{1} << 63);
  EXPECT_EQ(Read<uint64_t>(0x1008), 1u | 1u << 5);
  Set(64, 0xfee0'0000, 7, false);
  EXPECT_EQ(vectors_.triggered(64), 1u);
  EXPECT_EQ(Read<uint64_t>(0x1008), 1u << 5);
}

TEST_F(MsixTableTest, TheFunctionMaskAndDisablingHoldBack) {
  Set(1, 0xfee0'0000, 7, false);
  table_.Trigger(1);
  EXPECT_EQ(vectors_.triggered(1), 0u) << "not enabled";
  table_.SetControl(true, true);
  table_.Trigger(1);
  EXPECT_EQ(vectors_.triggered(1), 0u);
  table_.SetControl(true, false);
  EXPECT_EQ(vectors_.triggered(1), 1u);
  EXPECT_EQ(vectors_.message(1).data, 7u);
}

TEST_F(MsixTableTest, ReservedBitsAndPendingBitsAreReadOnly) {
  Write<uint64_t>(0, ~uint64_t{0});
  Write<uint32_t>(12, ~0u);
  EXPECT_EQ(Read<uint64_t>(0), ~uint64_t{3});
  EXPECT_EQ(Read<uint32_t>(12), 1u);
  Write<uint64_t>(0x1000, ~uint64_t{0});
  EXPECT_EQ(Read<uint64_t>(0x1000), 0u);
  EXPECT_EQ(faults_.count(GuestFault::kMsixBeyondTable), 1u);
}

TEST_F(MsixTableTest, AMessageToNoLocalApicIsCountedAndGoesNowhere) {
  table_.SetControl(true, false);
  for (const uint64_t address : {uint64_t{0}, uint64_t{0x20'0000}, uint64_t{0xfed0'0000},
                                 uint64_t{0xfef0'0000}, uint64_t{0x1'fee0'0000}, ~uint64_t{3}}) {
    Set(4, address, 7, true);
    const uint64_t before = faults_.count(GuestFault::kMsiAddress);
    Write<uint32_t>(16 * 4 + 12, 0);
    EXPECT_EQ(faults_.count(GuestFault::kMsiAddress), before + 1) << address;
    table_.Trigger(4);
    Write<uint32_t>(16 * 4 + 12, 1);
  }
  EXPECT_EQ(vectors_.triggered(4), 0u);
  EXPECT_EQ(vectors_.message(4), MsiMessage{});
  Set(4, 0xfeef'f000, 7, false);
  table_.Trigger(4);
  EXPECT_EQ(vectors_.triggered(4), 1u);
}

TEST_F(MsixTableTest, VectorsThatAreNotThereAreIgnored) {
  table_.SetControl(true, false);
  table_.Trigger(kCount);
  table_.Trigger(0xffff);
  Write<uint64_t>(16 * kCount, ~uint64_t{0});
  EXPECT_EQ(Read<uint64_t>(16 * kCount), 0u);
}

TEST_F(MsixTableTest, ASavedTableSendsWhatWasPending) {
  table_.SetControl(true, false);
  Set(2, 0xfee0'2000, 22, false);
  Set(3, 0xfee0'3000, 33, true);
  table_.Trigger(3);
  StateNode node;
  table_.Save(node);

  auto owned = std::make_unique<FakeMsiVectors>(kCount);
  FakeMsiVectors& vectors = *owned;
  MsixTable twin("test", std::move(owned), kCount, faults_);
  ASSERT_TRUE(twin.Load(node).ok());
  twin.SetControl(true, false);
  twin.Trigger(2);
  EXPECT_EQ(vectors.message(2).data, 22u);
  EXPECT_EQ(vectors.triggered(2), 1u);
  EXPECT_EQ(vectors.triggered(3), 0u);
  const uint8_t unmask[4] = {};
  twin.Write(16 * 3 + 12, unmask);
  EXPECT_EQ(vectors.triggered(3), 1u);
}

TEST_F(MsixTableTest, ATableOfAnotherSizeIsRefused) {
  StateNode node;
  table_.Save(node);
  MsixTable other("test", std::make_unique<FakeMsiVectors>(3), 3, faults_);
  EXPECT_FALSE(other.Load(node).ok());
}

}  // namespace
}  // namespace pacsvisor
