#include "vmm/cli/forced_end.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/fault_engine.h"
#include "tests/support/temporary_directory.h"
#include "vmm/cli/command.h"
#include "vmm/cli/end_signals.h"
#include "vmm/control/machine_session.h"
#include "vmm/control/runtime_directory.h"
#include "vmm/disk/raw_disk.h"

namespace pacsvisor {
namespace {

using testing::ExitedWithCode;
using Meaning = EndSignals::Meaning;
using std::chrono::hours;
using std::chrono::milliseconds;

TEST(EndSignals, WhatComesWithinASecondOfTheFirstIsOneWish) {
  EndSignals signals;
  const uint64_t first_ns = 5'000'000'000;
  EXPECT_EQ(signals.Take(first_ns), Meaning::kPowerButton);
  EXPECT_EQ(signals.Take(first_ns), Meaning::kRepeated);
  EXPECT_EQ(signals.Take(first_ns + EndSignals::kSameWishNs - 1), Meaning::kRepeated);
  EXPECT_EQ(signals.Take(first_ns + EndSignals::kSameWishNs), Meaning::kForce);
  EXPECT_EQ(signals.Take(first_ns + EndSignals::kSameWishNs), Meaning::kForce);
}

TEST(ForcedEnd, IsNothingToAMachineThatEndsInTime) {
  for (const bool armed : {false, true}) {
    auto forced_end = ForcedEnd::Start(hours(1), [] { FAIL(); });
    ASSERT_TRUE(forced_end.ok());
    if (armed) {
      (*forced_end)->Arm();
    }
  }
}

// A machine of one disk with a write in flight that the host never ends.
class HungDisk : public MachineRunner {
 public:
  explicit HungDisk(const std::string& path) {
    std::ofstream(path) << std::string(4096, 'x');
    auto engine = std::make_unique<FaultEngine>();
    engine->SetPolicy([](const IoOperation&, uint64_t) { return Fault::Hold(); });
    disk_ = RawDisk::Create(DiskImage::Open({.path = path}).value(), std::move(engine)).value();
    iovec_ = {.iov_base = buffer_.data(), .iov_len = buffer_.size()};
    request_.operation = BlockOperation::kWrite;
    request_.size_bytes = buffer_.size();
    request_.iovecs = std::span(&iovec_, 1);
  }
  Status Start() override {
    disk_->Submit(request_);
    disk_->Kick();
    return {};
  }
  MachineEnd Wait() override {
    MutexLock lock(mutex_);
    while (!forced_) {
      changed_.wait(mutex_);
    }
    return {.reason = MachineEnd::Reason::kForced};
  }
  Status Pause() override { return {}; }
  Status Resume() override { return {}; }
  void PressPowerButton() override {}
  void ForceStop() override {
    MutexLock lock(mutex_);
    forced_ = true;
    changed_.notify_all();
  }
  void ConsoleInput(std::span<const uint8_t>) override {}

 private:
  alignas(4096) std::array<uint8_t, 4096> buffer_ = {};
  iovec iovec_ = {};
  BlockRequest request_;
  std::unique_ptr<RawDisk> disk_;
  Mutex mutex_;
  std::condition_variable_any changed_;
  bool forced_ GUARDED_BY(mutex_) = false;
};

// Never returns: the machine's end waits for its disk.
void RunWithHungDisk(const std::string& directory) {
  const RuntimeDirectory runtime = RuntimeDirectory::Claim(directory + "/run", "pacs").value();
  const auto forced_end =
      ForcedEnd::Start(milliseconds(100), [&runtime] { runtime.Remove(); }).value();
  std::optional<MachineSession> session;
  session.emplace(
      MachineDescription{.name = "pacs"},
      [&](const ConsoleOutput&) -> Result<std::unique_ptr<MachineRunner>> {
        return std::unique_ptr<MachineRunner>(std::make_unique<HungDisk>(directory + "/disk"));
      },
      [](std::span<const uint8_t>) {}, [&] { forced_end->Arm(); });
  std::thread stop([&] {
    while (!session->Resume().ok()) {  // it is there and may be used
      std::this_thread::yield();
    }
    (void)session->RequestStop({.grace_seconds = 0});
  });
  (void)session->Run();
}

TEST(ForcedEndDeathTest, AMachineWhoseDiskHangsEndsAndItsNameIsFree) {
  const TemporaryDirectory directory;
  EXPECT_EXIT(RunWithHungDisk(directory.path().string()),
              ExitedWithCode(static_cast<int>(ExitStatus::kFailed)), "does not answer");
  EXPECT_NE(access((directory.path() / "run/pacs").c_str(), F_OK), 0);
}

// As when its memory is lost: at once, whatever is waited for, with the reason.
TEST(ForcedEndDeathTest, AMachineThatCannotGoOnEndsAtOnceWithTheReason) {
  const TemporaryDirectory directory;
  EXPECT_EXIT(
      {
        const RuntimeDirectory runtime =
            RuntimeDirectory::Claim(directory.path().string() + "/run", "pacs").value();
        const auto forced_end =
            ForcedEnd::Start(hours(1), [&runtime] { runtime.Remove(); }).value();
        std::thread in_memory([&] { forced_end->EndNow("a page is not to be had"); });
        in_memory.join();
        pause();
      },
      ExitedWithCode(static_cast<int>(ExitStatus::kFailed)), "^a page is not to be had\n$");
  EXPECT_NE(access((directory.path() / "run/pacs").c_str(), F_OK), 0);
}

}  // namespace
}  // namespace pacsvisor
