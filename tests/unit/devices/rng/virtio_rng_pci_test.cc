// A real device behind the real transport, as a guest's driver uses the two: the whole way from PCI
// configuration to the interrupt, and through a snapshot.
#include <gtest/gtest.h>

#include "devices/rng/virtio_rng.h"
#include "devices/virtio/virtio_pci_transport.h"
#include "tests/support/fake_msi.h"
#include "tests/support/virtio_pci_driver.h"

namespace pacsvisor {
namespace {

struct Machine {
  explicit Machine(GuestMemory& memory)
      : rng(VirtioRng::Create({}).value()),
        transport(VirtioPciTransport::Create(*rng, memory, msi, doorbells).value()),
        slot(pci.pci().Add(*transport).value()) {}

  // Rings a doorbell as the guest's write would: bound by KVM, else by an exit.
  void Notify(VirtioPciDriver& driver, uint16_t queue) {
    const GuestAddress address(driver.notify_address(queue));
    if (!doorbells.Ring(address)) {
      driver.Notify(queue);
    }
  }

  PciMachine pci;
  FakeMsiController msi;
  FakeDoorbellRegistrar doorbells;
  std::unique_ptr<VirtioRng> rng;
  std::unique_ptr<VirtioPciTransport> transport;
  uint8_t slot;
};

class VirtioRngPciTest : public testing::Test {
 protected:
  VirtioRngPciTest() {
    it_->pci.EnableMemory(it_->slot);
    driver_ = std::make_unique<VirtioPciDriver>(it_->pci, it_->slot);
  }
  void BringUp() {
    driver_->EnableMsix(true);
    driver_->SetVector(1, 0xfee0'0000, 0x41, false);
    ASSERT_TRUE(driver_->Negotiate(kVirtioTransportFeatures));
    queue_ = std::make_unique<VirtqueueDriver>(*memory_, heap_, uint16_t{16},
                                               VirtqueueFeatures{true, true});
    driver_->SetUpQueue(0, queue_->layout(), 1);
    driver_->EnableQueue(0);
    driver_->DriverOk();
  }
  bool Ask(Machine& machine, VirtioPciDriver& driver) {
    queue_->EnableInterrupts();
    queue_->Add({Writable(heap_.Allocate(32))});
    if (queue_->WantsKick()) {
      machine.Notify(driver, 0);
    }
    const auto used = queue_->PollUsed();
    return used.has_value() && used->written_bytes == 32;
  }

  std::unique_ptr<GuestMemory> memory_ = MakeTestMemory();
  GuestHeap heap_{*memory_, GuestAddress(kMiB), 8 * kMiB};
  std::unique_ptr<Machine> it_ = std::make_unique<Machine>(*memory_);
  std::unique_ptr<VirtioPciDriver> driver_;
  std::unique_ptr<VirtqueueDriver> queue_;
};

TEST_F(VirtioRngPciTest, ServesAndInterruptsThroughTheTransport) {
  BringUp();
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(Ask(*it_, *driver_)) << i;
  }
  it_->transport->Pause();  // past the interrupt of the last one
  EXPECT_GE(it_->msi.vectors().triggered(1), 1u);
  EXPECT_EQ(it_->msi.vectors().message(1), (MsiMessage{0xfee0'0000, 0x41}));
}

TEST_F(VirtioRngPciTest, ServesAfterEachReset) {
  for (int i = 0; i < 20; ++i) {
    BringUp();
    ASSERT_TRUE(Ask(*it_, *driver_)) << i;
    ASSERT_TRUE(driver_->Reset());
  }
}

TEST_F(VirtioRngPciTest, ServesAfterEachMoveOfItsBar) {
  BringUp();
  const uint64_t bar = it_->pci.BarAddress(it_->slot, 0);
  for (uint64_t i = 1; i < 10; ++i) {
    it_->pci.MoveBar(it_->slot, 0, bar + i * kMiB);
    ASSERT_TRUE(Ask(*it_, *driver_)) << i;
  }
}

TEST_F(VirtioRngPciTest, ABrokenRingAsksForAResetThroughTheStatus) {
  BringUp();
  queue_->PublishHead(4711);
  it_->Notify(*driver_, 0);
  const auto deadline = std::chrono::steady_clock::now() + kTestDeadline;
  while ((driver_->status() & kVirtioStatusNeedsReset) == 0) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
  }
  ASSERT_TRUE(driver_->Reset());
  BringUp();
  EXPECT_TRUE(Ask(*it_, *driver_));
}

TEST_F(VirtioRngPciTest, ServesThroughTwentySnapshotsInARow) {
  BringUp();
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Ask(*it_, *driver_)) << i;
    it_->transport->Pause();
    StateNode pci;
    StateNode transport;
    it_->pci.pci().Save(pci);
    it_->transport->Save(transport);
    auto twin = std::make_unique<Machine>(*memory_);
    ASSERT_TRUE(twin->pci.pci().Load(pci).ok());
    ASSERT_TRUE(twin->transport->Load(transport).ok());
    twin->transport->Resume();
    EXPECT_EQ(twin->msi.vectors().triggered(1), 1u) << "raised once";
    it_ = std::move(twin);
    driver_ = std::make_unique<VirtioPciDriver>(it_->pci, it_->slot);
  }
}

}  // namespace
}  // namespace pacsvisor
