#include "vmm/control/machine_adapter.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "vmm/base/clock.h"
#include "vmm/base/unique_fd.h"
#include "vmm/machine/machine.h"

namespace pacsvisor {
namespace {

// Taken while the program's own initializers run: directly before main().
const uint64_t kProcessStartNs = MonotonicNs();

class MachineAdapter : public MachineRunner {
 public:
  explicit MachineAdapter(std::unique_ptr<Machine> machine) : machine_(std::move(machine)) {}

  Status Start() override { return machine_->Start(); }
  MachineEnd Wait() override { return machine_->Wait(); }
  Status Pause() override { return machine_->Pause(); }
  Status Resume() override { return machine_->Resume(); }
  uint64_t first_entry_ns() const override { return machine_->first_entry_ns(); }
  void PressPowerButton() override { machine_->PressPowerButton(); }
  void ForceStop() override { machine_->ForceStop(); }
  void ConsoleInput(std::span<const uint8_t> bytes) override { machine_->ConsoleInput(bytes); }

 private:
  const std::unique_ptr<Machine> machine_;
};

// Of a file or a block device; 0 when it cannot be asked.
uint64_t SizeOf(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  const off_t end = fd.valid() ? lseek(fd.get(), 0, SEEK_END) : 0;
  return static_cast<uint64_t>(std::max<off_t>(end, 0));
}

NetDescription Describe(const NetConfig& net) {
  NetDescription description{.backend = std::string(NetBackendName(net.backend)),
                             .mac = FormatMac(net.mac),
                             .interface = net.interface,
                             .isolated = net.isolated};
  for (const PortForward& forward : net.forwards) {
    description.forwards.push_back(FormatForward(forward));
  }
  return description;
}

}  // namespace

MachineFactory MachineFactoryOf(MachineConfig config, MachinePaths paths) {
  return [config = std::move(config), paths = std::move(paths)](
             const ConsoleOutput& output) -> Result<std::unique_ptr<MachineRunner>> {
    MachineOptions options{.console_output = output,
                           .agent_socket = paths.agent_socket,
                           .image_record_directory = paths.image_record_directory};
    return std::unique_ptr<MachineRunner>(
        std::make_unique<MachineAdapter>(TRY(Machine::Build(config, std::move(options)))));
  };
}

MachineDescription DescribeConfig(const MachineConfig& config) {
  MachineDescription description{.name = config.name,
                                 .pid = getpid(),
                                 .cpus = config.cpus,
                                 .memory_bytes = config.memory_bytes,
                                 .process_start_ns = kProcessStartNs,
                                 .version = PACSVISOR_VERSION};
  for (const DiskConfig& disk : config.disks) {
    description.disks.push_back({.path = disk.path,
                                 .serial = disk.serial,
                                 .size_bytes = SizeOf(disk.path),
                                 .read_only = disk.read_only});
  }
  for (const NetConfig& net : config.nets) {
    description.nets.push_back(Describe(net));
  }
  return description;
}

}  // namespace pacsvisor
