// Any bytes as an exported snapshot: refused in words with nothing left in the store, or in it
// whole. The id and the hash at the end are made right, where every input would end otherwise.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/fuzz/import_check.h"

namespace {

using namespace pacsvisor;

constexpr size_t kRootLengthAt = 20;
constexpr size_t kIdAt = 24;

// A store with one snapshot of a block, whose chunk the corpus has as well.
const MemoryStoreFiles& Prepared() {
  static const std::shared_ptr<MemoryStoreFiles> files = [] {
    std::shared_ptr<MemoryStoreFiles> made = MemoryStoreFiles::Create();
    CHECK(Store::Create(*made).ok());
    const auto store = Store::Open(made).value();
    auto writer = store->Begin(std::nullopt, {{"disk0", 4096, 4096}}).value();
    CHECK(writer->Add(0, BlockIndex(0), std::vector<uint8_t>(4096, 7)).ok());
    CHECK(writer->Commit({.machine = "there"}, {}).ok());
    return made;
  }();
  return *files;
}

void MakeRight(std::vector<uint8_t>& bytes) {
  if (bytes.size() < kExportHeaderBytes) {
    return;
  }
  const size_t root_bytes = LoadLe<uint32_t>(bytes.data() + kRootLengthAt);
  if (root_bytes <= bytes.size() - kExportHeaderBytes) {
    const Hash id = Sha256(std::span(bytes).subspan(kExportHeaderBytes, root_bytes));
    std::copy(id.begin(), id.end(), bytes.begin() + kIdAt);
  }
  RightTheTrailer(bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  MakeRight(bytes);
  CheckImport(Prepared(), nullptr, bytes);
  return 0;
}
