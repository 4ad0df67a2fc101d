// instant_witness PID RESULT [memory:ADDRESS:BYTES | disk:IMAGE]...: what a machine that stands
// still consists of, as somebody reads it who shares no code with it: memory out of process PID,
// disks out of their files, layers over them resolved by their map log (vmm/disk/layer_log.h) as it
// lies on the disk. RESULT receives XXH3-128 of each 4 KiB block, 16 bytes each, in the order of
// the arguments; a line for each disk tells how many batches its log held.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr uint64_t kBlockBytes = 4096;
constexpr uint64_t kSectorBytes = 512;
constexpr unsigned kReaders = 2;

using Hashes = std::vector<XXH128_hash_t>;
using Bytes = std::vector<uint8_t>;

[[noreturn]] void Fail(const std::string& what) {
  std::perror(what.c_str());
  std::exit(1);
}

// --- Memory
// ---------------------------------------------------------------------------------------

void HashMemory(pid_t pid, uint64_t address, XXH128_hash_t* to, uint64_t blocks) {
  constexpr uint64_t kBlocksRead = 256;
  Bytes bytes(kBlocksRead * kBlockBytes);
  for (uint64_t done = 0; done < blocks; done += kBlocksRead) {
    const uint64_t count = std::min(kBlocksRead, blocks - done);
    const iovec here = {bytes.data(), count * kBlockBytes};
    // An address of the other process.
    const iovec there = {reinterpret_cast<void*>(address + done * kBlockBytes),  // NOLINT
                         count * kBlockBytes};
    if (::process_vm_readv(pid, &here, 1, &there, 1, 0) != static_cast<ssize_t>(here.iov_len)) {
      Fail("process_vm_readv");
    }
    for (uint64_t i = 0; i < count; ++i) {
      to[done + i] = XXH3_128bits(&bytes[i * kBlockBytes], kBlockBytes);
    }
  }
}

Hashes OfMemory(pid_t pid, uint64_t address, uint64_t size_bytes) {
  Hashes hashes(size_bytes / kBlockBytes);
  const uint64_t share = (hashes.size() + kReaders - 1) / kReaders;
  std::vector<std::thread> readers;
  for (uint64_t first = 0; first < hashes.size(); first += share) {
    readers.emplace_back(HashMemory, pid, address + first * kBlockBytes, &hashes[first],
                         std::min<uint64_t>(share, hashes.size() - first));
  }
  for (std::thread& reader : readers) {
    reader.join();
  }
  return hashes;
}

// --- Disks
// ----------------------------------------------------------------------------------------

struct Place {
  uint8_t layer = 0;
  bool zeroes = false;
};

template <typename T>
T Number(const Bytes& bytes, uint64_t at) {
  T value = 0;
  std::memcpy(&value, &bytes.at(at + sizeof(T) - 1) - (sizeof(T) - 1), sizeof(T));
  return value;
}

Bytes WholeFile(const std::string& path) {
  Bytes bytes;
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) {
    return bytes;  // no layers
  }
  char part[65536];
  while (const size_t got = std::fread(part, 1, sizeof(part), file)) {
    bytes.insert(bytes.end(), part, part + got);
  }
  std::fclose(file);
  return bytes;
}

// The last word on each block that is not in the image; `batches`: how many there were.
std::map<uint64_t, Place> ReadMap(const std::string& image, uint64_t& batches) {
  std::map<uint64_t, Place> places;
  const Bytes log = WholeFile(image + ".layers/map");
  if (log.size() < kSectorBytes) {
    return places;
  }
  const auto log_id = Number<uint64_t>(log, 32);
  for (uint64_t at = kSectorBytes; at + kSectorBytes <= log.size();) {
    const auto entries = Number<uint32_t>(log, at + 4);
    const uint64_t used = 24 + uint64_t{16} * entries;
    const uint64_t size = (used + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
    if (std::memcmp(&log[at], "PVMB", 4) != 0 || at + size > log.size() ||
        Number<uint64_t>(log, at + 8) != batches + 1) {
      break;
    }
    Bytes batch(log.begin() + static_cast<ptrdiff_t>(at),
                log.begin() + static_cast<ptrdiff_t>(at + size));
    const auto checksum = Number<uint64_t>(batch, 16);
    std::fill_n(batch.begin() + 16, 8, uint8_t{0});
    if (XXH3_64bits_withSeed(batch.data(), batch.size(), log_id) != checksum) {
      break;
    }
    ++batches;
    for (uint32_t i = 0; i < entries; ++i) {
      const uint64_t entry = 24 + uint64_t{16} * i;
      const auto first = Number<uint64_t>(batch, entry);
      const auto count = Number<uint32_t>(batch, entry + 8);
      const Place place = {.layer = batch[entry + 12], .zeroes = batch[entry + 13] != 0};
      for (uint64_t block = first; block < first + count; ++block) {
        places[block] = place;
      }
    }
    at += size;
  }
  return places;
}

Hashes OfDisk(const std::string& image) {
  uint64_t batches = 0;
  const std::map<uint64_t, Place> places = ReadMap(image, batches);
  std::map<uint8_t, int> files;
  files[0] = ::open(image.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status = {};
  if (files[0] < 0 || ::fstat(files[0], &status) != 0) {
    Fail(image);
  }
  const auto size = static_cast<uint64_t>(status.st_size);
  Hashes hashes;
  for (uint64_t block = 0; block * kBlockBytes < size; ++block) {
    Bytes bytes(kBlockBytes);
    const auto found = places.find(block);
    const Place place = found == places.end() ? Place{} : found->second;
    if (!place.zeroes) {
      if (!files.contains(place.layer)) {
        const std::string layer = image + ".layers/layer-" + std::to_string(place.layer);
        files[place.layer] = ::open(layer.c_str(), O_RDONLY | O_CLOEXEC);
      }
      if (::pread(files[place.layer], bytes.data(), kBlockBytes,
                  static_cast<off_t>(block * kBlockBytes)) < 0) {
        Fail(image + ", layer " + std::to_string(place.layer));
      }
    }
    hashes.push_back(XXH3_128bits(bytes.data(), bytes.size()));
  }
  for (const auto& [layer, fd] : files) {
    ::close(fd);
  }
  std::printf("batches %llu\n", static_cast<unsigned long long>(batches));
  return hashes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr,
                 "usage: instant_witness PID RESULT [memory:ADDRESS:BYTES | disk:IMAGE]...\n");
    return 2;
  }
  const auto pid = static_cast<pid_t>(std::strtol(argv[1], nullptr, 10));
  std::FILE* result = std::fopen(argv[2], "wb");
  if (result == nullptr) {
    Fail(argv[2]);
  }
  for (int i = 3; i < argc; ++i) {
    const std::string space = argv[i];
    char* after = nullptr;
    const Hashes hashes = space.starts_with("disk:") ? OfDisk(space.substr(5)) : [&] {
      const uint64_t address = std::strtoull(argv[i] + 7, &after, 0);
      return OfMemory(pid, address, std::strtoull(after + 1, nullptr, 0));
    }();
    if (std::fwrite(hashes.data(), sizeof(hashes[0]), hashes.size(), result) != hashes.size()) {
      Fail(argv[2]);
    }
  }
  return std::fclose(result) == 0 ? 0 : 1;
}
