// Makes a layered disk durable: in rounds, each of which syncs every file with completed unsynced
// writes, then appends the changes of place that had completed when it began to the map log. Data
// goes before the record that points at it; a record goes before the flush that it answers.
//
// One round at a time, for everybody who waited when it began; who comes later waits for the next.
// A round that fails reports it to its waiters; what it did not record is recorded by the next.
// Threads: one at a time (the disk's worker).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "vmm/disk/block_map.h"
#include "vmm/disk/transfer.h"
#include "vmm/disk/transfer_owner.h"

namespace pacsvisor {

class LayerCommit {
 public:
  using Files = std::array<TransferFile, kMaxLayers + 1>;  // by layer; 0: the base
  struct Done {
    void* waiter;
    int error_number;
  };

  // Both outlive it.
  LayerCommit(TransferRunner& runner, const Files& files)
      : runner_(runner), files_(files), sync_step_(*this), log_step_(*this) {}
  LayerCommit(const LayerCommit&) = delete;

  // Where the next batch goes. Nothing is left to be recorded in the former one; a round that only
  // syncs may run.
  void UseLog(TransferFile file, uint64_t log_id, uint64_t next_sequence, uint64_t end_bytes);

  // A write to `layer` has ended, whatever its result.
  void Wrote(uint8_t layer) { unsynced_[layer] = true; }
  void Changed(const PlaceChange& change);
  // Its files exist no more.
  void Forget(uint8_t layer) { unsynced_[layer] = false; }
  // Reported by TakeDone once everything before this call is durable.
  void Wait(void* waiter) { waiting_.push_back(waiter); }
  // A round although nobody waits.
  void Ask() { asked_ = true; }

  // Starts a round when there is a reason for one and none runs. Transfers start; the caller kicks.
  void Step();
  bool has_done() const { return !done_.empty(); }
  void TakeDone(std::vector<Done>& done);

  // How the rounds since the last call went: none ended, or the last one's errno (0: it succeeded).
  std::optional<int> TakeOutcome() { return std::exchange(outcome_, std::nullopt); }

  bool running() const { return running_; }
  // How many changes there have been, and whether the first `number` of them are in the log,
  // durably.
  uint64_t change_count() const { return changes_; }
  bool Recorded(uint64_t number) const { return recorded_changes_ >= number; }
  // Every change of place is in the log, durably, and nobody waits.
  bool settled() const { return !running_ && pending_.empty() && waiting_.empty(); }

 private:
  // A round without waiters starts by itself when so many changes wait, which take memory; not
  // again and again on a host that fails.
  static constexpr size_t kMostPending = 16384;

  struct SyncStep final : TransferOwner {
    explicit SyncStep(LayerCommit& owner) : commit(owner) {}
    void TransferDone(int error_number) override { commit.SyncDone(error_number); }
    LayerCommit& commit;
  };
  struct LogStep final : TransferOwner {
    explicit LogStep(LayerCommit& owner) : commit(owner) {}
    void TransferDone(int error_number) override { commit.LogDone(error_number); }
    LayerCommit& commit;
  };

  void SyncDone(int error_number);
  void WriteNextBatch();
  void LogDone(int error_number);
  void End(int error_number);

  TransferRunner& runner_;
  const Files& files_;
  SyncStep sync_step_;
  LogStep log_step_;
  TransferFile log_;
  uint64_t log_id_ = 0;
  uint64_t next_sequence_ = 1;
  uint64_t end_bytes_ = 0;
  std::array<bool, kMaxLayers + 1> unsynced_ = {};
  uint64_t changes_ = 0;
  uint64_t recorded_changes_ = 0;
  std::vector<PlaceChange> pending_;
  std::vector<void*> waiting_;
  bool asked_ = false;
  std::vector<Done> done_;
  std::optional<int> outcome_;
  bool failed_ = false;  // the last round
  // The round that runs.
  bool running_ = false;
  int error_number_ = 0;
  size_t syncs_ = 0;  // unfinished
  std::array<bool, kMaxLayers + 1> syncing_ = {};
  std::vector<void*> waiters_;
  std::vector<PlaceChange> round_;
  uint64_t round_changes_ = 0;  // those that had happened when it began
  size_t recorded_ = 0;         // of round_
  size_t batch_size_ = 0;
  std::vector<uint8_t> batch_;
  iovec part_ = {};
};

}  // namespace pacsvisor
