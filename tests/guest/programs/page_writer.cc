// page_writer MIB: writes random bytes to random pages of MIB mebibytes, 64 writes every
// millisecond, until it is killed. Says so once each page was touched. Static: it runs on any Linux
// of x86-64.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: page_writer MIB\n");
    return 2;
  }
  const uint64_t size = std::strtoull(argv[1], nullptr, 10) << 20;
  void* const memory =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    return 1;
  }
  auto* const bytes = static_cast<uint8_t*>(memory);
  for (uint64_t at = 0; at < size; at += 4096) {
    bytes[at] = 1;
  }
  std::printf("pacs-job touched\n");
  std::fflush(stdout);
  std::mt19937_64 random(1);
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      const uint64_t value = random();
      std::memcpy(bytes + random() % (size - sizeof(value)), &value, sizeof(value));
    }
    ::usleep(1000);
  }
}
