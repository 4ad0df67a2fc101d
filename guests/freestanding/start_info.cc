#include "guests/freestanding/start_info.h"

#include "guests/freestanding/cpu.h"
#include "guests/freestanding/traps.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kMagic = 0x336ec578;

struct HvmStartInfo {
  uint32_t magic;
  uint32_t version;
  uint32_t flags;
  uint32_t module_count;
  uint64_t modules;
  uint64_t command_line;
  uint64_t rsdp;
  uint64_t memory_map;  // from version 1 on
  uint32_t memory_map_entries;
  uint32_t reserved;
};
static_assert(sizeof(HvmStartInfo) == 56);
static_assert(offsetof(HvmStartInfo, memory_map) == 40);

extern "C" uint64_t start_info_address;

}  // namespace

void ReadStartInfo(StartInfo& info) {
  const auto* source = AtAddress<const HvmStartInfo>(start_info_address);
  if (source->magic != kMagic) Panic("no PVH start info at EBX: was the PVH entry used?");
  if (source->version < 1 || source->memory_map_entries == 0) {
    Panic("the PVH start info has no memory map: the loader must offer version 1");
  }
  if (source->memory_map_entries > kMaxMemoryRanges) Panic("more than 64 memory ranges");
  info.range_count = source->memory_map_entries;
  const auto* ranges = AtAddress<const MemoryRange>(source->memory_map);
  for (uint64_t i = 0; i < info.range_count; ++i) info.ranges[i] = ranges[i];

  info.command_line_bytes = 0;
  if (source->command_line == 0) return;
  const auto* text = AtAddress<const char>(source->command_line);
  while (text[info.command_line_bytes] != '\0') {
    if (info.command_line_bytes == kMaxCommandLineBytes) Panic("command line above 1024 bytes");
    info.command_line[info.command_line_bytes] = text[info.command_line_bytes];
    ++info.command_line_bytes;
  }
}

}  // namespace pacsvisor
