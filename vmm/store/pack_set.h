// The packs of a store, opened as they are needed and kept open for a while. Threads: any, several
// at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/store/pack_format.h"
#include "vmm/store/store_files.h"
#include "vmm/store/table_page.h"

namespace pacsvisor {

// What is inside a pack, of its directory.
struct PackContents {
  PackTrailer trailer;
  std::vector<uint8_t> records;   // kPackRecordBytes a chunk
  std::vector<uint32_t> offsets;  // count + 1
};

class PackSet {
 public:
  // `most_chunk_bytes`: of a chunk as the store has them.
  explicit PackSet(StoreFiles& files, size_t most_chunk_bytes = kStoreBlockBytes)
      : files_(files), most_chunk_bytes_(most_chunk_bytes) {}

  Result<std::shared_ptr<StoreFile>> Open(uint32_t number);
  // The stored bytes at `place`, into as many.
  Status Read(const ChunkPlace& place, std::span<uint8_t> bytes);
  // Reads and checks the trailer.
  Result<PackTrailer> ReadTrailer(uint32_t number);
  // Reads and checks header, trailer and directory.
  Result<PackContents> ReadContents(uint32_t number);
  // Closes everything: files may have been removed.
  void Forget();

 private:
  static constexpr size_t kOpenFiles = 64;

  StoreFiles& files_;
  const size_t most_chunk_bytes_;
  Mutex mutex_;
  std::map<uint32_t, std::shared_ptr<StoreFile>> open_ GUARDED_BY(mutex_);
};

}  // namespace pacsvisor
