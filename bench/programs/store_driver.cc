// Works a store by its own interface, where a guest would only be in the way: the store's part of
// bench/run.sh, which says what is asked and how.
//
// usage: bench_store depth DIR DEPTHS LOOKUPS
//          A new store in DIR, of one snapshot of 64 MiB and children of 64 changed blocks each; at
//          each of DEPTHS ("1,10,100") what the newest one costs to commit, open, look into at
//          LOOKUPS random blocks, and read whole.
//        bench_store capture DIR FILE [PARENT-ID PARENT-FILE]
//          FILE as a snapshot's one disk; with a parent the blocks that differ, as tracking gives
//          them.
//        bench_store read DIR ID FILE
//          A snapshot's disk into a new FILE, holes where it is zero, not synced.
//        bench_store libraries FILE
//          SHA-256 and zstd alone over the blocks of FILE that are not zero, on one core.
//        --key FILE before the verb: of an encrypted store, which is there already but with depth.
// Prints a JSON object; times are lists of nanoseconds.
#include <fcntl.h>
#include <fmt/ranges.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/clock.h"
#include "vmm/base/unique_fd.h"
#include "vmm/store/chunk_codec.h"
#include "vmm/store/sha256.h"
#include "vmm/store/store.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kBlocks = 16 * 1024;
constexpr uint64_t kChangedBlocks = 64;
constexpr uint64_t kPieceBlocks = 256;  // read at once
constexpr size_t kCommitsKept = 10;     // of those before a depth
constexpr int kReads = 3;

using Block = std::vector<uint8_t>;
using Samples = std::vector<uint64_t>;

[[noreturn]] void Die(const std::string& what) {
  fmt::print(stderr, "error: {}\n", what);
  std::exit(1);
}

template <typename T>
T Need(Result<T> result) {
  if (!result.ok()) {
    Die(result.error().message());
  }
  return std::move(result).value();
}

// Runs `work`, and says how long that took.
uint64_t Timed(const std::function<void()>& work) {
  const uint64_t begun_ns = MonotonicNs();
  work();
  return MonotonicNs() - begun_ns;
}

std::shared_ptr<const StoreKey> key;  // null: not encrypted

std::unique_ptr<Store> OpenStoreIn(const std::string& directory) {
  return Need(Store::Open(Need(StoreFiles::OpenDirectory(directory)), "bench", key));
}

SnapshotDraft Draft() {
  SnapshotDraft draft;
  draft.machine = "bench";
  draft.instant_ns = RealtimeNs();
  return draft;
}

bool IsZero(std::span<const uint8_t> block) {
  return std::all_of(block.begin(), block.end(), [](uint8_t byte) { return byte == 0; });
}

uint64_t CompressedBytes(std::span<const uint8_t> block) {
  static ChunkCompressor compressor;
  return compressor.Compress(block).size();
}

// Half of it noise, half of it the same byte: zstd leaves half.
Block MakeBlock(std::mt19937_64& random) {
  Block block(kStoreBlockBytes, static_cast<uint8_t>(random()));
  for (size_t at = 0; at < block.size() / 2; at += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(block.data() + at, &word, sizeof(word));
  }
  return block;
}

// --- depth ---------------------------------------------------------------------------------------

struct CommitOf {
  uint64_t took_ns = 0;
  uint64_t stored_bytes = 0;      // all that was written
  uint64_t compressed_bytes = 0;  // its blocks alone, by zstd
};

double Growth(const CommitOf& commit) {
  return static_cast<double>(commit.stored_bytes) / static_cast<double>(commit.compressed_bytes);
}

class DepthBench {
 public:
  DepthBench(std::string directory, size_t lookups)
      : directory_(std::move(directory)), lookups_(lookups) {
    std::filesystem::create_directories(directory_);
    Need(Store::Create(*Need(StoreFiles::OpenDirectory(directory_)), key.get()));
    store_ = OpenStoreIn(directory_);
  }

  void Run(const std::vector<uint64_t>& depths) {
    std::string points;
    for (const uint64_t depth : depths) {
      while (depth_ < depth) {
        TakeOne();
      }
      points += (points.empty() ? "" : ", ") + Point();
    }
    fmt::print("{{\"points\": [{}]}}\n", points);
  }

 private:
  void TakeOne() {
    const uint64_t blocks = depth_ == 0 ? kBlocks : kChangedBlocks;
    std::vector<Block> contents;
    uint64_t compressed_bytes = 0;
    for (uint64_t i = 0; i < blocks; ++i) {
      contents.push_back(MakeBlock(random_));
      compressed_bytes += CompressedBytes(contents.back());
    }
    std::vector<uint64_t> places(kBlocks);
    for (uint64_t i = 0; i < kBlocks; ++i) {
      places[i] = i;
    }
    if (depth_ > 0) {
      std::shuffle(places.begin(), places.end(), random_);
    }
    const uint64_t took_ns = Timed([&] {
      const auto writer =
          Need(store_->Begin(depth_ == 0 ? std::nullopt : std::optional(info_.id),
                             {{.name = "memory", .size_bytes = kBlocks * kStoreBlockBytes}}));
      for (uint64_t i = 0; i < blocks; ++i) {
        Need(writer->Add(0, BlockIndex(places[i]), contents[i]));
      }
      info_ = Need(writer->Commit(Draft(), {}));
    });
    if (depth_ == 1) {
      commits_.clear();  // the first one, which is whole, stands for depth 1 alone
    }
    commits_.push_back({took_ns, info_.counts.stored_bytes, compressed_bytes});
    ++depth_;
  }

  std::string Point() {
    Samples open_ns;
    Samples lookup_ns;
    Samples read_ns;
    for (int run = 0; run < kReads; ++run) {
      const auto store = OpenStoreIn(directory_);
      std::unique_ptr<SnapshotReader> reader;
      open_ns.push_back(Timed([&] { reader = Need(store->OpenSnapshot(info_.id)); }));
      if (run == 0) {
        lookup_ns = Lookups(*reader);
        reader = Need(store->OpenSnapshot(info_.id));
      }
      std::vector<uint8_t> piece(kPieceBlocks * kStoreBlockBytes);
      read_ns.push_back(Timed([&] {
        for (uint64_t at = 0; at < kBlocks; at += kPieceBlocks) {
          Need(reader->Read(0, BlockIndex(at), piece));
        }
      }));
    }
    const size_t kept = std::min(commits_.size(), kCommitsKept);
    Samples commit_ns;
    std::vector<double> growth;
    for (const CommitOf& commit : std::span(commits_).last(kept)) {
      commit_ns.push_back(commit.took_ns);
      growth.push_back(Growth(commit));
    }
    CommitOf all;
    for (const CommitOf& commit : commits_) {
      all.stored_bytes += commit.stored_bytes;
      all.compressed_bytes += commit.compressed_bytes;
    }
    return fmt::format(
        R"({{"depth": {}, "bytes": {}, "commit_ns": {}, "growth": {}, "growth_of_all": {}, )"
        R"("open_ns": {}, "lookup_ns": {}, "read_ns": {}}})",
        depth_, kBlocks * kStoreBlockBytes, commit_ns, growth, Growth(all), open_ns, lookup_ns,
        read_ns);
  }

  Samples Lookups(SnapshotReader& reader) {
    Samples took_ns;
    Block block(kStoreBlockBytes);
    for (size_t i = 0; i < lookups_; ++i) {
      const BlockIndex at(random_() % kBlocks);
      took_ns.push_back(Timed([&] { Need(reader.Read(0, at, block)); }));
    }
    return took_ns;
  }

  const std::string directory_;
  const size_t lookups_;
  std::unique_ptr<Store> store_;
  std::mt19937_64 random_{1};
  uint64_t depth_ = 0;
  SnapshotInfo info_;              // the newest
  std::vector<CommitOf> commits_;  // of the children, or of the first alone
};

// --- files ---------------------------------------------------------------------------------------

// A file's bytes, whole blocks; the last one's rest is zero.
class FileBytes {
 public:
  explicit FileBytes(const std::string& path) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat facts {};
    if (!fd.valid() || fstat(fd.get(), &facts) != 0 || facts.st_size <= 0) {
      Die(fmt::format("cannot read {}: {}", path, std::strerror(errno)));
    }
    size_bytes_ = static_cast<uint64_t>(facts.st_size);
    // Private memory, read before anything is timed.
    bytes_.resize((size_bytes_ + kStoreBlockBytes - 1) / kStoreBlockBytes * kStoreBlockBytes);
    for (uint64_t at = 0; at < size_bytes_;) {
      const ssize_t got =
          pread(fd.get(), bytes_.data() + at, size_bytes_ - at, static_cast<off_t>(at));
      if (got <= 0) {
        Die(fmt::format("cannot read {}: {}", path, std::strerror(errno)));
      }
      at += static_cast<uint64_t>(got);
    }
  }

  uint64_t size_bytes() const { return size_bytes_; }
  uint64_t blocks() const { return bytes_.size() / kStoreBlockBytes; }
  std::span<const uint8_t> At(uint64_t number) const {
    return std::span(bytes_).subspan(number * kStoreBlockBytes, kStoreBlockBytes);
  }

 private:
  uint64_t size_bytes_ = 0;
  std::vector<uint8_t> bytes_;
};

void Capture(const std::string& directory, const std::string& path, const std::string& parent_id,
             const std::string& parent_path) {
  const FileBytes file(path);
  std::vector<uint64_t> changed;
  std::optional<FileBytes> parent;
  if (!parent_id.empty()) {
    parent.emplace(parent_path);
    if (parent->size_bytes() != file.size_bytes()) {
      Die("the parent's file has another size");
    }
  }
  for (uint64_t i = 0; i < file.blocks(); ++i) {
    if (!parent || !std::ranges::equal(file.At(i), parent->At(i))) {
      changed.push_back(i);
    }
  }
  const auto store = OpenStoreIn(directory);
  std::optional<SnapshotId> parent_snapshot;
  if (!parent_id.empty()) {
    parent_snapshot = Need(store->Resolve(parent_id));
  }
  SnapshotInfo info;
  const uint64_t took_ns = Timed([&] {
    const auto writer =
        Need(store->Begin(parent_snapshot, {{.name = "disk0", .size_bytes = file.size_bytes()}}));
    for (const uint64_t block : changed) {
      Need(writer->Add(0, BlockIndex(block), file.At(block)));
    }
    info = Need(writer->Commit(Draft(), {}));
  });
  uint64_t compressed_bytes = 0;
  std::set<Hash> seen;
  for (const uint64_t block : changed) {
    if (!IsZero(file.At(block)) && seen.insert(Sha256(file.At(block))).second) {
      compressed_bytes += CompressedBytes(file.At(block));
    }
  }
  fmt::print(R"({{"id": "{}", "took_ns": {}, "given_bytes": {}, "unique_bytes": {}, )"
             R"("compressed_bytes": {}, "stored_bytes": {}}})"
             "\n",
             info.id.Hex(), took_ns, info.counts.given * kStoreBlockBytes, info.counts.fresh_bytes,
             compressed_bytes, info.counts.stored_bytes);
}

void ReadSnapshot(const std::string& directory, const std::string& id, const std::string& path) {
  const auto store = OpenStoreIn(directory);
  const auto reader = Need(store->OpenSnapshot(Need(store->Resolve(id))));
  const StoredSpace& space = reader->info().spaces.front();
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid() || ftruncate(file.get(), static_cast<off_t>(space.size_bytes)) != 0) {
    Die(fmt::format("cannot make {}: {}", path, std::strerror(errno)));
  }
  std::vector<uint8_t> buffer(kPieceBlocks * kStoreBlockBytes);
  uint64_t data_bytes = 0;
  const uint64_t took_ns = Timed([&] {
    for (uint64_t at = 0; at < space.block_count();) {
      const uint64_t zero = Need(reader->ZeroRun(0, BlockIndex(at)));
      if (zero > 0) {
        at += zero;
        continue;
      }
      const uint64_t count = std::min(kPieceBlocks, space.block_count() - at);
      const std::span<uint8_t> piece(buffer.data(), count * kStoreBlockBytes);
      Need(reader->Read(0, BlockIndex(at), piece));
      const uint64_t place = at * kStoreBlockBytes;
      const uint64_t bytes = std::min<uint64_t>(piece.size(), space.size_bytes - place);
      if (pwrite(file.get(), piece.data(), bytes, static_cast<off_t>(place)) !=
          static_cast<ssize_t>(bytes)) {
        Die(fmt::format("cannot write {}: {}", path, std::strerror(errno)));
      }
      data_bytes += bytes;
      at += count;
    }
  });
  fmt::print("{{\"took_ns\": {}, \"bytes\": {}}}\n", took_ns, data_bytes);
}

void MeasureLibraries(const std::string& path) {
  const FileBytes file(path);
  std::vector<uint64_t> blocks;
  for (uint64_t i = 0; i < file.blocks(); ++i) {
    if (!IsZero(file.At(i))) {
      blocks.push_back(i);
    }
  }
  uint64_t sum = 0;  // so that nothing is left out as unused
  const uint64_t sha256_ns = Timed([&] {
    for (const uint64_t block : blocks) {
      sum += Sha256(file.At(block))[0];
    }
  });
  uint64_t compressed_bytes = 0;
  const uint64_t zstd_ns = Timed([&] {
    for (const uint64_t block : blocks) {
      compressed_bytes += CompressedBytes(file.At(block));
    }
  });
  fmt::print(
      R"({{"bytes": {}, "compressed_bytes": {}, "sha256_ns": {}, "zstd_ns": {}, "check": {}}})"
      "\n",
      blocks.size() * kStoreBlockBytes, compressed_bytes, sha256_ns, zstd_ns, sum);
}

// --- words ---------------------------------------------------------------------------------------

std::vector<uint64_t> Numbers(std::string_view text) {
  std::vector<uint64_t> numbers;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    uint64_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || end != word.data() + word.size() || number == 0 ||
        (!numbers.empty() && number <= numbers.back())) {
      Die(fmt::format("'{}' is no rising list of numbers", text));
    }
    numbers.push_back(number);
    text.remove_prefix(std::min(text.size(), word.size() + 1));
  }
  return numbers;
}

int Main(std::vector<std::string> words) {
  if (words.size() > 2 && words[0] == "--key") {
    key = Need(StoreKey::ReadFile(words[1]));
    words.erase(words.begin(), words.begin() + 2);
  }
  const std::string verb = words.empty() ? "" : words[0];
  if (verb == "depth" && words.size() == 4) {
    DepthBench(words[1], Numbers(words[3]).front()).Run(Numbers(words[2]));
  } else if (verb == "capture" && (words.size() == 3 || words.size() == 5)) {
    Capture(words[1], words[2], words.size() == 5 ? words[3] : "",
            words.size() == 5 ? words[4] : "");
  } else if (verb == "read" && words.size() == 4) {
    ReadSnapshot(words[1], words[2], words[3]);
  } else if (verb == "libraries" && words.size() == 2) {
    MeasureLibraries(words[1]);
  } else {
    fmt::print(stderr,
               "usage: bench_store depth|capture|read|libraries … (see its source's head)\n");
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace pacsvisor

int main(int argc, char** argv) { return pacsvisor::Main({argv + 1, argv + argc}); }
