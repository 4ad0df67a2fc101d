// A block's way into a store and out of it, without the disk: hash, compress, and in an encrypted
// store name, key and seal. Argument: 0 of a store that is not encrypted, 1 of one that is.
#include <benchmark/benchmark.h>

#include <array>
#include <memory>
#include <vector>

#include "vmm/store/chunk_codec.h"

namespace pacsvisor {
namespace {

// Numbers in order and their squares: zstd makes about a third of it, as of a guest's memory.
std::array<uint8_t, kStoreBlockBytes> TypicalBlock() {
  std::array<uint8_t, kStoreBlockBytes> block;
  for (size_t i = 0; i < block.size(); ++i) {
    block[i] = static_cast<uint8_t>(i % 4 == 0 ? i * i / 64 : i / 256);
  }
  return block;
}

ChunkCodec CodecFor(const benchmark::State& state) {
  return ChunkCodec(state.range(0) != 0 ? StoreSecret::Random() : nullptr);
}

void ChunkEncode(benchmark::State& state) {
  const ChunkCodec codec = CodecFor(state);
  const std::array<uint8_t, kStoreBlockBytes> block = TypicalBlock();
  ChunkCompressor compressor;
  std::array<uint8_t, kMaxStoredChunkBytes> buffer;
  size_t stored_bytes = 0;
  for (auto _ : state) {
    const Hash contents = Sha256(block);
    const ChunkId chunk{codec.Name(contents), codec.Key(contents)};
    stored_bytes = codec.Encode(chunk, compressor.Compress(block), buffer).size();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(block.size()));
  state.counters["stored_bytes"] = static_cast<double>(stored_bytes);
}
BENCHMARK(ChunkEncode)->Arg(0)->Arg(1);

void ChunkDecode(benchmark::State& state) {
  const ChunkCodec codec = CodecFor(state);
  std::array<uint8_t, kStoreBlockBytes> block = TypicalBlock();
  ChunkCompressor compressor;
  std::array<uint8_t, kMaxStoredChunkBytes> buffer;
  const Hash contents = Sha256(block);
  const ChunkId chunk{codec.Name(contents), codec.Key(contents)};
  const std::span<const uint8_t> stored = codec.Encode(chunk, compressor.Compress(block), buffer);
  for (auto _ : state) {
    CHECK(codec.Decode(stored, chunk, block));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(block.size()));
}
BENCHMARK(ChunkDecode)->Arg(0)->Arg(1);

// A block that the parent has as it is: what most blocks of a full pass are.
void ChunkName(benchmark::State& state) {
  const ChunkCodec codec = CodecFor(state);
  const std::array<uint8_t, kStoreBlockBytes> block = TypicalBlock();
  for (auto _ : state) {
    benchmark::DoNotOptimize(codec.Name(Sha256(block)));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(block.size()));
}
BENCHMARK(ChunkName)->Arg(0)->Arg(1);

}  // namespace
}  // namespace pacsvisor
