// Snapshots of the PCI transport: what was saved runs on in another machine.
#include <gtest/gtest.h>

#include "tests/unit/devices/virtio/virtio_pci_transport_fixture.h"

namespace pacsvisor {
namespace {

class VirtioPciRestoreTest : public VirtioPciTransportTest {
 protected:
  // Saves the machine and loads it into a fresh one over the same memory.
  void Restore() {
    it_.transport->Pause();
    it_.machine.pci().Save(saved_pci_);
    it_.transport->Save(saved_);
    twin_ = std::make_unique<Machine>(*memory_);
    ASSERT_TRUE(twin_->machine.pci().Load(saved_pci_).ok());
    const Status loaded = twin_->transport->Load(saved_);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    twin_driver_ = std::make_unique<VirtioPciDriver>(twin_->machine, twin_->slot);
  }

  StateNode saved_pci_;
  StateNode saved_;
  std::unique_ptr<Machine> twin_;
  std::unique_ptr<VirtioPciDriver> twin_driver_;
};

TEST_F(VirtioPciRestoreTest, ARestoredDeviceIsAsItWas) {
  BringUp();
  it_.device.value = 77;
  it_.machine.MoveBar(it_.slot, 0, it_.machine.BarAddress(it_.slot, 0) + 32 * kMiB);
  const GuestRange buffer = heap_.Allocate(16);
  queues_[0]->Add({Writable(buffer)});
  DescriptorChain chain;
  ASSERT_EQ(it_.device.activation->queues[0].queue->Pop(chain), Virtqueue::PopResult::kChain);
  it_.device.transport->NeedsReset("test");
  Restore();

  EXPECT_EQ(twin_->device.value, 77u);
  EXPECT_EQ(twin_->machine.BarAddress(twin_->slot, 0), it_.machine.BarAddress(it_.slot, 0));
  EXPECT_EQ(twin_driver_->status(), 0x0f | kVirtioStatusNeedsReset);
  ASSERT_TRUE(twin_->device.activation.has_value());
  EXPECT_EQ(twin_->device.activation->features, it_.device.activation->features);
  ASSERT_EQ(twin_->device.activation->queues.size(), 2u);
  EXPECT_EQ(twin_->device.activation->queues[0].queue->in_flight(), 1);
  EXPECT_EQ(twin_->doorbells.bound().size(), it_.doorbells.bound().size());
  for (unsigned vector = 0; vector < 4; ++vector) {
    EXPECT_EQ(twin_->msi.vectors().message(vector), it_.msi.vectors().message(vector));
  }
}

TEST_F(VirtioPciRestoreTest, EveryRegisterReadsBackTheSame) {
  BringUp();
  Restore();
  for (uint16_t queue = 0; queue < 3; ++queue) {
    driver_->WriteCommon<uint16_t>(offsetof(Common, queue_select), queue);
    twin_driver_->WriteCommon<uint16_t>(offsetof(Common, queue_select), queue);
    for (uint64_t offset = 0; offset < 0x100; offset += 4) {
      EXPECT_EQ(driver_->ReadCommon<uint32_t>(offset), twin_driver_->ReadCommon<uint32_t>(offset));
    }
  }
  for (uint32_t offset = 0; offset < 4096; offset += 4) {
    EXPECT_EQ(it_.machine.ReadConfig<uint32_t>(it_.slot, offset),
              twin_->machine.ReadConfig<uint32_t>(twin_->slot, offset));
  }
  for (uint64_t offset = 0; offset < 0x2000; offset += 4) {
    EXPECT_EQ(it_.machine.Read<uint32_t>(driver_->msix_table_address() + offset),
              twin_->machine.Read<uint32_t>(twin_driver_->msix_table_address() + offset));
  }
}

TEST_F(VirtioPciRestoreTest, TheFirstResumeSignalsEveryLiveQueueOnce) {
  BringUp();
  Restore();
  EXPECT_EQ(twin_->device.calls, "pl");
  twin_->transport->Resume();
  EXPECT_EQ(twin_->device.calls, "plr");
  FakeMsiVectors& vectors = twin_->msi.vectors();
  EXPECT_EQ(vectors.triggered(1), 1u);
  EXPECT_EQ(vectors.triggered(3), 1u);
  EXPECT_EQ(vectors.triggered(2), 0u) << "queue 1 is not live";
  for (const VirtioQueueHandle& handle : twin_->device.activation->queues) {
    EXPECT_EQ(handle.doorbell->Consume(), 1u);
  }
  twin_->transport->Pause();
  twin_->transport->Resume();
  EXPECT_EQ(vectors.triggered(1), 1u) << "only after a restore";
}

TEST_F(VirtioPciRestoreTest, TheSourceNoticesNothing) {
  BringUp();
  Restore();
  it_.transport->Resume();
  EXPECT_EQ(it_.device.calls, "pr");
  EXPECT_EQ(triggered(1) + triggered(3), 0u);
}

TEST_F(VirtioPciRestoreTest, APendingMaskedInterruptSurvives) {
  BringUp();
  driver_->SetVector(1, 0xfee0'0000, 0x41, true);
  it_.device.transport->InterruptQueue(0);
  Restore();
  EXPECT_EQ(twin_->msi.vectors().triggered(1), 0u);
  twin_driver_->SetVector(1, 0xfee0'0000, 0x41, false);
  EXPECT_EQ(twin_->msi.vectors().triggered(1), 1u);
}

TEST_F(VirtioPciRestoreTest, AResetInProgressIsCompleteAfterwards) {
  BringUp();
  it_.device.reset_complete = false;
  driver_->SetStatus(0);
  Restore();
  EXPECT_EQ(twin_driver_->status(), 0);
  EXPECT_FALSE(twin_->device.activation.has_value());
  twin_->transport->Resume();
  EXPECT_TRUE(twin_driver_->Negotiate(kVirtioFeatureVersion1));
}

TEST_F(VirtioPciRestoreTest, NegotiationGoesOnWhereItStood) {
  ASSERT_TRUE(driver_->Negotiate(kVirtioFeatureVersion1));
  VirtqueueDriver queue(*memory_, heap_, 16, {});
  driver_->SetUpQueue(1, queue.layout(), 2);
  Restore();
  twin_->transport->Resume();
  twin_driver_->EnableQueue(1);
  twin_driver_->DriverOk();
  ASSERT_TRUE(twin_->device.activation.has_value());
  EXPECT_EQ(twin_->device.activation->queues.at(0).queue->size(), 16);
}

TEST_F(VirtioPciRestoreTest, FeaturesThatTheTargetLacksAreRefused) {
  BringUp();
  it_.transport->Pause();
  it_.transport->Save(saved_);
  Machine other(*memory_);
  other.device.features = kFeatureA;
  const Status loaded = other.transport->Load(saved_);
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().code(), ErrorCode::kUnsupported);
}

TEST_F(VirtioPciRestoreTest, StateThatIsImpossibleIsRefused) {
  BringUp();
  it_.transport->Pause();
  const auto refused = [&](auto change) {
    StateNode node;
    it_.transport->Save(node);
    change(node);
    Machine other(*memory_);
    const bool loaded = other.transport->Load(node).ok();
    other.transport.reset();
    // A device that was never told that it is active is not told to reset either.
    EXPECT_EQ(other.device.resets, loaded ? 1 : 0);
    return !loaded;
  };
  const auto child = [](StateNode& node, const char* name) -> StateNode& {
    return std::get<StateNode::Field::Sub>(node.mutable_fields().at(name).value).nodes.front();
  };
  EXPECT_FALSE(refused([](StateNode&) {}));
  EXPECT_TRUE(refused([](StateNode& node) { node.mutable_fields().erase("device"); }));
  EXPECT_TRUE(refused(
      [](StateNode& node) { node.mutable_fields().at("name").value = std::string("other"); }));
  EXPECT_TRUE(refused([&](StateNode& node) {
    child(child(node, "common"), "queues").mutable_fields().at("size").value = uint64_t{128};
  }));
  EXPECT_TRUE(refused([&](StateNode& node) {
    child(child(node, "common"), "queues").mutable_fields().at("used_ring").value = ~uint64_t{0};
  }));
  EXPECT_TRUE(refused([&](StateNode& node) {
    child(node, "common").mutable_fields().at("status").value = uint64_t{1};
  })) << "active without DRIVER_OK";
  EXPECT_TRUE(refused([&](StateNode& node) {
    auto& fields = child(node, "common").mutable_fields();
    fields.at("status").value = uint64_t{kVirtioStatusDriver | kVirtioStatusDriverOk};
    fields.at("driver_features").value = ~uint64_t{0};
  })) << "features that were never negotiated";
  EXPECT_TRUE(refused([&](StateNode& node) {
    child(node, "common").mutable_fields().at("driver_features").value = kFeatureA;
  })) << "without VIRTIO_F_VERSION_1";
  EXPECT_TRUE(refused([&](StateNode& node) {
    child(node, "msix").mutable_fields().at("table").value = StateNode::Bytes(3);
  }));
}

}  // namespace
}  // namespace pacsvisor
