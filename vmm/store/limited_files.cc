#include "vmm/store/limited_files.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "vmm/base/clock.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/base/token_bucket.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kBurstsPerSecond = 10;

// What the files share.
class WriteLimit {
 public:
  WriteLimit(uint64_t bytes_per_second, WritePace pace)
      : pace_(std::move(pace)),
        burst_bytes_(std::max<uint64_t>(bytes_per_second / kBurstsPerSecond, 1)),
        bucket_(bytes_per_second, burst_bytes_, pace_.now_ns()) {}

  // Waits until some of `bytes` may be written, and says how many.
  size_t Admit(size_t bytes) {
    while (true) {
      const uint64_t wait_ns = TryTake(std::min<uint64_t>(bytes, burst_bytes_));
      if (wait_ns == 0) {
        return std::min<size_t>(bytes, burst_bytes_);
      }
      pace_.sleep(wait_ns);
    }
  }

 private:
  uint64_t TryTake(uint64_t bytes) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    const uint64_t wait_ns = bucket_.WaitNs(pace_.now_ns());
    if (wait_ns == 0) {
      bucket_.Take(bytes);
    }
    return wait_ns;
  }

  const WritePace pace_;
  const uint64_t burst_bytes_;
  Mutex mutex_;
  TokenBucket bucket_ GUARDED_BY(mutex_);
};

class LimitedFile : public StoreFile {
 public:
  LimitedFile(std::unique_ptr<StoreFile> file, std::shared_ptr<WriteLimit> limit)
      : file_(std::move(file)), limit_(std::move(limit)) {}

  Result<uint64_t> SizeBytes() override { return file_->SizeBytes(); }
  Status ReadAt(uint64_t offset_bytes, std::span<uint8_t> bytes) override {
    return file_->ReadAt(offset_bytes, bytes);
  }
  Status Append(std::span<const uint8_t> bytes) override {
    while (!bytes.empty()) {
      const size_t part = limit_->Admit(bytes.size());
      TRY(file_->Append(bytes.first(part)));
      bytes = bytes.subspan(part);
    }
    return {};
  }
  Status Sync() override { return file_->Sync(); }

 private:
  const std::unique_ptr<StoreFile> file_;
  const std::shared_ptr<WriteLimit> limit_;
};

class LimitedFiles : public StoreFiles {
 public:
  LimitedFiles(std::shared_ptr<StoreFiles> files, std::shared_ptr<WriteLimit> limit)
      : files_(std::move(files)), limit_(std::move(limit)) {}

  std::string name() const override { return files_->name(); }
  Result<std::vector<std::string>> List(const std::string& directory) override {
    return files_->List(directory);
  }
  Result<std::unique_ptr<StoreFile>> OpenForRead(const std::string& path) override {
    return files_->OpenForRead(path);
  }
  Result<std::unique_ptr<StoreFile>> CreateFile(const std::string& path) override {
    std::unique_ptr<StoreFile> file = TRY(files_->CreateFile(path));
    return std::unique_ptr<StoreFile>(std::make_unique<LimitedFile>(std::move(file), limit_));
  }
  Status Rename(const std::string& from, const std::string& to) override {
    return files_->Rename(from, to);
  }
  Status Remove(const std::string& path) override { return files_->Remove(path); }
  Status Overwrite(const std::string& path) override { return files_->Overwrite(path); }
  Status CreateDirectory(const std::string& path) override { return files_->CreateDirectory(path); }
  Status SyncDirectory(const std::string& path) override { return files_->SyncDirectory(path); }
  Result<std::unique_ptr<Lock>> AcquireLock(const std::string& path, LockMode mode,
                                            const std::string& words) override {
    return files_->AcquireLock(path, mode, words);
  }

 private:
  const std::shared_ptr<StoreFiles> files_;
  const std::shared_ptr<WriteLimit> limit_;
};

}  // namespace

std::shared_ptr<StoreFiles> LimitWrites(std::shared_ptr<StoreFiles> files,
                                        uint64_t bytes_per_second) {
  return LimitWrites(std::move(files), bytes_per_second,
                     {.now_ns = MonotonicNs, .sleep = [](uint64_t ns) {
                        std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
                      }});
}

std::shared_ptr<StoreFiles> LimitWrites(std::shared_ptr<StoreFiles> files,
                                        uint64_t bytes_per_second, WritePace pace) {
  return std::make_shared<LimitedFiles>(
      std::move(files), std::make_shared<WriteLimit>(bytes_per_second, std::move(pace)));
}

}  // namespace pacsvisor
