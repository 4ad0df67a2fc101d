// Structures and numbers of virtio-blk (virtio 1.2, section 5.2). Little endian.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pacsvisor {

// 5.2.3: feature bits.
inline constexpr uint64_t kVirtioBlockSegMax = uint64_t{1} << 2;
inline constexpr uint64_t kVirtioBlockReadOnly = uint64_t{1} << 5;
inline constexpr uint64_t kVirtioBlockBlockSize = uint64_t{1} << 6;
inline constexpr uint64_t kVirtioBlockFlush = uint64_t{1} << 9;
inline constexpr uint64_t kVirtioBlockTopology = uint64_t{1} << 10;
inline constexpr uint64_t kVirtioBlockMultiQueue = uint64_t{1} << 12;
inline constexpr uint64_t kVirtioBlockDiscard = uint64_t{1} << 13;
inline constexpr uint64_t kVirtioBlockWriteZeroes = uint64_t{1} << 14;

// 5.2.4: device configuration layout. Sectors are 512 bytes whatever block_size_bytes says.
struct VirtioBlockConfig {
  uint64_t capacity_sectors = 0;
  uint32_t size_max = 0;
  uint32_t seg_max = 0;
  uint16_t cylinders = 0;
  uint8_t heads = 0;
  uint8_t sectors = 0;
  uint32_t block_size_bytes = 0;
  uint8_t physical_block_exponent = 0;  // logical blocks in a physical one, as a power of two
  uint8_t alignment_offset = 0;         // in logical blocks
  uint16_t min_io_size = 0;             // in logical blocks
  uint32_t optimal_io_size = 0;         // in logical blocks
  uint8_t writeback = 0;
  uint8_t unused0 = 0;
  uint16_t num_queues = 0;
  uint32_t max_discard_sectors = 0;
  uint32_t max_discard_segments = 0;
  uint32_t discard_sector_alignment = 0;
  uint32_t max_write_zeroes_sectors = 0;
  uint32_t max_write_zeroes_segments = 0;
  uint8_t write_zeroes_may_unmap = 0;
  uint8_t unused1[3] = {};
  uint32_t max_secure_erase_sectors = 0;
  uint32_t max_secure_erase_segments = 0;
  uint32_t secure_erase_sector_alignment = 0;
};
static_assert(sizeof(VirtioBlockConfig) == 72);
static_assert(offsetof(VirtioBlockConfig, seg_max) == 12);
static_assert(offsetof(VirtioBlockConfig, cylinders) == 16);
static_assert(offsetof(VirtioBlockConfig, block_size_bytes) == 20);
static_assert(offsetof(VirtioBlockConfig, physical_block_exponent) == 24);
static_assert(offsetof(VirtioBlockConfig, min_io_size) == 26);
static_assert(offsetof(VirtioBlockConfig, optimal_io_size) == 28);
static_assert(offsetof(VirtioBlockConfig, writeback) == 32);
static_assert(offsetof(VirtioBlockConfig, num_queues) == 34);
static_assert(offsetof(VirtioBlockConfig, max_discard_sectors) == 36);
static_assert(offsetof(VirtioBlockConfig, discard_sector_alignment) == 44);
static_assert(offsetof(VirtioBlockConfig, max_write_zeroes_sectors) == 48);
static_assert(offsetof(VirtioBlockConfig, write_zeroes_may_unmap) == 56);
static_assert(offsetof(VirtioBlockConfig, max_secure_erase_sectors) == 60);

// 5.2.6: request types.
enum class VirtioBlockType : uint32_t {
  kIn = 0,
  kOut = 1,
  kFlush = 4,
  kGetId = 8,
  kDiscard = 11,
  kWriteZeroes = 13,
};

// 5.2.6: the head of every request.
struct VirtioBlockHeader {
  uint32_t type = 0;
  uint32_t reserved = 0;
  uint64_t sector = 0;
};
static_assert(sizeof(VirtioBlockHeader) == 16);
static_assert(offsetof(VirtioBlockHeader, sector) == 8);

// 5.2.6: one range of a discard or write-zeroes request.
struct VirtioBlockSegment {
  uint64_t sector = 0;
  uint32_t sector_count = 0;
  uint32_t flags = 0;
};
static_assert(sizeof(VirtioBlockSegment) == 16);
static_assert(offsetof(VirtioBlockSegment, sector_count) == 8);
static_assert(offsetof(VirtioBlockSegment, flags) == 12);

inline constexpr uint32_t kVirtioBlockSegmentUnmap = 1;

// 5.2.6: the status byte.
enum class VirtioBlockStatus : uint8_t {
  kOk = 0,
  kIoError = 1,
  kUnsupported = 2,
};

inline constexpr size_t kVirtioBlockIdBytes = 20;  // VIRTIO_BLK_T_GET_ID

}  // namespace pacsvisor
