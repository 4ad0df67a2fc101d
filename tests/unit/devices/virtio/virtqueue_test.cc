// The device's side of a queue against the driver-side fake: the rules of virtio 1.2, section 2.7.
#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/devices/virtio/virtqueue_fixture.h"

namespace pacsvisor {
namespace {

INSTANTIATE_TEST_SUITE_P(Features, VirtqueueTest, EveryVirtqueueFeature(), VirtqueueFeaturesName);

TEST_P(VirtqueueTest, PopsADirectChainAsItWasAdded) {
  Make(8);
  const GuestRange first = Buffer(16);
  const GuestRange second = Buffer(512);
  const GuestRange third = Buffer(1);
  const uint16_t head = driver_->Add({Readable(first), Writable(second), Writable(third)});
  ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  EXPECT_EQ(chain_.head, head);
  EXPECT_EQ(chain_.readable, std::vector{first});
  EXPECT_EQ(chain_.writable, (std::vector{second, third}));
  EXPECT_EQ(chain_.readable_bytes, 16u);
  EXPECT_EQ(chain_.writable_bytes, 513u);
  EXPECT_EQ(queue_->Pop(chain_), PopResult::kEmpty);
}

TEST_P(VirtqueueTest, PopsAnIndirectChainOnlyWithTheFeature) {
  Make(8);
  const GuestRange in = Buffer(64);
  const GuestRange out = Buffer(4096);
  const uint16_t head = driver_->AddIndirect({Readable(out), Writable(in)});
  if (!GetParam().indirect_descriptors) {
    EXPECT_EQ(queue_->Pop(chain_), PopResult::kBroken);
    return;
  }
  ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  EXPECT_EQ(chain_.head, head);
  EXPECT_EQ(chain_.readable, std::vector{out});
  EXPECT_EQ(chain_.writable, std::vector{in});
}

TEST_P(VirtqueueTest, IndexesWrapRoundTheirSixteenBits) {
  Make(4);
  const GuestRange buffer = Buffer();
  for (uint32_t round = 0; round < 65536 + 5; ++round) {
    const uint16_t head = driver_->Add({Writable(buffer)});
    ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain) << round;
    queue_->Push(chain_.head, round % 17);
    ASSERT_TRUE(queue_->ShouldInterrupt() || GetParam().event_index);
    const auto used = driver_->TakeUsed();
    ASSERT_TRUE(used.has_value());
    ASSERT_EQ(used->head, head);
    ASSERT_EQ(used->written_bytes, round % 17);
  }
}

TEST_P(VirtqueueTest, ChainsMayBeFinishedInAnyOrder) {
  Make(4);
  std::vector<uint16_t> heads;
  for (int i = 0; i < 4; ++i) {
    heads.push_back(driver_->Add({Writable(Buffer())}));
    ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  }
  EXPECT_EQ(queue_->in_flight(), 4);
  for (const int i : {2, 0, 3, 1}) {
    queue_->Push(heads[static_cast<size_t>(i)], 1);
    EXPECT_EQ(driver_->TakeUsed()->head, heads[static_cast<size_t>(i)]);
  }
  EXPECT_EQ(queue_->in_flight(), 0);
}

TEST_P(VirtqueueTest, UndoPopGivesTheSameChainAgain) {
  Make(4);
  const uint16_t head = driver_->Add({Writable(Buffer())});
  ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  queue_->UndoPop();
  EXPECT_EQ(queue_->in_flight(), 0);
  EXPECT_TRUE(queue_->EnableNotifications());
  ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  EXPECT_EQ(chain_.head, head);
}

TEST_P(VirtqueueTest, UsedRingWritesAreMarkedDirty) {
  Make(4);
  driver_->Add({Writable(Buffer())});
  std::vector<uint64_t> words(memory_->dirty().word_count());
  ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  memory_->dirty().TakeInto(words);
  queue_->Push(chain_.head, 0);
  EXPECT_TRUE(memory_->dirty().IsMarked(*memory_->BlockOf(driver_->layout().used_ring)));
  EXPECT_EQ(memory_->dirty().CountMarked(), 1u);
}

TEST_P(VirtqueueTest, EmptyDescriptorsAreLeftOut) {
  Make(8);
  const GuestRange nowhere{GuestAddress(~uint64_t{0}), 0};
  const GuestRange data = Buffer();
  driver_->Add({Readable(nowhere), Readable(data), Writable(nowhere)});
  ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  EXPECT_EQ(chain_.readable, std::vector{data});
  EXPECT_TRUE(chain_.writable.empty());
}

// ---- interrupts and notifications
// -----------------------------------------------------------------

TEST_P(VirtqueueTest, InterruptsOnlyWhenTheDriverAskedForThem) {
  Make(8);
  driver_->DisableInterrupts();
  driver_->Add({Writable(Buffer())});
  ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  queue_->Push(chain_.head, 0);
  EXPECT_FALSE(queue_->ShouldInterrupt());
  ASSERT_TRUE(driver_->TakeUsed().has_value());
  driver_->EnableInterrupts();
  driver_->Add({Writable(Buffer())});
  ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  queue_->Push(chain_.head, 0);
  EXPECT_TRUE(queue_->ShouldInterrupt());
  EXPECT_FALSE(queue_->ShouldInterrupt()) << "nothing was pushed since";
}

TEST_P(VirtqueueTest, UsedEventInABatchInterruptsOnceItIsPassed) {
  if (!GetParam().event_index) {
    return;  // the flag knows no positions
  }
  Make(16);
  driver_->SetUsedEvent(3);  // after the fourth
  for (int i = 0; i < 8; ++i) {
    driver_->Add({Writable(Buffer())});
    ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
    queue_->Push(chain_.head, 0);
    EXPECT_EQ(queue_->ShouldInterrupt(), i == 3) << i;
  }
}

TEST_P(VirtqueueTest, NotificationsAreAskedForAndNot) {
  Make(8);
  driver_->Add({Writable(Buffer())});
  EXPECT_TRUE(driver_->WantsKick()) << "a new queue wants the first kick";
  queue_->DisableNotifications();
  ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  EXPECT_EQ(queue_->Pop(chain_), PopResult::kEmpty);
  driver_->Add({Writable(Buffer())});
  EXPECT_FALSE(driver_->WantsKick());
  EXPECT_TRUE(queue_->EnableNotifications()) << "one came meanwhile";
  ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  EXPECT_FALSE(queue_->EnableNotifications());
  driver_->Add({Writable(Buffer())});
  EXPECT_TRUE(driver_->WantsKick());
}

TEST_P(VirtqueueTest, AQueueThatNeverDisablesNotificationsMissesNoKick) {
  Make(8);
  const GuestRange buffer = Buffer();
  for (int round = 0; round < 20; ++round) {
    driver_->Add({Writable(buffer)});
    ASSERT_TRUE(driver_->WantsKick()) << round;
    ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
    queue_->Push(chain_.head, 0);
    ASSERT_EQ(queue_->Pop(chain_), PopResult::kEmpty);
    ASSERT_TRUE(driver_->TakeUsed().has_value());
  }
}

TEST_P(VirtqueueTest, NoKickAndNoInterruptIsLostBetweenTwoThreads) {
  Make(4);
  const EventFd doorbell = EventFd::Create().value();
  FakeVirtioTransport transport;
  constexpr int kRounds = 3000;
  std::thread device([&] {
    DescriptorChain chain;
    int finished = 0;
    while (finished < kRounds) {
      queue_->DisableNotifications();
      PopResult result;
      while ((result = queue_->Pop(chain)) == PopResult::kChain) {
        queue_->Push(chain.head, 1);
        ++finished;
        if (queue_->ShouldInterrupt()) {
          transport.InterruptQueue(0);
        }
      }
      ASSERT_EQ(result, PopResult::kEmpty);
      if (finished == kRounds || queue_->EnableNotifications()) {
        continue;
      }
      const auto deadline = std::chrono::steady_clock::now() + kTestDeadline;
      while (doorbell.Consume() == 0) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "kick lost after " << finished;
        std::this_thread::yield();
      }
    }
  });
  const GuestRange buffer = Buffer();
  int added = 0;
  for (int taken = 0; taken < kRounds; ++taken) {
    while (added < kRounds && driver_->free_descriptors() > 0) {
      driver_->Add({Writable(buffer)});
      ++added;
      driver_->Kick(doorbell);
    }
    const auto used = driver_->WaitUsed(transport, 0);
    EXPECT_TRUE(used.has_value()) << "interrupt lost after " << taken;
    if (!used.has_value()) {
      break;
    }
  }
  device.join();
}

// ---- saved state
// ----------------------------------------------------------------------------------

TEST_P(VirtqueueTest, ASavedQueueGoesOnWhereItStood) {
  Make(8);
  const GuestRange buffer = Buffer();
  std::vector<uint16_t> heads;
  for (int i = 0; i < 5; ++i) {
    heads.push_back(driver_->Add({Writable(buffer)}));
  }
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  }
  queue_->Push(heads[1], 7);
  ASSERT_TRUE(queue_->ShouldInterrupt());

  StateNode node;
  queue_->Save(node);
  Virtqueue loaded = Virtqueue::Create(*memory_, driver_->layout(), GetParam()).value();
  ASSERT_TRUE(loaded.Load(node).ok());
  EXPECT_EQ(loaded.in_flight(), 2);
  EXPECT_FALSE(loaded.ShouldInterrupt());
  ASSERT_EQ(loaded.ReadChain(heads[0], chain_), PopResult::kChain);
  EXPECT_EQ(chain_.writable, std::vector{buffer});
  EXPECT_EQ(loaded.in_flight(), 2) << "reading a recorded chain moves nothing";
  ASSERT_EQ(loaded.Pop(chain_), PopResult::kChain);
  EXPECT_EQ(chain_.head, heads[3]);
  for (const size_t i : {0, 2, 3}) {
    loaded.Push(heads[i], 1);
  }
  for (const size_t i : {1, 0, 2, 3}) {
    EXPECT_EQ(driver_->TakeUsed()->head, heads[i]);
  }
}

TEST_P(VirtqueueTest, ABrokenQueueStaysBrokenThroughASnapshot) {
  Make(4);
  driver_->PublishHead(99);
  ASSERT_EQ(queue_->Pop(chain_), PopResult::kBroken);
  StateNode node;
  queue_->Save(node);
  Virtqueue loaded = Virtqueue::Create(*memory_, driver_->layout(), GetParam()).value();
  ASSERT_TRUE(loaded.Load(node).ok());
  EXPECT_EQ(loaded.Pop(chain_), PopResult::kBroken);
  EXPECT_EQ(loaded.broken_reason(), queue_->broken_reason());
}

TEST_P(VirtqueueTest, PositionsThatAreImpossibleAreRefused) {
  Make(4);
  driver_->Add({Writable(Buffer())});
  for (const uint64_t available : {5, 0x8000, 0xffff, 0x10000}) {
    StateNode node;
    queue_->Save(node);
    node.mutable_fields().at("next_available").value = available;
    EXPECT_FALSE(queue_->Load(node).ok()) << available;
  }
}

}  // namespace
}  // namespace pacsvisor
