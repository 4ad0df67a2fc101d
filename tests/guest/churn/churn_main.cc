// churn DIRECTORY SEED [OPERATIONS]: the workers of churn_plan.h at work on a mounted file system,
// for OPERATIONS each or until they are killed. Says on standard output, each line in one piece
//   churn ready               every file is there, durably, and holds zeroes
//   churn flushed W N         operation N of worker W was a flush, and it has returned
//   churn done                all operations are done
//   churn failed TEXT         the system refused something
// Static: it runs on any Linux of x86-64.
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/guest/churn/churn_plan.h"

namespace pacsvisor::churn {
namespace {

std::mutex output_mutex;

void Say(const std::string& text) {
  const std::lock_guard lock(output_mutex);
  const std::string line = "churn " + text + "\n";
  if (::write(STDOUT_FILENO, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    std::_Exit(3);
  }
}

// The system's refusal ends the program: what was not done cannot be held against the disk.
void Must(bool done, const char* what) {
  if (!done) {
    Say(std::string("failed ") + what + ": " + std::strerror(errno));
    std::_Exit(1);
  }
}

class Worker {
 public:
  Worker(const std::string& directory, uint64_t seed, uint32_t number)
      : directory_(directory), seed_(seed), number_(number) {
    directory_fd_ = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY);
    Must(directory_fd_ >= 0, "open the directory");
    for (uint32_t file = 0; file < kFiles; ++file) {
      const std::string path = directory + "/" + FileName(number, file);
      buffered_.push_back(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600));
      direct_.push_back(::open(path.c_str(), O_RDWR | O_DIRECT));
      Must(buffered_.back() >= 0 && direct_.back() >= 0, "open");
      Must(::ftruncate(buffered_.back(), Bytes(kFileCells)) == 0, "set the length");
      Must(::fsync(buffered_.back()) == 0, "fsync");
    }
    Must(::fsync(directory_fd_) == 0, "fsync the directory");
    Must(::posix_memalign(&buffer_, 4096, kFileCells * kCellBytes) == 0, "memory");
  }

  void Run(uint64_t operations) {
    for (uint64_t number = 0; number < operations; ++number) {
      Do(OperationAt(seed_, number_, number), number);
    }
  }

 private:
  static off_t Bytes(uint32_t cells) { return static_cast<off_t>(cells) * kCellBytes; }

  void Do(const Operation& operation, uint64_t number) {
    const int fd = buffered_[operation.file];
    const off_t offset = Bytes(operation.first_cell);
    const off_t size = Bytes(operation.cell_count);
    switch (operation.kind) {
      case Kind::kWrite:
      case Kind::kDirectWrite:
        Write(operation, number);
        break;
      case Kind::kPunchHole:
        Must(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size) == 0,
             "punch a hole");
        break;
      case Kind::kZeroRange:
        Must(::fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, size) == 0,
             "zero a range");
        break;
      case Kind::kTruncate:
        Must(::ftruncate(fd, offset) == 0, "truncate");
        Must(::ftruncate(fd, Bytes(kFileCells)) == 0, "extend");
        break;
      case Kind::kFlush:
        Must((operation.data_only ? ::fdatasync(fd) : ::fsync(fd)) == 0, "flush");
        Say("flushed " + std::to_string(number_) + " " + std::to_string(number));
        break;
      case Kind::kRename:
        Rename(number);
        break;
      case Kind::kTrim:
        Trim();
        break;
    }
  }

  void Write(const Operation& operation, uint64_t number) {
    auto* bytes = static_cast<uint8_t*>(buffer_);
    for (uint32_t i = 0; i < operation.cell_count; ++i) {
      const Cell cell = CellOf(seed_, number_, operation.file, operation.first_cell + i, number);
      std::memcpy(bytes + Bytes(i), cell.data(), kCellBytes);
    }
    const int fd =
        operation.kind == Kind::kWrite ? buffered_[operation.file] : direct_[operation.file];
    const off_t size = Bytes(operation.cell_count);
    Must(::pwrite(fd, bytes, static_cast<size_t>(size), Bytes(operation.first_cell)) == size,
         "write");
  }

  void Rename(uint64_t number) {
    const std::string draft = directory_ + "/draft" + std::to_string(number_);
    const int fd = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    Must(fd >= 0 && ::write(fd, buffer_, 3000) == 3000 && ::close(fd) == 0, "write a draft");
    const std::string name =
        directory_ + "/note" + std::to_string(number_) + "-" + std::to_string(number % 8);
    Must(::rename(draft.c_str(), name.c_str()) == 0, "rename");
  }

  void Trim() {
    fstrim_range range{};
    range.len = std::numeric_limits<uint64_t>::max();
    Must(::ioctl(directory_fd_, FITRIM, &range) == 0, "trim");
  }

  const std::string directory_;
  const uint64_t seed_;
  const uint32_t number_;
  int directory_fd_ = -1;
  std::vector<int> buffered_;
  std::vector<int> direct_;
  void* buffer_ = nullptr;
};

}  // namespace
}  // namespace pacsvisor::churn

int main(int argc, char** argv) {
  using namespace pacsvisor::churn;
  if (argc < 3) {
    std::fprintf(stderr, "usage: churn DIRECTORY SEED [OPERATIONS]\n");
    return 2;
  }
  const uint64_t seed = std::strtoull(argv[2], nullptr, 10);
  const uint64_t operations =
      argc > 3 ? std::strtoull(argv[3], nullptr, 10) : std::numeric_limits<uint64_t>::max();
  std::vector<Worker> workers;
  for (uint32_t i = 0; i < kWorkers; ++i) {
    workers.emplace_back(argv[1], seed, i);
  }
  Say("ready");
  std::vector<std::thread> threads;
  for (Worker& worker : workers) {
    threads.emplace_back([&worker, operations] { worker.Run(operations); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  Say("done");
  return 0;
}
