#include "vmm/machine/vcpu_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "tests/support/needs_kvm.h"
#include "vmm/base/byte_order.h"
#include "vmm/base/clock.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/machine/fault_report.h"
#include "vmm/machine/vcpu_group.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kCodeStart = 0x1000;
constexpr uint64_t kInPort = 0xe2;
constexpr uint64_t kOutPort = 0xe3;
constexpr size_t kVcpus = 2;
constexpr std::chrono::seconds kDeadline(60);

// Hands each vCPU its own rising numbers and checks that they come back in order, each once. Which
// vCPU accesses is told by the thread.
class EchoDevice : public BusDevice {
 public:
  void Read(uint64_t, std::span<uint8_t> data) override {
    StoreLeBytes(data, ++next_number());
    count_.fetch_add(1);
  }
  void Write(uint64_t, std::span<const uint8_t> data) override {
    if (static_cast<uint8_t>(LoadLeBytes(data)) != next_number()) {
      wrong_.fetch_add(1);
    }
    count_.fetch_add(1);
  }
  uint64_t count() const { return count_.load(); }
  uint64_t wrong() const { return wrong_.load(); }

 private:
  static uint8_t& next_number() {
    thread_local uint8_t number = 0;
    return number;
  }
  std::atomic<uint64_t> count_ = 0;
  std::atomic<uint64_t> wrong_ = 0;
};

class VcpuThreadTest : public testing::Test {
 protected:
  void SetUp() override {
    NEEDS_KVM();
    system_ = KvmSystem::Open().value();
    memory_ =
        GuestMemory::Create(MemoryLayout::Create(4 * kMiB, 40).value(), MemoryBacking::kAnonymous)
            .value();
    vm_ = KvmVm::Create(*system_).value();
    ASSERT_TRUE(vm_->AddMemory(*memory_).ok());
    ASSERT_TRUE(ports_.Insert(kInPort, 2, echo_).ok());
  }

  // Without interrupt controllers every vCPU runs from the start.
  void AddVcpus(size_t count, std::initializer_list<uint8_t> code) {
    ASSERT_TRUE(memory_->Write(GuestAddress(kCodeStart), std::vector<uint8_t>(code)));
    for (uint32_t id = 0; id < count; ++id) {
      auto vcpu = vm_->CreateVcpu(VcpuId(id)).value();
      const auto cpuid = MakeCpuid(*system_, CpuModel::kHost,
                                   {.vcpu_count = static_cast<uint32_t>(count), .tsc_khz = 0}, id)
                             .value();
      ASSERT_TRUE(vcpu->SetCpuid(cpuid).ok());
      kvm_sregs sregs = vcpu->GetSpecialRegisters().value();
      sregs.cs.base = 0;
      sregs.cs.selector = 0;
      ASSERT_TRUE(vcpu->SetSpecialRegisters(sregs).ok());
      kvm_regs regs{};
      regs.rip = kCodeStart;
      regs.rflags = 2;
      ASSERT_TRUE(vcpu->SetRegisters(regs).ok());
      vcpus_.Add(std::make_unique<VcpuThread>(
          std::move(vcpu), VcpuThread::Environment{ports_, mmio_, [this](const VcpuFault& fault) {
                                                     fault_.set_value(fault);
                                                   }}));
    }
    ASSERT_TRUE(vcpus_.Start().ok());
  }

  void WaitForAccesses(uint64_t more) {
    const uint64_t wanted = echo_.count() + more;
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    while (echo_.count() < wanted && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    ASSERT_GE(echo_.count(), wanted);
  }

  std::unique_ptr<KvmSystem> system_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<KvmVm> vm_;
  Bus ports_{"I/O port", 0x10000};
  Bus mmio_{"MMIO", uint64_t{1} << 40};
  EchoDevice echo_;
  std::promise<VcpuFault> fault_;
  VcpuGroup vcpus_;
};

constexpr std::initializer_list<uint8_t> kEchoLoop = {0xe4, 0xe2,   // in al, 0xe2
                                                      0xe6, 0xe3,   // out 0xe3, al
                                                      0xeb, 0xfa};  // jmp back to the first

TEST_F(VcpuThreadTest, RunsNothingBeforeTheFirstResume) {
  AddVcpus(kVcpus, kEchoLoop);
  vcpus_.Pause();
  EXPECT_EQ(echo_.count(), 0u);
  vcpus_.Resume();
  WaitForAccesses(10);
}

TEST_F(VcpuThreadTest, TellsWhenItFirstEnteredTheGuest) {
  AddVcpus(1, kEchoLoop);
  const VcpuThread& thread = *vcpus_.threads()[0];
  EXPECT_EQ(thread.first_entry_ns(), 0u);
  const uint64_t resumed_ns = MonotonicNs();
  vcpus_.Resume();
  WaitForAccesses(10);
  const uint64_t first_ns = thread.first_entry_ns();
  EXPECT_GE(first_ns, resumed_ns);
  vcpus_.Pause();
  vcpus_.Resume();
  WaitForAccesses(10);
  EXPECT_EQ(thread.first_entry_ns(), first_ns);
}

TEST_F(VcpuThreadTest, LosesAndRepeatsNoAccessAcrossPauses) {
  AddVcpus(kVcpus, kEchoLoop);
  vcpus_.Resume();
  for (int round = 0; round < 200; ++round) {
    WaitForAccesses(round % 7);
    vcpus_.Pause();
    const uint64_t paused_count = echo_.count();
    for (const auto& thread : vcpus_.threads()) {
      ASSERT_TRUE(thread->vcpu().GetRegisters().ok());
    }
    ASSERT_EQ(echo_.count(), paused_count);
    vcpus_.Resume();
  }
  WaitForAccesses(100);
  EXPECT_EQ(echo_.wrong(), 0u);
}

TEST_F(VcpuThreadTest, StopsWhilePausedAndWhileRunning) {
  AddVcpus(1, kEchoLoop);
  vcpus_.Resume();
  WaitForAccesses(10);
  vcpus_.RequestStop();
  vcpus_.Join();
  const uint64_t count = echo_.count();
  vcpus_.Resume();
  vcpus_.Pause();  // does not wait for threads that have ended
  EXPECT_EQ(echo_.count(), count);
}

TEST_F(VcpuThreadTest, ReportsAVcpuThatCannotGoOn) {
  AddVcpus(1, {0xf4});  // hlt, with no interrupt controller to wake it
  vcpus_.Resume();
  auto future = fault_.get_future();
  ASSERT_EQ(future.wait_for(kDeadline), std::future_status::ready);
  const VcpuFault fault = future.get();
  EXPECT_EQ(fault.vcpu, VcpuId(0));
  vcpus_.Pause();
  const std::string report = MakeFaultReport(vcpus_.threads()[0]->vcpu(), *memory_, fault.reason);
  EXPECT_THAT(report, testing::HasSubstr("halted"));
  EXPECT_THAT(report, testing::HasSubstr("rip 0000000000001001"));
  EXPECT_THAT(report, testing::HasSubstr("add"));  // the zeroes behind hlt, disassembled
  EXPECT_THAT(report, testing::HasSubstr("paging is off"));
}

}  // namespace
}  // namespace pacsvisor
