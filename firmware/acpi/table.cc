#include "firmware/acpi/table.h"

#include <algorithm>

#include "vmm/base/byte_order.h"
#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

// Offsets in the header (ACPI 6.4, table 5.28).
constexpr size_t kSignature = 0;
constexpr size_t kLength = 4;
constexpr size_t kRevision = 8;
constexpr size_t kChecksum = 9;
constexpr size_t kOemId = 10;
constexpr size_t kOemTableId = 16;
constexpr size_t kOemRevision = 24;
constexpr size_t kCreatorId = 28;
constexpr size_t kCreatorRevision = 32;

}  // namespace

uint8_t AcpiChecksum(std::span<const uint8_t> bytes) {
  uint8_t sum = 0;
  for (const uint8_t byte : bytes) {
    sum = static_cast<uint8_t>(sum + byte);
  }
  return static_cast<uint8_t>(-sum);
}

std::vector<uint8_t> AcpiTable(std::string_view signature, uint8_t revision,
                               std::span<const uint8_t> body) {
  CHECK(signature.size() == 4, "table signature '{}'", signature);
  std::vector<uint8_t> table(kAcpiHeaderBytes);
  std::copy(signature.begin(), signature.end(), table.begin() + kSignature);
  StoreLe(&table[kLength], static_cast<uint32_t>(kAcpiHeaderBytes + body.size()));
  table[kRevision] = revision;
  std::copy(kAcpiOemId.begin(), kAcpiOemId.end(), table.begin() + kOemId);
  std::copy(kAcpiOemTableId.begin(), kAcpiOemTableId.end(), table.begin() + kOemTableId);
  StoreLe(&table[kOemRevision], uint32_t{1});
  std::copy(kAcpiCreatorId.begin(), kAcpiCreatorId.end(), table.begin() + kCreatorId);
  StoreLe(&table[kCreatorRevision], uint32_t{1});
  table.insert(table.end(), body.begin(), body.end());
  table[kChecksum] = AcpiChecksum(table);
  return table;
}

}  // namespace pacsvisor
