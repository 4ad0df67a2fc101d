#include "guests/hostile/driver.h"

namespace pacsvisor::hostile {
namespace {

using Registers = VirtioPciCommonConfig;

}  // namespace

bool Driver::Reset(uint64_t cycles) const {
  SetStatus(0);
  const uint64_t begin = ReadTsc();
  while (status() != 0) {
    if (ReadTsc() - begin > cycles) return false;
  }
  return true;
}

void Driver::WriteFeatures(uint64_t features) const {
  for (uint32_t half = 0; half < 2; ++half) {
    Write32(Register(offsetof(Registers, driver_feature_select)), half);
    Write32(Register(offsetof(Registers, driver_feature)),
            static_cast<uint32_t>(features >> (32 * half)));
  }
}

uint64_t Driver::OfferedFeatures() const {
  uint64_t features = 0;
  for (uint32_t half = 0; half < 2; ++half) {
    Write32(Register(offsetof(Registers, device_feature_select)), half);
    features |= uint64_t{Read32(Register(offsetof(Registers, device_feature)))} << (32 * half);
  }
  return features;
}

bool Driver::Negotiate(uint64_t wanted) const {
  SetStatus(kVirtioStatusAcknowledge);
  SetStatus(kSetUp);
  WriteFeatures(OfferedFeatures() & (wanted | kVersion1));
  SetStatus(kSetUp | kVirtioStatusFeaturesOk);
  return (status() & kVirtioStatusFeaturesOk) != 0;
}

uint16_t Driver::QueueSize(uint16_t queue) const {
  SelectQueue(queue);
  return Read16(Register(offsetof(Registers, queue_size)));
}

void Driver::SetLayout(uint16_t queue, const RingLayout& layout) const {
  SelectQueue(queue);
  Write16(Register(offsetof(Registers, queue_size)), layout.size);
  Write64(Register(offsetof(Registers, queue_desc)), layout.table);
  Write64(Register(offsetof(Registers, queue_driver)), layout.available);
  Write64(Register(offsetof(Registers, queue_device)), layout.used);
}

void Driver::Enable(uint16_t queue, const RingLayout& layout) const {
  SetLayout(queue, layout);
  Write16(Register(offsetof(Registers, queue_enable)), 1);
}

bool Driver::WaitNeedsReset(uint64_t cycles) const {
  const uint64_t begin = ReadTsc();
  while ((status() & kVirtioStatusNeedsReset) == 0) {
    if (ReadTsc() - begin > cycles) return false;
  }
  return true;
}

}  // namespace pacsvisor::hostile
