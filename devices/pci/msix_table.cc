#include "devices/pci/msix_table.h"

#include <algorithm>
#include <utility>

#include "vmm/base/align.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kMsixTableStateVersion = 1;
// Offsets in an entry (6.8.2.6 to 6.8.2.9).
constexpr uint32_t kMessageAddress = 0;
constexpr uint32_t kMessageData = 8;
constexpr uint32_t kVectorControl = 12;
constexpr uint8_t kVectorMasked = 1;

// Bits that the guest may change, by the byte of an entry: not the two low address bits, and of the
// vector control only the mask.
uint8_t WritableBits(uint32_t byte_of_entry) {
  if (byte_of_entry == kMessageAddress) {
    return 0xfc;
  }
  if (byte_of_entry < kVectorControl) {
    return 0xff;
  }
  return byte_of_entry == kVectorControl ? kVectorMasked : 0;
}

}  // namespace

MsixTable::MsixTable(std::string name, std::unique_ptr<MsiVectors> vectors, unsigned vector_count,
                     GuestFaultCounters& faults)
    : name_(std::move(name)),
      vectors_(std::move(vectors)),
      vector_count_(vector_count),
      faults_(faults),
      table_(vector_count * kEntryBytes),
      pending_(AlignUp(vector_count, 64u) / 8),
      handed_on_(vector_count) {
  CHECK(vector_count >= 1 && vector_count <= kMaxVectors, "{}: {} vectors", name_, vector_count);
  for (unsigned i = 0; i < vector_count; ++i) {
    table_[i * kEntryBytes + kVectorControl] = kVectorMasked;
  }
}

bool MsixTable::Masked(unsigned vector) const {
  return function_masked_ || (table_[vector * kEntryBytes + kVectorControl] & kVectorMasked) != 0;
}

MsiMessage MsixTable::MessageOf(unsigned vector) const {
  const uint8_t* entry = &table_[vector * kEntryBytes];
  return {.address = LoadLe<uint64_t>(entry + kMessageAddress),
          .data = LoadLe<uint32_t>(entry + kMessageData)};
}

void MsixTable::SetControl(bool enabled, bool function_masked) {
  const MutexLock lock(mutex_);
  enabled_ = enabled;
  function_masked_ = function_masked;
  for (unsigned i = 0; i < vector_count_; ++i) {
    Update(i);
  }
}

void MsixTable::Trigger(unsigned vector) {
  const MutexLock lock(mutex_);
  if (!enabled_ || vector >= vector_count_) {
    return;
  }
  if (Masked(vector)) {
    pending_[vector / 8] |= static_cast<uint8_t>(1u << (vector % 8));
    return;
  }
  if (IsLocalApicMessage(MessageOf(vector))) {
    vectors_->Trigger(vector);
  }
}

void MsixTable::Update(unsigned vector) {
  if (!enabled_ || Masked(vector)) {
    return;
  }
  const MsiMessage message = MessageOf(vector);
  if (!IsLocalApicMessage(message)) {
    faults_.Count(GuestFault::kMsiAddress);
    return;
  }
  if (message != handed_on_[vector]) {
    const Status set = vectors_->SetMessage(vector, message);
    if (!set.ok()) {
      log_.Log(LogLevel::kError, "{}: interrupt vector {} keeps its old message: {}", name_, vector,
               set.error().message());
    } else {
      handed_on_[vector] = message;
    }
  }
  const auto bit = static_cast<uint8_t>(1u << (vector % 8));
  if ((pending_[vector / 8] & bit) != 0) {
    pending_[vector / 8] &= static_cast<uint8_t>(~bit);
    vectors_->Trigger(vector);
  }
}

void MsixTable::Read(uint64_t offset, std::span<uint8_t> data) {
  const MutexLock lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t at = offset + i;
    if (at < table_.size()) {
      data[i] = table_[at];
    } else if (at >= kPendingOffset && at - kPendingOffset < pending_.size()) {
      data[i] = pending_[at - kPendingOffset];
    } else {
      data[i] = 0;
    }
  }
}

void MsixTable::Write(uint64_t offset, std::span<const uint8_t> data) {
  const MutexLock lock(mutex_);
  if (offset + data.size() > table_.size()) {
    faults_.Count(GuestFault::kMsixBeyondTable);
  }
  for (size_t i = 0; i < data.size() && offset + i < table_.size(); ++i) {
    const uint64_t at = offset + i;
    const uint8_t mask = WritableBits(static_cast<uint32_t>(at % kEntryBytes));
    table_[at] = static_cast<uint8_t>((table_[at] & ~mask) | (data[i] & mask));
  }
  // An access of up to 8 bytes touches at most two entries.
  for (uint64_t vector = offset / kEntryBytes;
       vector < vector_count_ && vector * kEntryBytes < offset + data.size(); ++vector) {
    Update(static_cast<unsigned>(vector));
  }
}

void MsixTable::Save(StateNode& node) const {
  const MutexLock lock(mutex_);
  node.SetVersion(kMsixTableStateVersion);
  node.SetBytes("table", table_);
  node.SetBytes("pending", pending_);
}

Status MsixTable::Load(const StateNode& node) {
  const MutexLock lock(mutex_);
  TRY(node.Version(kMsixTableStateVersion));
  const std::span<const uint8_t> table = TRY(node.BytesOf("table", table_.size()));
  const std::span<const uint8_t> pending = TRY(node.BytesOf("pending", pending_.size()));
  for (size_t i = 0; i < table.size(); ++i) {
    table_[i] = table[i] & WritableBits(static_cast<uint32_t>(i % kEntryBytes));
  }
  std::ranges::copy(pending, pending_.begin());
  for (unsigned i = 0; i < vector_count_; ++i) {
    Update(i);
  }
  return {};
}

}  // namespace pacsvisor
