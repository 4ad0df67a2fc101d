// A virtio-blk device over a real image file, on an engine of the test's choice, with its driver.
#pragma once

#include <fcntl.h>

#include <memory>
#include <string>
#include <vector>

#include "devices/block/virtio_block.h"
#include "tests/support/fault_engine.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/devices/block/block_driver.h"
#include "vmm/base/unique_fd.h"
#include "vmm/disk/raw_disk.h"

namespace pacsvisor {

inline constexpr uint64_t kTestDiskBytes = 4 << 20;

// The image; several devices may use it, one after another.
class TestImage {
 public:
  explicit TestImage(uint64_t size_bytes = kTestDiskBytes)
      : size_bytes_(size_bytes), path_(directory_.MakeFile("disk.raw", size_bytes)) {}

  const std::filesystem::path& path() const { return path_; }
  std::vector<uint8_t> Bytes() const {
    std::vector<uint8_t> bytes(size_bytes_);
    const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    CHECK(::pread(fd.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(size_bytes_));
    return bytes;
  }
  std::unique_ptr<RawDisk> Open(std::unique_ptr<IoEngine> engine, bool read_only = false) const {
    DiskImage image = DiskImage::Open({.path = path_, .read_only = read_only}).value();
    return RawDisk::Create(std::move(image), std::move(engine)).value();
  }

 private:
  TemporaryDirectory directory_;
  uint64_t size_bytes_;
  std::filesystem::path path_;
};

struct TestBlockDevice {
  TestBlockDevice(const TestImage& image, std::unique_ptr<IoEngine> engine, GuestMemory& memory,
                  VirtioBlock::Options options = {.name = "disk0", .serial = "data"},
                  bool read_only = false)
      : device(VirtioBlock::Create(std::move(options), image.Open(std::move(engine), read_only))
                   .value()),
        harness(*device, memory),
        driver(harness) {}

  void Activate(VirtioDeviceHarness::Options options = {}) {
    options.features |= device->device_features();
    harness.Activate(options);
  }
  // After Load: everything as it is after a restore.
  void ResumeRestored() {
    harness.Resume();
    harness.SignalAllQueues();
  }

  std::unique_ptr<VirtioBlock> device;
  VirtioDeviceHarness harness;
  BlockDriver driver;
};

// The same on a FaultEngine.
struct FaultBlockDevice {
  explicit FaultBlockDevice(VirtioBlock::Options options = {.name = "disk0", .serial = "data"})
      : FaultBlockDevice(std::move(options), new FaultEngine()) {}

  // Until so many operations are held by the host.
  void AwaitHeld(size_t count) const {
    const auto deadline = std::chrono::steady_clock::now() + kTestDeadline;
    while (faults->held() < count) {
      CHECK(std::chrono::steady_clock::now() < deadline, "{} held", faults->held());
      std::this_thread::yield();
    }
  }
  void HoldAll() const {
    faults->SetPolicy([](const IoOperation&, uint64_t) { return Fault::Hold(); });
  }
  void LetGo() const {
    faults->SetPolicy(nullptr);
    faults->ReleaseAll();
  }

  TestImage image;
  std::unique_ptr<GuestMemory> memory = MakeTestMemory(64 * kMiB);
  FaultEngine* faults;
  TestBlockDevice block;

 private:
  FaultBlockDevice(VirtioBlock::Options options, FaultEngine* engine)
      : faults(engine),
        block(image, std::unique_ptr<IoEngine>(engine), *memory, std::move(options)) {}
};

}  // namespace pacsvisor
