#include "vmm/base/event_loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <atomic>
#include <thread>

namespace pacsvisor {
namespace {

// Stop's signal may be consumed together with that of a Post: while the loop is in one callback,
// both arrive, and the wake-up's own callback, next in line, resets them.
TEST(EventLoop, StopIsNotMissedBehindAPost) {
  for (int round = 0; round < 200; ++round) {
    std::atomic<bool> in_callback = false;
    std::atomic<bool> stopping = false;
    const EventFd first = EventFd::Create().value();
    const std::unique_ptr<EventLoop> loop = EventLoop::Create("test").value();
    const auto callback = [&](uint32_t) {
      first.Consume();
      in_callback = true;
      while (!stopping) {
        std::this_thread::yield();
      }
      for (int i = 0; i < 100;
           ++i) {  // time for Stop to signal; whether it does, the end is the same
        std::this_thread::yield();
      }
    };
    ASSERT_TRUE(loop->Add(first.fd(), EPOLLIN, callback).ok());
    first.Signal();
    loop->Post([] {});
    ASSERT_TRUE(loop->Start().ok());
    while (!in_callback) {
      std::this_thread::yield();
    }
    stopping = true;
    loop->Stop();
  }
}

}  // namespace
}  // namespace pacsvisor
