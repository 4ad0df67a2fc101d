// virtio-blk as a whole: any rings and registers on two queues and a disk whose host fails as the
// input says; saved, taken over by another device from state that may have been changed, reset
// (hostile_device.h). Requests alone, many times faster, are the matter of block_requests_fuzz.cc.
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "devices/block/virtio_block.h"
#include "tests/fuzz/hostile_device.h"
#include "tests/support/fault_engine.h"
#include "tests/support/temporary_directory.h"
#include "vmm/base/log.h"
#include "vmm/disk/raw_disk.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kDiskBytes = 256 * kKiB;

// The disk is one; what inputs leave on it does not matter.
struct Card {
  Card(const std::filesystem::path& path, GuestMemory& memory)
      : hostile(VirtioBlock::Create({.name = "disk0", .serial = "fuzz", .queue_count = 2},
                                    RawDisk::Create(DiskImage::Open({.path = path}).value(),
                                                    std::unique_ptr<IoEngine>(faults))
                                        .value())
                    .value(),
                memory) {
    hostile.OnReset([this] {
      faults->SetPolicy(nullptr);
      faults->ReleaseAll();
      faults->ForgetTrace();
    });
    hostile.OnHost([this](uint16_t) { faults->ReleaseAll(); });
  }

  // Each operation takes the next two bits: done, refused, cut short, held.
  void SetFaults(uint32_t choices) const {
    faults->SetPolicy([choices](const IoOperation&, uint64_t count) {
      switch (choices >> (count % 16 * 2) & 3) {
        case 0:
          return Fault::None();
        case 1:
          return Fault::Fail(EIO);
        case 2:
          return Fault::Short(512);
        default:
          return Fault::Hold();
      }
    });
  }

  FaultEngine* faults = new FaultEngine();
  HostileDevice hostile;
};

void Run(FuzzInput input) {
  static const TemporaryDirectory directory;
  static const std::filesystem::path first = directory.MakeFile("first.raw", kDiskBytes);
  static const std::filesystem::path second = directory.MakeFile("second.raw", kDiskBytes);
  static FuzzMemory memory;
  static const auto make = [] { return std::make_unique<Card>(second, memory.memory()); };
  static std::unique_ptr<Card> card = std::make_unique<Card>(first, memory.memory());
  static std::unique_ptr<Card> twin = make();
  memory.Clean();
  const auto faults = input.Take<uint32_t>();
  card->SetFaults(faults);
  twin->SetFaults(~faults);
  card->hostile.Begin(input);
  PlayHostileLife(card, twin, input, make);
}

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pacsvisor::SetLogLevel(pacsvisor::LogLevel::kOff);
  pacsvisor::Run(pacsvisor::FuzzInput({data, size}));
  return 0;
}
