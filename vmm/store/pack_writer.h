// A pack on its way (FORMAT.md, 4): under tmp/ until it is whole and durable. Threads: one at a
// time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/append_buffer.h"
#include "vmm/store/body_checksum.h"
#include "vmm/store/pack_format.h"
#include "vmm/store/table_page.h"

namespace pacsvisor {

class PackWriter {
 public:
  // `behind` is borrowed, and this one's alone while it lives; null: whoever appends writes.
  static Result<std::unique_ptr<PackWriter>> Create(StoreFiles& files, uint32_t number,
                                                    const StoreUid& uid,
                                                    WriteBehind* behind = nullptr);

  // `stored` is the chunk called `name`, compressed or raw.
  Result<ChunkPlace> Append(const Hash& name, std::span<const uint8_t> stored);
  // Directory, trailer, sync, rename to packs/. At least one chunk was appended.
  Status Seal();

  uint32_t number() const { return number_; }
  uint64_t size_bytes() const { return out_.offset_bytes(); }
  // The directory so far: kPackRecordBytes a chunk.
  const std::vector<uint8_t>& directory() const { return directory_.bytes(); }

 private:
  PackWriter(StoreFiles& files, uint32_t number, std::string path, std::unique_ptr<StoreFile> file,
             WriteBehind* behind)
      : files_(files), number_(number), path_(std::move(path)), out_(std::move(file), behind) {}

  StoreFiles& files_;
  const uint32_t number_;
  const std::string path_;
  AppendBuffer out_;
  BodyChecksum checksum_;
  ByteWriter directory_;
};

}  // namespace pacsvisor
