// What an import of any bytes must come to.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/support/memory_store_files.h"
#include "vmm/base/byte_order.h"
#include "vmm/store/export_format.h"
#include "vmm/store/sha256.h"
#include "vmm/store/store.h"

namespace pacsvisor {

// The hash at the end as the bytes before it ask for, where every input would end otherwise.
inline void RightTheTrailer(std::span<uint8_t> bytes) {
  if (bytes.size() < kExportHeaderBytes + kExportTrailerBytes) {
    return;
  }
  const size_t end = bytes.size() - kExportTrailerBytes;
  const Hash hash = Sha256(std::span(bytes).first(end));
  std::copy(hash.begin(), hash.end(), bytes.begin() + static_cast<ptrdiff_t>(end + 8));
}

// Into a store that has one snapshot: refused in words with nothing left there (false), or there
// whole.
inline bool CheckImport(const MemoryStoreFiles& prepared, std::shared_ptr<const StoreKey> key,
                        std::span<const uint8_t> bytes) {
  const auto files = prepared.After(MemoryStoreFiles::Cut::kKilled);
  const std::vector<std::string> before = files->Paths();
  const auto store = Store::Open(files, {}, std::move(key)).value();
  const Result<ImportReport> report = store->Import([&](std::span<uint8_t> into) -> Result<size_t> {
    const size_t part = std::min(into.size(), bytes.size());
    std::copy_n(bytes.begin(), part, into.begin());
    bytes = bytes.subspan(part);
    return part;
  });
  if (!report.ok()) {
    CHECK(!report.error().message().empty());
    CHECK(files->Paths() == before, "{}", report.error().message());
  }
  const VerifyReport verified = store->Verify({}, nullptr).value();
  CHECK(verified.damages.empty(), "{}", verified.damages[0].what);
  CHECK(verified.snapshots == (report.ok() && !report->was_there ? 2 : 1));
  return report.ok();
}

}  // namespace pacsvisor
