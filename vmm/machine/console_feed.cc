#include "vmm/machine/console_feed.h"

#include <sys/epoll.h>

#include <algorithm>
#include <utility>

namespace pacsvisor {

Result<std::unique_ptr<ConsoleFeed>> ConsoleFeed::Start(SerialPort& serial) {
  std::unique_ptr<ConsoleFeed> feed(new ConsoleFeed(serial));
  ConsoleFeed* const self = feed.get();
  feed->loop_ = TRY(EventLoop::Create("console-in"));
  TRY(feed->loop_->Add(serial.input_room().fd(), EPOLLIN, [self](uint32_t) {
    self->serial_.input_room().Consume();
    self->Feed();
  }));
  TRY(feed->loop_->Start());
  return feed;
}

ConsoleFeed::~ConsoleFeed() {
  if (loop_ != nullptr) {
    loop_->Stop();
  }
}

void ConsoleFeed::Write(std::span<const uint8_t> bytes) {
  loop_->Post([this, typed = std::vector<uint8_t>(bytes.begin(), bytes.end())] {
    const size_t room = kLimitBytes - waiting_.size();
    waiting_.insert(waiting_.end(), typed.begin(),
                    typed.begin() + static_cast<ptrdiff_t>(std::min(room, typed.size())));
    Feed();
  });
}

void ConsoleFeed::Feed() {
  const size_t taken = waiting_.empty() ? 0 : serial_.Receive(waiting_);
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(taken));
}

}  // namespace pacsvisor
