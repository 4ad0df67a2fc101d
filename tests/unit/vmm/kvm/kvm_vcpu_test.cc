#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "tests/support/needs_kvm.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/interrupt_routes.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kCodeStart = 0x1000;

// A machine of one or more vCPUs that runs a few bytes of real-mode code.
class KvmVcpuTest : public testing::Test {
 protected:
  void SetUp() override {
    NEEDS_KVM();
    system_ = KvmSystem::Open().value();
    Build();
  }

  void Build() {
    vcpu_.reset();
    vm_.reset();
    memory_ =
        GuestMemory::Create(MemoryLayout::Create(4 * kMiB, 40).value(), MemoryBacking::kAnonymous)
            .value();
    vm_ = KvmVm::Create(*system_).value();
    ASSERT_TRUE(vm_->AddMemory(*memory_).ok());
    ASSERT_TRUE(vm_->CreateInterruptControllers().ok());
    vcpu_ = vm_->CreateVcpu(VcpuId(0)).value();
    const auto cpuid =
        MakeCpuid(*system_, CpuModel::kHost, {.vcpu_count = 1, .tsc_khz = 0}, 0).value();
    ASSERT_TRUE(vcpu_->SetCpuid(cpuid).ok());
  }

  void StartAt(std::initializer_list<uint8_t> code) {
    ASSERT_TRUE(memory_->Write(GuestAddress(kCodeStart), std::vector<uint8_t>(code)));
    kvm_sregs sregs = vcpu_->GetSpecialRegisters().value();
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    ASSERT_TRUE(vcpu_->SetSpecialRegisters(sregs).ok());
    kvm_regs regs{};
    regs.rip = kCodeStart;
    regs.rflags = 2;
    ASSERT_TRUE(vcpu_->SetRegisters(regs).ok());
  }

  StateNode Saved() {
    StateNode node;
    EXPECT_TRUE(vcpu_->Save(node).ok());
    return node;
  }

  std::unique_ptr<KvmSystem> system_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<KvmVm> vm_;
  std::unique_ptr<KvmVcpu> vcpu_;
};

TEST_F(KvmVcpuTest, LeavesGuestCodeForAPortAndCompletesTheRead) {
  StartAt({0xe4, 0xe2,    // in al, 0xe2
           0xe6, 0xe3});  // out 0xe3, al
  ASSERT_EQ(vcpu_->Run(), KvmVcpu::RunResult::kExit);
  ASSERT_EQ(vcpu_->run().exit_reason, uint32_t{KVM_EXIT_IO});
  ASSERT_EQ(vcpu_->io_data().size(), 1u);
  vcpu_->io_data()[0] = 0x5a;
  ASSERT_EQ(vcpu_->Run(), KvmVcpu::RunResult::kExit);
  EXPECT_EQ(vcpu_->run().io.port, 0xe3);
  EXPECT_EQ(vcpu_->io_data()[0], 0x5a);
}

TEST_F(KvmVcpuTest, CompletesThePendingReadBeforeItStopsOnRequest) {
  StartAt({0xe4, 0xe2,    // in al, 0xe2
           0xe6, 0xe3});  // out 0xe3, al
  ASSERT_EQ(vcpu_->Run(), KvmVcpu::RunResult::kExit);
  vcpu_->io_data()[0] = 0x77;
  vcpu_->RequestExit();
  ASSERT_EQ(vcpu_->Run(), KvmVcpu::RunResult::kInterrupted);
  EXPECT_EQ(vcpu_->GetRegisters()->rax & 0xff, 0x77u);
  vcpu_->ClearExitRequest();
  ASSERT_EQ(vcpu_->Run(), KvmVcpu::RunResult::kExit);
  EXPECT_EQ(vcpu_->io_data()[0], 0x77);
}

TEST_F(KvmVcpuTest, GoesOnInAnotherMachineFromItsSavedState) {
  StartAt({0xb0, 0x21,    // mov al, 0x21
           0xe6, 0xe3,    // out 0xe3, al
           0xfe, 0xc0,    // inc al
           0xe6, 0xe3});  // out 0xe3, al
  ASSERT_EQ(vcpu_->Run(), KvmVcpu::RunResult::kExit);
  vcpu_->RequestExit();
  ASSERT_EQ(vcpu_->Run(), KvmVcpu::RunResult::kInterrupted);
  const std::vector<uint8_t> bytes = EncodeState(Saved());
  std::vector<uint8_t> page(16);
  ASSERT_TRUE(memory_->Read(GuestAddress(kCodeStart), page));

  Build();
  ASSERT_TRUE(memory_->Write(GuestAddress(kCodeStart), page));
  const StateNode node = DecodeState(bytes).value();
  const Status cpu = vcpu_->LoadCpu(node);
  ASSERT_TRUE(cpu.ok()) << cpu.error().message();
  const Status registers = vcpu_->LoadRegisters(node);
  ASSERT_TRUE(registers.ok()) << registers.error().message();
  ASSERT_EQ(vcpu_->Run(), KvmVcpu::RunResult::kExit);
  EXPECT_EQ(vcpu_->io_data()[0], 0x22);
}

TEST_F(KvmVcpuTest, SavesTheSameStateAfterLoadingIt) {
  StartAt({0xe4, 0xe2});
  const StateNode first = Saved();
  Build();
  ASSERT_TRUE(vcpu_->LoadCpu(first).ok());
  ASSERT_TRUE(vcpu_->LoadRegisters(first).ok());
  const StateNode second = Saved();
  std::vector<std::string_view> names = {"mp_state",  "regs",  "sregs2", "xsave",
                                         "debugregs", "lapic", "cpuid",  "events"};
  // A host without XSAVE has no XCR0 to save; one that has it must not leave it out.
  ASSERT_EQ(first.Has("xcrs"), system_->Check(KVM_CAP_XCRS) > 0);
  if (first.Has("xcrs")) {
    names.push_back("xcrs");
  }
  for (const std::string_view name : names) {
    const auto before = first.BytesOf(name).value();
    const auto after = second.BytesOf(name).value();
    EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin(), after.end())) << name;
  }
}

TEST_F(KvmVcpuTest, RefusesStateThatIsCutShort) {
  StateNode whole = Saved();
  for (const std::string_view name : {"regs", "lapic", "msrs", "xsave", "cpuid", "events"}) {
    StateNode cut = whole;
    auto& bytes = std::get<StateNode::Bytes>(cut.mutable_fields().find(name)->second.value);
    bytes.pop_back();
    const bool refused = !vcpu_->LoadCpu(cut).ok() || !vcpu_->LoadRegisters(cut).ok();
    EXPECT_TRUE(refused) << name;
  }
}

// KVM itself would take such tables, and the guest would find out later.
TEST_F(KvmVcpuTest, RefusesAFeatureThatThisHostLacksByItsName) {
  struct Lack {
    uint32_t function;
    uint32_t kvm_cpuid_entry2::*reg;
    unsigned bit;
    std::string_view name;
  };
  const StateNode whole = Saved();
  int lacking = 0;
  for (const Lack& lack :
       {Lack{1, &kvm_cpuid_entry2::ecx, 5, "VMX"}, Lack{7, &kvm_cpuid_entry2::ebx, 26, "AVX512PF"},
        Lack{7, &kvm_cpuid_entry2::edx, 15, "HYBRID"},
        Lack{7, &kvm_cpuid_entry2::edx, 0, "CPUID 0x7.0 EDX bit 0"},
        Lack{0x8000'0001, &kvm_cpuid_entry2::ecx, 15, "LWP"}}) {
    StateNode asks = whole;
    auto& bytes = std::get<StateNode::Bytes>(asks.mutable_fields().find("cpuid")->second.value);
    std::vector<kvm_cpuid_entry2> entries(bytes.size() / sizeof(kvm_cpuid_entry2));
    std::memcpy(entries.data(), bytes.data(), bytes.size());
    for (kvm_cpuid_entry2& entry : entries) {
      if (entry.function == lack.function && entry.index == 0) {
        lacking += (entry.*lack.reg >> lack.bit & 1) == 0 ? 1 : 0;
        entry.*lack.reg |= 1u << lack.bit;
      }
    }
    std::memcpy(bytes.data(), entries.data(), bytes.size());
    const Status loaded = vcpu_->LoadCpu(asks);
    ASSERT_FALSE(loaded.ok()) << lack.name;
    EXPECT_EQ(loaded.error().code(), ErrorCode::kUnsupported);
    EXPECT_THAT(loaded.error().message(),
                testing::HasSubstr("with " + std::string(lack.name) + ","));
  }
  EXPECT_EQ(lacking, 5) << "no processor has all of these";
  EXPECT_TRUE(vcpu_->LoadCpu(whole).ok());
}

TEST_F(KvmVcpuTest, KeepsTheInterruptControllersAcrossMachines) {
  StateNode pit;
  StateNode chips;
  ASSERT_TRUE(vm_->SavePit(pit).ok());
  ASSERT_TRUE(vm_->SaveIrqchips(chips).ok());
  Build();
  EXPECT_TRUE(vm_->LoadPit(pit).ok());
  EXPECT_TRUE(vm_->LoadIrqchips(chips).ok());
}

// Unmasked, their vectors would be those of exceptions.
TEST_F(KvmVcpuTest, PicsAreMaskedUntilAGuestProgramsThem) {
  StateNode chips;
  ASSERT_TRUE(vm_->SaveIrqchips(chips).ok());
  for (const std::string_view name : {"pic_master", "pic_slave"}) {
    kvm_pic_state pic;
    std::memcpy(&pic, chips.BytesOf(name).value().data(), sizeof(pic));
    EXPECT_EQ(pic.imr, 0xff) << name;
  }
}

TEST_F(KvmVcpuTest, GivesAnMsiRouteToEachVectorAndTakesItBack) {
  InterruptRoutes routes(*vm_);
  ASSERT_TRUE(routes.Initialize().ok());
  const Gsi first = routes.AllocateMsi().value();
  const Gsi second = routes.AllocateMsi().value();
  EXPECT_NE(first, second);
  ASSERT_TRUE(routes.SetMsi(first, 0xfee0'0000, 0x41).ok());
  const EventFd event = EventFd::Create().value();
  EXPECT_TRUE(vm_->AddIrqfd(first, event).ok());
  EXPECT_TRUE(vm_->RemoveIrqfd(first, event).ok());
  routes.FreeMsi(first);
  EXPECT_EQ(routes.AllocateMsi().value(), first);
}

}  // namespace
}  // namespace pacsvisor
