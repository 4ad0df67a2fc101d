#include "tests/guest/recorded_requests.h"

#include <charconv>
#include <string>

#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kHeaderBytes = 16;
constexpr uint64_t kSegmentBytes = 16;
constexpr uint64_t kSectorBytes = 512;
constexpr uint32_t kIn = 0;
constexpr uint32_t kOut = 1;
constexpr uint32_t kDiscard = 11;
constexpr uint32_t kWriteZeroes = 13;
constexpr uint16_t kNext = 1;
constexpr uint16_t kWritable = 2;
constexpr uint16_t kIndirect = 4;

struct Descriptor {
  uint64_t address;
  uint32_t size_bytes;
  uint16_t flags;
  uint16_t next;
};
static_assert(sizeof(Descriptor) == 16);

template <typename T>
T Fetch(const GuestMemory& memory, uint64_t address) {
  const std::optional<T> value = memory.ReadObject<T>(GuestAddress(address));
  CHECK(value.has_value(), "nothing at {:#x}", address);
  return *value;
}

std::vector<Descriptor> Chain(const GuestMemory& memory, uint64_t table, uint16_t head) {
  std::vector<Descriptor> chain;
  for (uint16_t at = head;;) {
    const auto one = Fetch<Descriptor>(memory, table + sizeof(Descriptor) * at);
    if ((one.flags & kIndirect) != 0) {
      return Chain(memory, one.address, 0);
    }
    chain.push_back(one);
    if ((one.flags & kNext) == 0) {
      return chain;
    }
    at = one.next;
  }
}

RecordedRequest Parse(const GuestMemory& memory, const std::vector<Descriptor>& chain) {
  RecordedRequest request;
  std::vector<uint8_t> readable;
  uint64_t writable_bytes = 0;
  for (const Descriptor& one : chain) {
    if ((one.flags & kWritable) != 0) {
      request.device_writes.push_back({GuestAddress(one.address), one.size_bytes});
      writable_bytes += one.size_bytes;
    } else {
      const size_t before = readable.size();
      readable.resize(before + one.size_bytes);
      CHECK(memory.Read(GuestAddress(one.address), std::span(readable).subspan(before)));
    }
  }
  const auto number = [&readable]<typename T>(T value, uint64_t at) {
    CHECK(at + sizeof(T) <= readable.size(), "a request of {} bytes", readable.size());
    std::memcpy(&value, &readable[at], sizeof(T));
    return value;
  };
  request.type = number(uint32_t{0}, 0);
  const uint64_t offset_bytes = number(uint64_t{0}, 8) * kSectorBytes;
  request.changes_disk =
      request.type == kOut || request.type == kDiscard || request.type == kWriteZeroes;
  if (request.type == kIn) {
    request.on_disk.push_back({offset_bytes, writable_bytes - 1});  // without the status
  } else if (request.type == kOut) {
    request.on_disk.push_back({offset_bytes, readable.size() - kHeaderBytes});
  } else if (request.changes_disk) {
    for (uint64_t at = kHeaderBytes; at < readable.size(); at += kSegmentBytes) {
      request.on_disk.push_back({number(uint64_t{0}, at) * kSectorBytes,
                                 uint64_t{number(uint32_t{0}, at + 8)} * kSectorBytes});
    }
  }
  return request;
}

}  // namespace

std::vector<RecordedRequest> RecordedRequests(const StateNode& state, const GuestMemory& memory) {
  std::vector<RecordedRequest> requests;
  const StateNode& virtio = *state.Child("virtio").value();
  for (const StateNode& device : virtio.Children("devices").value()) {
    const std::string name = device.String("name").value();
    if (!name.starts_with("disk")) {
      continue;
    }
    const StateNode& transport = *device.Child("state").value();
    const StateNode& common = *transport.Child("common").value();
    const auto queues = common.Children("queues").value();
    const StateNode& server = *transport.Child("device").value();
    for (const StateNode& head : server.Children("in_flight").value()) {
      const StateNode& queue = queues[head.U64("queue").value()];
      RecordedRequest request =
          Parse(memory, Chain(memory, queue.U64("descriptor_table").value(),
                              static_cast<uint16_t>(head.U64("head").value())));
      std::from_chars(name.data() + 4, name.data() + name.size(), request.disk);
      requests.push_back(std::move(request));
    }
  }
  return requests;
}

}  // namespace pacsvisor
