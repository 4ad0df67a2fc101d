#include "vmm/base/event_loop.h"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <utility>

#include "vmm/base/thread.h"

namespace pacsvisor {

Result<std::unique_ptr<EventLoop>> EventLoop::Create(std::string name, ThreadKind kind) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) {
    return Error::FromErrno(errno, "cannot create an epoll set");
  }
  EventFd wake = TRY(EventFd::Create());
  std::unique_ptr<EventLoop> loop(
      new EventLoop(std::move(name), kind, std::move(epoll), std::move(wake)));
  EventLoop* raw = loop.get();
  TRY(loop->Add(loop->wake_.fd(), EPOLLIN, [raw](uint32_t) { raw->wake_.Consume(); }));
  return loop;
}

EventLoop::EventLoop(std::string name, ThreadKind kind, UniqueFd epoll, EventFd wake)
    : name_(std::move(name)), kind_(kind), epoll_(std::move(epoll)), wake_(std::move(wake)) {}

EventLoop::~EventLoop() { Stop(); }

Status EventLoop::Add(int fd, uint32_t events, Callback callback) {
  epoll_event event{.events = events, .data = {.fd = fd}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return Error::FromErrno(errno, "cannot wait for descriptor {}", fd);
  }
  callbacks_[fd] = std::make_shared<Callback>(std::move(callback));
  return {};
}

Status EventLoop::Modify(int fd, uint32_t events) {
  epoll_event event{.events = events, .data = {.fd = fd}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) {
    return Error::FromErrno(errno, "cannot change what descriptor {} waits for", fd);
  }
  return {};
}

void EventLoop::Remove(int fd) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  callbacks_.erase(fd);
}

void EventLoop::Post(std::function<void()> work) {
  {
    const MutexLock lock(mutex_);
    posted_.push_back(std::move(work));
  }
  wake_.Signal();
}

void EventLoop::SetIdleHooks(std::function<int()> before_wait, std::function<void()> after_wait) {
  before_wait_ = std::move(before_wait);
  after_wait_ = std::move(after_wait);
}

Status EventLoop::Start() {
  CHECK(!thread_.joinable(), "event loop {} started twice", name_);
  thread_ = TRY(StartThread(kind_, name_, [this] { Run(); }));
  return {};
}

void EventLoop::Stop() {
  if (!thread_.joinable()) {
    return;
  }
  CHECK(!OnLoopThread(), "event loop {} would wait for itself", name_);
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.Signal();
  thread_.join();
}

void EventLoop::RunPosted() {
  std::vector<std::function<void()>> work;
  {
    const MutexLock lock(mutex_);
    work.swap(posted_);
  }
  for (const auto& item : work) {
    item();
  }
}

bool EventLoop::Stopping() {
  const MutexLock lock(mutex_);
  return stopping_;
}

void EventLoop::Run() {
  loop_thread_ = std::this_thread::get_id();
  std::array<epoll_event, 64> events;
  // Asked again before each wait: the callback of wake_ may have consumed Stop's signal together
  // with that of a Post.
  while (!Stopping()) {
    const int timeout_ms = before_wait_ ? before_wait_() : -1;
    const int count =
        ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
    CHECK(count >= 0 || errno == EINTR, "epoll_wait: errno {}", errno);
    if (Stopping()) {
      return;
    }
    for (int i = 0; i < count; ++i) {
      // Looked up each time: an earlier callback may have removed this descriptor.
      const auto found = callbacks_.find(events[static_cast<size_t>(i)].data.fd);
      if (found != callbacks_.end()) {
        const std::shared_ptr<Callback> callback = found->second;
        (*callback)(events[static_cast<size_t>(i)].events);
      }
    }
    RunPosted();
    if (after_wait_) {
      after_wait_();
    }
  }
}

}  // namespace pacsvisor
