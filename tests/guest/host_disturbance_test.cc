// The program as somebody's server, disturbed from outside while its guest works: signals of every
// kind, control clients without manners, a log that cannot be written, a host without io_uring.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "tests/guest/guest_process.h"
#include "tests/guest/linux_guest.h"

namespace pacsvisor {
namespace {

// Of memory that the program may take for its clients. The thread sanitizer keeps a shadow of
// whatever a thread has touched.
#ifdef __SANITIZE_THREAD__
constexpr uint64_t kMostKib = 256 * 1024;
#else
constexpr uint64_t kMostKib = 32 * 1024;
#endif

namespace fs = std::filesystem;
using testing::HasSubstr;

// Writes, flushes, reads back and compares on two disks at a time, for as many rounds as the kernel
// command line says, or for ever; "pacs-job round N" after each, "pacs-job wrong" when it differs.
constexpr char kChurn[] = R"job(
rounds=$(sed -n 's/.*job.rounds=\([0-9]*\).*/\1/p' /proc/cmdline)
round() {
  head -c 1M /dev/urandom >/tmp/$1
  dd if=/tmp/$1 of=/dev/$1 bs=64k oflag=direct conv=fsync 2>/tmp/$1.error ||
    echo pacs-job wrong $1 $(cat /tmp/$1.error)
  dd if=/dev/$1 of=/tmp/$1.back bs=64k count=16 iflag=direct 2>/tmp/$1.error
  cmp /tmp/$1 /tmp/$1.back >/tmp/$1.error 2>&1 || echo pacs-job wrong $1 $(cat /tmp/$1.error)
}
for i in $(seq 1 $rounds); do
  round vdc & round vdd & wait
  echo pacs-job round $i
done
echo pacs-job finished
busybox poweroff -f)job";

class HostDisturbance : public testing::Test {
 protected:
  HostDisturbance() : config_(LinuxConfig(files_, kChurn, 2, 256 * kMiB)) {
    config_.disks.push_back({.path = files_.MakeDisk("c.raw", 8 * kMiB), .serial = "c"});
    // The second one at its limit all the time, behind the filters of the program's threads.
    config_.disks.push_back(
        {.path = files_.MakeDisk("d.raw", 8 * kMiB),
         .serial = "d",
         .rates = {.bytes_per_second = 16 * kMiB, .operations_per_second = 300}});
  }

  void Start(int rounds, bool refuse_uring = false, const std::string& error_log = {}) {
    config_.boot.cmdline += " job.rounds=" + std::to_string(rounds);
    // Guest memory as shared memory: what is anonymous is the program's own.
    std::ofstream(files_.Path("VM.toml")) << "memory_backing = \"memfd\"\n" << ConfigText(config_);
    error_log_ = error_log.empty() ? files_.Path("errors") : error_log;
    program_ = std::make_unique<GuestProcess>(
        GuestProcess::Options{.arguments = {PACSVISOR_PROGRAM, "run", files_.Path("VM.toml")},
                              .environment = {{"PACSVISOR_RUNTIME_DIR", files_.Path("runtime")}},
                              .refuse_uring = refuse_uring,
                              .error_log = error_log_});
  }
  void ExpectFinished() {
    program_->Expect("pacs-job finished");
    EXPECT_EQ(program_->WaitForExit(), 0) << Errors();
    EXPECT_THAT(program_->seen(), testing::Not(HasSubstr("pacs-job wrong")));
  }
  std::string Errors() const {
    std::ifstream stream(error_log_);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  // A line of /proc/PID/status, in KiB.
  uint64_t StatusKib(const std::string& key) const {
    std::ifstream stream("/proc/" + std::to_string(program_->pid()) + "/status");
    for (std::string word; stream >> word;) {
      if (word == key + ":") {
        uint64_t value = 0;
        stream >> value;
        return value;
      }
    }
    ADD_FAILURE() << "no " << key;
    return 0;
  }

  UniqueFd Connect() const {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = files_.Path("runtime") + "/linux/control.sock";
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const timeval limit{.tv_sec = 60, .tv_usec = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    // The generic form of an address.
    const int connected =
        ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    EXPECT_EQ(connected, 0) << path;
    return fd;
  }
  static bool Send(const UniqueFd& fd, const std::string& text) {
    return ::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(text.size());
  }
  // How many answers with status 200 come before the server closes, or `most`.
  static int CountAnswers(const UniqueFd& fd, int most) {
    std::string text;
    char buffer[8192];
    int answers = 0;
    while (answers < most) {
      const ssize_t got = ::recv(fd.get(), buffer, sizeof(buffer), 0);
      if (got <= 0) {
        break;
      }
      text.append(buffer, static_cast<size_t>(got));
      for (size_t at; (at = text.find("HTTP/1.1 200")) != std::string::npos; ++answers) {
        text.erase(0, at + 12);
      }
    }
    return answers;
  }

  GuestFiles files_;
  MachineConfig config_;
  std::string error_log_;
  std::unique_ptr<GuestProcess> program_;
};

constexpr char kRequest[] = "GET /v1/machine HTTP/1.1\r\nHost: x\r\n\r\n";

// Signals that end a process by default, those that stop it, those of children and terminals; to
// the process and to each of its threads.
void SignalStorm(pid_t pid, const std::atomic<bool>& stop) {
  std::vector<int> numbers = {SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF,
                              SIGPOLL, SIGPWR,  SIGPIPE, SIGWINCH,  SIGCHLD,
                              SIGURG,  SIGXCPU, SIGXFSZ, SIGCONT,   SIGSTKFLT};
  for (int number = SIGRTMIN; number <= SIGRTMAX; number += 5) {
    numbers.push_back(number);
  }
  while (!stop) {
    for (const int number : numbers) {
      ::kill(pid, number);
      std::error_code ended;
      for (const auto& task :
           fs::directory_iterator("/proc/" + std::to_string(pid) + "/task", ended)) {
        ::syscall(SYS_tgkill, pid, std::stoi(task.path().filename().string()), number);
      }
    }
    ::kill(pid, SIGTSTP);
    ::kill(pid, SIGCONT);
    std::this_thread::yield();
  }
  ::kill(pid, SIGCONT);
}

class SignalledMachine : public HostDisturbance, public testing::WithParamInterface<bool> {};

TEST_P(SignalledMachine, LosesNothingAndEndsOnlyWhenItsGuestDoes) {
  Start(12, GetParam());
  program_->Expect("pacs-job round 1");
  std::atomic<bool> stop = false;
  std::thread storm([&, pid = program_->pid()] { SignalStorm(pid, stop); });
  program_->Expect("pacs-job round 11");
  stop = true;
  storm.join();
  ExpectFinished();
  EXPECT_THAT(Errors(), testing::Not(HasSubstr("Interrupted system call")));
}
INSTANTIATE_TEST_SUITE_P(Engines, SignalledMachine, testing::Bool(),
                         [](const auto& one) { return one.param ? "Threads" : "Uring"; });

TEST_F(HostDisturbance, AHostWithoutUringIsSaidOnceAndServedByThreads) {
  Start(3, /*refuse_uring=*/true);
  ExpectFinished();
  const std::string log = Errors();
  const size_t first = log.find("disks use threads instead");
  ASSERT_NE(first, std::string::npos) << log;
  EXPECT_EQ(log.find("disks use threads instead", first + 1), std::string::npos) << log;
  EXPECT_THAT(log, HasSubstr("this host refuses io_uring"));
}

TEST_F(HostDisturbance, ALogThatCannotBeWrittenEndsNothing) {
  Start(3, /*refuse_uring=*/true, "/dev/full");
  ExpectFinished();
}

TEST_F(HostDisturbance, ControlClientsWithoutMannersKeepNobodyOutAndCostLittle) {
  Start(100'000);
  program_->Expect("pacs-job round 3");
  {
    const UniqueFd one = Connect();
    ASSERT_TRUE(Send(one, kRequest));
    ASSERT_EQ(CountAnswers(one, 1), 1);
  }
  const uint64_t before_kib = StatusKib("RssAnon");

  // 5,000 one after the other, as many a connection as the server takes; then as many pipelined.
  constexpr int kAConnection = 100;
  for (int connection = 0; connection < 50; ++connection) {
    const UniqueFd fd = Connect();
    for (int i = 0; i < kAConnection; ++i) {
      ASSERT_TRUE(Send(fd, kRequest)) << connection;
      ASSERT_EQ(CountAnswers(fd, 1), 1) << connection << "." << i;
    }
  }
  std::string pipelined;
  for (int i = 0; i < kAConnection; ++i) {
    pipelined += kRequest;
  }
  for (int connection = 0; connection < 50; ++connection) {
    const UniqueFd fd = Connect();
    ASSERT_TRUE(Send(fd, pipelined));
    ASSERT_EQ(CountAnswers(fd, kAConnection), kAConnection) << connection;
  }
  // 200 at once that say nothing, half a request, or what is none.
  std::vector<UniqueFd> clients;
  const std::string rubbish(3000, '\x7f');
  for (int i = 0; i < 200; ++i) {
    clients.push_back(Connect());
    if (i % 3 != 0) {
      (void)Send(clients.back(), i % 3 == 1 ? "GET /v1/mach" : rubbish);
    }
  }
  const UniqueFd polite = Connect();
  ASSERT_TRUE(Send(polite, kRequest));
  EXPECT_EQ(CountAnswers(polite, 1), 1);
  // Connections have threads of their own, whose stacks and heaps are the most of it.
  EXPECT_LT(StatusKib("RssAnon"), before_kib + kMostKib);
  EXPECT_LT(StatusKib("Threads"), 120u);
  const HostResult stop = AskHost("PACSVISOR_RUNTIME_DIR=" + files_.Path("runtime") +
                                  " timeout 60 " + PACSVISOR_PROGRAM + " stop --force linux");
  EXPECT_EQ(stop.status, 0) << stop.output;
  EXPECT_EQ(program_->WaitForExit(), 0);
  EXPECT_THAT(program_->seen(), testing::Not(HasSubstr("pacs-job wrong")));
}

}  // namespace
}  // namespace pacsvisor
