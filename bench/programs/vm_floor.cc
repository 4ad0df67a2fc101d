// What this host's KVM takes by itself until a virtual machine's first KVM_RUN: the floor of every
// start and restore, by bare system calls and with nothing else in the machine.
//
// usage: bench_vm_floor MEMORY-MIB [none|late|first]
//   none   no dirty log (the default)
//   late   switched on behind the vCPU with every page set, then cleared in parts
//   first  the memory slots are added with it
// One machine a process, as a restore has one. Prints a JSON object of nanoseconds: of each step,
// "entry_ns" until KVM_RUN is called, "exit_ns" until the guest's first instruction has left it.
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm/base/clock.h"
#include "vmm/base/unique_fd.h"
#include "vmm/kvm/kvm_abi.h"
#include "vmm/memory/memory_layout.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kPartPages = 16 * 1024;  // cleared by one call, as vmm/kvm does
constexpr uint64_t kCodeAddress = 0x1000;
constexpr uint8_t kCode[] = {0xe4, 0xe2};  // in al, 0xe2: leaves the guest

enum class DirtyLog { kNone, kLate, kFirst };

[[noreturn]] void Die(const char* what) {
  fmt::print(stderr, "error: {}: {}\n", what, std::strerror(errno));
  std::exit(1);
}

int Must(const char* what, int result) {
  if (result < 0) {
    Die(what);
  }
  return result;
}

#define MUST_IOCTL(fd, request, ...) Must(#request, ioctl(fd, request, __VA_ARGS__))

struct Slot {
  uint32_t number;
  MemoryRegion region;
  uint8_t* host;
};

// Time since the last step, by the step's name.
class Steps {
 public:
  uint64_t Done(std::string name) {
    const uint64_t now_ns = MonotonicNs();
    const uint64_t took_ns = now_ns - std::exchange(last_ns_, now_ns);
    steps_.emplace_back(std::move(name), took_ns);
    return took_ns;
  }
  uint64_t total_ns() const { return last_ns_ - begun_ns_; }
  std::string Json() const {
    std::string text;
    for (const auto& [name, ns] : steps_) {
      text += fmt::format(R"("{}": {}, )", name, ns);
    }
    return text;
  }

 private:
  const uint64_t begun_ns_ = MonotonicNs();
  uint64_t last_ns_ = begun_ns_;
  std::vector<std::pair<std::string, uint64_t>> steps_;
};

std::vector<Slot> MapMemory(uint64_t memory_bytes) {
  std::vector<Slot> slots;
  const MemoryLayout layout = MemoryLayout::Create(memory_bytes, 46).value();
  for (const MemoryRegion& region : layout.regions) {
    void* const at = mmap(nullptr, region.size_bytes + 2 * kMiB, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
      Die("mmap");
    }
    auto* const host = reinterpret_cast<uint8_t*>(  // an address as a number, and back
        AlignUp(reinterpret_cast<uintptr_t>(at), 2 * kMiB));
    madvise(host, region.size_bytes, MADV_HUGEPAGE);
    slots.push_back({static_cast<uint32_t>(slots.size()), region, host});
  }
  return slots;
}

void SetSlots(int vm, const std::vector<Slot>& slots, bool logged) {
  for (const Slot& slot : slots) {
    const kvm_userspace_memory_region region{
        .slot = slot.number,
        .flags = static_cast<uint32_t>(logged ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = slot.region.start.raw(),
        .memory_size = slot.region.size_bytes,
        .userspace_addr = reinterpret_cast<uintptr_t>(slot.host),  // as KVM takes it
    };
    MUST_IOCTL(vm, KVM_SET_USER_MEMORY_REGION, &region);
  }
}

void LogLate(int vm, const std::vector<Slot>& slots) {
  kvm_enable_cap request{};
  request.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
  request.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
  MUST_IOCTL(vm, KVM_ENABLE_CAP, &request);
  SetSlots(vm, slots, true);
  std::vector<uint64_t> ones(kPartPages / 64, ~uint64_t{0});
  for (const Slot& slot : slots) {
    const uint64_t pages = slot.region.size_bytes / kPageSizeBytes;
    for (uint64_t first = 0; first < pages; first += kPartPages) {
      kvm_clear_dirty_log clear{};
      clear.slot = slot.number;
      clear.first_page = first;
      clear.num_pages = static_cast<uint32_t>(std::min(kPartPages, pages - first));
      clear.dirty_bitmap = ones.data();
      MUST_IOCTL(vm, KVM_CLEAR_DIRTY_LOG, &clear);
    }
  }
}

void MakeInterruptControllers(int vm) {
  MUST_IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
  const kvm_pit_config pit{.flags = KVM_PIT_SPEAKER_DUMMY, .pad = {}};
  MUST_IOCTL(vm, KVM_CREATE_PIT2, &pit);
}

UniqueFd MakeVcpu(int kvm, int vm) {
  UniqueFd vcpu(MUST_IOCTL(vm, KVM_CREATE_VCPU, 0));
  KvmCpuidArray supported(kMaxCpuidEntries);
  MUST_IOCTL(kvm, kKvmGetSupportedCpuid, supported.request());
  MUST_IOCTL(vcpu.get(), kKvmSetCpuid2, supported.request());
  kvm_sregs special{};
  MUST_IOCTL(vcpu.get(), KVM_GET_SREGS, &special);
  special.cs.base = 0;
  special.cs.selector = 0;
  MUST_IOCTL(vcpu.get(), KVM_SET_SREGS, &special);
  kvm_regs registers{};
  registers.rip = kCodeAddress;
  registers.rflags = 2;
  MUST_IOCTL(vcpu.get(), KVM_SET_REGS, &registers);
  return vcpu;
}

void Measure(uint64_t memory_bytes, DirtyLog log) {
  Steps steps;
  const std::vector<Slot> slots = MapMemory(memory_bytes);
  steps.Done("map_ns");
  const UniqueFd kvm(Must("/dev/kvm", open("/dev/kvm", O_RDWR | O_CLOEXEC)));
  const UniqueFd vm(MUST_IOCTL(kvm.get(), KVM_CREATE_VM, 0));
  const uint64_t identity_page = kKvmIdentityMapPage.raw();
  MUST_IOCTL(vm.get(), KVM_SET_IDENTITY_MAP_ADDR, &identity_page);
  MUST_IOCTL(vm.get(), KVM_SET_TSS_ADDR, kKvmTssStart.raw());
  steps.Done("vm_ns");
  SetSlots(vm.get(), slots, log == DirtyLog::kFirst);
  steps.Done("memory_slots_ns");
  MakeInterruptControllers(vm.get());
  steps.Done("irqchip_ns");
  const UniqueFd vcpu = MakeVcpu(kvm.get(), vm.get());
  const int run_bytes = MUST_IOCTL(kvm.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  void* const mapped = mmap(nullptr, static_cast<size_t>(run_bytes), PROT_READ | PROT_WRITE,
                            MAP_SHARED, vcpu.get(), 0);
  if (mapped == MAP_FAILED) {
    Die("mmap of the vCPU");
  }
  steps.Done("vcpu_ns");
  if (log == DirtyLog::kLate) {
    LogLate(vm.get(), slots);
  }
  steps.Done("dirty_log_ns");
  const uint64_t entry_ns = steps.total_ns();
  std::memcpy(slots.front().host + kCodeAddress, kCode, sizeof(kCode));
  steps.Done("code_ns");  // a huge page is zeroed: not KVM's
  MUST_IOCTL(vcpu.get(), KVM_RUN, 0);
  const uint64_t first_run_ns = steps.Done("first_run_ns");
  const auto* const run = static_cast<const kvm_run*>(mapped);
  if (run->exit_reason != KVM_EXIT_IO) {
    fmt::print(stderr, "error: the guest's instruction left with reason {}\n",
               uint32_t{run->exit_reason});
    std::exit(1);
  }
  fmt::print("{{{}\"entry_ns\": {}, \"exit_ns\": {}}}\n", steps.Json(), entry_ns,
             entry_ns + first_run_ns);
}

int Main(int argc, char** argv) {
  const uint64_t memory_mib = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 0;
  const std::string_view log = argc > 2 ? argv[2] : "none";
  const bool known = log == "none" || log == "late" || log == "first";
  if (memory_mib < 2 || memory_mib > 4 * 1024 * 1024 || argc > 3 || !known) {
    fmt::print(stderr, "usage: bench_vm_floor MEMORY-MIB [none|late|first]\n");
    return 2;
  }
  Measure(memory_mib * kMiB, log == "late"    ? DirtyLog::kLate
                             : log == "first" ? DirtyLog::kFirst
                                              : DirtyLog::kNone);
  return 0;
}

}  // namespace
}  // namespace pacsvisor

int main(int argc, char** argv) { return pacsvisor::Main(argc, argv); }
