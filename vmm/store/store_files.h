// The files of a store: the seam between what the store does and the host's file system, so that
// tests can lose what was not synced, tear writes, and fail each call in turn. Paths are relative
// to the store's directory and never leave it.
//
// StoreFiles on a directory holds that directory open and reaches everything through it: it works
// after the process has given up its root directory and its user (what it may not do then it says
// when it is tried).
// Threads: any.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"

namespace pacsvisor {

// An open file. Reads may come from several threads; appends from one.
class StoreFile {
 public:
  virtual ~StoreFile() = default;
  virtual Result<uint64_t> SizeBytes() = 0;
  // Exactly `bytes.size()`; kCorrupt when the file ends before.
  virtual Status ReadAt(uint64_t offset_bytes, std::span<uint8_t> bytes) = 0;
  virtual Status Append(std::span<const uint8_t> bytes) = 0;
  virtual Status Sync() = 0;  // fdatasync: contents and size are durable
};

class StoreFiles {
 public:
  // On an existing directory of the host.
  static Result<std::shared_ptr<StoreFiles>> OpenDirectory(const std::string& path);
  virtual ~StoreFiles() = default;

  virtual std::string name() const = 0;  // for messages: the directory's path
  virtual Result<std::vector<std::string>> List(const std::string& directory) = 0;  // names, sorted
  virtual Result<std::unique_ptr<StoreFile>> OpenForRead(const std::string& path) = 0;
  // A new, empty file; kBusy when there is one.
  virtual Result<std::unique_ptr<StoreFile>> CreateFile(const std::string& path) = 0;
  virtual Status Rename(const std::string& from, const std::string& to) = 0;  // replaces
  virtual Status Remove(const std::string& path) = 0;
  // Zeroes in place of the file's bytes, durably. (What the file system keeps of them elsewhere is
  // out of reach.)
  virtual Status Overwrite(const std::string& path) = 0;
  virtual Status CreateDirectory(const std::string& path) = 0;  // one that is there is no error
  virtual Status SyncDirectory(const std::string& path) = 0;

  // An exclusive or shared OFD lock (fcntl(2)) on a file, made when missing, for as long as the
  // handle lives; kBusy with the holder's words when somebody holds one against it. `words` are
  // left in the file for those who come after. Whoever holds it exclusively may remove the file.
  class Lock {
   public:
    virtual ~Lock() = default;
  };
  enum class LockMode { kShared, kExclusive };
  virtual Result<std::unique_ptr<Lock>> AcquireLock(const std::string& path, LockMode mode,
                                                    const std::string& words) = 0;
};

}  // namespace pacsvisor
