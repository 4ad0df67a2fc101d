// A snapshot's way into a store by stage, with none, one and two workers beside the thread that
// gives the blocks; and the same bytes through the libraries' bare calls on one thread. Argument:
// workers; 1 as the second one: of an encrypted store. The files are in $TMPDIR.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/temporary_directory.h"
#include "vmm/base/unique_fd.h"
#include "vmm/store/chunk_pipeline.h"
#include "vmm/store/open_store.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kBlocks = 8192;  // 32 MiB
constexpr int64_t kBytes = int64_t{kBlocks} * kStoreBlockBytes;

// Blocks that differ, of which zstd makes about 40 %, as of a guest's memory.
const std::vector<uint8_t>& Contents() {
  static const std::vector<uint8_t> kContents = [] {
    std::vector<uint8_t> bytes(kBlocks * kStoreBlockBytes);
    uint64_t state = 1;
    for (size_t i = 0; i < bytes.size(); ++i) {
      state = state * 6364136223846793005 + 1442695040888963407;
      bytes[i] = i % 8 < 3 ? static_cast<uint8_t>(state >> 56) : static_cast<uint8_t>(i / 512);
    }
    return bytes;
  }();
  return kContents;
}

std::span<const uint8_t> BlockAt(uint64_t block) {
  return std::span(Contents()).subspan(block * kStoreBlockBytes, kStoreBlockBytes);
}

void BareSha256(benchmark::State& state) {
  EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  EVP_MD_CTX* const context = EVP_MD_CTX_new();
  std::array<uint8_t, 32> hash;
  for (auto _ : state) {
    for (uint64_t block = 0; block < kBlocks; ++block) {
      EVP_DigestInit_ex2(context, algorithm, nullptr);
      EVP_DigestUpdate(context, BlockAt(block).data(), kStoreBlockBytes);
      EVP_DigestFinal_ex(context, hash.data(), nullptr);
      benchmark::DoNotOptimize(hash);
    }
  }
  EVP_MD_CTX_free(context);
  EVP_MD_free(algorithm);
  state.SetBytesProcessed(state.iterations() * kBytes);
}
BENCHMARK(BareSha256)->Unit(benchmark::kMillisecond);

// What zstd makes of each block, one after the other.
std::vector<uint8_t> Compressed() {
  std::vector<uint8_t> all;
  std::vector<uint8_t> room(ZSTD_compressBound(kStoreBlockBytes));
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  for (uint64_t block = 0; block < kBlocks; ++block) {
    const size_t size = ZSTD_compressCCtx(context, room.data(), room.size(), BlockAt(block).data(),
                                          kStoreBlockBytes, 1);
    all.insert(all.end(), room.begin(), room.begin() + static_cast<ptrdiff_t>(size));
  }
  ZSTD_freeCCtx(context);
  return all;
}

void BareZstd(benchmark::State& state) {
  size_t bytes = 0;
  for (auto _ : state) {
    bytes = Compressed().size();
  }
  state.SetBytesProcessed(state.iterations() * kBytes);
  state.counters["compressed_bytes"] = static_cast<double>(bytes);
}
BENCHMARK(BareZstd)->Unit(benchmark::kMillisecond);

void BareAesGcm(benchmark::State& state) {
  EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  EVP_CIPHER_CTX* const context = EVP_CIPHER_CTX_new();
  std::array<uint8_t, 32> key = {};
  const std::array<uint8_t, 12> nonce = {};
  std::array<uint8_t, kStoreBlockBytes + 16> sealed;
  for (auto _ : state) {
    for (uint64_t block = 0; block < kBlocks; ++block) {
      key[0] = static_cast<uint8_t>(block);  // each chunk has a key of its own
      int size = 0;
      EVP_EncryptInit_ex2(context, cipher, key.data(), nonce.data(), nullptr);
      EVP_EncryptUpdate(context, sealed.data(), &size, BlockAt(block).data(), kStoreBlockBytes);
      EVP_EncryptFinal_ex(context, sealed.data() + kStoreBlockBytes, &size);
      benchmark::DoNotOptimize(sealed);
    }
  }
  EVP_CIPHER_CTX_free(context);
  EVP_CIPHER_free(cipher);
  state.SetBytesProcessed(state.iterations() * kBytes);
}
BENCHMARK(BareAesGcm)->Unit(benchmark::kMillisecond);

// The compressed bytes, in a megabyte a call, and one fdatasync: what no store is faster than. The
// rate is of the blocks, as everywhere here.
void BareWriteAndSync(benchmark::State& state) {
  const std::vector<uint8_t> bytes = Compressed();
  const TemporaryDirectory directory;
  int number = 0;
  for (auto _ : state) {
    const std::string path = directory.path() / std::to_string(number++);
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    for (size_t at = 0; at < bytes.size(); at += kMiB) {
      const size_t part = std::min<size_t>(kMiB, bytes.size() - at);
      CHECK(::pwrite(fd.get(), bytes.data() + at, part, static_cast<off_t>(at)) ==
            static_cast<ssize_t>(part));
    }
    CHECK(::fdatasync(fd.get()) == 0);
  }
  state.SetBytesProcessed(state.iterations() * kBytes);
}
BENCHMARK(BareWriteAndSync)->UseRealTime()->Unit(benchmark::kMillisecond);

// Calls every block the same.
class OneFate : public ChunkPipeline::Order {
 public:
  explicit OneFate(BatchItem::Fate fate) : fate_(fate) {}
  Status Decide(ChunkBatch& batch) override {
    for (BatchItem& item : batch.items()) {
      item.fate = fate_;
    }
    return {};
  }
  Status Write(ChunkBatch&) override {
    benchmark::ClobberMemory();
    return {};
  }

 private:
  const BatchItem::Fate fate_;
};

void RunPipeline(benchmark::State& state, BatchItem::Fate fate) {
  const ChunkCodec codec(state.range(1) != 0 ? StoreSecret::Random() : nullptr);
  OneFate order(fate);
  for (auto _ : state) {
    ChunkPipeline pipeline(codec, order, {.workers = static_cast<unsigned>(state.range(0))});
    for (uint64_t block = 0; block < kBlocks; ++block) {
      CHECK(pipeline.AddBlock(0, block, BlockAt(block)).ok());
    }
    CHECK(pipeline.Flush().ok());
  }
  state.SetBytesProcessed(state.iterations() * kBytes);
}

void ByWorkers(benchmark::internal::Benchmark* bench) {
  for (const int encrypted : {0, 1}) {
    for (const int workers : {0, 1, 2}) {
      bench->Args({workers, encrypted});
    }
  }
  bench->UseRealTime()->Unit(benchmark::kMillisecond);
}

void StageHash(benchmark::State& state) { RunPipeline(state, BatchItem::Fate::kUnchanged); }
BENCHMARK(StageHash)->Apply(ByWorkers);

// And sealed, in an encrypted store.
void StageHashAndCompress(benchmark::State& state) { RunPipeline(state, BatchItem::Fate::kFresh); }
BENCHMARK(StageHashAndCompress)->Apply(ByWorkers);

// All of it, on the disk: from the first block until the snapshot is durable.
void StoreSnapshot(benchmark::State& state) {
  const std::shared_ptr<const StoreKey> key =
      state.range(1) != 0 ? StoreKey::Of(std::vector<uint8_t>(kStoreKeyBytes, 1)).value() : nullptr;
  SnapshotDraft draft;
  draft.machine = "bench";
  uint64_t stored_bytes = 0;
  for (auto _ : state) {
    state.PauseTiming();
    auto directory = std::make_unique<TemporaryDirectory>();
    const std::shared_ptr<StoreFiles> files =
        StoreFiles::OpenDirectory(directory->path().string()).value();
    CHECK(Store::Create(*files, key.get()).ok());
    StoreTuning tuning{.key = key};
    tuning.pipeline.workers = static_cast<unsigned>(state.range(0));
    std::unique_ptr<Store> store = OpenStore(files, tuning).value();
    state.ResumeTiming();
    auto writer = store->Begin(std::nullopt, {{.name = "memory", .size_bytes = kBytes}}).value();
    for (uint64_t block = 0; block < kBlocks; ++block) {
      CHECK(writer->Add(0, BlockIndex(block), BlockAt(block)).ok());
    }
    stored_bytes = writer->Commit(draft, {}).value().counts.stored_bytes;
    state.PauseTiming();
    writer.reset();
    store.reset();
    directory.reset();
    state.ResumeTiming();
  }
  state.SetBytesProcessed(state.iterations() * kBytes);
  state.counters["stored_bytes"] = static_cast<double>(stored_bytes);
}
BENCHMARK(StoreSnapshot)->Apply(ByWorkers);

}  // namespace
}  // namespace pacsvisor
