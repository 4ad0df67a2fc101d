#include "vmm/store/chunk_codec.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "vmm/store/byte_stream.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kStateMagic = "PVSTATE1";
constexpr int kLevel = 1;
// Compressed blocks cost time to read: what saves less than an eighth is kept raw.
constexpr size_t kMostCompressedBytes = kStoreBlockBytes - kStoreBlockBytes / 8;

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

bool Decompress(std::span<const uint8_t> from, std::span<uint8_t> to) {
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeContext> context(ZSTD_createDCtx());
  CHECK(context != nullptr);
  return ZSTD_decompressDCtx(context.get(), to.data(), to.size(), from.data(), from.size()) ==
         to.size();
}

// A frame that zeroes follow.
bool DecompressPadded(std::span<const uint8_t> padded, std::span<uint8_t> block) {
  if (padded.size() == block.size()) {
    return DecompressChunk(padded, block);
  }
  const size_t size = ZSTD_findFrameCompressedSize(padded.data(), padded.size());
  if (ZSTD_isError(size) != 0u || size > padded.size()) {
    return false;
  }
  const std::span<const uint8_t> rest = padded.subspan(size);
  return std::all_of(rest.begin(), rest.end(), [](uint8_t byte) { return byte == 0; }) &&
         DecompressChunk(padded.first(size), block);
}

}  // namespace

ChunkCompressor::ChunkCompressor() : context_(ZSTD_createCCtx()) { CHECK(context_ != nullptr); }

ChunkCompressor::~ChunkCompressor() { ZSTD_freeCCtx(context_); }

std::span<const uint8_t> ChunkCompressor::Compress(std::span<const uint8_t> block) {
  const size_t size = ZSTD_compressCCtx(context_, buffer_.data(), kMostCompressedBytes,
                                        block.data(), block.size(), kLevel);
  // An error is that it does not fit.
  return ZSTD_isError(size) != 0u ? block : std::span<const uint8_t>(buffer_.data(), size);
}

bool DecompressChunk(std::span<const uint8_t> stored, std::span<uint8_t> block) {
  if (stored.size() == block.size()) {
    std::memcpy(block.data(), stored.data(), block.size());
    return true;
  }
  return Decompress(stored, block);
}

std::span<const uint8_t> ChunkCodec::Encode(const ChunkId& chunk,
                                            std::span<const uint8_t> compressed,
                                            std::span<uint8_t> buffer) const {
  if (secret_ == nullptr) {
    return compressed;
  }
  const size_t padded_bytes = AlignUp(compressed.size(), kSealPadBytes);
  std::array<uint8_t, kStoreBlockBytes> padded = {};
  std::copy(compressed.begin(), compressed.end(), padded.begin());
  const std::span<uint8_t> sealed = buffer.first(padded_bytes + kSealBytes);
  Seal(chunk.key, SealType::kChunk, chunk.name, std::span(padded).first(padded_bytes), sealed);
  return sealed;
}

bool ChunkCodec::Decode(std::span<const uint8_t> stored, const ChunkId& chunk,
                        std::span<uint8_t> block) const {
  if (secret_ == nullptr) {
    return DecompressChunk(stored, block) && Sha256(block) == chunk.name;
  }
  if (stored.size() <= kSealBytes || stored.size() > kMaxStoredChunkBytes) {
    return false;
  }
  std::array<uint8_t, kStoreBlockBytes> buffer;
  const std::span<uint8_t> padded = std::span(buffer).first(stored.size() - kSealBytes);
  return Unseal(chunk.key, SealType::kChunk, chunk.name, stored, padded) &&
         DecompressPadded(padded, block) && Name(Sha256(block)) == chunk.name;
}

std::vector<uint8_t> EncodeStateObject(std::span<const uint8_t> state) {
  std::vector<uint8_t> packed(ZSTD_compressBound(state.size()));
  const size_t size =
      ZSTD_compress(packed.data(), packed.size(), state.data(), state.size(), kLevel);
  const bool raw = ZSTD_isError(size) != 0u || size >= state.size();
  ByteWriter writer;
  writer.Text(kStateMagic);
  writer.Number(uint32_t{raw ? 0u : 1u});
  writer.Zeroes(4);
  writer.Number(uint64_t{state.size()});
  writer.Bytes(raw ? state : std::span<const uint8_t>(packed).first(size));
  return std::move(writer.bytes());
}

Result<std::vector<uint8_t>> DecodeStateObject(std::span<const uint8_t> bytes,
                                               uint64_t plain_bytes) {
  ByteReader reader(bytes);
  const bool known = reader.Expect(kStateMagic);
  const uint32_t codec = reader.Number<uint32_t>();
  const bool zero = reader.ExpectZeroes(4);
  const uint64_t size = reader.Number<uint64_t>();
  const std::span<const uint8_t> data = reader.Rest();
  if (!known || !zero || codec > 1 || size != plain_bytes || size > kMaxStateBytes ||
      (codec == 0 && data.size() != size)) {
    return Error::Make(ErrorCode::kCorrupt, "the state's header breaks the format");
  }
  if (codec == 0) {
    return std::vector<uint8_t>(data.begin(), data.end());
  }
  // A frame says itself how much it makes: asked before memory is taken for it.
  if (ZSTD_getFrameContentSize(data.data(), data.size()) != size) {
    return Error::Make(ErrorCode::kCorrupt, "the state does not decompress");
  }
  std::vector<uint8_t> state(size);
  if (!Decompress(data, state)) {
    return Error::Make(ErrorCode::kCorrupt, "the state does not decompress");
  }
  return state;
}

}  // namespace pacsvisor
