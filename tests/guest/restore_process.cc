#include "tests/guest/restore_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <thread>

#include "vmm/base/clock.h"
#include "vmm/snapshot/file_space.h"
#include "vmm/snapshot/full_copy.h"
#include "vmm/snapshot/memory_space.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kDeadlineNs = 120'000'000'000;

Status Restore(int argc, char** argv, std::unique_ptr<Machine>& machine) {
  MachineConfig config;
  config.name = "restored";
  config.memory_bytes = std::strtoull(argv[1], nullptr, 10) * kMiB;
  config.cpus = static_cast<uint32_t>(std::strtoul(argv[2], nullptr, 10));
  std::vector<std::unique_ptr<FileSpace>> disks;
  for (int i = 3; i + 1 < argc; i += 2) {
    const std::string path = argv[i];
    disks.push_back(
        TRY(FileSpace::Open("disk" + std::to_string(disks.size()), path, FileSpace::Mode::kCreate,
                            std::strtoull(argv[i + 1], nullptr, 10))));
    config.disks.push_back({.path = path});
  }
  MachineOptions options;
  options.console_output = [](std::span<const uint8_t> bytes) {
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    std::fflush(stdout);
  };
  machine = TRY(Machine::Build(config, std::move(options), false));
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
    std::fprintf(stderr, "usage: --restore COPY MEMORY_MIB CPUS [DISK BYTES]...\n");
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

RestoredGuest::RestoredGuest(const std::string& copy, const MachineConfig& config,
                             const std::vector<std::string>& disks) {
  std::vector<std::string> words{"/proc/self/exe", "--restore", copy,
                                 std::to_string(config.memory_bytes / kMiB),
                                 std::to_string(config.cpus)};
  for (size_t i = 0; i < disks.size(); ++i) {
    const auto disk = FileSpace::Open("size", config.disks[i].path, FileSpace::Mode::kRead).value();
    words.push_back(disks[i]);
    words.push_back(std::to_string(disk->size_bytes()));
  }
  int input[2];
  int output[2];
  if (::pipe2(input, O_CLOEXEC) != 0 || ::pipe2(output, O_CLOEXEC) != 0) {
    ADD_FAILURE() << "pipe";
    return;
  }
  std::vector<char*> arguments;
  for (std::string& word : words) {
    arguments.push_back(word.data());
  }
  arguments.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(input[0], STDIN_FILENO);
    ::dup2(output[1], STDOUT_FILENO);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(input[0]);
  ::close(output[1]);
  to_guest_ = input[1];
  from_guest_ = output[0];
}

RestoredGuest::~RestoredGuest() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ::close(to_guest_);
  ::close(from_guest_);
}

void RestoredGuest::Send(const std::string& line) {
  const std::string text = line + "\n";
  EXPECT_EQ(::write(to_guest_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

std::string RestoredGuest::Expect(const std::string& text) {
  const uint64_t deadline_ns = MonotonicNs() + kDeadlineNs;
  while (MonotonicNs() < deadline_ns) {
    size_t end;
    while ((end = output_.find('\n')) != std::string::npos) {
      std::string line = output_.substr(0, end);
      output_.erase(0, end + 1);
      while (!line.empty() && line.back() == '\r') {
        line.pop_back();
      }
      seen_ += line + "\n";
      if (line.find(text) != std::string::npos) {
        return line;
      }
    }
    pollfd wait{.fd = from_guest_, .events = POLLIN, .revents = 0};
    char buffer[4096];
    if (::poll(&wait, 1, 1000) == 1) {
      const ssize_t got = ::read(from_guest_, buffer, sizeof(buffer));
      if (got <= 0) {
        break;
      }
      output_.append(buffer, static_cast<size_t>(got));
    }
  }
  ADD_FAILURE() << "'" << text << "' did not come from the restored guest. Its output:\n" << seen_;
  return {};
}

int RestoredGuest::WaitForExit() {
  int status = 0;
  EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace pacsvisor
