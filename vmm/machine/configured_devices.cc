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
#include "vmm/disk/layered_disk.h"
#include "vmm/disk/raw_disk.h"
#include "vmm/machine/host_resources.h"
#include "vmm/machine/virtio_devices.h"

namespace pacsvisor {
namespace {

// Without a place for layers the disk cannot be frozen, and costs nothing for that.
Result<std::unique_ptr<BlockBackend>> MakeBlockBackend(const DiskResource& host, DeviceEnds& ends) {
  ends.layered_disks.push_back(nullptr);
  if (!host.layered) {
    std::unique_ptr<RawDisk> raw = TRY(RawDisk::Create(host.image, host.engine));
    return std::unique_ptr<BlockBackend>(std::move(raw));
  }
  std::unique_ptr<LayeredDisk> layered =
      TRY(LayeredDisk::Create(host.image, host.engine, host.layers, host.source));
  ends.sealed_views.push_back(layered.get());
  ends.layered_disks.back() = layered.get();
  return std::unique_ptr<BlockBackend>(std::move(layered));
}

Result<std::unique_ptr<VirtioDevice>> MakeDisk(const DiskConfig& disk, size_t index,
                                               const DiskResource& host, DeviceEnds& ends) {
  std::unique_ptr<BlockBackend> backend = TRY(MakeBlockBackend(host, ends));
  std::unique_ptr<VirtioBlock> device =
      TRY(VirtioBlock::Create({.name = fmt::format("disk{}", index),
                               .serial = disk.serial,
                               .queue_count = static_cast<uint16_t>(disk.queues),
                               .limiter = host.limiter},
                              std::move(backend)));
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

Result<std::unique_ptr<NetworkBackend>> MakeBackend(
    const NetConfig& net, const std::shared_ptr<const TapInterface>& tap) {
  switch (net.backend) {
    case NetBackend::kUser:
      return MakeUserBackend(net);
    case NetBackend::kTap:
      return std::unique_ptr<NetworkBackend>(std::make_unique<TapBackend>(tap));
    case NetBackend::kNone:
      return std::unique_ptr<NetworkBackend>(std::make_unique<DisconnectedBackend>());
  }
  CHECK(false, "back end {}", static_cast<int>(net.backend));
}

Result<std::unique_ptr<VirtioDevice>> MakeNet(const NetConfig& net, size_t index,
                                              const NetResource& host) {
  std::unique_ptr<NetworkBackend> backend = TRY(MakeBackend(net, host.tap));
  std::unique_ptr<NetDevice> device =
      TRY(NetDevice::Create({.name = fmt::format("net{}", index),
                             .mac = net.mac,
                             .send_limiter = host.send_limiter,
                             .receive_limiter = host.receive_limiter},
                            std::move(backend)));
  return std::unique_ptr<VirtioDevice>(std::move(device));
}

}  // namespace

Status AddConfiguredDevices(VirtioDevices& devices, const MachineConfig& config,
                            const HostResources& host, DeviceEnds& ends) {
  for (size_t i = 0; i < config.disks.size(); ++i) {
    std::unique_ptr<VirtioDevice> disk = TRY(MakeDisk(config.disks[i], i, host.disks[i], ends));
    TRY(devices.Add(std::move(disk)));
  }
  for (size_t i = 0; i < config.nets.size(); ++i) {
    std::unique_ptr<VirtioDevice> net = TRY(MakeNet(config.nets[i], i, host.nets[i]));
    TRY(devices.Add(std::move(net)));
  }
  if (config.agent_enabled) {
    ends.agent = std::make_shared<LocalLine>();
    std::unique_ptr<ConsoleDevice> console = TRY(ConsoleDevice::Create(
        {.name = "console0",
         .console = nullptr,
         .ports = {{.name = kGuestAgentPortName, .listener = host.agent, .line = ends.agent}}}));
    TRY(devices.Add(std::move(console)));
  }
  std::unique_ptr<VirtioRng> rng = TRY(VirtioRng::Create({}));
  return devices.Add(std::move(rng));
}

}  // namespace pacsvisor
