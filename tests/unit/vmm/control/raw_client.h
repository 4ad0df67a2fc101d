// A client that sends any bytes it likes.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "vmm/base/check.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class RawClient {
 public:
  explicit RawClient(const std::string& path)
      : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {.sun_family = AF_UNIX};
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    // sockaddr_un is what connect(2) reads behind a sockaddr of family AF_UNIX.
    CHECK(connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0,
          "connect: {}", errno);
  }

  // False when the server has closed.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count < 0) {
        return false;
      }
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }
  void EndOfInput() { shutdown(fd_.get(), SHUT_WR); }

  // Up to the server's closing. What was sent in vain is no failure of what was received before.
  std::string ReadToEnd() {
    std::string all;
    char buffer[4096];
    while (true) {
      const ssize_t count = recv(fd_.get(), buffer, sizeof(buffer), 0);
      if (count <= 0) {
        return all;
      }
      all.append(buffer, static_cast<size_t>(count));
    }
  }
  // One whole answer with a Content-Length; what follows it stays unread.
  std::string ReadAnswer() {
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
      char byte;
      if (recv(fd_.get(), &byte, 1, 0) != 1) {
        return head;
      }
      head += byte;
    }
    constexpr std::string_view kLength = "Content-Length: ";
    const size_t at = head.find(kLength);
    std::string body(at == std::string::npos ? 0 : std::stoul(head.substr(at + kLength.size())),
                     '\0');
    size_t length = 0;
    while (length < body.size()) {
      const ssize_t count = recv(fd_.get(), body.data() + length, body.size() - length, 0);
      if (count <= 0) {
        break;
      }
      length += static_cast<size_t>(count);
    }
    return head + body.substr(0, length);
  }

 private:
  const UniqueFd fd_;
};

}  // namespace pacsvisor
