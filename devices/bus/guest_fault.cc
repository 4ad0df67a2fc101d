#include "devices/bus/guest_fault.h"

#include "vmm/base/check.h"

namespace pacsvisor {

std::string_view GuestFaultName(GuestFault fault) {
  switch (fault) {
    case GuestFault::kAvailableIndexJump:
      return "available_index_jump";
    case GuestFault::kTooManyInFlight:
      return "too_many_in_flight";
    case GuestFault::kHeadBeyondQueue:
      return "head_beyond_queue";
    case GuestFault::kHeadInFlight:
      return "head_in_flight";
    case GuestFault::kChainLoop:
      return "chain_loop";
    case GuestFault::kChainTooLong:
      return "chain_too_long";
    case GuestFault::kChainTooManyBytes:
      return "chain_too_many_bytes";
    case GuestFault::kNextBeyondTable:
      return "next_beyond_table";
    case GuestFault::kBufferOutsideMemory:
      return "buffer_outside_memory";
    case GuestFault::kReadableBehindWritable:
      return "readable_behind_writable";
    case GuestFault::kIndirectNotNegotiated:
      return "indirect_not_negotiated";
    case GuestFault::kIndirectInIndirect:
      return "indirect_in_indirect";
    case GuestFault::kIndirectWithNext:
      return "indirect_with_next";
    case GuestFault::kIndirectTableSize:
      return "indirect_table_size";
    case GuestFault::kIndirectTableOutsideMemory:
      return "indirect_table_outside_memory";
    case GuestFault::kSavedBroken:
      return "saved_broken";
    case GuestFault::kQueueSize:
      return "queue_size";
    case GuestFault::kQueueAlignment:
      return "queue_alignment";
    case GuestFault::kQueueOutsideMemory:
      return "queue_outside_memory";
    case GuestFault::kQueueEnabledAtWrongTime:
      return "queue_enabled_at_wrong_time";
    case GuestFault::kQueueChangedWhileEnabled:
      return "queue_changed_while_enabled";
    case GuestFault::kNoSuchQueue:
      return "no_such_queue";
    case GuestFault::kNoSuchDoorbell:
      return "no_such_doorbell";
    case GuestFault::kNoSuchVector:
      return "no_such_vector";
    case GuestFault::kFeaturesNotOffered:
      return "features_not_offered";
    case GuestFault::kFeaturesAfterNegotiation:
      return "features_after_negotiation";
    case GuestFault::kDriverOkTooEarly:
      return "driver_ok_too_early";
    case GuestFault::kRegisterDuringReset:
      return "register_during_reset";
    case GuestFault::kReadOnlyRegister:
      return "read_only_register";
    case GuestFault::kWrongAccess:
      return "wrong_access";
    case GuestFault::kConfigWindow:
      return "config_window";
    case GuestFault::kBarOutsideSpace:
      return "bar_outside_space";
    case GuestFault::kBarOverMemory:
      return "bar_over_memory";
    case GuestFault::kBarOverlap:
      return "bar_overlap";
    case GuestFault::kConfigBeyondBus:
      return "config_beyond_bus";
    case GuestFault::kConfigReadOnly:
      return "config_read_only";
    case GuestFault::kMsiAddress:
      return "msi_address";
    case GuestFault::kMsixBeyondTable:
      return "msix_beyond_table";
    case GuestFault::kBufferDirection:
      return "buffer_direction";
    case GuestFault::kBufferTooShort:
      return "buffer_too_short";
    case GuestFault::kBlockNoHeader:
      return "block_no_header";
    case GuestFault::kBlockNoStatus:
      return "block_no_status";
    case GuestFault::kBlockUnknownType:
      return "block_unknown_type";
    case GuestFault::kBlockPartialSector:
      return "block_partial_sector";
    case GuestFault::kBlockTooMuchData:
      return "block_too_much_data";
    case GuestFault::kBlockBeyondEnd:
      return "block_beyond_end";
    case GuestFault::kBlockReadOnly:
      return "block_read_only";
    case GuestFault::kBlockSegments:
      return "block_segments";
    case GuestFault::kBlockNotNegotiated:
      return "block_not_negotiated";
    case GuestFault::kNetFrameSize:
      return "net_frame_size";
    case GuestFault::kNetOffload:
      return "net_offload";
    case GuestFault::kNetControlRefused:
      return "net_control_refused";
    case GuestFault::kConsoleNoSuchPort:
      return "console_no_such_port";
    case GuestFault::kConsoleUnknownEvent:
      return "console_unknown_event";
    case GuestFault::kPortUnanswered:
      return "port_unanswered";
    case GuestFault::kMmioUnanswered:
      return "mmio_unanswered";
  }
  CHECK(false, "fault {}", static_cast<int>(fault));
}

std::vector<GuestFaultCount> GuestFaultCounters::NonZero() const {
  std::vector<GuestFaultCount> counts;
  for (size_t i = 0; i < kGuestFaultKinds; ++i) {
    const auto fault = static_cast<GuestFault>(i);
    if (const uint64_t value = count(fault); value != 0) {
      counts.push_back({.fault = fault, .count = value});
    }
  }
  return counts;
}

}  // namespace pacsvisor
