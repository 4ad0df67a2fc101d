// A layered disk as a machine uses it: a worker of its own on the host's real engines, a snapshot
// thread beside it, the device's lock between them.
#include <mutex>
#include <random>

#include "tests/unit/vmm/disk/layered_disk_fixture.h"
#include "vmm/base/event_fd.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kThreadsBlocks = 256;
constexpr uint64_t kThreadsBytes = kThreadsBlocks * 4096;

struct ThreadsCase {
  IoEngineKind engine;
  DiskCache cache;
};

// A guest that writes whole blocks of one number, the same to a pair of them, one after the other;
// so every view must show pairs that are equal, or whose first is one ahead.
class PairWriter {
 public:
  PairWriter(LayeredDisk& disk, std::mutex& device) : disk_(disk), device_(device) {}

  void Run() {
    while (!stop_.load()) {
      const uint64_t pair = random_() % (kThreadsBlocks / 2);
      const uint8_t value = ++values_[pair];
      WriteBlock(2 * pair, value);
      WriteBlock(2 * pair + 1, value);
      if (random_() % 8 == 0) {
        LayeredRequest flush(BlockOperation::kFlush, 0, 0);
        Finish(flush);
      }
    }
  }
  void Stop() { stop_.store(true); }
  // After Run.
  uint8_t value(uint64_t pair) const { return values_[pair]; }

 private:
  void WriteBlock(uint64_t block, uint8_t value) {
    LayeredRequest write(BlockOperation::kWrite, block * 4096, 4096, value);
    Finish(write);
  }
  void Finish(LayeredRequest& request) {
    {
      const std::lock_guard lock(device_);
      disk_.Submit(request.request);
    }
    std::vector<BlockRequest*> done;
    while (true) {
      disk_.Kick();
      disk_.Poll();
      {
        const std::lock_guard lock(device_);
        disk_.TakeCompletions(done);
      }
      if (!done.empty()) {
        break;
      }
      pollfd wait{.fd = disk_.wait_fd(), .events = POLLIN, .revents = 0};
      // A completion that waits at the gate is announced by nobody.
      (void)::poll(&wait, 1, 1);
    }
    CHECK(request.request.error_number == 0, "errno {}", request.request.error_number);
  }

  LayeredDisk& disk_;
  std::mutex& device_;
  std::atomic<bool> stop_ = false;
  std::mt19937 random_{5};
  std::array<uint8_t, kThreadsBlocks / 2> values_ = {};
};

class LayeredDiskThreads : public testing::TestWithParam<ThreadsCase> {};

TEST_P(LayeredDiskThreads, EveryViewIsOneInstant) {
  LayeredDiskFixture fixture(kThreadsBytes);
  ASSERT_TRUE(fixture.Open(CreateIoEngine(GetParam().engine).value(), GetParam().cache).ok());
  LayeredDisk& disk = fixture.disk();
  std::mutex device;
  PairWriter writer(disk, device);
  std::thread worker([&] { writer.Run(); });
  std::vector<uint8_t> last(kThreadsBytes);
  for (int snapshot = 0; snapshot < 6; ++snapshot) {
    Status prepared = disk.Prepare();
    ASSERT_TRUE(prepared.ok()) << prepared.error().message();
    std::vector<uint64_t> words(disk.dirty().word_count());
    {
      const std::lock_guard lock(device);
      disk.CloseGate();
      disk.Flip(words);
      disk.OpenGate();
    }
    const Result<std::vector<uint8_t>> view = fixture.ReadView(30'000);
    ASSERT_TRUE(view.ok()) << view.error().message();
    for (uint64_t pair = 0; pair < kThreadsBlocks / 2; ++pair) {
      const uint8_t first = (*view)[2 * pair * 4096];
      const uint8_t second = (*view)[(2 * pair + 1) * 4096];
      ASSERT_TRUE(first == second || first == static_cast<uint8_t>(second + 1))
          << "pair " << pair << ": " << int{first} << ", " << int{second};
    }
    for (uint64_t block = 0; block < kThreadsBlocks; ++block) {
      const auto at = static_cast<ptrdiff_t>(block * 4096);
      ASSERT_TRUE((words[block / 64] >> (block % 64) & 1) != 0 ||
                  std::equal(last.begin() + at, last.begin() + at + 4096, view->begin() + at))
          << "block " << block;
    }
    last = *view;
    disk.Release();
  }
  writer.Stop();
  worker.join();
  ASSERT_TRUE(disk.MergeAll().ok());
  const std::vector<uint8_t> image = fixture.ImageBytes();
  for (uint64_t block = 0; block < kThreadsBlocks; ++block) {
    ASSERT_EQ(image[block * 4096], writer.value(block / 2)) << block;
  }
  EXPECT_TRUE(fixture.LayerFiles().empty());
}

INSTANTIATE_TEST_SUITE_P(Engines, LayeredDiskThreads,
                         testing::Values(ThreadsCase{IoEngineKind::kUring, DiskCache::kWriteback},
                                         ThreadsCase{IoEngineKind::kUring, DiskCache::kNone},
                                         ThreadsCase{IoEngineKind::kThreads, DiskCache::kWriteback},
                                         ThreadsCase{IoEngineKind::kThreads, DiskCache::kNone}),
                         [](const auto& one) {
                           return std::string(one.param.engine == IoEngineKind::kUring
                                                  ? "Uring"
                                                  : "Threads") +
                                  (one.param.cache == DiskCache::kNone ? "Direct" : "Writeback");
                         });

}  // namespace
}  // namespace pacsvisor
