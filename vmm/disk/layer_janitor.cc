#include "vmm/disk/layer_janitor.h"

#include <utility>

#include "vmm/base/log.h"
#include "vmm/base/thread.h"

namespace pacsvisor {

LayerJanitor::~LayerJanitor() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) {
    thread_.join();
  }
}

Status LayerJanitor::Start() {
  if (!thread_.joinable()) {
    thread_ = TRY(StartThread(ThreadKind::kDiskIo, "disk-layers", [this] { Run(); }));
  }
  return {};
}

void LayerJanitor::Dispose(Rubbish rubbish) {
  {
    const MutexLock lock(mutex_);
    rubbish_.push_back(std::move(rubbish));
  }
  changed_.notify_all();
}

Status LayerJanitor::WaitIdle() {
  const MutexLock lock(mutex_);
  while (busy_ || !rubbish_.empty()) {
    changed_.wait(mutex_);
  }
  return std::exchange(outcome_, {});
}

void LayerJanitor::Run() {
  std::vector<Rubbish> taken;
  while (true) {
    {
      const MutexLock lock(mutex_);
      while (rubbish_.empty() && !stopping_) {
        changed_.wait(mutex_);
      }
      if (rubbish_.empty()) {
        return;
      }
      taken.swap(rubbish_);
      busy_ = true;
    }
    for (Rubbish& rubbish : taken) {
      Status removed = Remove(rubbish);
      if (!removed.ok()) {
        Log(LogLevel::kWarning, "{}; what is left takes room, nothing else",
            removed.error().message());
        const MutexLock lock(mutex_);
        outcome_ = std::move(removed);
      }
    }
    taken.clear();
    {
      const MutexLock lock(mutex_);
      busy_ = false;
    }
    changed_.notify_all();
  }
}

Status LayerJanitor::Remove(Rubbish& rubbish) {
  rubbish.files.clear();
  for (const uint8_t layer : rubbish.layers) {
    TRY(directory_->RemoveLayer(layer));
  }
  if (rubbish.log.valid()) {
    TRY(directory_->RemoveLog());
  }
  return directory_->Sync();
}

}  // namespace pacsvisor
