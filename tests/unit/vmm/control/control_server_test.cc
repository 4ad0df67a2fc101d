#include "vmm/control/control_server.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/temporary_directory.h"
#include "tests/unit/vmm/control/fake_machine.h"
#include "tests/unit/vmm/control/httplib_suppressions.h"
#include "tests/unit/vmm/control/raw_client.h"
#include "vmm/control/control_client.h"
#include "vmm/control/machine_json.h"
#include "vmm/control/snapshot_json.h"

namespace pacsvisor {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr char kGet[] = "GET /v1/machine HTTP/1.1\r\nHost: x\r\n\r\n";
constexpr uint32_t kLongMs = 600'000;  // a test that waits for one of these fails by its time limit

// Nothing here ends by a time limit unless the test sets one.
ControlServerLimits Patient() {
  return {.http = {.idle_timeout_ms = kLongMs,
                   .request_timeout_ms = kLongMs,
                   .response_timeout_ms = kLongMs}};
}

class ControlServerTest : public testing::Test {
 protected:
  void StartServer(const ControlServerLimits& limits = Patient()) {
    Result<std::unique_ptr<ControlServer>> server =
        ControlServer::Start(ControlServer::Listen(path_).value(), machine_, limits);
    ASSERT_TRUE(server.ok()) << server.error().message();
    server_ = *std::move(server);
  }
  // One request on a connection of its own, and all that comes back.
  std::string Ask(const std::string& request) {
    RawClient client(path_);
    client.Send(request);
    client.EndOfInput();
    return client.ReadToEnd();
  }
  std::string Put(const std::string& path, const std::string& headers, const std::string& body) {
    return Ask("PUT " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n" + body);
  }
  std::string PutStop(const std::string& body) {
    return Put("/v1/machine/stop", "Content-Length: " + std::to_string(body.size()) + "\r\n", body);
  }
  void ExpectStopGetsThrough() {
    const Status stopped = ControlClient(path_).RequestStop({.grace_seconds = 7});
    ASSERT_TRUE(stopped.ok()) << stopped.error().message();
    EXPECT_THAT(machine_.calls(), testing::Contains("stop 7 false"));
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_.path().string() + "/control.sock";
  FakeMachine machine_;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlServerTest, TheSocketIsItsOwnersAlone) {
  StartServer();
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST_F(ControlServerTest, ASocketThatIsThereIsNotReplaced) {
  StartServer();
  EXPECT_FALSE(ControlServer::Listen(path_).ok());
}

TEST_F(ControlServerTest, DescribesTheMachine) {
  StartServer();
  const std::string answer = Ask(kGet);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: application/json"));
  EXPECT_THAT(answer, EndsWith(DescriptionToJson(machine_.Describe())));
}

TEST_F(ControlServerTest, HeadHasNoBody) {
  StartServer();
  const std::string answer = Ask("HEAD /v1/machine HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n"));
}

TEST_F(ControlServerTest, APutWithoutLengthHasAnEmptyBody) {
  StartServer();
  RawClient client(path_);
  ASSERT_TRUE(client.Send("PUT /v1/machine/pause HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_THAT(client.ReadAnswer(), HasSubstr("{\"state\":\"paused\"}"));
  EXPECT_THAT(machine_.calls(), ElementsAre("pause"));
}

TEST_F(ControlServerTest, StopTakesGraceAndForce) {
  StartServer();
  EXPECT_THAT(PutStop(""), StartsWith("HTTP/1.1 202"));
  EXPECT_THAT(PutStop(R"({"grace_seconds":5})"), StartsWith("HTTP/1.1 202"));
  EXPECT_THAT(PutStop(R"({"force":true,"grace_seconds":0})"), StartsWith("HTTP/1.1 202"));
  EXPECT_THAT(machine_.calls(), ElementsAre("stop 30 false", "stop 5 false", "stop 0 true"));
}

TEST_F(ControlServerTest, AStopThatIsNotUnderstoodStopsNothing) {
  StartServer();
  for (const char* body :
       {"{", "[]", "null", "7", "{\"grace\":1}", "{\"grace_seconds\":-1}",
        "{\"grace_seconds\":1.5}", "{\"grace_seconds\":86401}", "{\"grace_seconds\":\"1\"}",
        "{\"force\":1}", "{\"force\":true,\"force\":false}", "{}{}", "{\"force\":true} x"}) {
    EXPECT_THAT(PutStop(body), StartsWith("HTTP/1.1 400")) << body;
  }
  EXPECT_THAT(machine_.calls(), IsEmpty());
}

TEST_F(ControlServerTest, AFailureOfTheMachineIsJson) {
  StartServer();
  machine_.FailWith(Error::Make(ErrorCode::kBusy, "the machine is stopping"));
  const std::string answer = Put("/v1/machine/pause", "", "");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 409"));
  EXPECT_THAT(answer, EndsWith(R"({"code":"busy","message":"the machine is stopping"})"));
}

TEST_F(ControlServerTest, UnknownPathsAndMethodsAreJsonToo) {
  StartServer();
  EXPECT_THAT(Ask("GET /v1/nothing HTTP/1.1\r\n\r\n"), HasSubstr(R"("code":"not_found")"));
  EXPECT_THAT(Ask("GET /v1/machine/ HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404"));
  for (const char* method : {"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"}) {
    const std::string answer = Ask(std::string(method) + " /v1/machine HTTP/1.1\r\n\r\n");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 405")) << method;
    EXPECT_THAT(answer, HasSubstr("Allow: GET, HEAD\r\n")) << method;
    EXPECT_THAT(answer, HasSubstr(R"("code":"method_not_allowed")")) << method;
  }
  EXPECT_THAT(Ask("GET /v1/machine/stop HTTP/1.1\r\n\r\n"), HasSubstr("Allow: PUT\r\n"));
  EXPECT_THAT(machine_.calls(), IsEmpty());
}

TEST_F(ControlServerTest, SnapshotsAreBegunAskedForAndCancelled) {
  StartServer();
  const std::string body = R"({"message":"m"})";
  EXPECT_THAT(Ask("POST /v1/snapshots HTTP/1.1\r\nHost: x\r\nContent-Length: " +
                  std::to_string(body.size()) + "\r\n\r\n" + body),
              AllOf(StartsWith("HTTP/1.1 202"), EndsWith(R"({"number":1})")));
  EXPECT_THAT(Ask("POST /v1/snapshots HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 202"));
  EXPECT_THAT(Ask("GET /v1/snapshots/1 HTTP/1.1\r\n\r\n"),
              EndsWith(SnapshotProgressToJson(FakeMachine::DoneSnapshot())));
  EXPECT_THAT(Ask("HEAD /v1/snapshots/1 HTTP/1.1\r\n\r\n"), EndsWith("\r\n\r\n"));
  EXPECT_THAT(Ask("DELETE /v1/snapshots/1 HTTP/1.1\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 202"), EndsWith(R"({"number":1})")));
  EXPECT_THAT(machine_.calls(), ElementsAre("snapshot 'm' 5000 false 10000",
                                            "snapshot '' 5000 false 10000", "cancel 1"));
}

TEST_F(ControlServerTest, ASnapshotsNumberIsWrittenInOneWay) {
  StartServer();
  for (const char* path :
       {"/v1/snapshots/", "/v1/snapshots/0", "/v1/snapshots/01", "/v1/snapshots/-1",
        "/v1/snapshots/+1", "/v1/snapshots/1/", "/v1/snapshots/1x", "/v1/snapshots/%31x",
        "/v1/snapshots/{number}", "/v1/snapshots/18446744073709551616", "/v1/snapshots//1",
        "/v1/snapshotsx1"}) {
    EXPECT_THAT(Ask(std::string("GET ") + path + " HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404"))
        << path;
  }
  EXPECT_THAT(Ask("GET /v1/snapshots/18446744073709551615 HTTP/1.1\r\n\r\n"),
              HasSubstr("there is no snapshot number 18446744073709551615"));
  EXPECT_THAT(Ask("PUT /v1/snapshots/1 HTTP/1.1\r\n\r\n"),
              HasSubstr("Allow: GET, HEAD, DELETE\r\n"));
  EXPECT_THAT(machine_.calls(), IsEmpty());
}

TEST_F(ControlServerTest, ADeleteTakesNoBody) {
  StartServer();
  EXPECT_THAT(Ask("DELETE /v1/snapshots/1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"),
              StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(machine_.calls(), IsEmpty());
}

TEST_F(ControlServerTest, RubbishIsAnsweredOrCutOffAndHarmsNobody) {
  StartServer();
  for (const std::string& rubbish :
       {std::string("\r\n\r\n"), std::string("hello\r\n\r\n"), std::string(100, '\0'),
        std::string("\x16\x03\x01\x02\x00\x01", 6), std::string("GET\r\n\r\n"),
        std::string("BREW /v1/machine HTTP/1.1\r\n\r\n"),
        std::string("GET /v1/machine HTTP/9.9\r\n\r\n"), std::string("\xff\xfe\xfd\r\n\r\n")}) {
    EXPECT_THAT(Ask(rubbish), Not(StartsWith("HTTP/1.1 200"))) << rubbish;
  }
  EXPECT_THAT(machine_.calls(), IsEmpty());
  ExpectStopGetsThrough();
}

TEST_F(ControlServerTest, NothingAfterRubbishIsServed) {
  StartServer();
  EXPECT_THAT(Ask("hello\r\n\r\nPUT /v1/machine/pause HTTP/1.1\r\n\r\n"),
              Not(HasSubstr("HTTP/1.1 200")));
  // A body that was refused is no request.
  const std::string inner = "PUT /v1/machine/pause HTTP/1.1\r\n\r\n";
  EXPECT_THAT(Put("/v1/machine/stop", "Transfer-Encoding: chunked\r\n", inner),
              StartsWith("HTTP/1.1 411"));
  EXPECT_THAT(Put("/v1/machine/stop", "Content-Length: 1x\r\n", inner), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(Put("/v1/machine/stop", "Content-Length: 1\r\nContent-Length: 2\r\n", inner),
              StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(Put("/v1/none", "Content-Length: 5\r\n", inner), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Ask("GET /v1/machine HTTP/1.1\r\nContent-Length: 30\r\n\r\n" + inner),
              StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(machine_.calls(), IsEmpty());
}

TEST_F(ControlServerTest, ABigBodyIsRefusedByItsLength) {
  StartServer();
  EXPECT_THAT(Put("/v1/machine/stop", "Content-Length: 65537\r\n", std::string(65'537, 'x')),
              StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(Put("/v1/machine/stop", "Content-Length: 99999999999999999999\r\n", "x"),
              StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(PutStop(std::string(65'536, ' ')), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(PutStop("{}" + std::string(65'534, ' ')), StartsWith("HTTP/1.1 202"));
}

TEST_F(ControlServerTest, AHeadWithoutEndIsCutOff) {
  StartServer();
  RawClient client(path_);
  const std::string line = "X-Long: " + std::string(1000, 'x') + "\r\n";
  bool open = client.Send("GET /v1/machine HTTP/1.1\r\n");
  for (int i = 0; open && i < 100'000; ++i) {
    open = client.Send(line);
  }
  EXPECT_FALSE(open);
  RawClient endless(path_);
  open = true;
  for (int i = 0; open && i < 100'000; ++i) {
    open = endless.Send(std::string(1000, 'G'));
  }
  EXPECT_FALSE(open);
  ExpectStopGetsThrough();
}

TEST_F(ControlServerTest, ABodyOfAnotherTypeIsRefused) {
  StartServer();
  for (const char* headers : {"Content-Type: multipart/form-data; boundary=x\r\n",
                              "Content-Type: text/plain\r\n", "Content-Encoding: gzip\r\n"}) {
    EXPECT_THAT(Put("/v1/machine/stop", std::string(headers) + "Content-Length: 2\r\n", "{}"),
                StartsWith("HTTP/1.1 415"))
        << headers;
  }
  EXPECT_THAT(Put("/v1/machine/stop",
                  "Content-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n", "{}"),
              StartsWith("HTTP/1.1 202"));
}

TEST_F(ControlServerTest, RangesAndCompressionAreNotForUs) {
  StartServer();
  std::string ranges = "bytes=0-0";
  for (int i = 0; i < 2'000; ++i) {
    ranges += ",0-0";
  }
  for (const std::string& headers :
       {std::string("Range: bytes=0-3\r\n"), "Range: " + ranges.substr(0, 8'000) + "0\r\n",
        std::string("Accept-Encoding: gzip, br\r\n")}) {
    const std::string answer = Ask("GET /v1/machine HTTP/1.1\r\n" + headers + "\r\n");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200")) << headers;
    EXPECT_THAT(answer, EndsWith(DescriptionToJson(machine_.Describe()))) << headers;
  }
}

TEST_F(ControlServerTest, RequestsSentInOneGoAreAnsweredInOrder) {
  StartServer();
  RawClient client(path_);
  ASSERT_TRUE(
      client.Send("PUT /v1/machine/pause HTTP/1.1\r\n\r\n"
                  "PUT /v1/machine/stop HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
                  "PUT /v1/machine/resume HTTP/1.1\r\n\r\n"));
  EXPECT_THAT(client.ReadAnswer(), HasSubstr("paused"));
  EXPECT_THAT(client.ReadAnswer(), HasSubstr("stopping"));
  EXPECT_THAT(client.ReadAnswer(), HasSubstr("running"));
  EXPECT_THAT(machine_.calls(), ElementsAre("pause", "stop 30 false", "resume"));
}

TEST_F(ControlServerTest, AConnectionServesOnlySoManyRequests) {
  ControlServerLimits limits = Patient();
  limits.http.max_requests = 2;
  StartServer(limits);
  RawClient client(path_);
  ASSERT_TRUE(client.Send(std::string(kGet) + kGet + kGet));
  EXPECT_THAT(client.ReadAnswer(), Not(HasSubstr("Connection: close")));
  EXPECT_THAT(client.ReadAnswer(), HasSubstr("Connection: close"));
  EXPECT_EQ(client.ReadToEnd(), "");
}

TEST_F(ControlServerTest, SilentConnectionsKeepNobodyOut) {
  StartServer();
  std::vector<std::unique_ptr<RawClient>> silent;
  for (int i = 0; i < 64; ++i) {
    silent.push_back(std::make_unique<RawClient>(path_));
  }
  ExpectStopGetsThrough();
}

TEST_F(ControlServerTest, HalfRequestsKeepNobodyOut) {
  StartServer();
  std::vector<std::unique_ptr<RawClient>> halves;
  for (int i = 0; i < 64; ++i) {
    halves.push_back(std::make_unique<RawClient>(path_));
    // Those that came first may be cut off already.
    halves.back()->Send(i % 2 == 0 ? "GET /v1/mach"
                                   : "PUT /v1/machine/stop HTTP/1.1\r\nContent-Length: 9\r\n\r\n{");
  }
  ExpectStopGetsThrough();
}

TEST_F(ControlServerTest, ClientsThatDoNotReadTheirAnswersKeepNobodyOut) {
  StartServer();
  MachineDescription description = machine_.Describe();
  description.disks[0].path = std::string(300'000, 'x');  // more than a socket holds
  machine_.SetDescription(description);
  std::vector<std::unique_ptr<RawClient>> deaf;
  for (int i = 0; i < 40; ++i) {
    deaf.push_back(std::make_unique<RawClient>(path_));
    deaf.back()->Send(kGet);
  }
  ExpectStopGetsThrough();
}

TEST_F(ControlServerTest, AClientThatDoesNotReadItsAnswerIsCutOff) {
  ControlServerLimits limits = Patient();
  limits.http.response_timeout_ms = 50;
  StartServer(limits);
  MachineDescription description = machine_.Describe();
  description.disks[0].path = std::string(900'000, 'x');
  machine_.SetDescription(description);
  RawClient deaf(path_);
  ASSERT_TRUE(deaf.Send(kGet));
  bool open = true;
  for (int i = 0; open && i < 100'000; ++i) {
    open = deaf.Send(std::string(1000, 'x'));  // fails when the server has closed
  }
  EXPECT_FALSE(open);
}

TEST_F(ControlServerTest, TheOldestConnectionGivesWay) {
  ControlServerLimits limits = Patient();
  limits.max_connections = 2;
  StartServer(limits);
  RawClient first(path_);
  ASSERT_TRUE(first.Send(kGet));
  EXPECT_THAT(first.ReadAnswer(), StartsWith("HTTP/1.1 200"));
  RawClient second(path_);
  ASSERT_TRUE(second.Send(kGet));
  EXPECT_THAT(second.ReadAnswer(), StartsWith("HTTP/1.1 200"));
  RawClient third(path_);
  ASSERT_TRUE(third.Send(kGet));
  EXPECT_THAT(third.ReadAnswer(), StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(first.ReadToEnd(), "");  // closed
  ASSERT_TRUE(second.Send(kGet));
  EXPECT_THAT(second.ReadAnswer(), StartsWith("HTTP/1.1 200"));
}

TEST_F(ControlServerTest, ASlowClientIsCutOffByTheTimeOfItsWholeRequest) {
  ControlServerLimits limits = Patient();
  limits.http.request_timeout_ms = 300;
  StartServer(limits);
  RawClient client(path_);
  // Each byte arrives well within any time limit of a single read.
  bool open = true;
  for (int i = 0; open && i < 10'000; ++i) {
    open = client.Send("G");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_FALSE(open);
}

TEST_F(ControlServerTest, AnIdleClientIsCutOff) {
  ControlServerLimits limits = Patient();
  limits.http.idle_timeout_ms = 50;
  StartServer(limits);
  RawClient client(path_);
  EXPECT_EQ(client.ReadToEnd(), "");
}

TEST_F(ControlServerTest, TheEndCutsOffWhoIsConnected) {
  StartServer();
  RawClient silent(path_);
  RawClient busy(path_);
  ASSERT_TRUE(busy.Send(kGet));
  EXPECT_THAT(busy.ReadAnswer(), StartsWith("HTTP/1.1 200"));
  server_.reset();
  EXPECT_EQ(silent.ReadToEnd(), "");
  EXPECT_EQ(busy.ReadToEnd(), "");
}

TEST_F(ControlServerTest, ManyClientsAtOnceAreAllServed) {
  StartServer();
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([this] {
      ControlClient client(path_);
      for (int round = 0; round < 20; ++round) {
        EXPECT_TRUE(client.Describe().ok());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

}  // namespace
}  // namespace pacsvisor
