// An address space of devices: any ranges inserted, moved and removed, any accesses across their
// borders, held against a list that is looked through from its beginning.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "devices/bus/bus.h"
#include "tests/support/fuzz_input.h"
#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kEnd = uint64_t{1} << 52;

// Remembers the last access.
class Probe : public BusDevice {
 public:
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    last = offset;
    std::ranges::fill(data, uint8_t{0x5a});
  }
  void Write(uint64_t offset, std::span<const uint8_t> /*data*/) override { last = offset; }

  std::optional<uint64_t> last;
};

struct Slot {
  Probe probe;
  std::optional<uint64_t> start;
  uint64_t size_bytes = 0;
};

class Session {
 public:
  explicit Session(FuzzInput input) : input_(input) {}

  void Run() {
    while (!input_.empty()) {
      const auto step = input_.Take<uint8_t>();
      Slot& slot = slots_[step / 8 % slots_.size()];
      switch (step % 8) {
        case 0:
        case 1:
          Insert(slot);
          break;
        case 2:
          Remove(slot);
          break;
        default:
          Access((step & 0x80) != 0, size_t{1} << (step % 8 - 3) % 4);
          break;
      }
    }
  }

 private:
  // Near another device's border, near the end of the space, or anywhere.
  uint64_t Address() {
    const auto kind = input_.Take<uint8_t>();
    const auto distance = static_cast<uint64_t>(static_cast<int8_t>(input_.Take<uint8_t>()));
    const Slot& near = slots_[kind / 4 % slots_.size()];
    switch (kind % 4) {
      case 0:
        return near.start.value_or(0) + distance;
      case 1:
        return near.start.value_or(0) + near.size_bytes + distance;
      case 2:
        return kEnd + distance;
      default:
        return input_.Take<uint64_t>();
    }
  }

  void Insert(Slot& slot) {
    if (slot.start.has_value()) {
      Remove(slot);
    }
    const uint64_t start = Address();
    const uint64_t size_bytes = std::max<uint64_t>(1, uint64_t{input_.Take<uint32_t>()});
    const bool fits = start < kEnd && size_bytes <= kEnd - start;
    const bool free = std::ranges::none_of(slots_, [&](const Slot& other) {
      return other.start.has_value() && *other.start < start + size_bytes &&
             start < *other.start + other.size_bytes;
    });
    const Status inserted = bus_.Insert(start, size_bytes, slot.probe);
    CHECK(inserted.ok() == (fits && free), "{:#x}+{:#x}: {}", start, size_bytes,
          inserted.ok() ? "taken" : inserted.error().message());
    if (inserted.ok()) {
      slot.start = start;
      slot.size_bytes = size_bytes;
    }
  }

  void Remove(Slot& slot) {
    if (slot.start.has_value()) {
      bus_.Remove(*slot.start);
      slot.start.reset();
    }
  }

  void Access(bool write, size_t size) {
    const uint64_t address = Address();
    Slot* expected = nullptr;
    for (Slot& slot : slots_) {
      slot.probe.last.reset();
      if (slot.start.has_value() && address >= *slot.start &&
          address - *slot.start < slot.size_bytes &&
          size <= slot.size_bytes - (address - *slot.start)) {
        expected = &slot;
      }
    }
    std::array<uint8_t, 8> bytes{};
    const std::span<uint8_t> data = std::span(bytes).first(size);
    const bool answered = write ? bus_.Write(address, data) : bus_.Read(address, data);
    CHECK(answered == (expected != nullptr), "{:#x}, {} bytes", address, size);
    for (const Slot& slot : slots_) {
      const bool meant = &slot == expected;
      CHECK(slot.probe.last.has_value() == meant);
      CHECK(!meant || *slot.probe.last == address - *slot.start);
    }
    const uint8_t filled = answered ? 0x5a : 0xff;
    CHECK(write || std::ranges::all_of(data, [filled](uint8_t byte) { return byte == filled; }));
  }

  FuzzInput input_;
  Bus bus_{"MMIO", kEnd};
  std::array<Slot, 8> slots_;
};

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pacsvisor::Session(pacsvisor::FuzzInput({data, size})).Run();
  return 0;
}
