// An IoEngine on real files of a host with a volatile cache: what PowerCutEngine is to one disk in
// memory, for several files that come and go. A cut keeps what was synced (or written durably) and
// any part of the rest, sector by sector; of what the host was just doing, any part too. Files that
// were removed may be there again. Threads: one.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/event_fd.h"
#include "vmm/disk/block_request.h"
#include "vmm/disk/host_io.h"
#include "vmm/disk/io_engine.h"

namespace pacsvisor {

class PowerCutFiles : public IoEngine {
 public:
  using Contents = std::map<std::string, std::vector<uint8_t>>;  // by path

  explicit PowerCutFiles(uint64_t seed) : random_(seed), event_(EventFd::Create().value()) {}

  // The test's side: the files that this engine has seen, as a cut that happens now leaves them.
  Contents Cut() {
    Contents left;
    for (const auto& [path, file] : files_) {
      const bool removed = ::access(path.c_str(), F_OK) != 0;
      if (!removed || random_() % 2 == 0) {
        left[path] = CutOne(file);
      }
    }
    return left;
  }

  // IoEngine.
  std::string_view name() const override { return "power cut of files"; }
  // What is in a file when it comes here was synced by who made it.
  Result<unsigned> AddFile(int fd) override {
    std::array<char, 4096> path;
    const ssize_t size =
        ::readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), path.data(), path.size());
    CHECK(size > 0, "readlink of descriptor {}", fd);
    const std::string name(path.data(), static_cast<size_t>(size));
    files_[name] = {.durable = Current(fd), .unsynced = {}};
    open_[next_file_] = {fd, name};
    return next_file_++;
  }
  void RemoveFile(unsigned file) override { open_.erase(file); }
  int wait_fd() const override { return event_.fd(); }
  bool Queue(IoOperation& operation) override {
    waiting_.push_back(&operation);
    return true;
  }
  void Submit() override {
    if (!waiting_.empty()) {
      event_.Signal();
    }
  }
  // Carries out some of what waits, at least one, in an order of its own choosing.
  void Reap(std::vector<IoOperation*>& done) override {
    std::shuffle(waiting_.begin(), waiting_.end(), random_);
    const size_t count =
        waiting_.empty() ? 0 : 1 + static_cast<size_t>(random_()) % waiting_.size();
    for (size_t i = 0; i < count; ++i) {
      Run(*waiting_[i]);
      done.push_back(waiting_[i]);
    }
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(count));
    if (waiting_.empty()) {
      event_.Consume();
    }
  }
  unsigned in_flight() const override { return static_cast<unsigned>(waiting_.size()); }

 private:
  using Sector = std::vector<uint8_t>;
  struct File {
    std::vector<uint8_t> durable;
    std::map<uint64_t, std::vector<Sector>> unsynced;  // by sector, oldest first
  };
  struct OpenFile {
    int fd = -1;
    std::string name;
  };

  static std::vector<uint8_t> Current(int fd) {
    struct stat status {};
    CHECK(::fstat(fd, &status) == 0);
    std::vector<uint8_t> bytes(static_cast<size_t>(status.st_size));
    CHECK(::pread(fd, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    return bytes;
  }

  static void Put(std::vector<uint8_t>& bytes, uint64_t sector, const Sector& data) {
    bytes.resize(std::max<size_t>(bytes.size(), sector * kSectorSizeBytes + data.size()));
    std::copy(data.begin(), data.end(),
              bytes.begin() + static_cast<ptrdiff_t>(sector * kSectorSizeBytes));
  }

  std::vector<uint8_t> CutOne(const File& file) {
    std::vector<uint8_t> left = file.durable;
    for (const auto& [sector, versions] : file.unsynced) {
      // The latest of the versions that got through; or none, and the durable one stays.
      const size_t kept = random_() % (versions.size() + 1);
      if (kept > 0) {
        Put(left, sector, versions[kept - 1]);
      }
    }
    for (const IoOperation* operation : waiting_) {
      if (&files_.at(open_.at(operation->file).name) == &file) {
        for (const auto& [sector, data] : Change(*operation)) {
          if (random_() % 2 == 0) {
            Put(left, sector, data);
          }
        }
      }
    }
    return left;
  }

  // The sectors that a change writes.
  static std::vector<std::pair<uint64_t, Sector>> Change(const IoOperation& operation) {
    std::vector<uint8_t> bytes;
    if (operation.kind == IoKind::kWrite) {
      for (unsigned i = 0; i < operation.iovec_count; ++i) {
        const auto* part = static_cast<const uint8_t*>(operation.iovecs[i].iov_base);
        bytes.insert(bytes.end(), part, part + operation.iovecs[i].iov_len);
      }
    } else if (operation.kind == IoKind::kPunchHole || operation.kind == IoKind::kZeroRange) {
      bytes.resize(operation.size_bytes);
    }
    std::vector<std::pair<uint64_t, Sector>> sectors;
    for (size_t at = 0; at < bytes.size(); at += kSectorSizeBytes) {
      sectors.emplace_back((operation.offset_bytes + at) / kSectorSizeBytes,
                           Sector(bytes.begin() + static_cast<ptrdiff_t>(at),
                                  bytes.begin() + static_cast<ptrdiff_t>(at + kSectorSizeBytes)));
    }
    return sectors;
  }

  void Run(IoOperation& operation) {
    const OpenFile& open = open_.at(operation.file);
    File& file = files_.at(open.name);
    operation.result = RunBlockingUnsynced(open.fd, operation);
    if (operation.kind == IoKind::kSync) {
      file = {.durable = Current(open.fd), .unsynced = {}};
    }
    for (auto& [sector, data] : Change(operation)) {
      if (operation.durable) {
        Put(file.durable, sector, data);
        file.unsynced.erase(sector);
      } else {
        file.unsynced[sector].push_back(std::move(data));
      }
    }
  }

  // The real host is not to be waited for: it will not be cut.
  static int64_t RunBlockingUnsynced(int fd, const IoOperation& operation) {
    IoOperation unsynced = operation;
    unsynced.durable = false;
    return operation.kind == IoKind::kSync ? 0 : RunBlocking(fd, unsynced);
  }

  std::mt19937_64 random_;
  const EventFd event_;
  unsigned next_file_ = 0;
  std::map<unsigned, OpenFile> open_;
  std::map<std::string, File> files_;
  std::vector<IoOperation*> waiting_;
};

}  // namespace pacsvisor
