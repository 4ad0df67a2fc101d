#include "vmm/base/local_line.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kAskAgainNs = 20'000'000;

}  // namespace

void LocalLine::Wake() {
  if (wake_) {
    wake_();
  }
}

void LocalLine::Open() {
  const MutexLock lock(mutex_);
  to_far_.clear();
  to_near_.clear();
  open_ = true;
  Wake();
}

void LocalLine::Close() {
  const MutexLock lock(mutex_);
  open_ = false;
  far_waits_ = false;
  Wake();
}

bool LocalLine::Write(std::string_view bytes) {
  const MutexLock lock(mutex_);
  if (!open_ || bytes.size() > kRoomBytes - to_far_.size()) {
    return false;
  }
  to_far_ += bytes;
  Wake();
  return true;
}

std::string LocalLine::Read(uint64_t deadline_ns, const std::function<bool()>& give_up) {
  const MutexLock lock(mutex_);
  while (open_ && to_near_.empty()) {
    const uint64_t now_ns = MonotonicNs();
    if (now_ns >= deadline_ns || give_up()) {
      return {};
    }
    came_.wait_for(mutex_, std::chrono::nanoseconds(std::min(deadline_ns - now_ns, kAskAgainNs)));
  }
  if (std::exchange(far_waits_, false)) {
    Wake();
  }
  return std::exchange(to_near_, {});
}

bool LocalLine::listened() {
  const MutexLock lock(mutex_);
  return listened_;
}

void LocalLine::OnNews(std::function<void()> wake) {
  const MutexLock lock(mutex_);
  wake_ = std::move(wake);
}

bool LocalLine::open() {
  const MutexLock lock(mutex_);
  return open_;
}

size_t LocalLine::Take(std::span<uint8_t> to) {
  const MutexLock lock(mutex_);
  const size_t size = open_ ? std::min(to.size(), to_far_.size()) : 0;
  std::copy_n(to_far_.begin(), size, to.begin());
  to_far_.erase(0, size);
  return size;
}

size_t LocalLine::Give(std::span<const uint8_t> from) {
  const MutexLock lock(mutex_);
  if (!open_) {
    return from.size();  // nobody hears it
  }
  const size_t size = std::min(from.size(), kRoomBytes - to_near_.size());
  to_near_.append(from.begin(), from.begin() + static_cast<ptrdiff_t>(size));
  far_waits_ = far_waits_ || size == 0;
  came_.notify_all();
  return size;
}

void LocalLine::SetListened(bool listened) {
  const MutexLock lock(mutex_);
  listened_ = listened;
}

}  // namespace pacsvisor
