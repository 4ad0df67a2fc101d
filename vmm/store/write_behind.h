// Appends to the files of one writer, one file after the other, on a thread of its own, so that a
// disk that keeps its writer waiting does not keep what hashes and compresses waiting.
//
// Bounded: kMostQueued buffers wait, one is being written. The thread starts with the first buffer;
// when it cannot be started, whoever appends writes.
// Threads: the owner, one at a time.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <optional>
#include <thread>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/store/store_files.h"

namespace pacsvisor {

class WriteBehind {
 public:
  static constexpr size_t kMostQueued = 4;

  WriteBehind() = default;
  ~WriteBehind();  // drops what waits

  // Takes the bytes and leaves an empty buffer. An error is of an earlier one, too: nothing is
  // written after it until Discard. `file` is borrowed until Drain or Discard.
  Status Append(StoreFile& file, std::vector<uint8_t>& bytes) EXCLUDES(mutex_);
  // All that was given is with its file.
  Status Drain() EXCLUDES(mutex_);
  // What has not begun is not written; nothing is after it.
  void Discard() EXCLUDES(mutex_);

 private:
  struct Piece {
    StoreFile* file = nullptr;
    std::vector<uint8_t> bytes;
  };

  bool Start();
  void Work() EXCLUDES(mutex_);

  std::optional<std::thread> thread_;  // the owner's
  bool refused_ = false;               // the owner's: there is no thread to be had

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Piece> waiting_ GUARDED_BY(mutex_);
  std::vector<std::vector<uint8_t>> free_ GUARDED_BY(mutex_);  // with their room
  bool writing_ GUARDED_BY(mutex_) = false;
  std::optional<Error> failed_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace pacsvisor
