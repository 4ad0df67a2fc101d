// source_watch ADDRESS PORT STOP_FILE: what a program sees of a machine's pauses, until STOP_FILE
// is there. One thread looks at CLOCK_MONOTONIC about every quarter of a millisecond and keeps the
// longest time between two looks, and how often it went back; another keeps one TCP connection to
// ADDRESS:PORT busy with bytes that follow from their place, and checks what comes back. Prints one
// line. Static: it runs on any Linux of x86-64.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>
#include <vector>

namespace {

std::atomic<bool> stopping = false;

uint64_t NowNs() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

struct Clock {
  uint64_t looks = 0;
  uint64_t longest_ns = 0;
  uint64_t backwards = 0;
};

void WatchClock(Clock& clock) {
  for (uint64_t last = NowNs(); !stopping;) {
    ::usleep(250);
    const uint64_t now = NowNs();
    ++clock.looks;
    if (now < last) {
      ++clock.backwards;
    } else {
      clock.longest_ns = std::max(clock.longest_ns, now - last);
    }
    last = now;
  }
}

struct Stream {
  uint64_t received = 0;
  uint64_t wrong = 0;
  int error = 0;  // the connection's, or one that ended by itself
};

uint8_t ByteAt(uint64_t place) {
  uint64_t mixed = (place / 8 + 1) * 0x9e3779b97f4a7c15;
  mixed ^= mixed >> 29;
  return static_cast<uint8_t>(mixed >> (place % 8 * 8));
}

bool Await(int fd, short events) {
  pollfd waiting = {.fd = fd, .events = events, .revents = 0};
  while (!stopping) {
    if (::poll(&waiting, 1, 100) > 0) {
      return true;
    }
  }
  return false;
}

// Sends `bytes` from `place` on, and takes as many back.
bool Exchange(int fd, uint64_t place, std::vector<uint8_t>& bytes, Stream& stream) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = ByteAt(place + i);
  }
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t sent = ::send(fd, &bytes[at], bytes.size() - at, MSG_NOSIGNAL);
    if (sent <= 0) {
      stream.error = errno;
      return false;
    }
    at += static_cast<size_t>(sent);
  }
  for (size_t at = 0; at < bytes.size();) {
    if (!Await(fd, POLLIN)) {
      return false;
    }
    const ssize_t got = ::recv(fd, &bytes[at], bytes.size() - at, 0);
    if (got <= 0) {
      stream.error = got == 0 ? EPIPE : errno;
      return false;
    }
    for (ssize_t i = 0; i < got; ++i) {
      stream.wrong +=
          bytes[at + static_cast<size_t>(i)] == ByteAt(place + at + static_cast<size_t>(i)) ? 0 : 1;
    }
    at += static_cast<size_t>(got);
  }
  stream.received += bytes.size();
  return true;
}

void WatchStream(const char* address, const char* port, Stream& stream) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::strtoul(port, nullptr, 10)));
  ::inet_pton(AF_INET, address, &to.sin_addr);
  // A sockaddr_in is a sockaddr of its family.
  if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) {
    stream.error = errno;
    return;
  }
  std::printf("pacs-job stream connected\n");
  std::fflush(stdout);
  std::vector<uint8_t> bytes(16384);
  while (!stopping && Exchange(fd, stream.received, bytes, stream)) {
    ::usleep(500);
  }
  ::close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: source_watch ADDRESS PORT STOP_FILE\n");
    return 2;
  }
  Clock clock;
  Stream stream;
  std::thread clock_thread([&clock] { WatchClock(clock); });
  std::thread stream_thread([&] { WatchStream(argv[1], argv[2], stream); });
  while (::access(argv[3], F_OK) != 0) {
    ::usleep(50'000);
  }
  stopping = true;
  clock_thread.join();
  stream_thread.join();
  std::printf(
      "pacs-job watch looks=%llu gap_us=%llu backwards=%llu bytes=%llu wrong=%llu error=%d\n",
      static_cast<unsigned long long>(clock.looks),
      static_cast<unsigned long long>(clock.longest_ns / 1000),
      static_cast<unsigned long long>(clock.backwards),
      static_cast<unsigned long long>(stream.received),
      static_cast<unsigned long long>(stream.wrong), stream.error);
  return 0;
}
