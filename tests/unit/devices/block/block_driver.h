// A virtio-blk driver for tests: requests as a guest kernel lays them out, over a harness.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "devices/block/block_abi.h"
#include "tests/support/virtio_device_harness.h"

namespace pacsvisor {

// One request as it lies in guest memory.
struct DriverRequest {
  uint16_t queue = 0;
  uint16_t head = 0;
  GuestRange data;  // data, or the segments
  GuestRange status;
};

class BlockDriver {
 public:
  static constexpr uint8_t kNoStatus = 0xaa;  // what the status byte holds before it is written

  explicit BlockDriver(VirtioDeviceHarness& harness, bool indirect = false)
      : harness_(harness), indirect_(indirect) {}

  DriverRequest Read(uint64_t sector, uint64_t size_bytes, uint16_t queue = 0) {
    const GuestRange data = harness_.heap().Allocate(size_bytes, 512);
    return Send(queue, Header(VirtioBlockType::kIn, sector), data, true);
  }
  DriverRequest Write(uint64_t sector, std::span<const uint8_t> bytes, uint16_t queue = 0) {
    return Send(queue, Header(VirtioBlockType::kOut, sector), harness_.heap().Place(bytes, 512),
                false);
  }
  DriverRequest Write(uint64_t sector, uint64_t size_bytes, uint8_t fill, uint16_t queue = 0) {
    return Write(sector, std::vector<uint8_t>(size_bytes, fill), queue);
  }
  DriverRequest Flush(uint16_t queue = 0) {
    return Send(queue, Header(VirtioBlockType::kFlush, 0), {}, false);
  }
  DriverRequest Segments(VirtioBlockType type, std::span<const VirtioBlockSegment> segments,
                         uint16_t queue = 0) {
    // Trivially copyable structures may be read as bytes.
    const GuestRange data = harness_.heap().Place(
        {reinterpret_cast<const uint8_t*>(segments.data()), segments.size_bytes()});
    return Send(queue, Header(type, 0), data, false);
  }
  DriverRequest Segment(VirtioBlockType type, const VirtioBlockSegment& segment,
                        uint16_t queue = 0) {
    return Segments(type, {&segment, 1}, queue);
  }
  DriverRequest GetId(uint64_t size_bytes = kVirtioBlockIdBytes) {
    return Send(0, Header(VirtioBlockType::kGetId, 0), harness_.heap().Allocate(size_bytes), true);
  }
  DriverRequest Send(uint16_t queue, const VirtioBlockHeader& header, GuestRange data,
                     bool device_writes) {
    const uint8_t no_status = kNoStatus;
    DriverRequest request{
        .queue = queue, .data = data, .status = harness_.heap().Place({&no_status, 1}, 1)};
    // A trivially copyable structure may be read as bytes.
    const GuestRange head =
        harness_.heap().Place({reinterpret_cast<const uint8_t*>(&header), sizeof(header)});
    std::vector<VirtioBuffer> buffers = {Readable(head)};
    if (data.size_bytes > 0) {
      buffers.push_back({data, device_writes});
    }
    buffers.push_back(Writable(request.status));
    VirtqueueDriver& driver = harness_.driver(queue);
    request.head = indirect_ ? driver.AddIndirect(buffers) : driver.Add(buffers);
    return request;
  }

  // Kick, then wait by interrupts for the next finished request of the queue.
  std::optional<VirtqueueDriver::Used> Await(uint16_t queue = 0) {
    harness_.Kick(queue);
    return harness_.WaitUsed(queue);
  }
  // One request alone on its queue: its status.
  uint8_t Finish(const DriverRequest& request) {
    const std::optional<VirtqueueDriver::Used> used = Await(request.queue);
    CHECK(used.has_value() && used->head == request.head, "the request did not finish");
    return Status(request);
  }
  uint8_t Status(const DriverRequest& request) { return harness_.heap().Read(request.status)[0]; }
  std::vector<uint8_t> Data(const DriverRequest& request) {
    return harness_.heap().Read(request.data);
  }

  static VirtioBlockHeader Header(VirtioBlockType type, uint64_t sector) {
    return {.type = static_cast<uint32_t>(type), .sector = sector};
  }

 private:
  VirtioDeviceHarness& harness_;
  const bool indirect_;
};

inline constexpr uint8_t kOk = static_cast<uint8_t>(VirtioBlockStatus::kOk);
inline constexpr uint8_t kIoError = static_cast<uint8_t>(VirtioBlockStatus::kIoError);
inline constexpr uint8_t kUnsupported = static_cast<uint8_t>(VirtioBlockStatus::kUnsupported);

}  // namespace pacsvisor
