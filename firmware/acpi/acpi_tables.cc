#include "firmware/acpi/acpi_tables.h"

#include <vector>

#include "firmware/acpi/dsdt.h"
#include "firmware/acpi/fixed_tables.h"
#include "firmware/acpi/mp_table.h"
#include "vmm/base/align.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kTableAlignmentBytes = 16;
constexpr uint64_t kRsdpBytes = 36;

// Places tables one behind the other from `next` on.
class TableWriter {
 public:
  TableWriter(GuestMemory& memory, GuestAddress first, GuestAddress end)
      : memory_(memory), next_(first), end_(end) {}

  Result<GuestAddress> Place(const std::vector<uint8_t>& table) {
    const GuestAddress address = next_;
    if (table.size() > end_.raw() - address.raw()) {
      return Error::Make(ErrorCode::kNoSpace,
                         "the ACPI tables need more than the {} KiB from {} on: give the machine "
                         "fewer vCPUs",
                         (kAcpiTablesEnd.raw() - kAcpiAreaStart.raw()) / kKiB, kAcpiAreaStart);
    }
    CHECK(memory_.Write(address, table), "no memory at {}", address);
    next_ = GuestAddress(AlignUp(address.raw() + table.size(), kTableAlignmentBytes));
    return address;
  }

 private:
  GuestMemory& memory_;
  GuestAddress next_;
  const GuestAddress end_;
};

}  // namespace

AcpiPlacement AcpiPlacementOf(const PlatformDescription& platform) {
  return {.rsdp = kAcpiAreaStart,
          .vmgenid = platform.vmgenid,
          .tables = {kAcpiAreaStart, kAcpiTablesEnd.raw() - kAcpiAreaStart.raw()},
          .reserved = {kAcpiTablesEnd, kAcpiAreaEnd.raw() - kAcpiTablesEnd.raw()}};
}

Result<AcpiPlacement> WriteAcpiTables(GuestMemory& memory, const PlatformDescription& platform) {
  const AcpiPlacement placement = AcpiPlacementOf(platform);
  const GuestAddress first(AlignUp(placement.rsdp.raw() + kRsdpBytes, kTableAlignmentBytes));
  TableWriter writer(memory, first, kAcpiTablesEnd);
  const GuestAddress dsdt = TRY(writer.Place(BuildDsdt(platform)));
  const GuestAddress tables[] = {TRY(writer.Place(BuildFadt(platform, dsdt))),
                                 TRY(writer.Place(BuildMadt(platform))),
                                 TRY(writer.Place(BuildMcfg(platform)))};
  const GuestAddress xsdt = TRY(writer.Place(BuildXsdt(tables)));
  CHECK(memory.Write(placement.rsdp, BuildRsdp(xsdt)), "no memory at {}", placement.rsdp);
  const GuestAddress mp_table(kMpPointer.raw() + kMpPointerBytes);
  CHECK(memory.Write(kMpPointer, BuildMpPointer(mp_table)) &&
            memory.Write(mp_table, BuildMpTable(platform)),
        "no memory at {}", kMpPointer);
  CHECK(memory.Fill({placement.vmgenid, kVmGenIdSizeBytes}, 0), "no memory at {}",
        placement.vmgenid);
  return placement;
}

}  // namespace pacsvisor
