#include "tests/guest/guest_machine.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "vmm/machine/host_resources.h"

namespace pacsvisor {

namespace {

Result<std::unique_ptr<Machine>> BuildMachine(const MachineConfig& config, MachineOptions options,
                                              const std::string& agent_socket) {
  options.host = TRY(
      HostResources::Open(config, {.image_record_directory = {}, .agent_socket = agent_socket}));
  return Machine::Build(config, std::move(options));
}

}  // namespace

GuestMachine::GuestMachine(const MachineConfig& config, const std::string& agent_socket) {
  Adopt(BuildMachine(config, Options(), agent_socket));
}

GuestMachine::GuestMachine(const MachineConfig& config, std::shared_ptr<const HostResources> host,
                           bool for_load) {
  MachineOptions options = Options();
  options.host = std::move(host);
  options.for_load = for_load;
  Adopt(Machine::Build(config, std::move(options)));
}

MachineOptions GuestMachine::Options() {
  MachineOptions options;
  options.console_output = [this](std::span<const uint8_t> bytes) { Collect(bytes); };
  return options;
}

void GuestMachine::Adopt(Result<std::unique_ptr<Machine>> built) {
  if (!built.ok()) {
    ADD_FAILURE() << built.error().message();
    std::abort();  // no test of a machine can go on without one
  }
  machine_ = std::move(built).value();
}

GuestMachine::~GuestMachine() {
  if (waiter_.joinable()) {
    machine_->ForceStop();
    waiter_.join();
  }
}

void GuestMachine::Start() {
  const Status started = machine_->Start();
  ASSERT_TRUE(started.ok()) << started.error().message();
  waiter_ = std::thread([this] {
    MachineEnd end = machine_->Wait();
    const std::lock_guard lock(mutex_);
    end_ = std::move(end);
    ended_ = true;
    changed_.notify_all();
  });
}

void GuestMachine::Collect(std::span<const uint8_t> bytes) {
  const std::lock_guard lock(mutex_);
  output_.append(bytes.begin(), bytes.end());
  if (std::getenv("PACSVISOR_SHOW_CONSOLE") != nullptr) {
    std::fwrite(bytes.data(), 1, bytes.size(), stderr);
  }
  changed_.notify_all();
}

std::string GuestMachine::Expect(std::string_view text) {
  std::unique_lock lock(mutex_);
  size_t start = std::string::npos;
  size_t end = std::string::npos;
  const bool came = changed_.wait_for(lock, kDeadline, [&] {
    start = output_.find(text, found_);
    end = start == std::string::npos ? start : output_.find('\n', start);
    return end != std::string::npos || ended_;
  });
  if (!came || end == std::string::npos) {
    ADD_FAILURE() << "'" << text << "' did not come" << (ended_ ? ": the machine ended. " : ". ")
                  << end_.report << "\nIts output:\n"
                  << output_.substr(output_.size() > 4000 ? output_.size() - 4000 : 0);
    return {};
  }
  const size_t line = output_.rfind('\n', start);
  const size_t line_start = line == std::string::npos ? 0 : line + 1;
  found_ = end;
  std::string whole = output_.substr(line_start, end - line_start);
  while (!whole.empty() && whole.back() == '\r') {
    whole.pop_back();
  }
  return whole;
}

void GuestMachine::Send(std::string_view line) {
  const std::string text = std::string(line) + "\n";
  machine_->ConsoleInput(std::vector<uint8_t>(text.begin(), text.end()));
}

void GuestMachine::SendToShell(std::string_view line) {
  {
    std::unique_lock lock(mutex_);
    const bool came = changed_.wait_for(lock, kDeadline, [&] {
      return output_.find("root@(none)") != std::string::npos || ended_;
    });
    if (!came || ended_) {
      ADD_FAILURE() << "no shell to type '" << line << "' at. The output:\n" << output_;
      return;
    }
  }
  Send(line);
}

std::string GuestMachine::Ask(const std::string& command) {
  Send(command);
  const std::string prefix = "ok " + command.substr(0, command.find(' '));
  const std::string line = Expect(prefix);
  return line.size() > prefix.size() ? line.substr(prefix.size()) + " " : line + " ";
}

uint64_t GuestMachine::Number(const std::string& answer, const std::string& key) {
  const size_t start = answer.find(" " + key + "=");
  if (start == std::string::npos) {
    ADD_FAILURE() << "no " << key << " in '" << answer << "'";
    return 0;
  }
  return std::strtoull(answer.c_str() + start + key.size() + 2, nullptr, 0);
}

MachineEnd GuestMachine::WaitForEnd() {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, kDeadline, [&] { return ended_; })) {
    ADD_FAILURE() << "the machine did not end. Its output:\n" << output_;
    return {MachineEnd::Reason::kHostFailure, "deadline"};
  }
  return end_;
}

std::string GuestMachine::output() const {
  const std::lock_guard lock(mutex_);
  return output_;
}

MachineConfig DirtierConfig(uint64_t memory_bytes, uint32_t cpus, const std::string& more) {
  MachineConfig config;
  config.name = "dirtier";
  config.cpus = cpus;
  config.memory_bytes = memory_bytes;
  config.boot.kernel = PACSVISOR_DIRTIER;
  config.boot.cmdline = "cpus=" + std::to_string(cpus) + " poweroff=port:0x600:0x34:1" +
                        (more.empty() ? "" : " " + more);
  return config;
}

}  // namespace pacsvisor
