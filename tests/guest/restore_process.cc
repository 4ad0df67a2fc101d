#include "tests/guest/restore_process.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <thread>

#include "vmm/machine/host_resources.h"
#include "vmm/snapshot/file_space.h"
#include "vmm/snapshot/full_copy.h"
#include "vmm/snapshot/memory_space.h"

namespace pacsvisor {
namespace {

constexpr int kWordsOfADisk = 5;

GuestProcess::Options OptionsOf(const std::string& copy, const MachineConfig& config,
                                const std::vector<std::string>& disks) {
  std::vector<std::string> words{"/proc/self/exe", "--restore", copy,
                                 std::to_string(config.memory_bytes / kMiB),
                                 std::to_string(config.cpus)};
  for (size_t i = 0; i < disks.size(); ++i) {
    const auto disk = FileSpace::Open("size", config.disks[i].path, FileSpace::Mode::kRead).value();
    words.insert(words.end(),
                 {disks[i], std::to_string(disk->size_bytes()), config.disks[i].serial,
                  std::to_string(config.disks[i].queues), config.disks[i].read_only ? "ro" : "rw"});
  }
  return {.arguments = words};
}

Status Restore(int argc, char** argv, std::unique_ptr<Machine>& machine) {
  MachineConfig config;
  config.name = "restored";
  config.memory_bytes = std::strtoull(argv[1], nullptr, 10) * kMiB;
  config.cpus = static_cast<uint32_t>(std::strtoul(argv[2], nullptr, 10));
  std::vector<std::unique_ptr<FileSpace>> disks;
  for (int i = 3; i + kWordsOfADisk <= argc; i += kWordsOfADisk) {
    const std::string path = argv[i];
    disks.push_back(
        TRY(FileSpace::Open("disk" + std::to_string(disks.size()), path, FileSpace::Mode::kCreate,
                            std::strtoull(argv[i + 1], nullptr, 10))));
    config.disks.push_back(
        {.path = path,
         .serial = argv[i + 2],
         .read_only = std::string_view(argv[i + 4]) == "ro",
         .queues = static_cast<uint32_t>(std::strtoul(argv[i + 3], nullptr, 10))});
  }
  MachineOptions options;
  options.console_output = [](std::span<const uint8_t> bytes) {
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    std::fflush(stdout);
  };
  options.host = TRY(HostResources::Open(
      config,
      {.image_record_directory = {}, .agent_socket = {}, .boot = HostResources::Boot::kNone}));
  machine = TRY(Machine::Build(config, std::move(options)));
  MemorySpace memory(machine->memory());
  std::vector<Space*> spaces{&memory};
  for (const auto& disk : disks) {
    spaces.push_back(disk.get());
  }
  const StateNode state = TRY(ReadFullCopy(argv[0], spaces));
  TRY(machine->Load(state));
  return machine->Start();
}

}  // namespace

RestoredGuest::RestoredGuest(const std::string& copy, const MachineConfig& config,
                             const std::vector<std::string>& disks)
    : GuestProcess(OptionsOf(copy, config, disks)) {}

Status SaveMachine(Machine& machine, const std::string& path) {
  StateNode state;
  TRY(machine.Save(state));
  MemorySpace memory(machine.memory());
  std::vector<const Space*> spaces{&memory};
  std::vector<std::unique_ptr<FileSpace>> disks;
  for (const DiskConfig& disk : machine.config().disks) {
    disks.push_back(TRY(
        FileSpace::Open("disk" + std::to_string(disks.size()), disk.path, FileSpace::Mode::kRead)));
    spaces.push_back(disks.back().get());
  }
  return WriteFullCopy(path, state, spaces);
}

int RunRestoredGuest(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr,
                 "usage: --restore COPY MEMORY_MIB CPUS [DISK BYTES SERIAL QUEUES ro|rw]...\n");
    return 2;
  }
  std::unique_ptr<Machine> machine;
  const Status restored = Restore(argc, argv, machine);
  if (!restored.ok()) {
    std::fprintf(stderr, "restore failed: %s\n", restored.error().message().c_str());
    return 1;
  }
  std::thread([&machine] {
    uint8_t byte;
    while (::read(STDIN_FILENO, &byte, 1) == 1) {
      machine->ConsoleInput({&byte, 1});
    }
  }).detach();  // ends with the process
  const MachineEnd end = machine->Wait();
  if (end.reason != MachineEnd::Reason::kPowerOff) {
    std::fprintf(stderr, "ended: %s\n", end.report.c_str());
  }
  ::_exit(end.reason == MachineEnd::Reason::kPowerOff ? 0 : 1);
}

}  // namespace pacsvisor
