// virtio-console: any rings, control messages and registers, with a client that writes and reads;
// saved, taken over by another device from state that may have been changed, reset
// (hostile_device.h). The input begins with what the client writes. Whatever the bytes say, the
// device lives on.
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "devices/console/console_device.h"
#include "tests/fuzz/hostile_device.h"
#include "tests/support/temporary_directory.h"
#include "vmm/base/log.h"

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

struct Card {
  Card(const std::filesystem::path& folder, const std::string& suffix, GuestMemory& memory)
      : agent_path(folder / ("agent" + suffix)),
        hostile(
            ConsoleDevice::Create(
                {.name = "console0",
                 .console = UnixListener::OpenShared(folder / ("console" + suffix)).value(),
                 .ports = {{kGuestAgentPortName, UnixListener::OpenShared(agent_path).value()}}})
                .value(),
            memory) {}

  const std::string agent_path;
  HostileDevice hostile;
};

void Run(FuzzInput input) {
  static const TemporaryDirectory folder;
  static FuzzMemory memory;
  static const auto make = [] {
    return std::make_unique<Card>(folder.path(), "-twin", memory.memory());
  };
  static std::unique_ptr<Card> card = std::make_unique<Card>(folder.path(), "", memory.memory());
  static std::unique_ptr<Card> twin = make();
  memory.Clean();
  const auto text_size = input.Take<uint8_t>();
  const UniqueFd client = Connect((text_size & 1) != 0 ? card->agent_path : twin->agent_path);
  const std::span<const uint8_t> text = input.TakeBytes(size_t{text_size} * 16);
  (void)::send(client.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  card->hostile.Begin(input);
  PlayHostileLife(card, twin, input, make);
  std::array<uint8_t, 4096> bytes;
  (void)::recv(client.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
}

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pacsvisor::SetLogLevel(pacsvisor::LogLevel::kOff);
  pacsvisor::Run(pacsvisor::FuzzInput({data, size}));
  return 0;
}
