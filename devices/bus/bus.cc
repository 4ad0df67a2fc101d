#include "devices/bus/bus.h"

#include <algorithm>
#include <mutex>

namespace pacsvisor {

void Bus::Reserve(uint64_t start, uint64_t size_bytes) {
  const std::unique_lock lock(mutex_);
  const bool added = entries_.emplace(start, Entry{size_bytes, nullptr}).second;
  CHECK(added, "{} range at {:#x} reserved twice", name_, start);
}

Status Bus::Insert(uint64_t start, uint64_t size_bytes, BusDevice& device) {
  CHECK(size_bytes > 0, "{} range at {:#x} is empty", name_, start);
  if (start >= end_ || size_bytes > end_ - start) {
    return Error::Make(ErrorCode::kInvalidArgument, "{} range {:#x}+{:#x} is outside the space",
                       name_, start, size_bytes);
  }
  const std::unique_lock lock(mutex_);
  const auto next = entries_.lower_bound(start);
  const bool hits_next = next != entries_.end() && next->first - start < size_bytes;
  const bool hits_previous = next != entries_.begin() &&
                             start - std::prev(next)->first < std::prev(next)->second.size_bytes;
  const bool reserved = (hits_next && next->second.device == nullptr) ||
                        (hits_previous && std::prev(next)->second.device == nullptr);
  if (reserved) {
    return Error::Make(ErrorCode::kPermissionDenied,
                       "{} range {:#x}+{:#x} overlaps memory or the processor's own devices", name_,
                       start, size_bytes);
  }
  if (hits_next || hits_previous) {
    return Error::Make(ErrorCode::kBusy, "{} range {:#x}+{:#x} overlaps another device's", name_,
                       start, size_bytes);
  }
  entries_.emplace(start, Entry{size_bytes, &device});
  return {};
}

void Bus::Remove(uint64_t start) {
  const std::unique_lock lock(mutex_);
  entries_.erase(start);
}

Bus::Hit Bus::Find(uint64_t address, uint64_t size_bytes) const {
  const std::shared_lock lock(mutex_);
  const auto next = entries_.upper_bound(address);
  if (next == entries_.begin()) {
    return {nullptr, 0};
  }
  const auto& [start, entry] = *std::prev(next);
  const uint64_t offset = address - start;
  if (offset >= entry.size_bytes || size_bytes > entry.size_bytes - offset) {
    return {nullptr, 0};
  }
  return {entry.device, offset};
}

bool Bus::Read(uint64_t address, std::span<uint8_t> data) const {
  const Hit hit = Find(address, data.size());
  if (hit.device == nullptr) {
    std::fill(data.begin(), data.end(), uint8_t{0xff});
    faults_.Count(unanswered_);
    return false;
  }
  hit.device->Read(hit.offset, data);
  return true;
}

bool Bus::Write(uint64_t address, std::span<const uint8_t> data) const {
  const Hit hit = Find(address, data.size());
  if (hit.device == nullptr) {
    faults_.Count(unanswered_);
    return false;
  }
  hit.device->Write(hit.offset, data);
  return true;
}

}  // namespace pacsvisor
