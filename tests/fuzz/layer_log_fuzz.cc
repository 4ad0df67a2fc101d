// Any bytes as a disk's map log: refused in words, or replayed to places that the disk has; and
// what was left out at the end as torn changes nothing.
//
// Byte 0: flags. 1: a valid header goes in front. 2: the sums of what looks like batches are put
// right, so that what is behind the check is reached. 4: that header is of a disk with a source. 8:
// of one whose name's sectors follow in the input, with their sum put right.
#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "vmm/base/byte_order.h"
#include "vmm/disk/layer_log.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kFuzzBlocks = 70'000;  // three chunks of the map
constexpr uint64_t kFuzzLogId = 99;

LayerLogSource SourceOf(const std::vector<uint8_t>& log) {
  return {.name = "log",
          .size_bytes = log.size(),
          .read = [&log](uint64_t offset, std::span<uint8_t> bytes) {
            CHECK(offset <= log.size() && bytes.size() <= log.size() - offset);
            std::copy_n(log.begin() + static_cast<ptrdiff_t>(offset), bytes.size(), bytes.begin());
            return Status();
          }};
}

void PutSumsRight(std::vector<uint8_t>& log) {
  for (size_t at = kLogSectorBytes; at + kLogSectorBytes <= log.size(); at += kLogSectorBytes) {
    const uint64_t entries = LoadLe<uint32_t>(&log[at + 4]);
    const uint64_t size = (24 + entries * 16 + kLogSectorBytes - 1) & ~(kLogSectorBytes - 1);
    if (std::memcmp(&log[at], "PVMB", 4) == 0 && size <= log.size() - at) {
      StoreLe<uint64_t>(&log[at + 16], 0);
      StoreLe<uint64_t>(&log[at + 16], XXH3_64bits_withSeed(&log[at], size, kFuzzLogId));
    }
  }
}

Result<LayerLogEnd> Replay(const std::vector<uint8_t>& log, BlockMap& map) {
  const LayerLogHeader header = TRY(ReadLogHeader(SourceOf(log)));
  return ReplayLog(SourceOf(log), header, map);
}

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pacsvisor;
  if (size == 0) {
    return 0;
  }
  std::vector<uint8_t> log;
  if ((data[0] & 1) != 0) {
    log = EncodeLogHeader({.disk_bytes = kFuzzBlocks * kLayerBlockBytes,
                           .base_identity = 1,
                           .log_id = kFuzzLogId,
                           .source = (data[0] & 4) != 0 ? "source" : ""});
    if ((data[0] & 8) != 0) {
      log.resize(kLogSectorBytes);
    }
  }
  log.insert(log.end(), data + 1, data + size);
  if ((data[0] & 8) != 0 && log.size() >= 2 * kLogSectorBytes) {
    const size_t at = 2 * kLogSectorBytes - 8;
    StoreLe<uint64_t>(&log[at],
                      XXH3_64bits_withSeed(&log[kLogSectorBytes], kLogSectorBytes - 8, kFuzzLogId));
  }
  if ((data[0] & 2) != 0) {
    log.resize((log.size() + kLogSectorBytes - 1) & ~(kLogSectorBytes - 1));
    PutSumsRight(log);
  }
  BlockMap map(kFuzzBlocks);
  const Result<LayerLogEnd> end = Replay(log, map);
  if (!end.ok()) {
    CHECK(!end.error().message().empty());
    return 0;
  }
  CHECK(end->end_bytes <= log.size());
  log.resize(end->end_bytes);
  BlockMap again(kFuzzBlocks);
  const Result<LayerLogEnd> second = Replay(log, again);
  CHECK(second.ok() && second->end_bytes == end->end_bytes &&
        second->next_sequence == end->next_sequence);
  CHECK(map.in_layers() == again.in_layers() && map.in_source() == again.in_source());
  for (uint64_t block = map.NextLayered(0); block < kFuzzBlocks;
       block = map.NextLayered(block + 1)) {
    const BlockPlace place = map.Get(block);
    CHECK(place == again.Get(block) &&
          (place == BlockPlace::Source() || (place.layer() >= 1 && place.layer() <= kMaxLayers)));
  }
  return 0;
}
