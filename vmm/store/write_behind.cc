#include "vmm/store/write_behind.h"

#include <utility>

#include "vmm/base/log.h"
#include "vmm/base/thread.h"

namespace pacsvisor {

WriteBehind::~WriteBehind() {
  {
    const MutexLock lock(mutex_);
    waiting_.clear();
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.has_value()) {
    thread_->join();
  }
}

bool WriteBehind::Start() {
  if (thread_.has_value() || refused_) {
    return !refused_;
  }
  Result<std::thread> thread = StartThread(ThreadKind::kStore, "store-write", [this] { Work(); });
  refused_ = !thread.ok();
  if (refused_) {
    Log(LogLevel::kDebug, "{}: the store does without", thread.error().message());
    return false;
  }
  thread_ = *std::move(thread);
  return true;
}

Status WriteBehind::Append(StoreFile& file, std::vector<uint8_t>& bytes) {
  if (!Start()) {
    TRY(file.Append(bytes));
    bytes.clear();
    return {};
  }
  {
    const MutexLock lock(mutex_);
    while (waiting_.size() >= kMostQueued && !failed_.has_value()) {
      changed_.wait(mutex_);
    }
    if (failed_.has_value()) {
      return *failed_;
    }
    waiting_.push_back({.file = &file, .bytes = std::move(bytes)});
    bytes.clear();
    if (!free_.empty()) {
      bytes = std::move(free_.back());
      free_.pop_back();
    }
  }
  changed_.notify_all();
  return {};
}

Status WriteBehind::Drain() {
  const MutexLock lock(mutex_);
  while (!failed_.has_value() && (writing_ || !waiting_.empty())) {
    changed_.wait(mutex_);
  }
  return failed_.has_value() ? Status(*failed_) : Status();
}

void WriteBehind::Discard() {
  const MutexLock lock(mutex_);
  waiting_.clear();
  while (writing_) {
    changed_.wait(mutex_);
  }
  failed_.reset();
}

void WriteBehind::Work() {
  Piece piece;
  while (true) {
    {
      const MutexLock lock(mutex_);
      while (!stopping_ && (waiting_.empty() || failed_.has_value())) {
        changed_.wait(mutex_);
      }
      if (stopping_) {
        return;
      }
      piece = std::move(waiting_.front());
      waiting_.pop_front();
      writing_ = true;
    }
    const Status written = piece.file->Append(piece.bytes);
    piece.bytes.clear();
    {
      const MutexLock lock(mutex_);
      writing_ = false;
      free_.push_back(std::move(piece.bytes));
      if (!written.ok()) {
        failed_ = written.error();
      }
    }
    changed_.notify_all();
  }
}

}  // namespace pacsvisor
