#include "vmm/disk/thread_pool_engine.h"

#include <algorithm>

#include "vmm/base/thread.h"
#include "vmm/disk/host_io.h"

namespace pacsvisor {

Result<std::unique_ptr<IoEngine>> ThreadPoolEngine::Create(unsigned thread_count) {
  std::unique_ptr<ThreadPoolEngine> engine(new ThreadPoolEngine(TRY(EventFd::Create())));
  engine->files_.fill(-1);
  engine->thread_count_ = thread_count;
  return std::unique_ptr<IoEngine>(std::move(engine));
}

Status ThreadPoolEngine::StartThreads() {
  while (threads_.size() < thread_count_) {
    threads_.push_back(TRY(StartThread(ThreadKind::kDiskIo, "disk-io", [this] { RunThread(); })));
  }
  return {};
}

ThreadPoolEngine::~ThreadPoolEngine() {
  Submit();
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

Result<unsigned> ThreadPoolEngine::AddFile(int fd) {
  TRY(StartThreads());
  const auto free = std::find(files_.begin(), files_.end(), -1);
  if (free == files_.end()) {
    return Error::Make(ErrorCode::kNoSpace, "an I/O engine serves at most {} files", kMaxFiles);
  }
  *free = fd;
  return static_cast<unsigned>(free - files_.begin());
}

void ThreadPoolEngine::RemoveFile(unsigned file) {
  CHECK(file < kMaxFiles && files_[file] >= 0, "file {}", file);
  files_[file] = -1;
}

bool ThreadPoolEngine::Queue(IoOperation& operation) {
  prepared_.push_back({&operation, files_[operation.file]});
  ++in_flight_;
  return true;
}

void ThreadPoolEngine::Submit() {
  if (prepared_.empty()) {
    return;
  }
  const bool one = prepared_.size() == 1;
  {
    const MutexLock lock(mutex_);
    work_.insert(work_.end(), prepared_.begin(), prepared_.end());
  }
  prepared_.clear();
  one ? wake_.notify_one() : wake_.notify_all();
}

void ThreadPoolEngine::Reap(std::vector<IoOperation*>& done) {
  // Consumed first: what ends after it signals again.
  done_event_.Consume();
  const MutexLock lock(mutex_);
  done.insert(done.end(), done_.begin(), done_.end());
  in_flight_ -= static_cast<unsigned>(done_.size());
  done_.clear();
}

std::optional<ThreadPoolEngine::Work> ThreadPoolEngine::NextWork() {
  const MutexLock lock(mutex_);
  while (!stopping_ && work_.empty()) {
    wake_.wait(mutex_);
  }
  if (work_.empty()) {
    return std::nullopt;
  }
  const Work work = work_.front();
  work_.pop_front();
  return work;
}

void ThreadPoolEngine::RunThread() {
  while (const std::optional<Work> work = NextWork()) {
    work->operation->result = RunBlocking(work->fd, *work->operation);
    {
      const MutexLock lock(mutex_);
      done_.push_back(work->operation);
    }
    done_event_.Signal();
  }
}

}  // namespace pacsvisor
