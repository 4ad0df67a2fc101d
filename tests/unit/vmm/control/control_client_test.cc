#include "vmm/control/control_client.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>

#include <string>
#include <thread>

#include "tests/support/temporary_directory.h"
#include "tests/unit/vmm/control/fake_machine.h"
#include "vmm/control/control_server.h"
#include "vmm/control/machine_json.h"
#include "vmm/control/snapshot_json.h"
#include "vmm/control/unix_socket.h"

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ControlClient, HandsOverWhatItIsTold) {
  const TemporaryDirectory directory;
  const std::string path = directory.path().string() + "/control.sock";
  FakeMachine machine;
  const auto server = ControlServer::Start(ControlServer::Listen(path).value(), machine);
  ASSERT_TRUE(server.ok());
  ControlClient client(path);
  EXPECT_TRUE(client.Pause().ok());
  EXPECT_TRUE(client.Resume().ok());
  EXPECT_TRUE(client.RequestStop({.grace_seconds = 3, .force = true}).ok());
  EXPECT_THAT(machine.calls(), ElementsAre("pause", "resume", "stop 3 true"));
  const Result<MachineDescription> description = client.Describe();
  ASSERT_TRUE(description.ok());
  EXPECT_EQ(DescriptionToJson(*description), DescriptionToJson(machine.Describe()));
}

TEST(ControlClient, AFailureOfTheMachineIsTheClients) {
  const TemporaryDirectory directory;
  const std::string path = directory.path().string() + "/control.sock";
  FakeMachine machine;
  machine.FailWith(Error::Make(ErrorCode::kBusy, "because"));
  const auto server = ControlServer::Start(ControlServer::Listen(path).value(), machine);
  ASSERT_TRUE(server.ok());
  const Status paused = ControlClient(path).Pause();
  ASSERT_FALSE(paused.ok());
  EXPECT_EQ(paused.error().code(), ErrorCode::kBusy);
  EXPECT_EQ(paused.error().message(), "because");
}

TEST(ControlClient, TakesASnapshot) {
  const TemporaryDirectory directory;
  const std::string path = directory.path().string() + "/control.sock";
  FakeMachine machine;
  const auto server = ControlServer::Start(ControlServer::Listen(path).value(), machine);
  ASSERT_TRUE(server.ok());
  ControlClient client(path);
  const Result<uint64_t> number = client.StartSnapshot({.message = "m", .quiesce = true});
  ASSERT_TRUE(number.ok()) << number.error().message();
  const Result<SnapshotProgress> progress = client.SnapshotStatus(*number);
  ASSERT_TRUE(progress.ok()) << progress.error().message();
  EXPECT_EQ(SnapshotProgressToJson(*progress), SnapshotProgressToJson(FakeMachine::DoneSnapshot()));
  EXPECT_TRUE(client.CancelSnapshot(*number).ok());
  EXPECT_EQ(client.SnapshotStatus(*number + 1).error().code(), ErrorCode::kNotFound);
  EXPECT_THAT(machine.calls(), ElementsAre("snapshot 'm' 5000 true 10000", "cancel 1"));
}

TEST(ControlClient, SaysThatNobodyListens) {
  const TemporaryDirectory directory;
  const Status paused = ControlClient(directory.path().string() + "/none.sock").Pause();
  ASSERT_FALSE(paused.ok());
  EXPECT_EQ(paused.error().code(), ErrorCode::kNotFound);
}

TEST(ControlClient, SaysThatAPathIsTooLong) {
  const Status paused = ControlClient("/" + std::string(200, 'x')).Pause();
  ASSERT_FALSE(paused.ok());
  EXPECT_THAT(paused.error().message(), HasSubstr("Linux takes 107"));
}

// A server that answers every connection with `answer`, whatever it is asked.
class CannedServer {
 public:
  CannedServer(const std::string& path, std::string answer)
      : listener_(*ListenOnUnixSocket(path, 4)), answer_(std::move(answer)) {
    thread_ = std::thread([this] {
      pollfd entry = {.fd = listener_.get(), .events = POLLIN, .revents = 0};
      poll(&entry, 1, -1);
      const UniqueFd fd(accept(listener_.get(), nullptr, nullptr));
      char buffer[4096];
      recv(fd.get(), buffer, sizeof(buffer), 0);
      size_t sent = 0;
      while (sent < answer_.size()) {
        const ssize_t count =
            send(fd.get(), answer_.data() + sent, answer_.size() - sent, MSG_NOSIGNAL);
        if (count < 0) {
          return;
        }
        sent += static_cast<size_t>(count);
      }
    });
  }
  ~CannedServer() { thread_.join(); }

 private:
  const UniqueFd listener_;
  const std::string answer_;
  std::thread thread_;
};

TEST(ControlClient, TrustsNoAnswer) {
  const TemporaryDirectory directory;
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  int number = 0;
  for (const std::string& answer :
       {std::string(), std::string("rubbish"), ok + "\r\n", ok + "Content-Length: 2\r\n\r\n{}",
        ok + "Content-Length: 200\r\n\r\n{}", ok + "\r\n" + std::string(100'000, '['),
        ok + "\r\n" + std::string(2'000'000, ' '), ok + "Content-Length: 4\r\n\r\nnull",
        std::string("HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n[]")}) {
    const std::string path = directory.path().string() + "/" + std::to_string(number++);
    const CannedServer server(path, answer);
    EXPECT_FALSE(ControlClient(path).Describe().ok()) << answer.substr(0, 60);
  }
}

}  // namespace
}  // namespace pacsvisor
