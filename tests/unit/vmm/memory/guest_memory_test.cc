#include "vmm/memory/guest_memory.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <utility>
#include <vector>

#include "vmm/memory/guest_io_vector.h"

namespace pacsvisor {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint64_t kLowEnd = 3 * kGiB;
constexpr uint64_t kHigh = 4 * kGiB;
constexpr uint64_t kHighBytes = 2 * kMiB;
constexpr uint64_t kHighEnd = kHigh + kHighBytes;

// Two regions with the hole between them. Pages that nobody touches cost nothing.
class GuestMemoryTest : public testing::TestWithParam<MemoryBacking> {
 protected:
  // The blocks marked since the last call.
  std::set<uint64_t> TakeMarked() {
    std::vector<uint64_t> words(memory_->dirty().word_count());
    memory_->dirty().TakeInto(words);
    std::set<uint64_t> blocks;
    for (const Extent& extent : ExtentsOf(words, memory_->page_count())) {
      for (uint64_t i = 0; i < extent.count; ++i) {
        blocks.insert(extent.first.raw() + i);
      }
    }
    return blocks;
  }
  bool WriteAt(uint64_t address, size_t size) {
    return memory_->Write(GuestAddress(address), Bytes(size, 0xab));
  }
  bool ReadAt(uint64_t address, size_t size) const {
    Bytes bytes(size);
    return memory_->Read(GuestAddress(address), bytes);
  }

  const MemoryLayout layout_ = MemoryLayout::Create(3 * kGiB + kHighBytes, 40).value();
  const std::unique_ptr<GuestMemory> memory_ = GuestMemory::Create(layout_, GetParam()).value();
};

TEST_P(GuestMemoryTest, IsCountedThroughItsRegions) {
  EXPECT_EQ(memory_->page_count(), (3 * kGiB + kHighBytes) / 4096);
  EXPECT_EQ(memory_->BlockOf(GuestAddress(0)), BlockIndex(0));
  EXPECT_EQ(memory_->BlockOf(GuestAddress(kLowEnd - 1)), BlockIndex(kLowEnd / 4096 - 1));
  EXPECT_EQ(memory_->BlockOf(GuestAddress(kHigh)), BlockIndex(kLowEnd / 4096));
  EXPECT_EQ(memory_->BlockOf(GuestAddress(kHighEnd - 1)), BlockIndex(memory_->page_count() - 1));
  for (const uint64_t outside : {kLowEnd, kHigh - 1, kHighEnd, ~uint64_t{0}}) {
    EXPECT_EQ(memory_->BlockOf(GuestAddress(outside)), std::nullopt) << outside;
  }
}

TEST_P(GuestMemoryTest, TheLastBytesOfEachRegionAreMemory) {
  for (const uint64_t end : {kLowEnd, kHighEnd}) {
    EXPECT_TRUE(WriteAt(end - 1, 1));
    EXPECT_TRUE(WriteAt(end - 8192, 8192));
    EXPECT_TRUE(ReadAt(end - 1, 1));
  }
}

TEST_P(GuestMemoryTest, AccessesThatLeaveARegionTouchNothing) {
  const std::pair<uint64_t, size_t> accesses[] = {
      {kLowEnd - 1, 2}, {kLowEnd - 4096, 4097}, {kLowEnd, 1},
      {kHigh - 1, 1},   {kHigh - 1, 2},         {kHighEnd - 1, 2},
      {kHighEnd, 1},    {~uint64_t{0}, 1},      {~uint64_t{0} - 3, 8}};
  for (const auto& [address, size] : accesses) {
    EXPECT_FALSE(WriteAt(address, size)) << address;
    EXPECT_FALSE(ReadAt(address, size)) << address;
    EXPECT_FALSE(memory_->Fill({GuestAddress(address), size}, 1)) << address;
    EXPECT_FALSE(memory_->Contains({GuestAddress(address), size})) << address;
  }
  // From one region over the hole into the other.
  EXPECT_FALSE(memory_->Fill({GuestAddress(kLowEnd - 8), kGiB + 16}, 1));
  EXPECT_FALSE(memory_->Fill({GuestAddress(4096), ~uint64_t{0}}, 1));
  EXPECT_TRUE(TakeMarked().empty());
  uint8_t last = 0xff;
  EXPECT_TRUE(memory_->Read(GuestAddress(kLowEnd - 1), {&last, 1}));
  EXPECT_EQ(last, 0);
}

TEST_P(GuestMemoryTest, EmptyAccessesInsideMemoryDoNothing) {
  for (const uint64_t address : {uint64_t{0}, uint64_t{4096}, kLowEnd - 1, kLowEnd}) {
    EXPECT_TRUE(memory_->Write(GuestAddress(address), {})) << address;
    EXPECT_TRUE(memory_->Read(GuestAddress(address), {})) << address;
    EXPECT_TRUE(memory_->Fill({GuestAddress(address), 0}, 1)) << address;
  }
  EXPECT_TRUE(TakeMarked().empty());
}

TEST_P(GuestMemoryTest, RandomWritesMarkExactlyTheirPagesAndReadBack) {
  std::mt19937_64 random(7);
  for (int step = 0; step < 500; ++step) {
    // Near the ends of the regions as often as anywhere.
    const uint64_t region_end = random() % 2 == 0 ? kLowEnd : kHighEnd;
    const uint64_t size = random() % 3 == 0 ? random() % 9 : random() % 20'000;
    const uint64_t distance = size + random() % 3 * (random() % 40'000);
    const GuestAddress at(region_end - distance);
    const uint64_t first_block =
        at.raw() < kHigh ? at.raw() / 4096 : kLowEnd / 4096 + (at.raw() - kHigh) / 4096;
    std::set<uint64_t> expected;
    for (uint64_t page = 0; page * 4096 < at.raw() % 4096 + size && size > 0; ++page) {
      expected.insert(first_block + page);
    }
    Bytes bytes(size);
    for (uint8_t& byte : bytes) {
      byte = static_cast<uint8_t>(random());
    }
    if (random() % 4 == 0) {
      bytes.assign(size, 0x77);
      ASSERT_TRUE(memory_->Fill({at, size}, 0x77));
    } else {
      ASSERT_TRUE(memory_->Write(at, bytes));
    }
    ASSERT_EQ(TakeMarked(), expected) << at.raw() << "+" << size;
    Bytes read(size);
    ASSERT_TRUE(memory_->Read(at, read));
    ASSERT_EQ(read, bytes);
  }
}

TEST_P(GuestMemoryTest, ObjectsAreCopied) {
  struct Abi {
    uint32_t a;
    uint16_t b;
    uint16_t c;
  };
  ASSERT_TRUE(memory_->WriteObject(GuestAddress(4094), Abi{1, 2, 3}));
  const std::optional<Abi> object = memory_->ReadObject<Abi>(GuestAddress(4094));
  ASSERT_TRUE(object.has_value());
  EXPECT_EQ(object->c, 3);
  EXPECT_EQ(TakeMarked(), (std::set<uint64_t>{0, 1}));
  EXPECT_FALSE(memory_->ReadObject<Abi>(GuestAddress(kLowEnd - 7)).has_value());
  EXPECT_FALSE(memory_->WriteObject(GuestAddress(kHigh - 1), Abi{}));
}

TEST_P(GuestMemoryTest, RingIndicesAreAlignedOrRefused) {
  EXPECT_TRUE(memory_->StoreRelease16(GuestAddress(kLowEnd - 2), 0x1234));
  EXPECT_EQ(memory_->LoadAcquire16(GuestAddress(kLowEnd - 2)), 0x1234);
  EXPECT_EQ(TakeMarked(), (std::set<uint64_t>{kLowEnd / 4096 - 1}));
  for (const uint64_t refused : {uint64_t{1}, kLowEnd - 1, kLowEnd, kHigh - 2, ~uint64_t{0}}) {
    EXPECT_FALSE(memory_->StoreRelease16(GuestAddress(refused), 1)) << refused;
    EXPECT_EQ(memory_->LoadAcquire16(GuestAddress(refused)), std::nullopt) << refused;
  }
  EXPECT_TRUE(TakeMarked().empty());
}

TEST_P(GuestMemoryTest, HostRangesAreAlignedAndInOrder) {
  const auto& ranges = memory_->host_ranges();
  ASSERT_EQ(ranges.size(), 2u);
  for (const GuestMemory::HostRange& range : ranges) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(range.host) % (2 * kMiB), 0u);
  }
  EXPECT_EQ(ranges[1].start, GuestAddress(kHigh));
  EXPECT_EQ(ranges[1].first_block, BlockIndex(kLowEnd / 4096));
}

TEST_P(GuestMemoryTest, DeviceWritesMarkOnLandingAndInFlightWhenAsked) {
  const GuestRange ranges[] = {{GuestAddress(0x1800), 0x1000}, {GuestAddress(kHighEnd - 1), 1}};
  std::optional<GuestIoVector> vector =
      GuestIoVector::Create(*memory_, ranges, IoDirection::kDeviceWrites);
  ASSERT_TRUE(vector.has_value());
  EXPECT_EQ(vector->size_bytes(), 0x1001u);
  EXPECT_TRUE(TakeMarked().empty());
  const std::set<uint64_t> expected = {1, 2, memory_->page_count() - 1};
  vector->MarkInFlight();
  EXPECT_EQ(TakeMarked(), expected);
  static_cast<uint8_t*>(vector->iovecs()[1].iov_base)[0] = 0x5a;
  vector->Landed();
  EXPECT_EQ(TakeMarked(), expected);
  uint8_t byte = 0;
  EXPECT_TRUE(memory_->Read(GuestAddress(kHighEnd - 1), {&byte, 1}));
  EXPECT_EQ(byte, 0x5a);
}

TEST_P(GuestMemoryTest, DeviceReadsMarkNothing) {
  const GuestRange ranges[] = {{GuestAddress(0), 0x3000}};
  std::optional<GuestIoVector> vector =
      GuestIoVector::Create(*memory_, ranges, IoDirection::kDeviceReads);
  ASSERT_TRUE(vector.has_value());
  vector->MarkInFlight();
  EXPECT_TRUE(TakeMarked().empty());
}

TEST_P(GuestMemoryTest, AVectorWithOneBufferOutsideIsNone) {
  for (const uint64_t start : {kLowEnd - 8, kLowEnd, kHigh - 1, kHighEnd - 15, ~uint64_t{0} - 2}) {
    const GuestRange ranges[] = {{GuestAddress(0), 16}, {GuestAddress(start), 16}};
    for (const IoDirection direction : {IoDirection::kDeviceReads, IoDirection::kDeviceWrites}) {
      EXPECT_FALSE(GuestIoVector::Create(*memory_, ranges, direction).has_value()) << start;
    }
  }
  EXPECT_TRUE(TakeMarked().empty());
}

TEST_P(GuestMemoryTest, EmptyBuffersAreLeftOut) {
  const GuestRange ranges[] = {{GuestAddress(0), 0}, {GuestAddress(64), 1}, {GuestAddress(5), 0}};
  std::optional<GuestIoVector> vector =
      GuestIoVector::Create(*memory_, ranges, IoDirection::kDeviceReads);
  ASSERT_TRUE(vector.has_value());
  EXPECT_EQ(vector->iovecs().size(), 1u);
}

TEST_P(GuestMemoryTest, AMovedVectorIsLandedOnce) {
  const GuestRange ranges[] = {{GuestAddress(0), 1}};
  std::optional<GuestIoVector> first =
      GuestIoVector::Create(*memory_, ranges, IoDirection::kDeviceWrites);
  GuestIoVector second = std::move(*first);
  first.reset();
  second.Landed();
  EXPECT_EQ(TakeMarked(), (std::set<uint64_t>{0}));
}

// Their pages may be written past a protection until the write has landed.
TEST_P(GuestMemoryTest, PagesOfWritesInFlightAreKnown) {
  const auto in_flight = [this] {
    std::vector<uint64_t> words(memory_->dirty().word_count());
    memory_->AddPagesInFlight(words);
    std::set<uint64_t> pages;
    for (const Extent& extent : ExtentsOf(words, memory_->page_count())) {
      for (uint64_t i = 0; i < extent.count; ++i) {
        pages.insert(extent.first.raw() + i);
      }
    }
    return pages;
  };
  const GuestRange one[] = {{GuestAddress(5 * kPageSizeBytes + 4000), 97},
                            {GuestAddress(9 * kPageSizeBytes), 1}};
  const GuestRange other[] = {{GuestAddress(6 * kPageSizeBytes), 3 * kPageSizeBytes}};
  auto first = GuestIoVector::Create(*memory_, one, IoDirection::kDeviceWrites).value();
  auto second = GuestIoVector::Create(*memory_, other, IoDirection::kDeviceWrites).value();
  const auto read = GuestIoVector::Create(*memory_, other, IoDirection::kDeviceReads).value();
  EXPECT_EQ(in_flight(), (std::set<uint64_t>{5, 6, 7, 8, 9}));
  GuestIoVector moved = std::move(first);
  second.Landed();
  EXPECT_EQ(in_flight(), (std::set<uint64_t>{5, 6, 9}));
  moved.Landed();
  EXPECT_TRUE(in_flight().empty());
}

using GuestMemoryDeathTest = GuestMemoryTest;

TEST_P(GuestMemoryDeathTest, ForgettingThatAWriteHasLandedIsABug) {
  const GuestRange ranges[] = {{GuestAddress(0), 1}};
  EXPECT_DEATH((void)GuestIoVector::Create(*memory_, ranges, IoDirection::kDeviceWrites),
               "without marking");
}

INSTANTIATE_TEST_SUITE_P(Backings, GuestMemoryTest,
                         testing::Values(MemoryBacking::kAnonymous, MemoryBacking::kMemfd));
INSTANTIATE_TEST_SUITE_P(Backings, GuestMemoryDeathTest,
                         testing::Values(MemoryBacking::kAnonymous));

TEST(GuestMemoryBackingTest, AMemfdHoldsTheRegionsOneBehindTheOther) {
  const MemoryLayout layout = MemoryLayout::Create(3 * kGiB + kHighBytes, 40).value();
  const auto memory = GuestMemory::Create(layout, MemoryBacking::kMemfd).value();
  ASSERT_TRUE(memory->Write(GuestAddress(kHigh), Bytes{0x42}));
  const Mapping file = Mapping::MapFile(memory->memfd(), layout.memory_bytes).value();
  EXPECT_EQ(file.data()[kLowEnd], 0x42);
}

TEST(GuestMemoryBackingTest, AnonymousMemoryHasNoFile) {
  const MemoryLayout layout = MemoryLayout::Create(2 * kMiB, 40).value();
  EXPECT_EQ(GuestMemory::Create(layout, MemoryBacking::kAnonymous).value()->memfd(), -1);
}

}  // namespace
}  // namespace pacsvisor
