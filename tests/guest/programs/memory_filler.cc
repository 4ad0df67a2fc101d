// memory_filler RESERVE_MIB THREADS: takes all the memory that is free but RESERVE_MIB, fills every
// page with words that tell its number, from THREADS threads, reads all of it back, and prints one
// line: how many bytes, how many of them wrong, and how many physical pages lie below and above
// 4 GiB (/proc/self/pagemap; root). Static: it runs on any Linux of x86-64.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kPageWords = kPageBytes / sizeof(uint64_t);
constexpr uint64_t kWordStep = 73;  // several words a page, in every cache line's neighbourhood

uint64_t AvailableKib() {
  std::ifstream stream("/proc/meminfo");
  std::string key;
  uint64_t value = 0;
  std::string unit;
  while (stream >> key >> value >> unit) {
    if (key == "MemAvailable:") {
      return value;
    }
  }
  return 0;
}

uint64_t WordOf(uint64_t page, uint64_t index) {
  return (page * kPageWords + index) * 0x9e3779b97f4a7c15 + 1;
}

template <typename Function>
void InThreads(unsigned threads, uint64_t pages, Function function) {
  std::vector<std::thread> running;
  for (unsigned i = 0; i < threads; ++i) {
    // Interleaved in pieces of 2 MiB, so that neighbours are of different processors.
    running.emplace_back([=] {
      for (uint64_t start = i * 512ul; start < pages; start += threads * 512ul) {
        for (uint64_t page = start; page < std::min(start + 512, pages); ++page) {
          function(page);
        }
      }
    });
  }
  for (std::thread& thread : running) {
    thread.join();
  }
}

struct Places {
  uint64_t below_4_gib = 0;
  uint64_t above_4_gib = 0;
};

Places PhysicalPlaces(const void* memory, uint64_t pages) {
  Places places;
  const int fd = ::open("/proc/self/pagemap", O_RDONLY);
  std::vector<uint64_t> entries(512);
  // An address as the number that pagemap is indexed by.
  const uint64_t first = reinterpret_cast<uintptr_t>(memory) / kPageBytes;
  for (uint64_t page = 0; page < pages; page += entries.size()) {
    const uint64_t count = std::min<uint64_t>(entries.size(), pages - page);
    const auto size = static_cast<ssize_t>(count * sizeof(uint64_t));
    if (::pread(fd, entries.data(), static_cast<size_t>(size),
                static_cast<off_t>((first + page) * sizeof(uint64_t))) != size) {
      break;
    }
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t frame = entries[i] & ((1ul << 55) - 1);
      if ((entries[i] >> 63) != 0 && frame != 0) {
        ++(frame < (1ul << 20) ? places.below_4_gib : places.above_4_gib);
      }
    }
  }
  ::close(fd);
  return places;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: memory_filler RESERVE_MIB THREADS\n");
    return 2;
  }
  const uint64_t reserve_kib = std::strtoull(argv[1], nullptr, 10) * 1024;
  const auto threads = static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10));
  const uint64_t pages = (AvailableKib() - reserve_kib) / 4;
  void* const memory = ::mmap(nullptr, pages * kPageBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || threads == 0) {
    std::perror("mmap");
    return 1;
  }
  auto* const words = static_cast<uint64_t*>(memory);
  InThreads(threads, pages, [words](uint64_t page) {
    for (uint64_t i = 0; i < kPageWords; i += kWordStep) {
      words[page * kPageWords + i] = WordOf(page, i);
    }
  });
  static std::atomic<uint64_t> wrong = 0;
  // Each page by another processor than the one that wrote it.
  InThreads(threads, pages, [words, pages](uint64_t page) {
    const uint64_t other = pages - 1 - page;
    for (uint64_t i = 0; i < kPageWords; i += kWordStep) {
      wrong += words[other * kPageWords + i] == WordOf(other, i) ? 0 : 1;
    }
  });
  const Places places = PhysicalPlaces(memory, pages);
  std::printf("filled bytes=%llu wrong=%llu below=%llu above=%llu\n",
              static_cast<unsigned long long>(pages * kPageBytes),
              static_cast<unsigned long long>(wrong.load()),
              static_cast<unsigned long long>(places.below_4_gib * kPageBytes),
              static_cast<unsigned long long>(places.above_4_gib * kPageBytes));
  return 0;
}
