// Debian's qemu-guest-agent in a Linux guest, and a client of the agent port's socket.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/unit/devices/console/socket_client.h"

namespace pacsvisor {

// For a job's disk, beside which kStartAgent finds it.
inline std::string AgentFiles() {
  const std::string files = std::string(PACSVISOR_GUEST_FILES) + "/agent";
  EXPECT_TRUE(std::filesystem::exists(files)) << "run 'bash tests/guest/prepare.sh'";
  return files;
}

// The beginning of a job: the agent on the port of its name, $device.
inline constexpr char kStartAgent[] = R"job(
for port in /sys/class/virtio-ports/*; do
  [ "$(cat $port/name)" = org.qemu.guest_agent.0 ] && device=/dev/${port##*/}
done
export LD_LIBRARY_PATH=/run/job/agent/usr/lib/x86_64-linux-gnu:/run/job/agent/lib/x86_64-linux-gnu
/run/job/agent/usr/sbin/qemu-ga -m virtio-serial -p $device -t /tmp -f /tmp/qga.pid &
)job";

// A conversation: one line of JSON each way.
class AgentClient {
 public:
  explicit AgentClient(const std::string& socket) : client_(socket) {
    EXPECT_TRUE(client_.connected());
    // What an earlier client left half said ends here; the answer's 0xff says where to begin.
    EXPECT_TRUE(client_.Write("\xff"));
    Send({{"execute", "guest-sync-delimited"}, {"arguments", {{"id", 4711}}}});
    while (true) {
      const std::string byte = client_.Read(1);
      if (byte.empty() || byte[0] == '\xff') {
        break;
      }
    }
    EXPECT_EQ(Receive(), 4711);
  }

  nlohmann::json Ask(const std::string& command) {
    Send({{"execute", command}});
    return Receive();
  }

 private:
  void Send(const nlohmann::json& request) { EXPECT_TRUE(client_.Write(request.dump() + "\n")); }
  nlohmann::json Receive() {
    std::string line;
    for (std::string byte; (byte = client_.Read(1)) != "\n" && !byte.empty();) {
      line += byte;
    }
    const nlohmann::json answer = nlohmann::json::parse(line, nullptr, false);
    if (!answer.is_object() || !answer.contains("return")) {
      ADD_FAILURE() << "the agent's answer: '" << line << "'";
      return {};
    }
    return answer["return"];
  }

  console_test::SocketClient client_;
};

}  // namespace pacsvisor
