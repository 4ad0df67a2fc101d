// Pause, reset, saving and loading of virtio-blk, with requests in flight.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/devices/block/block_fixture.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

using testing::HasSubstr;

bool IsMarked(const GuestMemory& memory, const DirtyBitmap& dirty, GuestRange range) {
  return dirty.IsMarked(*memory.BlockOf(range.start));
}

void TakeAll(DirtyBitmap& dirty) {
  std::vector<uint64_t> words(dirty.word_count());
  dirty.TakeInto(words);
}

// ---- pause

// The disk hangs for as long as the test likes: Pause returns, nothing of the machine moves, and
// what the disk says later waits for Resume.
TEST(VirtioBlockPause, DoesNotWaitForADiskThatHangs) {
  FaultBlockDevice test;
  test.block.Activate();
  test.HoldAll();
  const DriverRequest read = test.block.driver.Read(0, 4096);
  const DriverRequest write = test.block.driver.Write(64, 4096, 0x11);
  test.block.harness.Kick(0);
  test.AwaitHeld(2);
  test.block.harness.Pause();
  EXPECT_EQ(test.faults->held(), 2u) << "the disk still hangs";
  const uint16_t used = test.block.harness.driver(0).used_index();
  test.LetGo();
  // Until the worker has seen both: they are in the gate.
  while (test.faults->trace().size() < 2) {
    std::this_thread::yield();
  }
  EXPECT_EQ(test.block.harness.driver(0).used_index(), used);
  EXPECT_EQ(test.block.driver.Status(read), BlockDriver::kNoStatus);
  test.block.harness.Resume();
  ASSERT_TRUE(test.block.harness.WaitUsed(0).has_value());
  ASSERT_TRUE(test.block.harness.WaitUsed(0).has_value());
  EXPECT_EQ(test.block.driver.Status(read), kOk);
  EXPECT_EQ(test.block.driver.Status(write), kOk);
}

TEST(VirtioBlockPause, TakesNoNewRequests) {
  FaultBlockDevice test;
  test.block.Activate();
  test.block.harness.Pause();
  const DriverRequest read = test.block.driver.Read(0, 512);
  test.block.harness.Kick(0);
  StateNode node;
  test.block.harness.Save(node);
  const StateNode* device = *node.Child("device");
  EXPECT_TRUE(device->Children("in_flight")->empty());
  EXPECT_EQ(test.faults->operation_count(), 0u);
  test.block.harness.Resume();
  ASSERT_TRUE(test.block.harness.WaitUsed(0).has_value());
  EXPECT_EQ(test.block.driver.Status(read), kOk);
}

// A read in flight across two epochs: its pages are in both, and in the one in which it lands.
TEST(VirtioBlockPause, PagesOfReadsInFlightBelongToEveryEpochTheySpan) {
  FaultBlockDevice test;
  test.block.Activate();
  test.HoldAll();
  DirtyBitmap& dirty = test.memory->dirty();
  const DriverRequest read = test.block.driver.Read(0, 4096);
  test.block.harness.Kick(0);
  test.AwaitHeld(1);
  for (int epoch = 0; epoch < 2; ++epoch) {
    TakeAll(dirty);
    test.block.harness.Pause();
    EXPECT_TRUE(IsMarked(*test.memory, dirty, read.data)) << epoch;
    TakeAll(dirty);
    test.block.harness.Resume();
  }
  TakeAll(dirty);
  test.LetGo();
  ASSERT_TRUE(test.block.harness.WaitUsed(0).has_value());
  EXPECT_TRUE(IsMarked(*test.memory, dirty, read.data));
}

TEST(VirtioBlockPause, ManyPausesUnderLoadLoseNothing) {
  FaultBlockDevice test({.name = "disk0", .queue_count = 2});
  test.block.Activate();
  std::mt19937 random(5);
  std::vector<uint8_t> model(kTestDiskBytes);
  for (int round = 0; round < 100; ++round) {
    if (round % 3 == 0) {
      test.HoldAll();
    }
    std::vector<DriverRequest> requests;
    for (uint16_t i = 0; i < 8; ++i) {
      const uint64_t sector = random() % 1024 + (i % 2) * 4096;
      const auto fill = static_cast<uint8_t>(random());
      requests.push_back(test.block.driver.Write(sector, 1024, fill, i % 2));
      std::fill_n(model.begin() + static_cast<ptrdiff_t>(sector * 512), 1024, fill);
    }
    test.block.harness.Kick(0);
    test.block.harness.Kick(1);
    test.block.harness.Pause();
    StateNode node;
    test.block.harness.Save(node);
    if (round % 2 == 0) {
      test.LetGo();
    }
    test.block.harness.Resume();
    test.LetGo();
    for (const DriverRequest& request : requests) {
      ASSERT_TRUE(test.block.harness.WaitUsed(request.queue).has_value()) << round;
    }
    for (const DriverRequest& request : requests) {
      ASSERT_EQ(test.block.driver.Status(request), kOk);
    }
  }
  EXPECT_EQ(test.image.Bytes(), model);
}

// ---- reset

TEST(VirtioBlockReset, IsCompleteOnlyWhenNoHostIoUsesGuestMemory) {
  for (const bool is_read : {true, false}) {
    FaultBlockDevice test;
    test.block.Activate();
    test.HoldAll();
    const DriverRequest request =
        is_read ? test.block.driver.Read(0, 4096) : test.block.driver.Write(0, 4096, 0x77);
    test.block.harness.Kick(0);
    test.AwaitHeld(1);
    test.block.device->StartReset();
    for (int i = 0; i < 100; ++i) {
      ASSERT_FALSE(test.block.device->ResetComplete());
      std::this_thread::yield();
    }
    const uint16_t used = test.block.harness.driver(0).used_index();
    TakeAll(test.memory->dirty());
    test.LetGo();
    const auto deadline = std::chrono::steady_clock::now() + kTestDeadline;
    while (!test.block.device->ResetComplete()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      std::this_thread::yield();
    }
    EXPECT_EQ(test.block.harness.driver(0).used_index(), used) << "no ring is touched any more";
    EXPECT_EQ(test.block.driver.Status(request), BlockDriver::kNoStatus);
    EXPECT_EQ(IsMarked(*test.memory, test.memory->dirty(), request.data), is_read)
        << "what landed in memory is marked all the same";
  }
}

TEST(VirtioBlockReset, WorksAgainAfterManyResetsWithRequestsInFlight) {
  FaultBlockDevice test;
  std::mt19937 random(9);
  for (int round = 0; round < 60; ++round) {
    test.block.Activate({.event_index = round % 2 == 0, .indirect = round % 4 < 2});
    if (round % 2 == 0) {
      test.HoldAll();
    }
    for (int i = 0; i < 6; ++i) {
      const uint64_t sector = random() % 4096;
      i % 2 == 0 ? test.block.driver.Read(sector, 4096)
                 : test.block.driver.Write(sector, 4096, static_cast<uint8_t>(i));
    }
    test.block.harness.Kick(0);
    if (round % 3 == 0) {
      test.block.harness.Pause();
    }
    test.block.device->StartReset();
    test.LetGo();
    ASSERT_TRUE(test.block.harness.Reset()) << round;
    ASSERT_TRUE(test.block.harness.transport().reset_reasons().empty());
  }
  test.block.Activate();
  EXPECT_EQ(test.block.driver.Finish(test.block.driver.Read(0, 512)), kOk);
}

// ---- save and load

// The node as it comes back from a file.
StateNode Recoded(const StateNode& node) { return DecodeState(EncodeState(node)).value(); }

TEST(VirtioBlockRestore, SubmitsAgainWhatWasInFlight) {
  FaultBlockDevice source({.name = "disk0", .queue_count = 2});
  source.block.Activate();
  BlockDriver& driver = source.block.driver;
  ASSERT_EQ(driver.Finish(driver.Write(0, 4096, 0x33)), kOk);
  source.HoldAll();
  const DriverRequest read = driver.Read(0, 4096, 0);
  const DriverRequest write = driver.Write(64, 4096, 0x44, 1);
  const DriverRequest zeroes =
      driver.Segment(VirtioBlockType::kWriteZeroes, {.sector = 512, .sector_count = 8}, 1);
  const DriverRequest discard =
      driver.Segment(VirtioBlockType::kDiscard, {.sector = 1024, .sector_count = 8}, 1);
  const DriverRequest flush = driver.Flush(0);
  source.block.harness.Kick(0);
  source.block.harness.Kick(1);
  source.AwaitHeld(5);
  source.block.harness.Pause();
  StateNode node;
  source.block.harness.Save(node);

  // A twin on a disk of its own with the same bytes.
  const TestImage twin_image;
  auto engine = std::make_unique<FaultEngine>();
  FaultEngine* twin_faults = engine.get();
  TestBlockDevice twin(twin_image, std::move(engine), *source.memory,
                       {.name = "disk0", .queue_count = 2});
  ASSERT_TRUE(twin.harness.Load(Recoded(node), source.block.harness).ok());
  EXPECT_EQ(twin_faults->operation_count(), 0u) << "nothing before Resume";
  twin.ResumeRestored();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(twin.harness.WaitUsed(0).has_value());
  }
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(twin.harness.WaitUsed(1).has_value());
  }
  for (const DriverRequest& request : {read, write, zeroes, discard, flush}) {
    EXPECT_EQ(twin.driver.Status(request), kOk);
  }
  EXPECT_EQ(twin_image.Bytes()[64 * 512], 0x44);
  EXPECT_EQ(twin_faults->operation_count(), 5u);
  EXPECT_TRUE(twin.harness.transport().reset_reasons().empty());
  ASSERT_TRUE(twin.harness.Reset());
  source.LetGo();
}

TEST(VirtioBlockRestore, OverlappingWritesAreRepeatedInTheirOrder) {
  FaultBlockDevice source;
  source.block.Activate();
  source.HoldAll();
  for (uint8_t i = 1; i <= 6; ++i) {
    source.block.driver.Write(0, 4096, i);
  }
  source.block.harness.Kick(0);
  source.AwaitHeld(1);
  source.block.harness.Pause();
  StateNode node;
  source.block.harness.Save(node);

  const TestImage twin_image;
  TestBlockDevice twin(twin_image, CreateIoEngine(IoEngineKind::kThreads).value(), *source.memory,
                       {.name = "disk0"});
  ASSERT_TRUE(twin.harness.Load(node, source.block.harness).ok());
  twin.ResumeRestored();
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(twin.harness.WaitUsed(0).has_value());
  }
  EXPECT_EQ(twin_image.Bytes()[0], 6);
  ASSERT_TRUE(twin.harness.Reset());
  source.LetGo();
}

// A completion that waited at the gate was never published: it is repeated in the twin, and
// published once in the source.
TEST(VirtioBlockRestore, CompletionsAtTheGateCountAsInFlight) {
  FaultBlockDevice source;
  source.block.Activate();
  source.HoldAll();
  const DriverRequest write = source.block.driver.Write(0, 4096, 0x21);
  source.block.harness.Kick(0);
  source.AwaitHeld(1);
  source.block.harness.Pause();
  source.LetGo();
  while (source.faults->trace().empty()) {
    std::this_thread::yield();
  }
  StateNode node;
  source.block.harness.Save(node);
  EXPECT_EQ((*node.Child("device"))->Children("in_flight")->size(), 1u);
  source.block.harness.Resume();
  ASSERT_TRUE(source.block.harness.WaitUsed(0).has_value());
  EXPECT_EQ(source.block.driver.Status(write), kOk);
}

TEST(VirtioBlockRestore, SavedAgainBeforeItRanIsTheSameState) {
  FaultBlockDevice source;
  source.block.Activate();
  source.HoldAll();
  source.block.driver.Write(0, 4096, 0x21);
  source.block.driver.Read(64, 4096);
  source.block.harness.Kick(0);
  source.AwaitHeld(2);
  source.block.harness.Pause();
  StateNode first;
  source.block.harness.Save(first);
  const TestImage twin_image;
  TestBlockDevice twin(twin_image, std::make_unique<FaultEngine>(), *source.memory,
                       {.name = "disk0"});
  ASSERT_TRUE(twin.harness.Load(first, source.block.harness).ok());
  StateNode second;
  twin.harness.Save(second);
  EXPECT_EQ(EncodeState(first), EncodeState(second));
  ASSERT_TRUE(twin.harness.Reset());
  source.LetGo();
}

class HostileState : public testing::Test {
 protected:
  HostileState() {
    source_.block.Activate();
    source_.block.harness.Pause();
    source_.block.harness.Save(node_);
    device_ = &std::get<StateNode::Field::Sub>(node_.mutable_fields()["device"].value).nodes[0];
  }
  void AddHead(uint64_t queue, uint64_t head) {
    StateNode& one = device_->AppendTo("in_flight");
    one.SetU64("queue", queue);
    one.SetU64("head", head);
  }
  void Set(const std::string& name, uint64_t value) {
    device_->mutable_fields()[name].value = value;
  }
  std::string LoadError() {
    TestBlockDevice twin(image_, std::make_unique<FaultEngine>(), *source_.memory,
                         {.name = "disk0"});
    const Status loaded = twin.harness.Load(node_, source_.block.harness);
    return loaded.ok() ? "loaded" : loaded.error().message();
  }

  FaultBlockDevice source_;
  TestImage image_;
  StateNode node_;
  StateNode* device_;
};

TEST_F(HostileState, OfAnotherDiskIsRefusedByName) {
  Set("capacity_bytes", 512);
  EXPECT_THAT(LoadError(), HasSubstr("saved as a disk of 512 bytes"));
}

TEST_F(HostileState, OfAnotherNumberOfQueuesIsRefused) {
  Set("queue_count", 4);
  EXPECT_THAT(LoadError(), HasSubstr("with 4 queues"));
}

TEST_F(HostileState, QueueOutOfRangeIsRefused) {
  AddHead(1, 0);
  EXPECT_THAT(LoadError(), HasSubstr("queue"));
}

TEST_F(HostileState, HeadsTheRingDoesNotKnowNeedAReset) {
  for (const uint64_t head : {uint64_t{0}, uint64_t{65535}}) {
    AddHead(0, head);
    TestBlockDevice twin(image_, std::make_unique<FaultEngine>(), *source_.memory,
                         {.name = "disk0"});
    ASSERT_TRUE(twin.harness.Load(node_, source_.block.harness).ok());
    twin.ResumeRestored();
    EXPECT_TRUE(twin.harness.transport().WaitForNeedsReset());
  }
}

// As many heads as the ring says, but wrong ones.
TEST_F(HostileState, HeadsOutOfRangeOrTwiceNeedAReset) {
  for (const auto& [first, second] :
       {std::pair<uint64_t, uint64_t>{0, 0}, {0, 65535}, {64, 0}, {65535, 65535}}) {
    FaultBlockDevice source;
    source.block.Activate();
    source.HoldAll();
    source.block.driver.Read(0, 512);
    source.block.driver.Read(8, 512);
    source.block.harness.Kick(0);
    source.AwaitHeld(2);
    source.block.harness.Pause();
    StateNode node;
    source.block.harness.Save(node);
    StateNode& device =
        std::get<StateNode::Field::Sub>(node.mutable_fields()["device"].value).nodes[0];
    StateNode::List& heads =
        std::get<StateNode::Field::Sub>(device.mutable_fields()["in_flight"].value).nodes;
    ASSERT_EQ(heads.size(), 2u);
    heads[0].mutable_fields()["head"].value = first;
    heads[1].mutable_fields()["head"].value = second;
    TestBlockDevice twin(image_, std::make_unique<FaultEngine>(), *source.memory,
                         {.name = "disk0"});
    ASSERT_TRUE(twin.harness.Load(node, source.block.harness).ok());
    twin.ResumeRestored();
    EXPECT_TRUE(twin.harness.transport().WaitForNeedsReset()) << first << " " << second;
    ASSERT_TRUE(twin.harness.Reset());
    source.LetGo();
  }
}

}  // namespace
}  // namespace pacsvisor
