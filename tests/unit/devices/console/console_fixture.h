// A console device with a console and an agent port, its driver, and the paths of its sockets.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/support/temporary_directory.h"
#include "tests/unit/devices/console/console_driver.h"
#include "tests/unit/devices/console/socket_client.h"

namespace pacsvisor::console_test {

// Text that differs from place to place.
inline std::string Text(size_t size, unsigned seed = 0) {
  std::string text(size, '\0');
  unsigned state = seed * 2654435761u + 99;
  for (char& c : text) {
    state = state * 1664525u + 1013904223u;
    c = static_cast<char>(state >> 24);
  }
  return text;
}

class ConsoleDeviceTest : public testing::Test {
 protected:
  std::unique_ptr<ConsoleDevice> Build(const std::string& suffix = "") {
    return ConsoleDevice::Create(
               {.name = "console0",
                .console = Listener("console" + suffix),
                .ports = {{.name = kGuestAgentPortName, .listener = Listener("agent" + suffix)}}})
        .value();
  }
  std::shared_ptr<const UnixListener> Listener(const std::string& name) {
    return UnixListener::OpenShared(folder_.path() / name).value();
  }
  void Start(uint64_t features = kConsoleFeatureMultiport, bool control_buffers = true) {
    device_ = Build();
    driver_ = std::make_unique<ConsoleDriver>(*device_, *memory_, features, control_buffers);
  }
  void StartSetUp() {
    Start();
    driver().SetUp();
  }

  ConsoleDriver& driver() { return *driver_; }
  VirtioDeviceHarness& harness() { return driver_->harness(); }
  FakeVirtioTransport& transport() { return harness().transport(); }
  std::string agent_path() const { return folder_.path() / "agent"; }
  std::string console_path() const { return folder_.path() / "console"; }
  void ExpectOpen(uint16_t value) {
    EXPECT_EQ(driver().Hear(), (ControlMessage{1, ConsoleEvent::kPortOpen, value, ""}));
  }

  const TemporaryDirectory folder_;
  std::unique_ptr<GuestMemory> memory_ = MakeTestMemory(64 * kMiB);
  std::unique_ptr<ConsoleDevice> device_;
  std::unique_ptr<ConsoleDriver> driver_;
};

}  // namespace pacsvisor::console_test
