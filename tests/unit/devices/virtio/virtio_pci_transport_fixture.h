// A device without a worker behind the PCI transport, and a driver that brings it up.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include "devices/pci/pci_registers.h"
#include "devices/virtio/virtio_pci_transport.h"
#include "tests/support/fake_msi.h"
#include "tests/support/pci_machine.h"
#include "tests/support/virtio_pci_driver.h"

namespace pacsvisor {

using Common = VirtioPciCommonConfig;

inline constexpr uint64_t kFeatureA = uint64_t{1} << 3;
inline constexpr uint64_t kFeatureB = uint64_t{1} << 40;

// A device without a worker: the test is its worker.
class TestDevice : public VirtioDevice {
 public:
  VirtioDeviceType type() const override { return VirtioDeviceType::kConsole; }
  std::string_view name() const override { return "test0"; }
  uint64_t device_features() const override { return features; }
  std::vector<uint16_t> queue_sizes() const override { return {64, 16, 8}; }
  Status Attach(VirtioTransport& transport_in, GuestMemory& /*memory*/) override {
    transport = &transport_in;
    return {};
  }
  void ReadConfig(uint64_t offset, std::span<uint8_t> data) override {
    for (size_t i = 0; i < data.size(); ++i) {
      data[i] = offset + i < config.size() ? config[offset + i] : 0;
    }
  }
  void WriteConfig(uint64_t offset, std::span<const uint8_t> data) override {
    for (size_t i = 0; i < data.size() && offset + i < config.size(); ++i) {
      config[offset + i] = data[i];
    }
  }
  uint8_t config_generation() const override { return generation; }
  void Activate(const VirtioActivation& activated) override { activation = activated; }
  void StartReset() override {
    ++resets;
    activation.reset();
  }
  bool ResetComplete() const override { return reset_complete; }
  void Pause() override { calls += "p"; }
  void Resume() override { calls += "r"; }
  void Save(StateNode& node) const override { node.SetU64("value", value); }
  Status Load(const StateNode& node) override {
    calls += "l";
    value = TRY(node.U64("value"));
    return {};
  }

  uint64_t features = kFeatureA | kFeatureB;
  std::array<uint8_t, 10> config{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  uint8_t generation = 0;
  bool reset_complete = true;
  int resets = 0;
  uint64_t value = 0;
  std::string calls;
  VirtioTransport* transport = nullptr;
  std::optional<VirtioActivation> activation;
};

// One machine with the test device in it.
struct Machine {
  explicit Machine(GuestMemory& memory) {
    transport = VirtioPciTransport::Create(device, memory, msi, doorbells).value();
    slot = machine.pci().Add(*transport).value();
  }

  PciMachine machine;
  FakeMsiController msi;
  FakeDoorbellRegistrar doorbells;
  TestDevice device;
  std::unique_ptr<VirtioPciTransport> transport;
  uint8_t slot = 0;
};

class VirtioPciTransportTest : public testing::Test {
 protected:
  VirtioPciTransportTest()
      : memory_(MakeTestMemory()), heap_(*memory_, GuestAddress(kMiB), 8 * kMiB), it_(*memory_) {
    it_.machine.EnableMemory(it_.slot);
    driver_ = std::make_unique<VirtioPciDriver>(it_.machine, it_.slot);
  }

  // Negotiates all, sets up queues 0 and 2 with vectors 1 and 3, configuration changes with 0.
  void BringUp() {
    driver_->EnableMsix(true);
    for (unsigned vector = 0; vector < 4; ++vector) {
      driver_->SetVector(vector, 0xfee0'0000, 0x40 + vector, false);
    }
    ASSERT_TRUE(driver_->Negotiate(driver_->OfferedFeatures()));
    driver_->WriteCommon<uint16_t>(offsetof(Common, config_msix_vector), 0);
    for (const uint16_t queue : std::initializer_list<uint16_t>{0, 2}) {
      queues_[queue] = std::make_unique<VirtqueueDriver>(*memory_, heap_, uint16_t{8},
                                                         VirtqueueFeatures{true, true});
      driver_->SetUpQueue(queue, queues_[queue]->layout(), static_cast<uint16_t>(queue + 1));
      driver_->EnableQueue(queue);
    }
    driver_->DriverOk();
  }
  uint64_t triggered(unsigned vector) { return it_.msi.vectors().triggered(vector); }

  std::unique_ptr<GuestMemory> memory_;
  GuestHeap heap_;
  Machine it_;
  std::unique_ptr<VirtioPciDriver> driver_;
  std::map<uint16_t, std::unique_ptr<VirtqueueDriver>> queues_;
};

}  // namespace pacsvisor
