#include "tests/support/writing_guest.h"

#include <array>
#include <cerrno>

#include "vmm/kvm/cpuid.h"

// What the guest runs, at any address. rsi: list of page addresses; rdi: where nothing is, a store
// to which leaves guest code.
asm(R"(
.pushsection .rodata
.intel_syntax noprefix
# rdx: how many of the list, rcx: the first value.
writing_guest_list:
1:  mov rax, [rsi]
    mov [rax], rcx
    add rsi, 8
    inc rcx
    dec rdx
    jnz 1b
    mov [rdi], al
    ud2
# r8: random state, not 0 (xorshift64); r9: list entries less 1; r11: writes a share.
writing_guest_random:
2:  mov rdx, r11
3:  mov rax, r8
    shl rax, 13
    xor r8, rax
    mov rax, r8
    shr rax, 7
    xor r8, rax
    mov rax, r8
    shl rax, 17
    xor r8, rax
    mov rax, r8
    and rax, r9
    mov rax, [rsi + rax * 8]
    mov [rax], r8
    dec rdx
    jnz 3b
    mov [rdi], al
    jmp 2b
writing_guest_end:
.att_syntax prefix
.popsection
)");
extern "C" const uint8_t writing_guest_list[];
extern "C" const uint8_t writing_guest_random[];
extern "C" const uint8_t writing_guest_end[];

namespace pacsvisor {
namespace {

constexpr uint64_t kCodeAddress = 0x1000;
constexpr uint64_t kPageTables = 0x1'0000;  // PML4, PDPT, then page directories
constexpr uint64_t kDirectories = 6;
constexpr uint64_t kLists = kMiB;
constexpr uint64_t kNothing = 0xd000'0000;  // in the hole below 4 GiB
constexpr uint64_t kWritesPerShare = 512;

// Intel SDM volume 3, 4.5: present, writable, for CPL 3; page of 2 MiB.
constexpr uint64_t kTableEntry = 0x7;
constexpr uint64_t kLargePageEntry = 0x87;

uint64_t ListAddress(uint32_t vcpu) {
  return kLists + vcpu * WritingGuest::kMaxListed * sizeof(uint64_t);
}

kvm_segment Segment(uint16_t selector, uint8_t type, bool code) {
  kvm_segment segment{};
  segment.limit = 0xffff'ffff;
  segment.selector = selector;
  segment.type = type;
  segment.present = 1;
  segment.dpl = 3;
  segment.db = code ? 0 : 1;
  segment.s = 1;
  segment.l = code ? 1 : 0;
  segment.g = 1;
  return segment;
}

}  // namespace

WritingGuest::WritingGuest(const Options& options) {
  system_ = KvmSystem::Open().value();
  MemoryLayout layout;
  if (options.regions.empty()) {
    layout = MemoryLayout::Create(options.memory_bytes, 40).value();
  } else {
    for (const MemoryRegion& region : options.regions) {
      layout.regions.push_back(region);
      layout.memory_bytes += region.size_bytes;
    }
  }
  memory_ = GuestMemory::Create(layout, options.backing).value();
  vm_ = KvmVm::Create(*system_, {.dirty_ring_entries = options.ring_entries}).value();
  vm_->AddMemory(*memory_, options.logging).value();
  MakePageTables();
  MakeVcpus(options);
}

WritingGuest::~WritingGuest() { StopWriting(); }

void WritingGuest::MakePageTables() {
  const auto put = [this](uint64_t address, uint64_t value) {
    CHECK(memory_->WriteObject(GuestAddress(address), value));
  };
  const uint64_t pointers = kPageTables + kPageSizeBytes;
  const uint64_t directories = pointers + kPageSizeBytes;
  put(kPageTables, pointers | kTableEntry);
  for (uint64_t i = 0; i < kDirectories; ++i) {
    put(pointers + i * 8, (directories + i * kPageSizeBytes) | kTableEntry);
  }
  for (uint64_t i = 0; i < kDirectories * 512; ++i) {
    put(directories + i * 8, i * 2 * kMiB | kLargePageEntry);
  }
  CHECK(memory_->Write(GuestAddress(kCodeAddress), {writing_guest_list, writing_guest_end}));
}

void WritingGuest::MakeVcpus(const Options& options) {
  for (uint32_t id = 0; id < options.vcpus; ++id) {
    vcpus_.push_back(vm_->CreateVcpu(VcpuId(id)).value());
    KvmVcpu& vcpu = *vcpus_.back();
    const CpuTopology topology{.vcpu_count = options.vcpus, .tsc_khz = 0};
    vcpu.SetCpuid(MakeCpuid(*system_, CpuModel::kHost, topology, id).value()).value();
    kvm_sregs sregs = vcpu.GetSpecialRegisters().value();
    sregs.cr0 = 0x8000'0033;  // PG, NE, ET, MP, PE
    sregs.cr3 = kPageTables;
    sregs.cr4 = 0x20;    // PAE
    sregs.efer = 0x500;  // LMA, LME
    sregs.cs = Segment(0x33, 11, true);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = Segment(0x2b, 3, false);
    vcpu.SetSpecialRegisters(sregs).value();
  }
}

std::vector<uint64_t> WritingGuest::FreePages() const {
  std::vector<uint64_t> pages(memory_->page_count() - kFirstFreeAddress / kPageSizeBytes);
  for (uint64_t i = 0; i < pages.size(); ++i) {
    pages[i] = kFirstFreeAddress / kPageSizeBytes + i;
  }
  return pages;
}

GuestAddress WritingGuest::AddressOf(uint64_t page) const {
  for (const GuestMemory::HostRange& range : memory_->host_ranges()) {
    const uint64_t first = range.first_block.raw();
    if (page >= first && page - first < range.size_bytes / kPageSizeBytes) {
      return *range.start.Plus((page - first) * kPageSizeBytes);
    }
  }
  CHECK(false, "page {} of {}", page, memory_->page_count());
}

void WritingGuest::PutList(uint32_t number, std::span<const uint64_t> pages) {
  CHECK(pages.size() <= kMaxListed && number < kMaxVcpus);
  std::vector<uint64_t> addresses;
  for (const uint64_t page : pages) {
    addresses.push_back(AddressOf(page).raw());
  }
  // Numbers as bytes.
  CHECK(memory_->Write(
      GuestAddress(ListAddress(number)),
      {reinterpret_cast<const uint8_t*>(addresses.data()), addresses.size() * sizeof(uint64_t)}));
}

void WritingGuest::Write(uint32_t number, std::span<const uint64_t> pages) {
  if (pages.empty()) {
    return;
  }
  PutList(number, pages);
  kvm_regs registers{};
  registers.rip = kCodeAddress;
  registers.rflags = 2;
  registers.rsi = ListAddress(number);
  registers.rdi = kNothing;
  registers.rdx = pages.size();
  registers.rcx = next_value_;
  next_value_ += pages.size();
  vcpu(number).SetRegisters(registers).value();
  RunUntilDone(number);
}

void WritingGuest::RunUntilDone(uint32_t number) {
  KvmVcpu& vcpu = *vcpus_[number];
  while (true) {
    const KvmVcpu::RunResult result = vcpu.Run();
    CHECK(result != KvmVcpu::RunResult::kFailed, "KVM_RUN: errno {}", errno);
    if (result == KvmVcpu::RunResult::kInterrupted) {
      continue;
    }
    const uint32_t reason = vcpu.run().exit_reason;
    if (reason == KVM_EXIT_DIRTY_RING_FULL && on_ring_full_) {
      ring_full_exits_.fetch_add(1);
      on_ring_full_(number);
      continue;
    }
    CHECK(reason == KVM_EXIT_MMIO, "vCPU {} left the guest for {}", number, reason);
    break;
  }
  // The store that says so is completed, or it would be with the next run's registers.
  vcpu.RequestExit();
  CHECK(vcpu.Run() == KvmVcpu::RunResult::kInterrupted);
  vcpu.ClearExitRequest();
}

void WritingGuest::StartWriting(std::span<const uint64_t> pages) {
  CHECK(threads_.empty() && IsPowerOfTwo(pages.size()));
  stop_ = false;
  written_ = 0;
  for (uint32_t number = 0; number < vcpus_.size(); ++number) {
    PutList(number, pages);
    kvm_regs registers{};
    registers.rip = kCodeAddress + static_cast<uint64_t>(writing_guest_random - writing_guest_list);
    registers.rflags = 2;
    registers.rsi = ListAddress(number);
    registers.rdi = kNothing;
    registers.r8 = next_value_ * 0x9e37'79b9'7f4a'7c15 + number;
    registers.r9 = pages.size() - 1;
    registers.r11 = kWritesPerShare;
    vcpu(number).SetRegisters(registers).value();
  }
  ++next_value_;
  for (uint32_t number = 0; number < vcpus_.size(); ++number) {
    threads_.emplace_back([this, number] { WriteUntilStopped(number); });
  }
}

void WritingGuest::WriteUntilStopped(uint32_t number) {
  while (!stop_) {
    RunUntilDone(number);
    written_.fetch_add(kWritesPerShare);
  }
}

void WritingGuest::StopWriting() {
  stop_ = true;
  for (std::thread& thread : threads_) {
    thread.join();
  }
  threads_.clear();
}

}  // namespace pacsvisor
