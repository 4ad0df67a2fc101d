// Any bytes as an exported snapshot: refused in words with nothing left in the store, or in it
// whole. The id and the hash at the end are made right, where every input would end otherwise.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/support/memory_store_files.h"
#include "vmm/base/byte_order.h"
#include "vmm/store/export_format.h"
#include "vmm/store/sha256.h"
#include "vmm/store/store.h"

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
  if (bytes.size() >= kExportHeaderBytes + kExportTrailerBytes) {
    const size_t end = bytes.size() - kExportTrailerBytes;
    const Hash hash = Sha256(std::span(bytes).first(end));
    std::copy(hash.begin(), hash.end(), bytes.begin() + static_cast<ptrdiff_t>(end + 8));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  MakeRight(bytes);
  const auto files = Prepared().After(MemoryStoreFiles::Cut::kKilled);
  const std::vector<std::string> before = files->Paths();
  const auto store = Store::Open(files).value();
  size_t at = 0;
  const Result<ImportReport> report = store->Import([&](std::span<uint8_t> into) -> Result<size_t> {
    const size_t part = std::min(into.size(), bytes.size() - at);
    std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(at), part, into.begin());
    at += part;
    return part;
  });
  if (!report.ok()) {
    CHECK(!report.error().message().empty());
    CHECK(files->Paths() == before, "{}", report.error().message());
  }
  const VerifyReport verified = store->Verify({}, nullptr).value();
  CHECK(verified.damages.empty(), "{}", verified.damages[0].what);
  CHECK(verified.snapshots == (report.ok() && !report->was_there ? 2 : 1));
  return 0;
}
