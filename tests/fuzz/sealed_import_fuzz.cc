// An encrypted store's export, changed by whoever carried it and has no key: refused in words with
// nothing left in the store, or in it whole. The input says what is changed.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "tests/fuzz/import_check.h"
#include "tests/support/fuzz_input.h"

namespace {

using namespace pacsvisor;

constexpr uint64_t kBlockBytes = 4096;
constexpr uint64_t kBlocks = 8;

struct Prepared {
  std::shared_ptr<const StoreKey> key;
  std::shared_ptr<MemoryStoreFiles> target;  // has a snapshot, and one of the export's blocks
  std::vector<uint8_t> exported;
};

// One of `kBlocks` blocks, all of them this byte or, with `more`, each another.
SnapshotId Take(Store& store, bool more) {
  auto writer = store.Begin(std::nullopt, {{"disk0", kBlockBytes, kBlocks * kBlockBytes}}).value();
  for (uint64_t i = 0; i < kBlocks; ++i) {
    const auto value = static_cast<uint8_t>(more ? i + 1 : 1);
    CHECK(writer->Add(0, BlockIndex(i), std::vector<uint8_t>(kBlockBytes, value)).ok());
  }
  const std::vector<uint8_t> state(100, 5);
  return writer->Commit({.machine = more ? "carried" : "there"}, state).value().id;
}

Prepared Prepare() {
  const std::vector<uint8_t> key_bytes(kStoreKeyBytes, 9);
  Prepared prepared = {
      .key = StoreKey::Of(key_bytes).value(), .target = MemoryStoreFiles::Create(), .exported = {}};
  CHECK(Store::Create(*prepared.target, prepared.key.get()).ok());
  const auto target = Store::Open(prepared.target, {}, prepared.key).value();
  Take(*target, false);
  const auto files = MemoryStoreFiles::Create();
  CHECK(Store::Create(*files, prepared.key.get(), target->secret()).ok());
  const auto source = Store::Open(files, {}, prepared.key).value();
  const SnapshotId id = Take(*source, true);
  CHECK(source->AddHold(id, 0, "for ever").ok());
  const auto keep = [&](std::span<const uint8_t> bytes) -> Status {
    prepared.exported.insert(prepared.exported.end(), bytes.begin(), bytes.end());
    return {};
  };
  CHECK(source->Export(id, keep).ok());
  return prepared;
}

// Cuts, repeats, exchanges or overwrites some bytes.
void Change(std::vector<uint8_t>& bytes, FuzzInput& input) {
  const auto how = input.Take<uint8_t>();
  if (bytes.empty()) {
    return;
  }
  const size_t at = input.Take<uint16_t>() % bytes.size();
  const auto place = bytes.begin() + static_cast<ptrdiff_t>(at);
  const size_t count = std::min<size_t>(input.Take<uint16_t>(), bytes.size() - at);
  const auto end = place + static_cast<ptrdiff_t>(count);
  switch (how % 5) {
    case 0:
      bytes.erase(place, end);
      return;
    case 1: {
      const std::vector<uint8_t> again(place, end);
      bytes.insert(end, again.begin(), again.end());
      return;
    }
    case 2:
      std::rotate(place, place + static_cast<ptrdiff_t>(count / 2), end);
      return;
    case 3:
      std::fill(place, end, input.Take<uint8_t>());
      return;
    default: {
      const std::span<const uint8_t> other = input.TakeBytes(std::min<size_t>(count, how / 5 + 1));
      std::copy(other.begin(), other.end(), place);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Prepared prepared = Prepare();
  FuzzInput input(std::span(data, size));
  std::vector<uint8_t> bytes = prepared.exported;
  const auto right = input.Take<uint8_t>();
  while (!input.empty()) {
    Change(bytes, input);
  }
  if (right % 8 != 0) {
    RightTheTrailer(bytes);
  }
  const bool taken = CheckImport(*prepared.target, prepared.key, bytes);
  CHECK(taken || bytes != prepared.exported);
  return 0;
}
