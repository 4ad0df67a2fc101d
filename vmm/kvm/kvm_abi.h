// Requests of KVM that end in an array: a 32-bit count, padding, then the entries. Shaped here and
// not by the kernel's structures, because their flexible arrays (__DECLARE_FLEX_ARRAY of
// linux/stddef.h) begin with an empty struct, which has no size in C but one byte in C++: `entries`
// would lie 4 or 8 bytes too far.
#pragma once

#include <linux/ioctl.h>
#include <linux/kvm.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace pacsvisor {

template <typename Entry, size_t kEntriesOffsetBytes>
class KvmArray {
 public:
  explicit KvmArray(size_t count)
      : words_((kEntriesOffsetBytes + count * sizeof(Entry) + sizeof(uint64_t) - 1) /
               sizeof(uint64_t)) {
    const auto count32 = static_cast<uint32_t>(count);
    std::memcpy(words_.data(), &count32, sizeof(count32));
  }
  explicit KvmArray(std::span<const Entry> entries) : KvmArray(entries.size()) {
    std::memcpy(Bytes() + kEntriesOffsetBytes, entries.data(), entries.size_bytes());
  }

  void* request() { return words_.data(); }
  uint32_t count() const {
    uint32_t count;
    std::memcpy(&count, words_.data(), sizeof(count));
    return count;
  }
  // As many as KVM has counted.
  std::vector<Entry> entries() const {
    std::vector<Entry> copy(count());
    std::memcpy(copy.data(), Bytes() + kEntriesOffsetBytes, copy.size() * sizeof(Entry));
    return copy;
  }

 private:
  // The request's bytes, which KVM reads and writes.
  uint8_t* Bytes() { return reinterpret_cast<uint8_t*>(words_.data()); }
  const uint8_t* Bytes() const { return reinterpret_cast<const uint8_t*>(words_.data()); }

  std::vector<uint64_t> words_;
};

inline constexpr size_t kMaxCpuidEntries = 256;  // KVM_MAX_CPUID_ENTRIES

// Offsets by the C declarations of linux/kvm.h and asm/kvm.h.
using KvmCpuidArray = KvmArray<kvm_cpuid_entry2, 8>;       // struct kvm_cpuid2
using KvmRouteArray = KvmArray<kvm_irq_routing_entry, 8>;  // struct kvm_irq_routing
using KvmMsrIndexArray = KvmArray<uint32_t, 4>;            // struct kvm_msr_list

// `request` with the size that its structure has in C.
constexpr unsigned long WithSize(unsigned long request, unsigned long size_bytes) {
  return (request & ~(static_cast<unsigned long>(_IOC_SIZEMASK) << _IOC_SIZESHIFT)) |
         size_bytes << _IOC_SIZESHIFT;
}

inline constexpr unsigned long kKvmXsaveBytes = 4096;  // struct kvm_xsave
inline constexpr unsigned long kKvmGetSupportedCpuid = WithSize(KVM_GET_SUPPORTED_CPUID, 8);
inline constexpr unsigned long kKvmSetCpuid2 = WithSize(KVM_SET_CPUID2, 8);
inline constexpr unsigned long kKvmGetCpuid2 = WithSize(KVM_GET_CPUID2, 8);
inline constexpr unsigned long kKvmGetMsrIndexList = WithSize(KVM_GET_MSR_INDEX_LIST, 4);
inline constexpr unsigned long kKvmGetMsrs = WithSize(KVM_GET_MSRS, 8);
inline constexpr unsigned long kKvmSetMsrs = WithSize(KVM_SET_MSRS, 8);
inline constexpr unsigned long kKvmSetGsiRouting = WithSize(KVM_SET_GSI_ROUTING, 8);
inline constexpr unsigned long kKvmGetXsave = WithSize(KVM_GET_XSAVE, kKvmXsaveBytes);
inline constexpr unsigned long kKvmGetXsave2 = WithSize(KVM_GET_XSAVE2, kKvmXsaveBytes);
inline constexpr unsigned long kKvmSetXsave = WithSize(KVM_SET_XSAVE, kKvmXsaveBytes);

// struct kvm_msrs with one entry: the calls return how many they took, so that an index that fails
// is known by itself.
struct OneMsr {
  uint32_t count = 1;
  uint32_t padding = 0;
  kvm_msr_entry entry{};
};
static_assert(sizeof(OneMsr) == 24);

// struct kvm_msrs with as many entries as one call takes at most (KVM's MAX_IO_MSRS is 256).
struct ManyMsrs {
  static constexpr uint32_t kMost = 255;
  uint32_t count = 0;
  uint32_t padding = 0;
  kvm_msr_entry entries[kMost] = {};
};
static_assert(sizeof(ManyMsrs) == 8 + ManyMsrs::kMost * 16);

}  // namespace pacsvisor
