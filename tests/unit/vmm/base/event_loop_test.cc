#include "vmm/base/event_loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <atomic>
#include <future>
#include <memory>
#include <thread>
#include <vector>

namespace pacsvisor {
namespace {

class EventLoopTest : public testing::Test {
 protected:
  // Returns when all that was posted before has run.
  void Drain() {
    std::promise<void> reached;
    loop_->Post([&] { reached.set_value(); });
    reached.get_future().wait();
  }

  std::unique_ptr<EventLoop> loop_ = EventLoop::Create("test-loop").value();
};

TEST(EventFdTest, CountsSignalsUntilConsumed) {
  const EventFd event = EventFd::Create().value();
  EXPECT_EQ(event.Consume(), 0u);
  event.Signal();
  event.Signal();
  EXPECT_EQ(event.Consume(), 2u);
  EXPECT_EQ(event.Consume(), 0u);
}

TEST_F(EventLoopTest, CallsBackOnItsOwnThreadWhenADescriptorIsReady) {
  const EventFd event = EventFd::Create().value();
  std::promise<bool> called;
  ASSERT_TRUE(loop_
                  ->Add(event.fd(), EPOLLIN,
                        [&](uint32_t events) {
                          event.Consume();
                          EXPECT_NE(events & EPOLLIN, 0u);
                          called.set_value(loop_->OnLoopThread());
                        })
                  .ok());
  ASSERT_TRUE(loop_->Start().ok());
  EXPECT_FALSE(loop_->OnLoopThread());
  event.Signal();
  EXPECT_TRUE(called.get_future().get());
}

TEST_F(EventLoopTest, WorkPostedBeforeTheStartKnowsItsThread) {
  std::promise<bool> on_thread;
  loop_->Post([&] { on_thread.set_value(loop_->OnLoopThread()); });
  ASSERT_TRUE(loop_->Start().ok());
  EXPECT_TRUE(on_thread.get_future().get());
}

TEST_F(EventLoopTest, WorkRunsInTheOrderPosted) {
  ASSERT_TRUE(loop_->Start().ok());
  std::vector<int> order;
  for (int i = 0; i < 1000; ++i) {
    loop_->Post([&order, i] { order.push_back(i); });
  }
  Drain();
  ASSERT_EQ(order.size(), 1000u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_F(EventLoopTest, WorkFromManyThreadsIsAllRun) {
  constexpr int kThreads = 4;
  constexpr int kEach = 2000;
  ASSERT_TRUE(loop_->Start().ok());
  int count = 0;  // the loop's thread only
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        loop_->Post([&] { ++count; });
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  Drain();
  EXPECT_EQ(count, kThreads * kEach);
}

TEST_F(EventLoopTest, ACallbackMayRemoveItself) {
  const EventFd event = EventFd::Create().value();
  int calls = 0;  // the loop's thread only
  ASSERT_TRUE(loop_
                  ->Add(event.fd(), EPOLLIN,
                        [&](uint32_t) {
                          ++calls;
                          loop_->Remove(event.fd());  // still readable: it would be called for ever
                        })
                  .ok());
  event.Signal();
  ASSERT_TRUE(loop_->Start().ok());
  Drain();
  Drain();
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, ADescriptorRemovedByAnotherCallbackIsNotCalled) {
  const EventFd first = EventFd::Create().value();
  const EventFd second = EventFd::Create().value();
  int calls = 0;  // the loop's thread only
  const auto remove_both = [&](uint32_t) {
    ++calls;
    loop_->Remove(first.fd());
    loop_->Remove(second.fd());
  };
  ASSERT_TRUE(loop_->Add(first.fd(), EPOLLIN, remove_both).ok());
  ASSERT_TRUE(loop_->Add(second.fd(), EPOLLIN, remove_both).ok());
  first.Signal();
  second.Signal();
  ASSERT_TRUE(loop_->Start().ok());
  Drain();
  Drain();
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, ModifyChangesWhatIsWaitedFor) {
  const EventFd event = EventFd::Create().value();
  std::atomic<int> calls = 0;
  ASSERT_TRUE(loop_
                  ->Add(event.fd(), 0,
                        [&](uint32_t) {
                          ++calls;
                          event.Consume();
                        })
                  .ok());
  event.Signal();
  ASSERT_TRUE(loop_->Start().ok());
  Drain();
  EXPECT_EQ(calls, 0);
  loop_->Post([&] { EXPECT_TRUE(loop_->Modify(event.fd(), EPOLLIN).ok()); });
  Drain();
  Drain();
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, HooksRunBeforeAndAfterEachWait) {
  std::atomic<int> before = 0;
  std::promise<void> enough;
  int after = 0;  // the loop's thread only
  loop_->SetIdleHooks(
      [&] {
        ++before;
        return 0;  // do not wait
      },
      [&] {
        if (++after == 10) {
          enough.set_value();
        }
      });
  ASSERT_TRUE(loop_->Start().ok());
  enough.get_future().wait();
  loop_->Stop();
  EXPECT_GE(before, 10);
}

TEST_F(EventLoopTest, ADescriptorThatIsNoneIsRefused) {
  EXPECT_FALSE(loop_->Add(-1, EPOLLIN, [](uint32_t) {}).ok());
  EXPECT_FALSE(loop_->Modify(-1, EPOLLIN).ok());
}

TEST_F(EventLoopTest, StopsTwice) {
  ASSERT_TRUE(loop_->Start().ok());
  loop_->Stop();
  loop_->Stop();
}

TEST(EventLoopStopTest, StopIsNeverLostBesidePosts) {
  for (int round = 0; round < 500; ++round) {
    const std::unique_ptr<EventLoop> loop = EventLoop::Create("stop").value();
    ASSERT_TRUE(loop->Start().ok());
    std::thread poster([&] {
      for (int i = 0; i < 20; ++i) {
        loop->Post([] {});
      }
    });
    loop->Stop();
    poster.join();
  }
}

}  // namespace
}  // namespace pacsvisor
