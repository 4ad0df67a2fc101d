// virtio-console: any rings and control messages, with a client that writes and reads; saved, taken
// over by another device, reset. The input is whether there are several ports, the queues
// (hostile_queues.h), then what the client writes. Whatever the bytes say, the device lives on.
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "devices/console/console_device.h"
#include "tests/fuzz/hostile_queues.h"
#include "tests/support/temporary_directory.h"
#include "vmm/base/log.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

UniqueFd Connect(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  CHECK(path.size() < sizeof(address.sun_path));
  std::copy(path.begin(), path.end(), address.sun_path);
  // A sockaddr_un is a sockaddr of its family.
  CHECK(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  return fd;
}

struct Console {
  Console(const TemporaryDirectory& folder, const std::string& suffix, GuestMemory& memory)
      : agent_path(folder.path() / ("agent" + suffix)),
        device(ConsoleDevice::Create({.name = "console0",
                                      .console_socket = folder.path() / ("console" + suffix),
                                      .ports = {{kGuestAgentPortName, agent_path}}})
                   .value()),
        queues(*device, memory) {}

  const std::string agent_path;
  const std::unique_ptr<ConsoleDevice> device;
  HostileQueues queues;
};

void Run(FuzzInput input) {
  static const TemporaryDirectory folder;
  static const std::unique_ptr<GuestMemory> memory = MakeTestMemory(2 * kMiB);
  static Console console(folder, "", *memory);
  static Console twin(folder, "-twin", *memory);
  const uint64_t features = input.Take<uint8_t>() % 4 != 0 ? kConsoleFeatureMultiport : 0;
  console.queues.Place(input);
  const UniqueFd client = Connect(console.agent_path);
  const std::span<const uint8_t> text = input.TakeBytes(4096);
  (void)::send(client.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  console.queues.Activate(features);
  console.queues.Serve();
  std::array<uint8_t, 4096> bytes;
  (void)::recv(client.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);

  StateNode state;
  console.device->Pause();
  console.queues.Save(state);
  console.queues.Reset();
  console.device->Resume();

  const StateNode decoded = DecodeState(EncodeState(state)).value();
  twin.device->Pause();
  twin.queues.TakeOver(console.queues);
  twin.queues.Activate(features, decoded);
  twin.device->Resume();
  twin.queues.Serve();
  twin.queues.Reset();
}

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pacsvisor::SetLogLevel(pacsvisor::LogLevel::kOff);
  pacsvisor::Run(pacsvisor::FuzzInput({data, size}));
  return 0;
}
