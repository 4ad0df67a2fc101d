// From the configuration to devices, in its order: the order of PCI slots and of names in the
// guest.
#include <memory>
#include <utility>

#include "devices/block/virtio_block.h"
#include "devices/console/console_device.h"
#include "devices/net/disconnected_backend.h"
#include "devices/net/net_device.h"
#include "devices/net/tap_backend.h"
#include "devices/net/user_backend.h"
#include "devices/rng/virtio_rng.h"
#include "vmm/disk/disk_image.h"
#include "vmm/disk/io_engine.h"
#include "vmm/disk/raw_disk.h"
#include "vmm/machine/virtio_devices.h"

namespace pacsvisor {
namespace {

Result<std::unique_ptr<VirtioDevice>> MakeDisk(const DiskConfig& disk, size_t index,
                                               const ImageOwner& owner) {
  DiskImage image = TRY(DiskImage::Open(
      {.path = disk.path, .read_only = disk.read_only, .cache = disk.cache, .owner = owner}));
  std::unique_ptr<IoEngine> engine = TRY(CreateIoEngine(IoEngineKind::kAuto));
  std::unique_ptr<RawDisk> raw = TRY(RawDisk::Create(std::move(image), std::move(engine)));
  std::unique_ptr<VirtioBlock> device =
      TRY(VirtioBlock::Create({.name = fmt::format("disk{}", index),
                               .serial = disk.serial,
                               .queue_count = static_cast<uint16_t>(disk.queues)},
                              std::move(raw)));
  return std::unique_ptr<VirtioDevice>(std::move(device));
}

UserNetwork UserNetworkOf(const NetConfig& net) {
  UserNetwork network;
  network.isolated = net.isolated;
  for (const PortForward& forward : net.forwards) {
    network.forwards.push_back({.protocol = forward.protocol == ForwardProtocol::kTcp
                                                ? HostForward::Protocol::kTcp
                                                : HostForward::Protocol::kUdp,
                                .host_address = forward.host_address,
                                .host_port = forward.host_port,
                                .guest_port = forward.guest_port});
  }
  return network;
}

Result<std::unique_ptr<NetworkBackend>> MakeUserBackend(const NetConfig& net) {
  std::unique_ptr<UserBackend> backend = TRY(UserBackend::Create(UserNetworkOf(net)));
  return std::unique_ptr<NetworkBackend>(std::move(backend));
}

Result<std::unique_ptr<NetworkBackend>> MakeTapBackend(const NetConfig& net) {
  std::unique_ptr<TapBackend> backend = TRY(TapBackend::Create(net.interface));
  return std::unique_ptr<NetworkBackend>(std::move(backend));
}

Result<std::unique_ptr<NetworkBackend>> MakeBackend(const NetConfig& net) {
  switch (net.backend) {
    case NetBackend::kUser:
      return MakeUserBackend(net);
    case NetBackend::kTap:
      return MakeTapBackend(net);
    case NetBackend::kNone:
      return std::unique_ptr<NetworkBackend>(std::make_unique<DisconnectedBackend>());
  }
  CHECK(false, "back end {}", static_cast<int>(net.backend));
}

Result<std::unique_ptr<VirtioDevice>> MakeNet(const NetConfig& net, size_t index) {
  std::unique_ptr<NetworkBackend> backend = TRY(MakeBackend(net));
  std::unique_ptr<NetDevice> device = TRY(
      NetDevice::Create({.name = fmt::format("net{}", index), .mac = net.mac}, std::move(backend)));
  return std::unique_ptr<VirtioDevice>(std::move(device));
}

}  // namespace

Status AddConfiguredDevices(VirtioDevices& devices, const MachineConfig& config,
                            const VirtioDevicePaths& paths) {
  const ImageOwner owner{.machine = config.name, .record_directory = paths.image_record_directory};
  for (size_t i = 0; i < config.disks.size(); ++i) {
    std::unique_ptr<VirtioDevice> disk = TRY(MakeDisk(config.disks[i], i, owner));
    TRY(devices.Add(std::move(disk)));
  }
  for (size_t i = 0; i < config.nets.size(); ++i) {
    std::unique_ptr<VirtioDevice> net = TRY(MakeNet(config.nets[i], i));
    TRY(devices.Add(std::move(net)));
  }
  if (config.agent_enabled) {
    std::unique_ptr<ConsoleDevice> console = TRY(ConsoleDevice::Create(
        {.name = "console0",
         .console_socket = std::nullopt,
         .ports = {{.name = kGuestAgentPortName, .socket_path = paths.agent_socket}}}));
    TRY(devices.Add(std::move(console)));
  }
  std::unique_ptr<VirtioRng> rng = TRY(VirtioRng::Create({}));
  return devices.Add(std::move(rng));
}

}  // namespace pacsvisor
