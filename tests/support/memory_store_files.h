// StoreFiles in memory, on a disk that loses what was not synced: bytes of a file without Sync,
// names without SyncDirectory. A test ends it after a number of calls, makes calls fail, flips
// bits, and looks at what a power cut leaves. Threads: any.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "vmm/store/store_files.h"

namespace pacsvisor {

class MemoryStoreFiles : public StoreFiles {
 public:
  // What is left when everything ends.
  enum class Cut {
    kKilled,    // the process only: all that it did is there
    kUnsynced,  // the host, and nothing that was not synced was written
    kTorn,      // the host, and of what was not synced any part was written, in any order
  };

  static std::shared_ptr<MemoryStoreFiles> Create();

  // After this many more changing calls (the last of them is done) every call fails.
  void EndAfter(uint64_t changes);
  bool ended() const;
  // The call after this many more, of any kind, fails; an Append does half of its work before.
  void FailAfter(uint64_t calls, int error_number);
  bool failed() const;  // whether that has happened
  uint64_t calls() const;
  uint64_t appended_bytes() const;

  // A disk of its own with what a cut now leaves.
  std::shared_ptr<MemoryStoreFiles> After(Cut cut, uint64_t seed = 0) const;
  std::vector<std::string> Paths() const;  // of all files but those that are locked
  // Of a file that is there.
  std::vector<uint8_t> Bytes(const std::string& path) const;
  void SetBytes(const std::string& path, std::vector<uint8_t> bytes);
  void FlipBit(const std::string& path, uint64_t byte, unsigned bit);

  // StoreFiles.
  std::string name() const override { return "memory"; }
  Result<std::vector<std::string>> List(const std::string& directory) override;
  Result<std::unique_ptr<StoreFile>> OpenForRead(const std::string& path) override;
  Result<std::unique_ptr<StoreFile>> CreateFile(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Remove(const std::string& path) override;
  Status Overwrite(const std::string& path) override;
  Status CreateDirectory(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;
  Result<std::unique_ptr<Lock>> AcquireLock(const std::string& path, LockMode mode,
                                            const std::string& words) override;

 private:
  struct Contents {
    std::vector<uint8_t> bytes;
    size_t synced_bytes = 0;
  };
  using Inode = std::shared_ptr<Contents>;
  struct LockState {
    int holders = 0;
    bool exclusive = false;
    std::string words;
  };
  struct State;
  class File;
  class HeldLock;

  explicit MemoryStoreFiles(std::shared_ptr<State> state) : state_(std::move(state)) {}

  const std::shared_ptr<State> state_;
};

}  // namespace pacsvisor
