// A machine's life at random instants: paused and resumed, reset by its guest, stopped and started
// again, with I/O on two disks and traffic on its network under way. Nothing hangs (whatever is
// waited for has a limit, hang_watch.h), no byte is lost, the guest's clock never goes back.
//
// Suites named Full do thousands of rounds; PACSVISOR_ROUNDS=N changes how many, PACSVISOR_SEED=N
// begins with another seed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <ostream>
#include <random>
#include <sstream>

#include "tests/guest/echo_server.h"
#include "tests/guest/hang_watch.h"
#include "tests/guest/linux_guest.h"
#include "vmm/control/machine_adapter.h"
#include "vmm/control/machine_session.h"

namespace pacsvisor {
namespace {

// fio writes and verifies on a raw disk and in a file system, bytes go to the host and come back,
// pass after pass, until /run/stop is there. Its name is on the lines of each.
constexpr char kLifecycleLoad[] = R"job(
mkdir -p /run/fs; mount /dev/vdd /run/fs; echo pacs-job mount $?
common="--randrepeat=0 --verify=crc32c --verify_fatal=1 --size=4M"
disk() {
  fio --name=$1 $common "${@:2}" >/tmp/$1 2>&1 || { status=$?; tail -n 5 /tmp/$1; return $status; }
}
raw() {
  disk raw --filename=/dev/vdc --direct=1 --ioengine=libaio --iodepth=16 --rw=randrw \
    --bsrange=512-64k --fsync=16
}
files() {
  disk files --directory=/run/fs --nrfiles=4 --ioengine=psync --rw=randwrite --bsrange=1k-16k \
    --fsync=8
}
head -c 262144 /dev/urandom >/tmp/sent
net() {
  exec 3<>/dev/tcp/10.0.2.2/$(sed 's/.*echo.port=\([0-9]*\).*/\1/' /proc/cmdline) || return
  cat /tmp/sent >&3; head -c 262144 <&3 | cmp - /tmp/sent; status=$?; exec 3>&-; return $status
}
each() {
  pass=0
  until [ -e /run/stop ]; do
    $1; status=$?; pass=$((pass + 1)); echo "pacs-job $1 pass $pass status $status"
    [ $status -eq 0 ] || return
  done
}
for i in $(seq 100); do ip -4 -o address show | grep -q 10.0.2.15 && break; sleep 0.1; done
each raw & raw=$!
each files & files=$!
each net & net=$!
(until [ -e /run/stop ]; do read up idle </proc/uptime; echo pacs-job tick $up; sleep 0.05; done) &
echo pacs-job ready
)job";

// The load's end: what pauses and stops come on is over.
constexpr char kUntilTheEnd[] = R"job(
wait $raw $files $net
umount /run/fs; echo pacs-job umount $?
)job";

// Some time into the load the guest resets itself, whatever is under way.
constexpr char kUntilAReset[] = R"job(
sleep 0.$((RANDOM % 10))
echo pacs-job resets
busybox reboot -f
)job";

uint64_t LifecycleNumber(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

struct LifecycleCase {
  uint32_t cpus;
  uint64_t rounds;

  friend void PrintTo(const LifecycleCase& one, std::ostream* out) {
    *out << one.rounds << " rounds";
  }
};

class Lifecycle : public testing::TestWithParam<LifecycleCase> {
 protected:
  static constexpr std::chrono::seconds kHangs{60};

  Lifecycle()
      : rounds_(LifecycleNumber("PACSVISOR_ROUNDS", GetParam().rounds)),
        random_(LifecycleNumber("PACSVISOR_SEED", 1) * 1000 + GetParam().cpus) {}

  MachineConfig LoadConfig(const std::string& load) {
    MachineConfig config = LinuxConfig(files_, load, GetParam().cpus, 256 * kMiB);
    config.boot.cmdline += " echo.port=" + std::to_string(server_.port());
    config.disks.push_back({.path = files_.MakeDisk("raw.raw", 16 * kMiB),
                            .serial = "raw",
                            .queues = GetParam().cpus});
    config.disks.push_back({.path = files_.MakeFileSystem("files", 64 * kMiB), .serial = "fs"});
    config.nets.push_back({.backend = NetBackend::kUser, .mac = {0x52, 0x54, 0, 1, 2, 3}});
    return config;
  }

  // At random instants, up to `longest_us` away.
  void Linger(uint64_t longest_us) {
    std::this_thread::sleep_for(std::chrono::microseconds(random_() % (longest_us + 1)));
  }

  // /proc/uptime as the guest printed it, line after line; how many lines there were.
  static size_t ExpectClockForward(const std::string& output) {
    std::istringstream lines(output);
    double last = 0;
    size_t ticks = 0;
    for (std::string line; std::getline(lines, line);) {
      const size_t start = line.find("pacs-job tick ");
      if (start != std::string::npos) {
        const double now = std::strtod(line.c_str() + start + 14, nullptr);
        EXPECT_GE(now, last) << "the guest's clock went back";
        last = now;
        ++ticks;
      }
    }
    return ticks;
  }

  // Without what was said while the guest reset itself, up to its next boot: its kernel takes the
  // disks from those that still use them before it restarts, and their errors are its own.
  static std::string WithoutResets(std::string output) {
    for (size_t at = 0; (at = output.find("pacs-job resets", at)) != std::string::npos;) {
      const size_t boot = output.find("pacs: Linux", at);
      output.erase(at, boot == std::string::npos ? boot : boot - at);
    }
    return output;
  }

  static void ExpectNoFailure(const std::string& output) {
    EXPECT_THAT(output, testing::Not(testing::ContainsRegex("status [1-9]")));
    for (const char* fault : {"I/O error", "BUG:", "blocked for more than", "rcu: INFO", "Oops"}) {
      EXPECT_THAT(output, testing::Not(testing::HasSubstr(fault)));
    }
  }

  const uint64_t rounds_;
  std::mt19937_64 random_;
  GuestFiles files_;
  EchoServer server_;
  HangWatch watch_{kHangs};
};

std::string NameOfLifecycle(const testing::TestParamInfo<LifecycleCase>& one) {
  return std::to_string(one.param.cpus) + "Cpus";
}

using LifecyclePauses = Lifecycle;
INSTANTIATE_TEST_SUITE_P(Cpus, LifecyclePauses,
                         testing::Values(LifecycleCase{1, 100}, LifecycleCase{2, 100},
                                         LifecycleCase{4, 100}),
                         NameOfLifecycle);
INSTANTIATE_TEST_SUITE_P(Full, LifecyclePauses,
                         testing::Values(LifecycleCase{1, 3000}, LifecycleCase{2, 3000},
                                         LifecycleCase{4, 3000}),
                         NameOfLifecycle);

TEST_P(LifecyclePauses, GoesOnUnderLoadAndEndsByTheButton) {
  const MachineConfig config = LoadConfig(std::string(kLifecycleLoad) + kUntilTheEnd);
  {
    GuestMachine guest(config);
    guest.Start();
    guest.Expect("pacs-job ready");
    for (uint64_t round = 0; round < rounds_; ++round) {
      SCOPED_TRACE(testing::Message() << "round " << round);
      Linger(round % 16 == 0 ? 50'000 : 4000);
      {
        const HangWatch::Scope scope(watch_, "pausing");
        ASSERT_TRUE(guest.machine().Pause().ok());
      }
      if (round % 4 == 0) {
        Linger(2000);
      }
      const HangWatch::Scope scope(watch_, "resuming");
      ASSERT_TRUE(guest.machine().Resume().ok());
    }
    guest.SendToShell("touch /run/stop");
    // The passes under way end, so that what was written before the last pause is verified.
    EXPECT_THAT(guest.Expect("pacs-job umount"), testing::EndsWith("umount 0"));
    guest.machine().PressPowerButton();
    EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
    ExpectNoFailure(guest.output());
    EXPECT_GT(ExpectClockForward(guest.output()), 0u);
    for (const char* what :
         {"raw pass 1 status 0", "files pass 1 status 0", "net pass 1 status 0"}) {
      EXPECT_THAT(guest.output(), testing::HasSubstr(what));
    }
  }
  ExpectSoundFileSystem(config.disks[0].path);
  ExpectSoundFileSystem(config.disks[3].path);
}

// A session as the program has it, with its console kept.
class RunningSession {
 public:
  explicit RunningSession(const MachineConfig& config)
      : session_(
            DescribeConfig(config),
            MachineFactoryOf(config, HostResources::Open(config, {}).value()),
            [this](std::span<const uint8_t> bytes) { Collect(bytes); }, [] {}),
        thread_([this] {
          const Result<MachineEnd> end = session_.Run();
          reason_ = end.ok() ? end->reason : MachineEnd::Reason::kHostFailure;
        }) {}
  ~RunningSession() {
    if (thread_.joinable()) {
      End();
    }
  }

  MachineSession& session() { return session_; }
  // Until the guest has said `text` so many times since the session began.
  void AwaitSaid(const std::string& text, size_t times) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return Count(text) >= times; });
  }
  MachineEnd::Reason End() {
    EXPECT_TRUE(session_.RequestStop({.force = true}).ok());
    thread_.join();
    return reason_;
  }
  std::string output() {
    const std::lock_guard lock(mutex_);
    return output_;
  }

 private:
  void Collect(std::span<const uint8_t> bytes) {
    const std::lock_guard lock(mutex_);
    output_.append(bytes.begin(), bytes.end());
    if (std::getenv("PACSVISOR_SHOW_CONSOLE") != nullptr) {
      std::fwrite(bytes.data(), 1, bytes.size(), stderr);
    }
    changed_.notify_all();
  }
  size_t Count(const std::string& text) const {
    size_t count = 0;
    for (size_t at = output_.find(text); at != std::string::npos; at = output_.find(text, at + 1)) {
      ++count;
    }
    return count;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::string output_;
  MachineEnd::Reason reason_ = MachineEnd::Reason::kHostFailure;
  MachineSession session_;
  std::thread thread_;
};

using LifecycleResets = Lifecycle;
INSTANTIATE_TEST_SUITE_P(Cpus, LifecycleResets, testing::Values(LifecycleCase{2, 1}),
                         NameOfLifecycle);
INSTANTIATE_TEST_SUITE_P(Full, LifecycleResets,
                         testing::Values(LifecycleCase{1, 12}, LifecycleCase{2, 12},
                                         LifecycleCase{4, 12}),
                         NameOfLifecycle);

// Each round: a session whose guest resets itself twice while somebody pauses and resumes it, then
// a stop by force wherever the third boot is; then all again on the same disks.
TEST_P(LifecycleResets, SessionSurvivesResetsAndStopsAtAnyInstant) {
  const MachineConfig config = LoadConfig(std::string(kLifecycleLoad) + kUntilAReset);
  for (uint64_t round = 0; round < rounds_; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    RunningSession running(config);
    std::atomic<bool> done = false;
    uint64_t pauses = 0;
    std::thread pauser([&, seed = random_()] {
      std::mt19937_64 random(seed);
      while (!done) {
        // Refused (busy) while no machine is there.
        pauses += running.session().Pause().ok() ? 1 : 0;
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 1000));
        (void)running.session().Resume();
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
      }
    });
    {
      const HangWatch::Scope scope(watch_, "two resets");
      running.AwaitSaid("pacs-job resets", 2);
    }
    Linger(1'000'000);
    {
      const HangWatch::Scope scope(watch_, "a stop by force");
      // The guest may have reset itself in the same instant.
      EXPECT_THAT(running.End(),
                  testing::AnyOf(MachineEnd::Reason::kForced, MachineEnd::Reason::kReset));
    }
    {
      const HangWatch::Scope scope(watch_, "who pauses");
      done = true;
      pauser.join();
    }
    EXPECT_GT(pauses, 0u);
    ExpectNoFailure(WithoutResets(running.output()));
    EXPECT_THAT(running.output(), testing::Not(testing::HasSubstr("mount 32")));
    ExpectSoundFileSystem(config.disks[0].path);
    ExpectSoundFileSystem(config.disks[3].path);
    ASSERT_FALSE(HasFailure());
  }
}

// The freestanding guest, with nothing but its memory: also under the thread sanitizer.
class LifecycleDirtier : public testing::TestWithParam<LifecycleCase> {};
INSTANTIATE_TEST_SUITE_P(Cpus, LifecycleDirtier,
                         testing::Values(LifecycleCase{1, 300}, LifecycleCase{2, 300},
                                         LifecycleCase{4, 300}),
                         NameOfLifecycle);
INSTANTIATE_TEST_SUITE_P(Full, LifecycleDirtier,
                         testing::Values(LifecycleCase{1, 5000}, LifecycleCase{2, 5000},
                                         LifecycleCase{4, 5000}),
                         NameOfLifecycle);

TEST_P(LifecycleDirtier, KeepsItsMemoryAndClockAcrossPausesAndStops) {
  const uint64_t rounds = LifecycleNumber("PACSVISOR_ROUNDS", GetParam().rounds);
  std::mt19937_64 random(LifecycleNumber("PACSVISOR_SEED", 1) * 1000 + GetParam().cpus);
  HangWatch watch{std::chrono::seconds(60)};
  constexpr uint64_t kRoundsALife = 100;
  for (uint64_t round = 0; round < rounds; round += kRoundsALife) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    GuestMachine guest(DirtierConfig(64 * kMiB, GetParam().cpus));
    guest.Start();
    guest.Expect("event ready");
    guest.Ask("dirty pages=1000 pattern=hot seed=" + std::to_string(round));
    for (uint64_t i = 0; i < std::min(kRoundsALife, rounds - round); ++i) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
      const HangWatch::Scope scope(watch, "pause " + std::to_string(round + i));
      ASSERT_TRUE(guest.machine().Pause().ok());
      ASSERT_TRUE(guest.machine().Resume().ok());
    }
    guest.Ask("stop");
    guest.Expect("event done");
    EXPECT_EQ(GuestMachine::Number(guest.Ask("verify"), "bad"), 0u);
    EXPECT_EQ(GuestMachine::Number(guest.Ask("gap"), "backwards"), 0u);
    // Stopped while it works, sometimes while it is paused.
    guest.Ask("dirty pages=1000 pattern=hot");
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    if (random() % 2 == 0) {
      ASSERT_TRUE(guest.machine().Pause().ok());
    }
    const HangWatch::Scope scope(watch, "a stop by force");
    guest.machine().ForceStop();
    EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kForced);
    ASSERT_FALSE(HasFailure());
  }
}

}  // namespace
}  // namespace pacsvisor
