// A disk that can be as it was at one instant while the guest goes on writing: a base image under a
// stack of epoch layers (README.md tells the story).
//
// Without layers it is RawDisk: the image is the whole truth, and requests go to it directly. Flip
// freezes all there is under the prepared layer, which takes the changes from then on. After
// Release changes go to the base again, and the worker moves behind what the layers hold to the
// base as well, in small pieces that queue up among the guest's requests. When nothing is left the
// layers' files go, and the image is the whole truth again.
//
// A disk that was begun from a source (LayerDirectory::BeginFromSource) has its blocks there until
// they are fetched, by the guest's requests or by merging, which goes on with them when the layers
// are home. A fetch that fails is an I/O error of the request that needed it.
//
// Threads: BlockBackend and SealedView say. Prepare, Release and MergeAll hand over to the worker
// through wait_fd. mutex_ is never held across a system call but those that allocate memory.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/event_fd.h"
#include "vmm/base/log.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/disk/block_backend.h"
#include "vmm/disk/block_fetcher.h"
#include "vmm/disk/block_map.h"
#include "vmm/disk/block_source.h"
#include "vmm/disk/completion_gate.h"
#include "vmm/disk/disk_image.h"
#include "vmm/disk/image_end.h"
#include "vmm/disk/in_flight_table.h"
#include "vmm/disk/io_engine.h"
#include "vmm/disk/layer_commit.h"
#include "vmm/disk/layer_directory.h"
#include "vmm/disk/layer_janitor.h"
#include "vmm/disk/layer_plan.h"
#include "vmm/disk/sealed_view.h"
#include "vmm/disk/transfer.h"
#include "vmm/disk/transfer_owner.h"

namespace pacsvisor {

class LayeredDisk : public BlockBackend, public SealedView {
 public:
  // One disk at a time uses an image, an engine and a directory; all may outlive it and serve the
  // next. `directory` null: there is no place for layers (a block device, a read-only image), and
  // Prepare says so. Left-over layers (of a machine that was killed) are taken over, and merged.
  // `source`: made from what LayerDirectory::SourceOf says, null where that is empty. kNotFound:
  // blocks are still to be fetched, and none is given; kInvalidArgument: it is another one.
  static Result<std::unique_ptr<LayeredDisk>> Create(std::shared_ptr<const DiskImage> image,
                                                     std::shared_ptr<IoEngine> engine,
                                                     std::shared_ptr<LayerDirectory> directory,
                                                     std::shared_ptr<BlockSource> source = nullptr);
  // Waits for what is in flight. Layers that are not merged stay, for the next to take over.
  ~LayeredDisk() override;

  // BlockBackend.
  std::string_view name() const override { return name_; }
  uint64_t size_bytes() const override { return image_->size_bytes(); }
  bool read_only() const override { return image_->read_only(); }
  BlockLimits limits() const override;
  int wait_fd() const override { return wait_.get(); }
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
  uint32_t dirty_block_bytes() const override { return kBlockBytes; }

  // SealedView. A read-only disk needs no layers: it never changes, and none of this does anything.
  uint64_t block_count() const override { return map_blocks_; }
  // kBusy: the last view is not released, or kMaxLayers layers are not merged yet. Needs a worker
  // that runs.
  Status Prepare() override;
  void Flip(std::span<uint64_t> words) override;
  Status Read(BlockIndex first, std::span<uint8_t> bytes, uint32_t timeout_ms) override;
  void Release() override;
  void Return(std::span<const uint64_t> words) override { dirty_.Return(words); }

  enum class SourceBlocks {
    kFetch,  // all: the image is the disk afterwards
    kLeave,  // they stay where they are, for the next who runs the image
  };
  // A clean end, with no worker running any more: all layers into the base and their files away.
  // Returns when that is done (a view is released first), or with what the host refused. The log
  // stays while a source that is not needed any more may not be forgotten.
  Status MergeAll(SourceBlocks source_blocks = SourceBlocks::kFetch);

  // Layers with blocks that are not merged, the active one among them. Any thread; a moving value.
  unsigned layer_count() const;
  // Blocks that are not fetched yet. Any thread; a moving value.
  uint64_t blocks_in_source() const;
  // Whether whoever comes after a power cut would still need the source. False is for good. Any
  // thread.
  bool needs_source() const;
  // Fetching in the background stops where a fetch fails: it goes on. Any thread.
  void FetchAgain();

 private:
  // A request on its way, or a piece of merging.
  struct Operation final : TransferOwner {
    void TransferDone(int error) override { disk->TransferDone(*this, error); }

    LayeredDisk* disk = nullptr;
    BlockRequest* request = nullptr;
    bool direct = false;  // verbatim to the image: there was no layer when it started
    bool merge = false;
    MergeOf merge_of = MergeOf::kLayers;
    uint8_t target = 0;  // where its changes go: what was active when it started
    uint64_t epoch = 0;  // when it started
    LayerPlan plan;
    bool writing = false;  // the plan's reads are done
    size_t transfers = 0;  // unfinished
    int error_number = 0;
  };
  struct MergeSlot {
    BlockRequest request;
    MergeOf what = MergeOf::kLayers;
    bool in_use = false;
  };
  struct Layer {
    LayerFile file;
    bool in_use = false;
  };
  // New files on their way from Prepare to the worker, in Prepare's frame.
  struct NewFiles {
    uint8_t layer = 0;
    LayerFile file;
    UniqueFd log;  // valid: a new one
    LayerLogHeader log_header;
    bool taken = false;
    bool done = false;
    Status status;
  };

  static constexpr uint64_t kMergeBlocks = 64;
  static constexpr uint64_t kMergeZeroBlocks = 4096;  // nothing is moved for these: 16 MiB
  static constexpr unsigned kMergesIdle = 4;          // in flight while the guest is quiet: 1 MiB
  static constexpr unsigned kMergesBusy = 1;
  static constexpr uint64_t kBlocksAtOnce = 4096;  // under one hold of the lock
  static constexpr uint32_t kPrepareTimeoutMs = 30'000;

  LayeredDisk(std::shared_ptr<const DiskImage> image, std::shared_ptr<IoEngine> engine,
              std::shared_ptr<LayerDirectory> directory, EventFd event,
              std::shared_ptr<BlockSource> source);
  Status Start();
  Status TakeOverLeftover();
  Status CheckSource(const std::string& recorded) REQUIRES(mutex_);
  Result<TransferFile> AddToEngine(int buffered, int direct);
  void RemoveFromEngine(TransferFile& file);
  LayerLogHeader ExpectedHeader() const;
  void Wake();

  // layered_disk.cc: the worker's round.
  void StartReady();
  Operation& Plan(BlockRequest& request) REQUIRES(mutex_);
  void Launch(Operation& operation);
  void StartMoves(Operation& operation, std::vector<LayerMove>& moves);
  bool BehindEnd(const Operation& operation) const;
  void TransferDone(Operation& operation, int error_number);
  void PollFetches();
  size_t Land();
  bool LandOne(Operation& operation) REQUIRES(mutex_);
  void ApplyChanges(const Operation& operation);
  void ApplyChange(uint64_t block, BlockPlace place) REQUIRES(mutex_);
  void Finish(Operation& operation) REQUIRES(mutex_);
  bool StartDraining();
  void MarkDirty(const BlockRequest& request);
  void Report(const Operation& operation);

  // layered_disk_view.cc
  Result<uint8_t> ReserveLayer();
  Status MakeLayer(uint8_t layer, NewFiles& files);
  Status HandOver(NewFiles& files);
  void TakeNewFiles();
  void EndView() REQUIRES(mutex_);
  Status ReadRun(BlockPlace place, int fd, uint64_t offset_bytes, std::span<uint8_t> bytes) const;

  // layered_disk_merge.cc
  bool IsMerge(const BlockRequest& request) const { return request.owner == this; }
  void MergeMore();
  bool AdmitMerge() REQUIRES(mutex_);
  std::optional<uint64_t> NextToMerge() REQUIRES(mutex_);
  MergeSlot& FreeMergeSlot() REQUIRES(mutex_);
  MergeOf WhatIsMerged(const BlockRequest& request) const REQUIRES(mutex_);
  // Whether the disk may do without something now, or a round must first come to its end.
  bool MayRetireLog() REQUIRES(mutex_);
  bool HasUsedLayers() REQUIRES(mutex_);
  // Everything is home, durably; the log stays, since it names a source that may not be forgotten.
  bool WaitsToForget() REQUIRES(mutex_);
  bool MayRetireLayers() REQUIRES(mutex_);
  void AskForRound() REQUIRES(mutex_);
  bool AtEnd(SourceBlocks source_blocks);
  // Goes back to the image alone when everything is there, durably; then the files go.
  void Settle();
  std::optional<LayerJanitor::Rubbish> TakeRubbish() REQUIRES(mutex_);
  void Dispose(LayerJanitor::Rubbish rubbish);

  // Constant after construction.
  const std::shared_ptr<const DiskImage> image_;
  const std::shared_ptr<LayerDirectory> directory_;
  const std::shared_ptr<BlockSource> source_;  // null: none
  const std::string name_;
  const uint64_t map_blocks_;
  const EventFd event_;
  UniqueFd wait_;  // epoll: the engine's descriptor and event_
  // Any thread.
  DirtyBitmap dirty_;
  RateLimitedLog log_;
  std::atomic<bool> woken_ = false;
  LayerJanitor janitor_;
  // Owned by the worker (Drain, MergeAll: by the last user).
  TransferRunner runner_;
  ImageEnd end_;
  LayerCommit::Files files_;  // 0: the base
  LayerCommit commit_;
  TransferFile log_file_;
  UniqueFd log_fd_;
  bool log_open_ = false;
  std::deque<Operation>
      operations_;  // stable addresses; grows to the most that were ever in flight
  std::vector<Operation*> free_;
  std::vector<Operation*> starting_;
  std::vector<Operation*> landed_;  // all transfers done
  std::vector<Operation*> landing_;
  std::vector<LayerCommit::Done> committed_;
  std::vector<TransferRunner::Finished> finished_;
  std::vector<BlockFetcher::Finished> fetched_;
  std::optional<uint64_t> layers_home_;  // the change with which no block was in a layer any more
  // Guarded.
  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  InFlightTable table_ GUARDED_BY(mutex_);
  CompletionGate gate_ GUARDED_BY(mutex_);
  std::vector<BlockRequest*> ready_ GUARDED_BY(mutex_);  // may start, not yet handed over
  BlockMap map_ GUARDED_BY(mutex_);
  BlockMap shadow_ GUARDED_BY(mutex_);  // where the blocks of the active layer were at the flip
  std::array<Layer, kMaxLayers + 1> layers_ GUARDED_BY(mutex_);
  bool layered_ GUARDED_BY(mutex_) = false;  // the image alone is not the disk
  uint8_t active_ GUARDED_BY(mutex_) = 0;    // takes the changes; 0: the base does
  uint8_t prepared_ GUARDED_BY(mutex_) = 0;  // the next active one; 0: none
  bool preparing_ GUARDED_BY(mutex_) = false;
  bool retiring_ GUARDED_BY(mutex_) = false;  // files are on their way to the janitor
  bool has_log_ GUARDED_BY(mutex_) = false;   // log_open_, for other threads
  NewFiles* new_files_ GUARDED_BY(mutex_) = nullptr;
  bool view_open_ GUARDED_BY(mutex_) = false;  // between Flip and Release
  uint64_t epoch_ GUARDED_BY(mutex_) = 1;
  size_t changes_ GUARDED_BY(mutex_) = 0;       // started, unfinished, merging included
  size_t seal_pending_ GUARDED_BY(mutex_) = 0;  // those of them from before the last flip
  size_t to_layers_ GUARDED_BY(mutex_) = 0;     // those of them whose target is a layer
  std::array<MergeSlot, kMergesIdle> merge_slots_ GUARDED_BY(mutex_);
  unsigned merges_ GUARDED_BY(mutex_) = 0;  // in the table
  uint64_t merge_cursor_ GUARDED_BY(mutex_) = 0;
  int merge_error_ GUARDED_BY(mutex_) = 0;  // stopped by it
  uint64_t source_cursor_ GUARDED_BY(mutex_) = 0;
  BlockFetcher::Zeroes known_zeroes_ GUARDED_BY(mutex_);
  int fetch_error_ GUARDED_BY(mutex_) = 0;  // no more is fetched that nobody asks for: it failed
  bool leave_source_ GUARDED_BY(mutex_) = false;  // nothing is fetched that nobody asks for
  bool needs_source_ GUARDED_BY(mutex_) = false;
  bool draining_ GUARDED_BY(mutex_) = false;
  // Last: its threads end before what they wake. Owned by the worker; null: nothing to fetch.
  std::unique_ptr<BlockFetcher> fetcher_;
};

}  // namespace pacsvisor
