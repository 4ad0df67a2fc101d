// What the churn program does to its files, as a function of a seed: the guest carries it out, the
// host knows from the same function what may be on the disk.
//
// Each worker has files of its own, of kFileCells cells of 512 bytes; an operation covers whole
// cells, and what it writes tells worker, file, cell and operation, so that every cell of the disk
// says which operation it is of.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace pacsvisor::churn {

inline constexpr uint32_t kCellBytes = 512;
inline constexpr uint32_t kWorkers = 3;
inline constexpr uint32_t kFiles = 4;  // of a worker
inline constexpr uint32_t kFileCells = 1024;

enum class Kind : uint8_t {
  kWrite,        // through the guest's page cache
  kDirectWrite,  // past it: whole pages
  kPunchHole,
  kZeroRange,
  kTruncate,  // cuts the file at first_cell, then gives it its length again
  kFlush,     // fsync or fdatasync of the file
  kRename,    // a small file is written and renamed over an older one; no cells
  kTrim,      // FITRIM of the whole file system
};

struct Operation {
  Kind kind = Kind::kWrite;
  uint32_t file = 0;
  uint32_t first_cell = 0;
  uint32_t cell_count = 0;
  bool data_only = false;  // kFlush: fdatasync
};

// Operation `number` of `worker`.
Operation OperationAt(uint64_t seed, uint32_t worker, uint64_t number);

// True for those after which the cells hold zeroes.
bool Zeroes(Kind kind);

using Cell = std::array<uint64_t, kCellBytes / sizeof(uint64_t)>;
// The first word is `number` + 1, never 0.
Cell CellOf(uint64_t seed, uint32_t worker, uint32_t file, uint32_t cell, uint64_t number);

std::string FileName(uint32_t worker, uint32_t file);

}  // namespace pacsvisor::churn
