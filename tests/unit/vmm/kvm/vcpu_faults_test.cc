// Guest memory served by MemoryFaults, with a vCPU among those who touch it.
#include <gtest/gtest.h>
#include <sys/ioctl.h>

#include <atomic>
#include <cstring>
#include <future>
#include <mutex>
#include <random>
#include <thread>

#include "tests/support/needs_kvm.h"
#include "tests/support/needs_userfaultfd.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/memory/memory_faults.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kCodePage = 1;
constexpr uint64_t kGuestPages = 256;  // what real mode reaches
constexpr uint64_t kMemoryPages = 2 * kGuestPages;
constexpr size_t kWordOffset = 0x800;  // of the word that the guest uses in each page
constexpr uint64_t kTimeoutNs = 60'000'000'000;

// Real mode. For ever: next page of the 256, in steps of 93; read its word; out 0xe3, ax.
const std::vector<uint8_t> kReadLoop = {0x8c, 0xd8,        // mov ax, ds
                                        0x05, 0x00, 0x5d,  // add ax, 0x5d00
                                        0x8e, 0xd8,        // mov ds, ax
                                        0xa1, 0x00, 0x08,  // mov ax, [0x800]
                                        0xe7, 0xe3,        // out 0xe3, ax
                                        0xeb, 0xf2};       // jmp to the start
// The same, but adds one to the word: inc word [0x800] in place of the read.
const std::vector<uint8_t> kWriteLoop = {0x8c, 0xd8,              // mov ax, ds
                                         0x05, 0x00, 0x5d,        // add ax, 0x5d00
                                         0x8e, 0xd8,              // mov ds, ax
                                         0xff, 0x06, 0x00, 0x08,  // inc word [0x800]
                                         0xe7, 0xe3,              // out 0xe3, ax
                                         0xeb, 0xf1};             // jmp to the start

constexpr uint64_t PageAtStep(uint64_t step) { return (step + 1) * 93 % kGuestPages; }

uint16_t WordOf(uint64_t page) { return static_cast<uint16_t>(page * 259 + 1); }

// Every page but the code's holds its word, every 16th is zero.
class GuestSource : public PageSource {
 public:
  explicit GuestSource(std::vector<uint8_t> code) : code_(std::move(code)) {}
  static bool IsZero(uint64_t page) { return page % 16 == 5; }
  std::vector<uint8_t> PageOf(uint64_t page) const {
    std::vector<uint8_t> bytes(kPageSizeBytes, IsZero(page) ? 0 : 0x5a);
    const uint16_t word = IsZero(page) ? 0 : WordOf(page);
    std::memcpy(&bytes[kWordOffset], &word, sizeof(word));
    if (page == kCodePage) {
      std::copy(code_.begin(), code_.end(), bytes.begin());
    }
    return bytes;
  }
  Status Fetch(BlockIndex first, std::span<uint8_t> bytes) override {
    for (size_t offset = 0; offset < bytes.size(); offset += kPageSizeBytes) {
      const uint64_t page = first.raw() + offset / kPageSizeBytes;
      if (page == bad_page) {
        return Error::Make(ErrorCode::kCorrupt, "damaged");
      }
      const std::vector<uint8_t> one = PageOf(page);
      std::copy(one.begin(), one.end(), bytes.begin() + static_cast<ptrdiff_t>(offset));
    }
    return {};
  }
  Result<uint64_t> ZeroRun(BlockIndex first) override { return IsZero(first.raw()) ? 1 : 0; }

  uint64_t bad_page = ~uint64_t{0};

 private:
  const std::vector<uint8_t> code_;
};

class VcpuFaultsTest : public testing::TestWithParam<MemoryBacking> {
 protected:
  void SetUp() override {
    NEEDS_KVM();
    NEEDS_USERFAULTFD();
    memory_ = GuestMemory::Create(MemoryLayout::Create(kMemoryPages * kPageSizeBytes, 40).value(),
                                  GetParam())
                  .value();
    system_ = KvmSystem::Open().value();
    vm_ = KvmVm::Create(*system_).value();
    ASSERT_TRUE(vm_->AddMemory(*memory_).ok());
    ASSERT_TRUE(vm_->CreateInterruptControllers().ok());
    vcpu_ = vm_->CreateVcpu(VcpuId(0)).value();
    const auto cpuid =
        MakeCpuid(*system_, CpuModel::kHost, {.vcpu_count = 1, .tsc_khz = 0}, 0).value();
    ASSERT_TRUE(vcpu_->SetCpuid(cpuid).ok());
    kvm_sregs sregs = vcpu_->GetSpecialRegisters().value();
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    ASSERT_TRUE(vcpu_->SetSpecialRegisters(sregs).ok());
    kvm_regs regs{};
    regs.rip = kCodePage * kPageSizeBytes;
    regs.rflags = 2;
    ASSERT_TRUE(vcpu_->SetRegisters(regs).ok());
  }
  void TearDown() override { faults_.reset(); }

  void StartLazy(MemoryFaultsOptions options) {
    faults_ = MemoryFaults::Create(*memory_, UserFaultFd::OpenShared().value(), std::move(options))
                  .value();
    const Status started = faults_->StartLazy(source_, {});
    ASSERT_TRUE(started.ok()) << started.error().message();
  }
  void FillFromSource() {
    for (uint64_t page = 0; page < kMemoryPages; ++page) {
      ASSERT_TRUE(memory_->Write(GuestAddress(page * kPageSizeBytes), source_->PageOf(page)));
    }
  }
  void StartFaults() {
    faults_ = MemoryFaults::Create(*memory_, UserFaultFd::OpenShared().value(), {}).value();
  }
  // To the next out: the word that the guest put there.
  uint16_t Step() {
    CHECK(vcpu_->Run() == KvmVcpu::RunResult::kExit && vcpu_->run().exit_reason == KVM_EXIT_IO);
    uint16_t word = 0;
    std::memcpy(&word, vcpu_->io_data().data(), sizeof(word));
    return word;
  }
  std::vector<uint8_t> ReadPage(uint64_t page) const {
    std::vector<uint8_t> bytes(kPageSizeBytes);
    CHECK(memory_->Read(GuestAddress(page * kPageSizeBytes), bytes));
    return bytes;
  }

  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<KvmSystem> system_;
  std::unique_ptr<KvmVm> vm_;
  std::unique_ptr<KvmVcpu> vcpu_;
  std::shared_ptr<GuestSource> source_ = std::make_shared<GuestSource>(kReadLoop);
  std::unique_ptr<MemoryFaults> faults_;
};

TEST_P(VcpuFaultsTest, AVcpuFindsEveryMissingPage) {
  for (const bool prefetch : {false, true}) {
    StartLazy({.cluster_pages = 4, .prefetch = prefetch, .prefetch_pages = 1});
    for (uint64_t step = 0; step < 2 * kGuestPages; ++step) {
      const uint64_t page = (step + 1 + (prefetch ? 2 * kGuestPages : 0)) * 93 % kGuestPages;
      ASSERT_EQ(Step(), GuestSource::IsZero(page) ? 0 : WordOf(page)) << page;
    }
    for (uint64_t page = 0; page < kMemoryPages; ++page) {
      ASSERT_EQ(ReadPage(page), source_->PageOf(page)) << page;
    }
    ASSERT_TRUE(faults_->WaitUntilWhole(kTimeoutNs));
    faults_.reset();
  }
}

TEST_P(VcpuFaultsTest, AVcpusWritesToMissingPagesStay) {
  source_ = std::make_shared<GuestSource>(kWriteLoop);
  StartLazy({.cluster_pages = 2, .prefetch_pages = 2});
  constexpr uint64_t kRounds = 3;
  for (uint64_t step = 0; step < kRounds * kGuestPages; ++step) {
    Step();
  }
  ASSERT_TRUE(faults_->WaitUntilWhole(kTimeoutNs));
  for (uint64_t page = 0; page < kMemoryPages; ++page) {
    std::vector<uint8_t> expected = source_->PageOf(page);
    uint16_t word = 0;
    std::memcpy(&word, &expected[kWordOffset], sizeof(word));
    word = static_cast<uint16_t>(word + (page < kGuestPages ? kRounds : 0));
    std::memcpy(&expected[kWordOffset], &word, sizeof(word));
    ASSERT_EQ(ReadPage(page), expected) << page;
  }
}

// What is filled is not the guest's doing: KVM's log knows the guest's writes only.
TEST_P(VcpuFaultsTest, FilledPagesAreNotInKvmsLog) {
  StartLazy({.cluster_pages = 4, .prefetch = false});
  const GuestMemory::HostRange& range = memory_->host_ranges().front();
  kvm_userspace_memory_region slot = {
      .slot = 0,
      .flags = KVM_MEM_LOG_DIRTY_PAGES,
      .guest_phys_addr = range.start.raw(),
      .memory_size = range.size_bytes,
      .userspace_addr = reinterpret_cast<uint64_t>(range.host)};  // as a number
  ASSERT_EQ(ioctl(vm_->fd(), KVM_SET_USER_MEMORY_REGION, &slot), 0);
  for (uint64_t step = 0; step < kGuestPages; ++step) {
    Step();
  }
  std::vector<uint64_t> words(kMemoryPages / 64);
  kvm_dirty_log log = {.slot = 0};
  log.dirty_bitmap = words.data();
  ASSERT_EQ(ioctl(vm_->fd(), KVM_GET_DIRTY_LOG, &log), 0);
  EXPECT_EQ(words, std::vector<uint64_t>(words.size()));
  EXPECT_EQ(memory_->dirty().CountMarked(), 0u);
}

TEST_P(VcpuFaultsTest, AVcpuThatNeedsAPageThatIsNotToBeHadComesBackWhenCutOff) {
  source_->bad_page = PageAtStep(20);
  std::promise<void> failed;
  StartLazy({.cluster_pages = 1, .prefetch = false, .on_failure = [&](const Error&) {
               failed.set_value();
             }});
  uint64_t steps = 0;
  std::thread runs([&] {
    while (vcpu_->Run() == KvmVcpu::RunResult::kExit && vcpu_->run().exit_reason == KVM_EXIT_IO) {
      ++steps;
    }
  });
  failed.get_future().wait();
  faults_->CutOff();
  runs.join();
  EXPECT_EQ(steps, 20u);  // and has seen nothing of that page
  faults_.reset();
}

class CountingSink : public ResidueSink {
 public:
  Result<std::span<uint8_t>> Reserve(Extent pages) override {
    EXPECT_LE(pages.first.raw() + pages.count, kMemoryPages);
    return std::span(bytes_).subspan(pages.first.raw() * kPageSizeBytes,
                                     pages.count * kPageSizeBytes);
  }
  void Landed(Extent pages) override {
    for (uint64_t i = 0; i < pages.count; ++i) {
      landed_[pages.first.raw() + i].fetch_add(1);
    }
  }
  void ExpectEachOnce(const std::vector<std::vector<uint8_t>>& expected) const {
    for (uint64_t page = 0; page < kMemoryPages; ++page) {
      const auto start = bytes_.begin() + static_cast<ptrdiff_t>(page * kPageSizeBytes);
      ASSERT_EQ(landed_[page], 1) << page;
      ASSERT_EQ(std::vector<uint8_t>(start, start + kPageSizeBytes), expected[page]) << page;
    }
  }

 private:
  std::vector<uint8_t> bytes_ = std::vector<uint8_t>(kMemoryPages * kPageSizeBytes);
  std::vector<std::atomic<int>> landed_ = std::vector<std::atomic<int>>(kMemoryPages);
};

TEST_P(VcpuFaultsTest, AVcpuWritesProtectedPagesOnlyOnceTheyAreCopied) {
  source_ = std::make_shared<GuestSource>(kWriteLoop);
  FillFromSource();
  StartFaults();
  std::mutex running;  // held by the vCPU while it runs guest code
  std::atomic<bool> pausing = false;
  std::atomic<bool> stop = false;
  std::vector<uint64_t> written(kMemoryPages);
  std::thread runs([&] {
    for (uint64_t step = 0; !stop; ++step) {
      while (pausing && !stop) {
        std::this_thread::yield();
      }
      const std::lock_guard lock(running);
      Step();
      ++written[PageAtStep(step)];
    }
  });
  for (int epoch = 0; epoch < 100; ++epoch) {
    CountingSink sink;
    std::vector<std::vector<uint8_t>> expected;
    const uint64_t before = faults_->GetProgress().write_faults;
    {
      pausing = true;
      const std::lock_guard pause(running);
      for (uint64_t page = 0; page < kMemoryPages; ++page) {
        expected.push_back(ReadPage(page));
      }
      std::vector<uint64_t> words(memory_->dirty().word_count());
      ASSERT_TRUE(faults_->BeginResidue(sink, words).ok());
      const Extent all = {BlockIndex(0), kMemoryPages};
      ASSERT_TRUE(faults_->ProtectResidue({&all, 1}).ok());
      pausing = false;
    }
    while (faults_->GetProgress().write_faults < before + 5) {
      std::this_thread::yield();
    }
    ASSERT_TRUE(faults_->CopyRest().ok());
    sink.ExpectEachOnce(expected);
  }
  stop = true;
  runs.join();
  for (uint64_t page = 0; page < kMemoryPages; ++page) {
    uint16_t word = 0;
    std::memcpy(&word, &source_->PageOf(page)[kWordOffset], sizeof(word));
    uint16_t now = 0;
    std::memcpy(&now, &ReadPage(page)[kWordOffset], sizeof(now));
    ASSERT_EQ(now, static_cast<uint16_t>(word + written[page])) << page;
  }
}

INSTANTIATE_TEST_SUITE_P(Backings, VcpuFaultsTest,
                         testing::Values(MemoryBacking::kAnonymous, MemoryBacking::kMemfd),
                         [](const auto& one) {
                           return one.param == MemoryBacking::kMemfd ? "Memfd" : "Anonymous";
                         });

}  // namespace
}  // namespace pacsvisor
