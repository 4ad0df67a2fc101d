// The PCI transport as a driver sees it: virtio 1.2, sections 2.1, 3.1, 4.1.
#include "devices/virtio/virtio_pci_transport.h"

#include <gtest/gtest.h>

#include "tests/unit/devices/virtio/virtio_pci_transport_fixture.h"

namespace pacsvisor {
namespace {

TEST_F(VirtioPciTransportTest, IdentifiesItselfAsAModernDevice) {
  EXPECT_EQ(it_.machine.ReadConfig<uint16_t>(it_.slot, kPciVendorId), 0x1af4);
  EXPECT_EQ(it_.machine.ReadConfig<uint16_t>(it_.slot, kPciDeviceId), 0x1043);
  EXPECT_GE(it_.machine.ReadConfig<uint8_t>(it_.slot, kPciRevisionId), 1);
  EXPECT_GE(it_.machine.ReadConfig<uint16_t>(it_.slot, kPciSubsystemId), 0x40);
  EXPECT_EQ(it_.machine.Capabilities(it_.slot, kPciCapabilityVendor).size(), 5u);
  EXPECT_EQ(driver_->ReadCommon<uint16_t>(offsetof(Common, num_queues)), 3);
}

TEST_F(VirtioPciTransportTest, EveryQueueHasItsMaximumAndItsOwnDoorbell) {
  const uint16_t sizes[] = {64, 16, 8, 0, 0};
  for (uint16_t queue = 0; queue < 5; ++queue) {
    driver_->WriteCommon<uint16_t>(offsetof(Common, queue_select), queue);
    EXPECT_EQ(driver_->ReadCommon<uint16_t>(offsetof(Common, queue_size)), sizes[queue]);
  }
  EXPECT_NE(driver_->notify_address(0), driver_->notify_address(1));
}

TEST_F(VirtioPciTransportTest, ADriverThatKeepsTheRulesActivatesTheDevice) {
  BringUp();
  ASSERT_TRUE(it_.device.activation.has_value());
  EXPECT_EQ(it_.device.activation->features, kFeatureA | kFeatureB | kVirtioTransportFeatures);
  ASSERT_EQ(it_.device.activation->queues.size(), 2u);
  EXPECT_EQ(it_.device.activation->queues[0].index, 0);
  EXPECT_EQ(it_.device.activation->queues[1].index, 2);
  EXPECT_EQ(it_.device.activation->queues[1].queue->size(), 8);
  EXPECT_EQ(driver_->status(), 0x0f);
}

TEST_F(VirtioPciTransportTest, FeaturesWithoutVersion1AreRefused) {
  EXPECT_FALSE(driver_->Negotiate(kFeatureA));
  driver_->DriverOk();
  EXPECT_FALSE(it_.device.activation.has_value());
  EXPECT_EQ(driver_->status() & kVirtioStatusDriverOk, 0);
}

TEST_F(VirtioPciTransportTest, FeaturesThatWereNotOfferedAreRefused) {
  for (unsigned bit = 0; bit < 64; ++bit) {
    const uint64_t feature = uint64_t{1} << bit;
    ASSERT_TRUE(driver_->Reset());
    EXPECT_EQ(driver_->Negotiate(kVirtioFeatureVersion1 | feature),
              (feature & driver_->OfferedFeatures()) != 0)
        << bit;
  }
  ASSERT_TRUE(driver_->Reset());
  driver_->WriteCommon<uint32_t>(offsetof(Common, driver_feature_select), 2);
  driver_->WriteCommon<uint32_t>(offsetof(Common, driver_feature), 1);
  EXPECT_FALSE(driver_->Negotiate(kVirtioFeatureVersion1)) << "bit 64";
}

TEST_F(VirtioPciTransportTest, RefusedFeaturesMayBeCorrected) {
  EXPECT_FALSE(driver_->Negotiate(kFeatureA));
  EXPECT_TRUE(driver_->Negotiate(kFeatureA | kVirtioFeatureVersion1));
}

TEST_F(VirtioPciTransportTest, FeaturesAreLatchedOnceAccepted) {
  ASSERT_TRUE(driver_->Negotiate(kVirtioFeatureVersion1));
  driver_->SetDriverFeatures(~uint64_t{0});
  driver_->DriverOk();
  EXPECT_EQ(it_.device.activation->features, kVirtioFeatureVersion1);
}

TEST_F(VirtioPciTransportTest, AnEnabledQueueIsLatched) {
  ASSERT_TRUE(driver_->Negotiate(kVirtioFeatureVersion1));
  VirtqueueDriver queue(*memory_, heap_, 8, {});
  driver_->SetUpQueue(0, queue.layout(), kVirtioNoVector);
  driver_->EnableQueue(0);
  VirtqueueLayout other = queue.layout();
  other.size = 32768;
  other.descriptor_table = GuestAddress(~uint64_t{0} << 4);
  driver_->SetUpQueue(0, other, kVirtioNoVector);
  EXPECT_EQ(driver_->ReadCommon<uint16_t>(offsetof(Common, queue_size)), 8);
  EXPECT_EQ(driver_->ReadCommon<uint64_t>(offsetof(Common, queue_desc)),
            queue.layout().descriptor_table.raw());
  driver_->DriverOk();
  EXPECT_EQ(it_.device.activation->queues.at(0).queue->size(), 8);
}

TEST_F(VirtioPciTransportTest, AQueueThatIsImpossibleMakesTheDeviceNeedAReset) {
  VirtqueueDriver good(*memory_, heap_, 8, {});
  const auto tried = [&](auto change) {
    VirtqueueLayout layout = good.layout();
    change(layout);
    EXPECT_TRUE(driver_->Reset());
    EXPECT_TRUE(driver_->Negotiate(kVirtioFeatureVersion1));
    driver_->SetUpQueue(1, layout, kVirtioNoVector);
    driver_->EnableQueue(1);
    driver_->DriverOk();
    return (driver_->status() & kVirtioStatusNeedsReset) != 0;
  };
  EXPECT_FALSE(tried([](VirtqueueLayout&) {}));
  EXPECT_TRUE(it_.device.activation.has_value());
  EXPECT_TRUE(tried([](VirtqueueLayout& layout) { layout.size = 0; }));
  EXPECT_FALSE(it_.device.activation.has_value());
  EXPECT_TRUE(tried([](VirtqueueLayout& layout) { layout.size = 7; }));
  EXPECT_TRUE(tried([](VirtqueueLayout& layout) { layout.size = 32; })) << "maximum is 16";
  EXPECT_TRUE(tried([](VirtqueueLayout& layout) { layout.used_ring = GuestAddress(2); }));
  EXPECT_TRUE(tried([](VirtqueueLayout& layout) { layout.available_ring = GuestAddress(1); }));
  EXPECT_TRUE(
      tried([](VirtqueueLayout& layout) { layout.used_ring = GuestAddress(uint64_t{1} << 60); }));
}

TEST_F(VirtioPciTransportTest, QueuesOutsideTheirTimeMakeTheDeviceNeedAReset) {
  driver_->EnableQueue(0);
  EXPECT_NE(driver_->status() & kVirtioStatusNeedsReset, 0) << "before FEATURES_OK";
  ASSERT_TRUE(driver_->Reset());
  BringUp();
  EXPECT_EQ(triggered(0), 0u);
  driver_->EnableQueue(1);
  EXPECT_NE(driver_->status() & kVirtioStatusNeedsReset, 0) << "after DRIVER_OK";
  EXPECT_EQ(triggered(0), 1u) << "a configuration change says so";
}

TEST_F(VirtioPciTransportTest, StatusBitsAreNotTakenBack) {
  BringUp();
  driver_->SetStatus(kVirtioStatusAcknowledge);
  EXPECT_EQ(driver_->status(), 0x0f);
  driver_->SetStatus(0x0f | kVirtioStatusNeedsReset | 0x30);
  EXPECT_EQ(driver_->status(), 0x0f) << "bits that are not the driver's";
}

TEST_F(VirtioPciTransportTest, NeedsResetInterruptsOnceAndEndsWithTheReset) {
  BringUp();
  it_.device.transport->NeedsReset("test");
  it_.device.transport->NeedsReset("test again");
  EXPECT_EQ(driver_->status(), 0x0f | kVirtioStatusNeedsReset);
  EXPECT_EQ(triggered(0), 1u);
  ASSERT_TRUE(driver_->Reset());
  EXPECT_EQ(it_.device.resets, 1);
  BringUp();
  EXPECT_EQ(driver_->status(), 0x0f);
}

TEST_F(VirtioPciTransportTest, StatusReadsAsBeforeUntilTheResetIsComplete) {
  BringUp();
  it_.device.reset_complete = false;
  driver_->SetStatus(0);
  EXPECT_EQ(it_.device.resets, 1);
  EXPECT_EQ(driver_->status(), 0x0f);
  driver_->SetStatus(0);
  driver_->SetStatus(kVirtioStatusAcknowledge);
  driver_->WriteCommon<uint16_t>(offsetof(Common, queue_select), 1);
  EXPECT_EQ(driver_->status(), 0x0f);
  EXPECT_EQ(it_.device.resets, 1) << "one reset at a time";
  it_.device.reset_complete = true;
  EXPECT_EQ(driver_->status(), 0);
  EXPECT_EQ(driver_->ReadCommon<uint16_t>(offsetof(Common, queue_select)), 0);
  EXPECT_EQ(driver_->ReadCommon<uint16_t>(offsetof(Common, queue_size)), 64);
  EXPECT_EQ(driver_->ReadCommon<uint16_t>(offsetof(Common, queue_enable)), 0);
  EXPECT_EQ(driver_->ReadCommon<uint16_t>(offsetof(Common, queue_msix_vector)), kVirtioNoVector);
}

TEST_F(VirtioPciTransportTest, ResetAndActivationAtAnyTime) {
  for (int round = 0; round < 50; ++round) {
    BringUp();
    ASSERT_TRUE(it_.device.activation.has_value());
    ASSERT_TRUE(driver_->Reset());
    ASSERT_FALSE(it_.device.activation.has_value());
  }
  EXPECT_EQ(it_.device.resets, 50);
  ASSERT_TRUE(driver_->Reset()) << "of a device that is not active";
  EXPECT_EQ(it_.device.resets, 50);
}

TEST_F(VirtioPciTransportTest, ATransportThatGoesResetsItsDeviceOnce) {
  BringUp();
  it_.transport->Pause();
  it_.transport.reset();
  EXPECT_EQ(it_.device.resets, 1);
  EXPECT_EQ(it_.device.calls, "pr") << "completions must get past the gate";
  EXPECT_TRUE(it_.doorbells.bound().empty());
}

TEST_F(VirtioPciTransportTest, ATransportThatGoesDuringAResetDoesNotBeginAnother) {
  BringUp();
  it_.device.reset_complete = false;
  driver_->SetStatus(0);
  it_.device.reset_complete = true;
  it_.transport.reset();
  EXPECT_EQ(it_.device.resets, 1);
}

// ---- interrupts and doorbells
// ---------------------------------------------------------------------

TEST_F(VirtioPciTransportTest, QueuesInterruptThroughTheirVectors) {
  BringUp();
  it_.device.transport->InterruptQueue(0);
  it_.device.transport->InterruptQueue(2);
  it_.device.transport->InterruptQueue(2);
  it_.device.transport->InterruptQueue(1);  // has no vector
  it_.device.transport->InterruptConfigChange();
  EXPECT_EQ(triggered(1), 1u);
  EXPECT_EQ(triggered(3), 2u);
  EXPECT_EQ(triggered(2), 0u);
  EXPECT_EQ(triggered(0), 1u);
  EXPECT_EQ(it_.msi.vectors().message(3), (MsiMessage{0xfee0'0000, 0x43}));
}

TEST_F(VirtioPciTransportTest, IsrIsClearedByReading) {
  BringUp();
  it_.device.transport->InterruptQueue(0);
  it_.device.transport->InterruptConfigChange();
  EXPECT_EQ(it_.machine.Read<uint8_t>(driver_->isr_address()), 3);
  EXPECT_EQ(it_.machine.Read<uint8_t>(driver_->isr_address()), 0);
}

TEST_F(VirtioPciTransportTest, AVectorThatIsNotThereReadsBackAsNone) {
  for (const uint16_t vector : std::initializer_list<uint16_t>{0, 3, 4, 1000, 0xffff}) {
    const uint16_t expected = vector < 4 ? vector : kVirtioNoVector;
    driver_->WriteCommon<uint16_t>(offsetof(Common, config_msix_vector), vector);
    EXPECT_EQ(driver_->ReadCommon<uint16_t>(offsetof(Common, config_msix_vector)), expected);
    driver_->WriteCommon<uint16_t>(offsetof(Common, queue_msix_vector), vector);
    EXPECT_EQ(driver_->ReadCommon<uint16_t>(offsetof(Common, queue_msix_vector)), expected);
  }
}

TEST_F(VirtioPciTransportTest, MaskedVectorsArePendingUntilUnmasked) {
  BringUp();
  driver_->SetVector(1, 0xfee0'0000, 0x41, true);
  it_.device.transport->InterruptQueue(0);
  it_.device.transport->InterruptQueue(0);
  EXPECT_EQ(triggered(1), 0u);
  EXPECT_EQ(it_.machine.Read<uint64_t>(driver_->msix_table_address() + 0x1000), 1u << 1);
  driver_->SetVector(1, 0xfee0'1000, 0x99, false);
  EXPECT_EQ(triggered(1), 1u);
  EXPECT_EQ(it_.msi.vectors().message(1), (MsiMessage{0xfee0'1000, 0x99}));
  EXPECT_EQ(it_.machine.Read<uint64_t>(driver_->msix_table_address() + 0x1000), 0u);
}

TEST_F(VirtioPciTransportTest, TheFunctionMaskHoldsAllVectors) {
  BringUp();
  driver_->EnableMsix(true, true);
  it_.device.transport->InterruptQueue(0);
  it_.device.transport->InterruptQueue(2);
  EXPECT_EQ(triggered(1) + triggered(3), 0u);
  driver_->EnableMsix(true, false);
  EXPECT_EQ(triggered(1), 1u);
  EXPECT_EQ(triggered(3), 1u);
}

TEST_F(VirtioPciTransportTest, NothingIsSentWhileMsixIsNotEnabled) {
  BringUp();
  driver_->EnableMsix(false);
  it_.device.transport->InterruptQueue(0);
  driver_->EnableMsix(true);
  EXPECT_EQ(triggered(1), 0u);
}

TEST_F(VirtioPciTransportTest, DoorbellsFollowTheBar) {
  BringUp();
  const EventFd& doorbell = *it_.device.activation->queues[0].doorbell;
  const uint64_t old_address = driver_->notify_address(0);
  EXPECT_TRUE(it_.doorbells.Ring(GuestAddress(old_address)));
  EXPECT_EQ(doorbell.Consume(), 1u);

  const uint64_t old_bar = it_.machine.BarAddress(it_.slot, 0);
  it_.machine.MoveBar(it_.slot, 0, old_bar + 16 * kMiB);
  EXPECT_FALSE(it_.machine.Answers(old_bar));
  EXPECT_FALSE(it_.doorbells.Ring(GuestAddress(old_address)));
  EXPECT_TRUE(it_.doorbells.Ring(GuestAddress(driver_->notify_address(0))));
  EXPECT_EQ(doorbell.Consume(), 1u);
  EXPECT_EQ(driver_->status(), 0x0f) << "registers answer at the new place";

  it_.machine.EnableMemory(it_.slot, false);
  EXPECT_TRUE(it_.doorbells.bound().empty());
}

TEST_F(VirtioPciTransportTest, NotificationsByMmioRingTheDoorbell) {
  it_.doorbells.RefuseAll();
  it_.machine.EnableMemory(it_.slot, false);
  it_.machine.EnableMemory(it_.slot, true);
  BringUp();
  driver_->Notify(2);
  EXPECT_EQ(it_.device.activation->queues[1].doorbell->Consume(), 1u);
  EXPECT_EQ(it_.device.activation->queues[0].doorbell->Consume(), 0u);
}

TEST_F(VirtioPciTransportTest, ADriverWithoutBarsReachesThemThroughConfigurationSpace) {
  const uint8_t window = driver_->config_access_capability();
  const auto point = [&](uint8_t bar, uint32_t offset, uint32_t length) {
    it_.machine.WriteConfig<uint8_t>(it_.slot, window + 4u, bar);
    it_.machine.WriteConfig<uint32_t>(it_.slot, window + 8u, offset);
    it_.machine.WriteConfig<uint32_t>(it_.slot, window + 12u, length);
  };
  it_.machine.EnableMemory(it_.slot, false);
  point(0, VirtioPciTransport::kDeviceConfigOffset + 4, 4);
  EXPECT_EQ(it_.machine.ReadConfig<uint32_t>(it_.slot, window + 16u), 0x08070605u);
  it_.machine.WriteConfig<uint32_t>(it_.slot, window + 16u, 0xaabbccdd);
  EXPECT_EQ(it_.device.config[4], 0xdd);
  EXPECT_EQ(it_.device.config[7], 0xaa);
  point(0, offsetof(Common, device_status), 1);
  it_.machine.WriteConfig<uint8_t>(it_.slot, window + 16u, 1);
  EXPECT_EQ(it_.machine.ReadConfig<uint8_t>(it_.slot, window + 16u), 1);
}

TEST_F(VirtioPciTransportTest, TheIsrIsNotClearedByReadingTheWindowsOwnFields) {
  const uint8_t window = driver_->config_access_capability();
  it_.machine.WriteConfig<uint8_t>(it_.slot, window + 4u, 0);
  it_.machine.WriteConfig<uint32_t>(it_.slot, window + 8u, VirtioPciTransport::kIsrOffset);
  it_.machine.WriteConfig<uint32_t>(it_.slot, window + 12u, 1);
  it_.device.transport->InterruptQueue(0);
  it_.machine.Capabilities(it_.slot, kPciCapabilityVendor);
  EXPECT_EQ(it_.machine.ReadConfig<uint8_t>(it_.slot, window + 16u), 1);
  EXPECT_EQ(it_.machine.ReadConfig<uint8_t>(it_.slot, window + 16u), 0);
}

TEST_F(VirtioPciTransportTest, WindowsThatAreImpossibleDoNothing) {
  const uint8_t window = driver_->config_access_capability();
  for (const uint32_t bar : {0u, 1u, 2u, 3u, 5u, 6u, 7u, 255u}) {
    for (const uint32_t offset : {0u, 1u, 0x1fffu, 0x3ffeu, 0x3fffu, 0x4000u, ~0u, ~0u - 3}) {
      for (const uint32_t length : {0u, 1u, 2u, 3u, 4u, 5u, 8u, 4096u, ~0u}) {
        it_.machine.WriteConfig<uint8_t>(it_.slot, window + 4u, static_cast<uint8_t>(bar));
        it_.machine.WriteConfig<uint32_t>(it_.slot, window + 8u, offset);
        it_.machine.WriteConfig<uint32_t>(it_.slot, window + 12u, length);
        it_.machine.WriteConfig<uint32_t>(it_.slot, window + 16u, ~0u);
        it_.machine.ReadConfig<uint32_t>(it_.slot, window + 16u);
        it_.machine.ReadConfig<uint8_t>(it_.slot, window + 19u);
      }
    }
  }
  EXPECT_TRUE(driver_->Reset());
}

// ---- hostile accesses
// -----------------------------------------------------------------------------

TEST_F(VirtioPciTransportTest, EveryOffsetAndSizeOfBothBarsIsHarmless) {
  BringUp();
  uint64_t pattern = 0x9e37'79b9'7f4a'7c15;
  for (const unsigned bar : {0u, 2u}) {
    const uint64_t start = it_.machine.BarAddress(it_.slot, bar);
    const uint64_t size =
        bar == 0 ? VirtioPciTransport::kBarSizeBytes : VirtioPciTransport::kMsixBarSizeBytes;
    for (const size_t access : {1u, 2u, 4u, 8u}) {
      for (uint64_t offset = 0; offset + access <= size; ++offset) {
        uint8_t bytes[8];
        ASSERT_TRUE(it_.machine.mmio().Read(start + offset, std::span(bytes, access)));
        pattern = pattern * 6364136223846793005u + 1442695040888963407u;
        StoreLe<uint64_t>(bytes, pattern);
        ASSERT_TRUE(it_.machine.mmio().Write(start + offset, std::span(bytes, access)));
      }
    }
  }
  ASSERT_TRUE(driver_->Reset());
  BringUp();
  EXPECT_TRUE(it_.device.activation.has_value());
}

TEST_F(VirtioPciTransportTest, AddressesAreWrittenWholeOrByHalves) {
  driver_->WriteCommon<uint64_t>(offsetof(Common, queue_driver), 0x1122'3344'5566'7788);
  EXPECT_EQ(driver_->ReadCommon<uint64_t>(offsetof(Common, queue_driver)), 0x1122'3344'5566'7788u);
  driver_->WriteCommon<uint32_t>(offsetof(Common, queue_driver) + 4, 0xaabb'ccdd);
  EXPECT_EQ(driver_->ReadCommon<uint64_t>(offsetof(Common, queue_driver)), 0xaabb'ccdd'5566'7788u);
  driver_->WriteCommon<uint16_t>(offsetof(Common, queue_driver), 0);
  driver_->WriteCommon<uint32_t>(offsetof(Common, queue_driver) + 2, 0);
  EXPECT_EQ(driver_->ReadCommon<uint64_t>(offsetof(Common, queue_driver)), 0xaabb'ccdd'5566'7788u);
}

}  // namespace
}  // namespace pacsvisor
