// Takes away the files of layers that are merged: removing a large file takes the host a while,
// which is neither a guest request's time nor the worker's. Threads: any.
#pragma once

#include <condition_variable>
#include <memory>
#include <thread>
#include <vector>

#include "vmm/base/thread_annotations.h"
#include "vmm/disk/layer_directory.h"

namespace pacsvisor {

class LayerJanitor {
 public:
  // What nobody uses any more. With the log, its last word on every block is "in the base image":
  // in whatever order the names go, whoever opens what is left finds the same disk.
  struct Rubbish {
    std::vector<uint8_t> layers;
    std::vector<LayerFile> files;
    UniqueFd log;  // valid: the log goes too
  };

  explicit LayerJanitor(std::shared_ptr<LayerDirectory> directory)
      : directory_(std::move(directory)) {}
  ~LayerJanitor();  // finishes what it was given

  // Its thread; again is nothing.
  Status Start();
  // Does not wait. Start has succeeded.
  void Dispose(Rubbish rubbish);
  // Waits until all is gone; how that went since the last call.
  Status WaitIdle();

 private:
  void Run();
  Status Remove(Rubbish& rubbish);

  // Constant after construction.
  const std::shared_ptr<LayerDirectory> directory_;
  // Owned by the threads that call Start and the destructor, one at a time.
  std::thread thread_;
  // Guarded.
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<Rubbish> rubbish_ GUARDED_BY(mutex_);
  bool busy_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  Status outcome_ GUARDED_BY(mutex_);
};

}  // namespace pacsvisor
