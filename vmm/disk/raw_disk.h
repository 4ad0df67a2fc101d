// A disk that is one raw image: the BlockBackend without layers.
//
// An image that somebody cuts short while the machine runs: what touches bytes behind its end fails
// with EIO, writes too, since one of them would make it long again with zeroes where data was. Once
// it has its size again, all of it is served. The size is looked at before each batch of requests;
// a batch that is on its way just then can miss it by that much.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "vmm/base/log.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/disk/block_backend.h"
#include "vmm/disk/completion_gate.h"
#include "vmm/disk/disk_image.h"
#include "vmm/disk/image_end.h"
#include "vmm/disk/in_flight_table.h"
#include "vmm/disk/io_engine.h"
#include "vmm/disk/transfer.h"

namespace pacsvisor {

class RawDisk : public BlockBackend {
 public:
  // The unit of dirty tracking. 4 KiB is what guests' file systems write, so that a change costs no
  // more than itself in the next snapshot (a database's 8 KiB page in blocks of 64 KiB costs eight
  // times that); the bitmap is 32 KiB for each GiB of disk.
  static constexpr uint32_t kDirtyBlockBytes = 4096;

  // One disk at a time uses an image and an engine; both may outlive it and serve the next.
  static Result<std::unique_ptr<RawDisk>> Create(std::shared_ptr<const DiskImage> image,
                                                 std::shared_ptr<IoEngine> engine);
  static Result<std::unique_ptr<RawDisk>> Create(DiskImage image, std::shared_ptr<IoEngine> engine);
  ~RawDisk() override;  // waits for what is in flight

  std::string_view name() const override { return name_; }
  uint64_t size_bytes() const override { return image_->size_bytes(); }
  bool read_only() const override { return image_->read_only(); }
  BlockLimits limits() const override;
  int wait_fd() const override { return runner_.engine().wait_fd(); }

  void Submit(BlockRequest& request) override;
  void Kick() override;
  size_t Poll() override;
  void TakeCompletions(std::vector<BlockRequest*>& done) override;
  void CloseGate() override;
  void OpenGate() override;
  uint64_t RaiseGeneration() override;
  size_t unfinished() const override;
  void Drain() override;
  DirtyBitmap& dirty() override { return dirty_; }
  uint32_t dirty_block_bytes() const override { return kDirtyBlockBytes; }

 private:
  RawDisk(std::shared_ptr<const DiskImage> image, std::shared_ptr<IoEngine> engine);
  Status AddFiles();
  void MarkDirty(const BlockRequest& request);
  void Report(const BlockRequest& request);
  // What of starting_ lies behind the end of an image cut short goes to refused_.
  void RefuseBehindEnd();

  // Constant after construction.
  const std::shared_ptr<const DiskImage> image_;
  const std::string name_;
  TransferFile file_;
  std::vector<unsigned> engine_files_;
  // Any thread.
  DirtyBitmap dirty_;
  RateLimitedLog log_;
  // Owned by the worker (Drain: by the last user).
  TransferRunner runner_;
  std::vector<BlockRequest*> starting_;
  std::vector<TransferRunner::Finished> finished_;
  std::vector<TransferRunner::Finished> refused_;  // for the next Poll
  ImageEnd end_;
  // Guarded.
  mutable Mutex mutex_;
  InFlightTable table_ GUARDED_BY(mutex_);
  CompletionGate gate_ GUARDED_BY(mutex_);
  std::vector<BlockRequest*> ready_ GUARDED_BY(mutex_);  // may start, not yet handed over
};

}  // namespace pacsvisor
