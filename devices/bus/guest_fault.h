// The ways in which a guest can break the rules of the emulated hardware, and how often it did.
//
// Counts say what arrived, not that anything was lost: each of these is refused, ignored or ends in
// DEVICE_NEEDS_RESET. Some happen on healthy systems too (a kernel that looks for ports and devices
// that are not there); those of the queues do not.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pacsvisor {

enum class GuestFault : uint8_t {
  // Virtqueues (virtio 1.2, 2.7).
  kAvailableIndexJump,      // more entries than the queue holds
  kTooManyInFlight,         // more chains than the queue holds
  kHeadBeyondQueue,         // the available ring names a descriptor that is not there
  kHeadInFlight,            // the available ring names a chain that the device still has
  kChainLoop,               // more descriptors than the table has
  kChainTooLong,            // more than Virtqueue::kMaxChainDescriptors
  kChainTooManyBytes,       // more than 2^32 (2.7.5.2)
  kNextBeyondTable,         // a next descriptor that is not there
  kBufferOutsideMemory,     // also: over the end, across the hole, around 2^64
  kReadableBehindWritable,  // 2.7.4.2
  kIndirectNotNegotiated,   // 2.7.5.3.1
  kIndirectInIndirect,      // 2.7.5.3.1
  kIndirectWithNext,        // 2.7.5.3.1
  kIndirectTableSize,       // zero, or no whole number of descriptors
  kIndirectTableOutsideMemory,
  kSavedBroken,  // the queue was broken when the machine was saved
  // The transport's registers (virtio 1.2, 3.1 and 4.1.4).
  kQueueSize,  // not a power of two, or above the maximum
  kQueueAlignment,
  kQueueOutsideMemory,
  kQueueEnabledAtWrongTime,   // before FEATURES_OK or after DRIVER_OK
  kQueueChangedWhileEnabled,  // moved, resized or enabled once more
  kNoSuchQueue,               // selected and written
  kNoSuchDoorbell,            // a notification for a queue that is not there
  kNoSuchVector,              // an MSI-X vector that is not there was chosen
  kFeaturesNotOffered,        // FEATURES_OK with unknown features or without VERSION_1
  kFeaturesAfterNegotiation,
  kDriverOkTooEarly,     // before FEATURES_OK
  kRegisterDuringReset,  // written before the status read 0 (2.4.2)
  kReadOnlyRegister,     // of the common or the device configuration
  kWrongAccess,          // not one whole register
  kConfigWindow,         // the configuration access capability names no such place (4.1.4.9)
  // PCI.
  kBarOutsideSpace,
  kBarOverMemory,    // or over what the processor's own devices answer
  kBarOverlap,       // over another device
  kConfigBeyondBus,  // configuration access to a bus that is not there
  kConfigReadOnly,   // configuration write where no bit is writable
  kMsiAddress,       // an MSI-X message that would go somewhere else than to a local APIC
  kMsixBeyondTable,  // written behind the MSI-X table, or to the pending bits
  // Requests of the devices.
  kBufferDirection,  // to be read where the device writes, or the other way round
  kBufferTooShort,   // for the header, or for the answer
  kBlockNoHeader,
  kBlockNoStatus,
  kBlockUnknownType,
  kBlockPartialSector,
  kBlockTooMuchData,
  kBlockBeyondEnd,
  kBlockReadOnly,
  kBlockSegments,  // number, flags or size of discard or write-zeroes ranges
  kBlockNotNegotiated,
  kNetFrameSize,
  kNetOffload,  // checksum or segmentation that is impossible or not negotiated
  kNetControlRefused,
  kConsoleNoSuchPort,
  kConsoleUnknownEvent,
  // Accesses that no device answers.
  kPortUnanswered,
  kMmioUnanswered,
};
inline constexpr size_t kGuestFaultKinds = static_cast<size_t>(GuestFault::kMmioUnanswered) + 1;

// "available_index_jump"
std::string_view GuestFaultName(GuestFault fault);

struct GuestFaultCount {
  GuestFault fault = GuestFault::kAvailableIndexJump;
  uint64_t count = 0;

  friend bool operator==(const GuestFaultCount&, const GuestFaultCount&) = default;
};

// Those of one device, by the name under which an operator knows it.
struct DeviceFaults {
  std::string device;
  std::vector<GuestFaultCount> faults;  // none of them 0

  friend bool operator==(const DeviceFaults&, const DeviceFaults&) = default;
};

// Threads: any, without order between counts.
class GuestFaultCounters {
 public:
  void Count(GuestFault fault) { CounterOf(fault).fetch_add(1, std::memory_order_relaxed); }
  uint64_t count(GuestFault fault) const {
    return counts_[static_cast<size_t>(fault)].load(std::memory_order_relaxed);
  }
  std::vector<GuestFaultCount> NonZero() const;

 private:
  std::atomic<uint64_t>& CounterOf(GuestFault fault) { return counts_[static_cast<size_t>(fault)]; }

  std::array<std::atomic<uint64_t>, kGuestFaultKinds> counts_{};
};

}  // namespace pacsvisor
