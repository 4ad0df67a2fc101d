#include "vmm/kvm/cpuid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/support/needs_kvm.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kLeaf1EcxVmx = 1u << 5;
constexpr uint32_t kLeaf1EcxX2Apic = 1u << 21;
constexpr uint32_t kLeaf1EcxHypervisor = 1u << 31;
constexpr uint32_t kExtendedEcxSvm = 1u << 2;

class CpuidTest : public testing::Test {
 protected:
  void SetUp() override {
    NEEDS_KVM();
    Result<std::unique_ptr<KvmSystem>> opened = KvmSystem::Open();
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    system_ = std::move(opened).value();
  }

  std::vector<kvm_cpuid_entry2> HostCpuid(uint32_t vcpu_count, uint32_t apic_id) {
    return MakeCpuid(*system_, CpuModel::kHost, {.vcpu_count = vcpu_count, .tsc_khz = 2'000'000},
                     apic_id)
        .value();
  }

  std::unique_ptr<KvmSystem> system_;
};

TEST_F(CpuidTest, TellsItIsAVirtualMachineAndHidesVirtualization) {
  const auto entries = HostCpuid(1, 0);
  const kvm_cpuid_entry2* leaf1 = FindCpuid(entries, 1);
  ASSERT_NE(leaf1, nullptr);
  EXPECT_NE(leaf1->ecx & kLeaf1EcxHypervisor, 0u);
  EXPECT_NE(leaf1->ecx & kLeaf1EcxX2Apic, 0u);
  EXPECT_EQ(leaf1->ecx & kLeaf1EcxVmx, 0u);
  const kvm_cpuid_entry2* extended = FindCpuid(entries, 0x8000'0001);
  ASSERT_NE(extended, nullptr);
  EXPECT_EQ(extended->ecx & kExtendedEcxSvm, 0u);
  EXPECT_EQ(FindCpuid(entries, 0x8000'000a), nullptr);
}

TEST_F(CpuidTest, GivesEachVcpuItsOwnApicIdInOneSocket) {
  for (uint32_t count = 1; count <= 16; ++count) {
    std::set<uint32_t> ids;
    for (uint32_t id = 0; id < count; ++id) {
      const auto entries = HostCpuid(count, id);
      const kvm_cpuid_entry2* leaf1 = FindCpuid(entries, 1);
      EXPECT_EQ(leaf1->ebx >> 24, id);
      EXPECT_EQ(leaf1->ebx >> 16 & 0xff, count);
      const kvm_cpuid_entry2* core = FindCpuid(entries, 0xb, 1);
      ASSERT_NE(core, nullptr);
      EXPECT_EQ(core->ebx, count);
      EXPECT_EQ(core->edx, id);
      // All cores of the socket share what is left of the id above the core bits.
      EXPECT_EQ(id >> core->eax, 0u);
      ids.insert(core->edx);
    }
    EXPECT_EQ(ids.size(), count);
  }
}

TEST_F(CpuidTest, TellsTheTscFrequency) {
  const auto entries = HostCpuid(1, 0);
  EXPECT_GE(FindCpuid(entries, 0x4000'0000)->eax, 0x4000'0010u);
  EXPECT_EQ(FindCpuid(entries, 0x4000'0010)->eax, 2'000'000u);
}

// Else the guest would read time from a counter that no restore can set back.
TEST_F(CpuidTest, TscIsInvariantOnlyWhereItsOffsetCounts) {
  const auto entries = HostCpuid(1, 0);
  const kvm_cpuid_entry2* power = FindCpuid(entries, 0x8000'0007);
  if (system_->kind() == KvmKind::kPvm && power != nullptr) {
    EXPECT_EQ(power->edx >> 8 & 1, 0u);
  }
}

TEST_F(CpuidTest, OffersABaselineWholeOrNamesWhatIsMissing) {
  for (const CpuModel model : {CpuModel::kX86_64V2, CpuModel::kX86_64V3}) {
    const auto made = MakeCpuid(*system_, model, {.vcpu_count = 1, .tsc_khz = 0}, 0);
    const kvm_cpuid_entry2* host = FindCpuid(system_->supported_cpuid(), 1);
    const bool host_has_sse42 = (host->ecx >> 20 & 1) != 0;
    if (made.ok()) {
      EXPECT_NE(FindCpuid(*made, 1)->ecx & (1u << 20), 0u);
      EXPECT_EQ(FindCpuid(*made, 7)->edx, 0u);
    } else {
      EXPECT_EQ(made.error().code(), ErrorCode::kUnsupported);
      EXPECT_THAT(made.error().message(), testing::HasSubstr(std::string(CpuModelName(model))));
      if (!host_has_sse42) {
        EXPECT_THAT(made.error().message(), testing::HasSubstr("SSE4.2"));
      }
    }
  }
}

TEST(CpuModelTest, KnowsItsNamesAndNoOthers) {
  EXPECT_EQ(ParseCpuModel("x86-64-v3").value(), CpuModel::kX86_64V3);
  EXPECT_EQ(ParseCpuModel("x86-64-v9").error().code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace pacsvisor
