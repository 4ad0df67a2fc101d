// A LayeredDisk on an image of its own, driven by one thread that is the device, its worker and the
// snapshot's; what else the tests of layers share.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/temporary_directory.h"
#include "vmm/disk/layered_disk.h"

namespace pacsvisor {

// A request with what it reads or writes.
struct LayeredRequest {
  LayeredRequest(BlockOperation operation, uint64_t offset_bytes, uint64_t size_bytes,
                 uint8_t fill = 0)
      : bytes(operation == BlockOperation::kRead || operation == BlockOperation::kWrite ? size_bytes
                                                                                        : 0,
              fill),
        part{bytes.data(), bytes.size()} {
    request = {.operation = operation,
               .offset_bytes = offset_bytes,
               .size_bytes = size_bytes,
               .iovecs = {&part, 1},
               .owner = this};
  }
  LayeredRequest(const LayeredRequest&) = delete;

  BlockRequest request;
  std::vector<uint8_t> bytes;
  std::vector<uint8_t> expected;
  iovec part;
  bool done = false;
};

class LayeredDiskFixture {
 public:
  explicit LayeredDiskFixture(uint64_t size_bytes)
      : size_bytes_(size_bytes), path_(directory_.MakeFile("disk.raw", size_bytes)) {}

  Status Open(std::shared_ptr<IoEngine> engine, DiskCache cache = DiskCache::kWriteback) {
    DiskImage image =
        TRY(DiskImage::Open({.path = path_, .cache = cache, .with_layers = true, .owner = {}}));
    std::shared_ptr<LayerDirectory> layers = TRY(LayerDirectory::Open(path_));
    disk_ = TRY(LayeredDisk::Create(std::make_shared<const DiskImage>(std::move(image)),
                                    std::move(engine), std::move(layers), source_));
    return {};
  }
  // While it is closed: the disk's blocks are to be fetched from `source`, whatever the image
  // holds, which is nothing good.
  Status BeginFromSource(std::shared_ptr<BlockSource> source) {
    source_ = std::move(source);
    const UniqueFd fd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    const std::vector<uint8_t> garbage(size_bytes_, 0xa5);
    CHECK(::pwrite(fd.get(), garbage.data(), garbage.size(), 0) ==
          static_cast<ssize_t>(garbage.size()));
    const std::shared_ptr<LayerDirectory> layers = TRY(LayerDirectory::Open(path_));
    return layers->BeginFromSource(fd.get(), std::string(source_->name()));
  }
  void SetSource(std::shared_ptr<BlockSource> source) { source_ = std::move(source); }
  // Waits for the host; requests that are not finished must still be there.
  void Close() { disk_.reset(); }
  LayeredDisk& disk() { return *disk_; }
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path layers() const { return path_.string() + ".layers"; }
  std::vector<std::string> LayerFiles() const {
    std::vector<std::string> names;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(layers(), error)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  // The worker's round; what finished is marked done.
  void Work() {
    disk_->Kick();
    disk_->Poll();
    Take();
  }
  void Take() {
    done_.clear();
    disk_->TakeCompletions(done_);
    for (const BlockRequest* request : done_) {
      static_cast<LayeredRequest*>(request->owner)->done = true;
    }
  }
  // Works until `condition` holds, waiting for the host in between.
  void WorkUntil(const std::function<bool()>& condition) {
    Work();
    while (!condition()) {
      pollfd wait{.fd = disk_->wait_fd(), .events = POLLIN, .revents = 0};
      CHECK(::poll(&wait, 1, 30'000) != 0, "the disk went silent");
      Work();
    }
  }
  // One request from beginning to end.
  int Run(LayeredRequest& request) {
    disk_->Submit(request.request);
    WorkUntil([&] { return request.done; });
    return request.request.error_number;
  }
  int Write(uint64_t offset_bytes, uint64_t size_bytes, uint8_t fill) {
    LayeredRequest request(BlockOperation::kWrite, offset_bytes, size_bytes, fill);
    return Run(request);
  }
  int Flush() {
    LayeredRequest request(BlockOperation::kFlush, 0, 0);
    return Run(request);
  }
  std::vector<uint8_t> Read(uint64_t offset_bytes, uint64_t size_bytes) {
    LayeredRequest request(BlockOperation::kRead, offset_bytes, size_bytes, 0xee);
    EXPECT_EQ(Run(request), 0);
    return request.bytes;
  }

  // Calls `function` on a thread of its own while this one is the worker.
  Status BesideWorker(const std::function<Status()>& function) {
    Status status;
    std::atomic<bool> returned = false;
    std::thread other([&] {
      status = function();
      returned = true;
    });
    while (!returned) {
      pollfd wait{.fd = disk_->wait_fd(), .events = POLLIN, .revents = 0};
      (void)::poll(&wait, 1, 1);
      Work();
    }
    other.join();
    return status;
  }
  Status Prepare() {
    return BesideWorker([this] { return disk_->Prepare(); });
  }
  // The pause: the dirty set of the epoch that ends.
  std::vector<uint64_t> Flip() {
    std::vector<uint64_t> words(disk_->dirty().word_count());
    disk_->CloseGate();
    disk_->Flip(words);
    disk_->OpenGate();
    return words;
  }
  std::vector<uint64_t> Snapshot() {
    const Status prepared = Prepare();
    CHECK(prepared.ok(), "{}", prepared.error().message());
    return Flip();
  }
  // The whole view; without what fills up its last block.
  Result<std::vector<uint8_t>> ReadView(uint32_t timeout_ms = 0) {
    std::vector<uint8_t> bytes(disk_->block_count() * SealedView::kBlockBytes, 0xee);
    // In several pieces, as a snapshot does.
    const size_t piece = 16 * SealedView::kBlockBytes;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      TRY(disk_->Read(BlockIndex(at / SealedView::kBlockBytes),
                      std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)),
                      timeout_ms));
    }
    for (size_t at = size_bytes_; at < bytes.size(); ++at) {
      EXPECT_EQ(bytes[at], 0) << "behind the disk's end";
    }
    bytes.resize(size_bytes_);
    return bytes;
  }
  void WaitFetched() {
    WorkUntil([this] { return !disk_->needs_source(); });
  }
  // Until merging has come to its end and the files are away.
  void WaitMerged() {
    WorkUntil([this] { return disk_->layer_count() == 0; });
  }

  std::vector<uint8_t> ImageBytes() const {
    std::vector<uint8_t> bytes(size_bytes_);
    const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    CHECK(::pread(fd.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    return bytes;
  }

 private:
  TemporaryDirectory directory_;
  const uint64_t size_bytes_;
  std::filesystem::path path_;
  std::shared_ptr<BlockSource> source_;
  std::unique_ptr<LayeredDisk> disk_;
  std::vector<BlockRequest*> done_;
};

}  // namespace pacsvisor
