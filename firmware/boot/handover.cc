#include "firmware/boot/handover.h"

#include <asm/bootparam.h>

#include <algorithm>

#include "firmware/boot/bz_image.h"
#include "firmware/boot/low_memory_map.h"

namespace pacsvisor {
namespace {

constexpr uint8_t kUndefinedLoader = 0xff;  // boot.rst, "type_of_loader": no number of our own
constexpr uint16_t kNormalVideoMode = 0xffff;
// A kernel without a header of its own gets the oldest that says what we have to say.
constexpr uint16_t kSyntheticVersion = 0x020c;

static_assert(sizeof(boot_params) == kPageSizeBytes);
static_assert(offsetof(boot_params, acpi_rsdp_addr) == 0x070);
static_assert(offsetof(boot_params, ext_ramdisk_image) == 0x0c0);
static_assert(offsetof(boot_params, e820_entries) == 0x1e8);
static_assert(offsetof(boot_params, e820_table) == 0x2d0);

// Offsets as in start_info.h.
struct HvmStartInfo {
  uint32_t magic;           // 0x00
  uint32_t version;         // 0x04
  uint32_t flags;           // 0x08
  uint32_t module_count;    // 0x0c
  uint64_t module_list;     // 0x10
  uint64_t command_line;    // 0x18
  uint64_t rsdp;            // 0x20
  uint64_t memory_map;      // 0x28
  uint32_t memory_entries;  // 0x30
  uint32_t reserved;        // 0x34
};
static_assert(sizeof(HvmStartInfo) == 56 && offsetof(HvmStartInfo, memory_entries) == 0x30);
constexpr uint32_t kHvmStartMagic = 0x336e'c578;
constexpr uint32_t kHvmStartVersion = 1;  // the first with a memory map

struct HvmModule {
  uint64_t address;       // 0x00
  uint64_t size_bytes;    // 0x08
  uint64_t command_line;  // 0x10
  uint64_t reserved;      // 0x18
};
static_assert(sizeof(HvmModule) == 32);

struct HvmMemoryEntry {
  uint64_t address;     // 0x00
  uint64_t size_bytes;  // 0x08
  uint32_t type;        // 0x10: as in e820
  uint32_t reserved;    // 0x14
};
static_assert(sizeof(HvmMemoryEntry) == 24);

template <typename T>
void Store(GuestMemory& memory, GuestAddress to, const T& object) {
  // Below 1 MiB, and every machine has 2 MiB.
  CHECK(memory.WriteObject(to, object), "no memory at {}", to);
}

setup_header SyntheticHeader(const LoadedKernel& kernel) {
  setup_header header{};
  header.boot_flag = kSetupBootFlag;
  header.header = kSetupMagic;
  header.version = kSyntheticVersion;
  header.loadflags = LOADED_HIGH;
  header.initrd_addr_max = 0xffff'ffff;
  header.kernel_alignment = 2 * kMiB;
  header.cmdline_size = static_cast<uint32_t>(kernel.command_line_limit_bytes);
  return header;
}

void FillE820(boot_params& params, const std::vector<E820Entry>& e820) {
  CHECK(e820.size() <= E820_MAX_ENTRIES_ZEROPAGE, "{} e820 entries", e820.size());
  params.e820_entries = static_cast<uint8_t>(e820.size());
  for (size_t i = 0; i < e820.size(); ++i) {
    params.e820_table[i].addr = e820[i].start.raw();
    params.e820_table[i].size = e820[i].size_bytes;
    params.e820_table[i].type = static_cast<uint32_t>(e820[i].type);
  }
}

}  // namespace

Status WriteCommandLine(GuestMemory& memory, std::string_view text, uint64_t limit_bytes) {
  const uint64_t limit = std::min(limit_bytes, kCommandLineBytes - 1);
  if (text.size() > limit) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "the kernel's command line has {} characters, and this kernel takes {}: "
                       "shorten it",
                       text.size(), limit);
  }
  if (text.find('\0') != std::string_view::npos) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "the kernel's command line holds a zero character: remove it");
  }
  // A text is read as its bytes.
  const std::span bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  CHECK(memory.Write(kCommandLine, bytes));
  CHECK(memory.Fill({GuestAddress(kCommandLine.raw() + text.size()), 1}, 0));
  return {};
}

void WriteBootParams(GuestMemory& memory, const LoadedKernel& kernel, const Handover& handover) {
  boot_params params{};
  params.hdr = kernel.header.has_value() ? *kernel.header : SyntheticHeader(kernel);
  params.hdr.type_of_loader = kUndefinedLoader;
  params.hdr.vid_mode = kNormalVideoMode;
  params.hdr.cmd_line_ptr = static_cast<uint32_t>(kCommandLine.raw());
  params.hdr.ramdisk_image = static_cast<uint32_t>(handover.initrd.start.raw());
  params.hdr.ramdisk_size = static_cast<uint32_t>(handover.initrd.size_bytes);
  params.ext_ramdisk_image = static_cast<uint32_t>(handover.initrd.start.raw() >> 32);
  params.ext_ramdisk_size = static_cast<uint32_t>(handover.initrd.size_bytes >> 32);
  params.acpi_rsdp_addr = handover.rsdp.raw();
  FillE820(params, handover.e820);
  Store(memory, kBootParamsPage, params);
}

void WritePvhStartInfo(GuestMemory& memory, const Handover& handover) {
  HvmStartInfo info{};
  info.magic = kHvmStartMagic;
  info.version = kHvmStartVersion;
  if (handover.initrd.size_bytes != 0) {
    info.module_count = 1;
    info.module_list = kPvhModuleList.raw();
    Store(memory, kPvhModuleList,
          HvmModule{.address = handover.initrd.start.raw(),
                    .size_bytes = handover.initrd.size_bytes,
                    .command_line = 0,
                    .reserved = 0});
  }
  info.command_line = kCommandLine.raw();
  info.rsdp = handover.rsdp.raw();
  info.memory_map = kPvhMemoryMap.raw();
  info.memory_entries = static_cast<uint32_t>(handover.e820.size());
  uint64_t entry_address = kPvhMemoryMap.raw();
  for (const E820Entry& entry : handover.e820) {
    Store(memory, GuestAddress(entry_address),
          HvmMemoryEntry{.address = entry.start.raw(),
                         .size_bytes = entry.size_bytes,
                         .type = static_cast<uint32_t>(entry.type),
                         .reserved = 0});
    entry_address += sizeof(HvmMemoryEntry);
  }
  Store(memory, kPvhStartInfo, info);
}

}  // namespace pacsvisor
