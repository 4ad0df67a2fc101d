#include "vmm/memory/guest_io_vector.h"

#include <utility>

namespace pacsvisor {

std::optional<GuestIoVector> GuestIoVector::Create(GuestMemory& memory,
                                                   std::span<const GuestRange> ranges,
                                                   IoDirection direction) {
  GuestIoVector vector(memory, direction);
  vector.iovecs_.reserve(ranges.size());
  vector.ranges_.reserve(ranges.size());
  for (const GuestRange& range : ranges) {
    const GuestMemory::HostRange* host = memory.Find(range);
    const std::optional<uint64_t> total = CheckedAdd(vector.size_bytes_, range.size_bytes);
    if (host == nullptr || !total.has_value()) {
      vector.landed_ = true;
      return std::nullopt;
    }
    if (range.size_bytes == 0) {
      continue;
    }
    uint8_t* address = host->host + (range.start.raw() - host->start.raw());
    vector.iovecs_.push_back({address, range.size_bytes});
    vector.ranges_.push_back(range);
    vector.size_bytes_ = *total;
  }
  if (direction == IoDirection::kDeviceWrites) {
    vector.BeginFlight();
  }
  return vector;
}

void GuestIoVector::BeginFlight() {
  const MutexLock lock(memory_->in_flight_mutex_);
  in_flight_ = memory_->in_flight_.insert(memory_->in_flight_.end(), ranges_);
}

void GuestIoVector::EndFlight() {
  const MutexLock lock(memory_->in_flight_mutex_);
  memory_->in_flight_.erase(*in_flight_);
  in_flight_.reset();
}

GuestIoVector::GuestIoVector(GuestIoVector&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)),
      direction_(other.direction_),
      landed_(other.landed_),
      size_bytes_(other.size_bytes_),
      iovecs_(std::move(other.iovecs_)),
      ranges_(std::move(other.ranges_)),  // stay where they are
      in_flight_(std::exchange(other.in_flight_, std::nullopt)) {}

GuestIoVector::~GuestIoVector() {
  CHECK(memory_ == nullptr || direction_ == IoDirection::kDeviceReads || landed_,
        "host I/O into guest memory ended without marking its pages");
}

void GuestIoVector::MarkAll() {
  for (const GuestRange& range : ranges_) {
    memory_->MarkWritten(*memory_->Find(range), range);
  }
}

void GuestIoVector::MarkInFlight() {
  if (direction_ == IoDirection::kDeviceWrites) {
    MarkAll();
  }
}

void GuestIoVector::Landed() {
  CHECK(direction_ == IoDirection::kDeviceWrites && !landed_);
  landed_ = true;
  MarkAll();
  EndFlight();
}

}  // namespace pacsvisor
