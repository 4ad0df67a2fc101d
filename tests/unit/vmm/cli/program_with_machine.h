// The program, and a fake machine named "pacs" that runs beside it.
#pragma once

#include <memory>

#include "tests/unit/vmm/cli/program_fixture.h"
#include "tests/unit/vmm/control/fake_machine.h"
#include "vmm/control/control_server.h"
#include "vmm/control/runtime_directory.h"

namespace pacsvisor {

class ProgramWithMachineTest : public ProgramTest {
 protected:
  void SetUp() override {
    Result<RuntimeDirectory> claimed = RuntimeDirectory::Claim(base_, "pacs");
    ASSERT_TRUE(claimed.ok()) << claimed.error().message();
    runtime_ = std::make_unique<RuntimeDirectory>(*std::move(claimed));
    Result<std::unique_ptr<ControlServer>> server =
        ControlServer::Start(ControlServer::Listen(runtime_->socket_path()).value(), machine_);
    ASSERT_TRUE(server.ok()) << server.error().message();
    server_ = *std::move(server);
  }

  FakeMachine machine_;
  std::unique_ptr<RuntimeDirectory> runtime_;
  std::unique_ptr<ControlServer> server_;
};

}  // namespace pacsvisor
