// The state section of a snapshot, changed by somebody who wants harm, on its way into a machine on
// /dev/kvm: refused in words, or the machine lives: it starts, stands still when told, is saved
// again and ends. What a guest then does in it is the guest's affair.
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/fuzz/state_mutation.h"
#include "tests/support/temporary_directory.h"
#include "vmm/base/log.h"
#include "vmm/machine/host_resources.h"
#include "vmm/machine/machine.h"
#include "vmm/state/state_codec.h"

namespace {

using namespace pacsvisor;

template <typename T>
T Must(Result<T> result) {
  CHECK(result.ok(), "{}", result.error().message());
  return std::move(result).value();
}

// A dirtier that has come up, as it was saved; and the host for those that are made of it.
class SavedMachine {
 public:
  SavedMachine() {
    SetLogLevel(LogLevel::kOff);
    config_.name = "saved";
    config_.memory_bytes = 16 * kMiB;
    config_.boot.kernel = PACSVISOR_DIRTIER;
    config_.disks.push_back(
        {.path = directory_.MakeFile("disk", kMiB), .serial = "a", .queues = 2});
    config_.nets.push_back({.backend = NetBackend::kNone, .mac = {0x52, 0x54, 0, 1, 2, 3}});
    Save();
    host_ = Must(HostResources::Open(
        config_,
        {.image_record_directory = {}, .agent_socket = {}, .boot = HostResources::Boot::kNone}));
  }

  const StateNode& state() const { return state_; }
  std::unique_ptr<Machine> Build() const {
    MachineOptions options;
    options.host = host_;
    options.for_load = true;
    options.console_output = [](std::span<const uint8_t>) {};
    std::unique_ptr<Machine> machine = Must(Machine::Build(config_, std::move(options)));
    CHECK(machine->memory().Write(GuestAddress(0), memory_));
    return machine;
  }

 private:
  void Save() {
    std::mutex mutex;
    std::string output;
    MachineOptions options;
    options.console_output = [&](std::span<const uint8_t> bytes) {
      const std::lock_guard lock(mutex);
      output.append(bytes.begin(), bytes.end());
    };
    options.host = Must(HostResources::Open(config_, {}));
    const std::unique_ptr<Machine> machine = Must(Machine::Build(config_, std::move(options)));
    CHECK(machine->Start().ok());
    const auto ready = [&] {
      const std::lock_guard lock(mutex);
      return output.find("event ready") != std::string::npos;
    };
    while (!ready()) {
      std::this_thread::yield();
    }
    CHECK(machine->Pause().ok());
    CHECK(machine->Save(state_).ok());
    memory_.resize(config_.memory_bytes);
    CHECK(machine->memory().Read(GuestAddress(0), memory_));
    machine->ForceStop();
    machine->Wait();
  }

  const TemporaryDirectory directory_;
  MachineConfig config_;
  std::shared_ptr<const HostResources> host_;
  StateNode state_;
  std::vector<uint8_t> memory_;
};

void Live(Machine& machine) {
  CHECK(machine.Start().ok());
  CHECK(machine.Pause().ok());
  StateNode again;
  const Status saved = machine.Save(again);
  CHECK(saved.ok() || !saved.error().message().empty());
  CHECK(machine.Resume().ok());
  machine.ForceStop();
  machine.Wait();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (::access("/dev/kvm", R_OK | W_OK) != 0) {
    CHECK(std::getenv("PACSVISOR_REQUIRE_KVM") == nullptr, "/dev/kvm: errno {}", errno);
    std::puts("SKIPPED: needs /dev/kvm");
    return 0;
  }
  static const SavedMachine saved;
  FuzzInput input({data, size});
  StateNode state = saved.state();
  unsigned changes = 0;
  for (unsigned rounds = 1 + input.Take<uint8_t>() % 3; rounds > 0; --rounds) {
    changes += StateMutation::Apply(state, input);
  }
  // As it comes out of a store.
  const Result<StateNode> decoded = DecodeState(EncodeState(state));
  CHECK(decoded.ok() || changes > 0);
  if (!decoded.ok()) {
    return 0;
  }
  const std::unique_ptr<Machine> machine = saved.Build();
  const Status loaded = machine->Load(*decoded);
  CHECK(loaded.ok() || changes > 0, "{}", loaded.error().message());
  if (loaded.ok()) {
    Live(*machine);
  } else {
    CHECK(!loaded.error().message().empty());
  }
  return 0;
}
