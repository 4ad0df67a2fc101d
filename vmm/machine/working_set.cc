#include "vmm/machine/working_set.h"

#include <algorithm>

#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

constexpr char kName[] = "working_set";
// Of an extent: number of the first page, and how many, little endian.
constexpr size_t kFirstBytes = sizeof(uint64_t);
constexpr size_t kExtentBytes = kFirstBytes + sizeof(uint32_t);
constexpr size_t kMaxExtents = 1 << 16;

}  // namespace

void SaveWorkingSet(std::span<const Extent> pages, StateNode& node) {
  if (pages.empty()) {
    return;
  }
  pages = pages.first(std::min(pages.size(), kMaxExtents));
  std::vector<uint8_t> bytes(pages.size() * kExtentBytes);
  uint8_t* to = bytes.data();
  for (const Extent& extent : pages) {
    StoreLe<uint64_t>(to, extent.first.raw());
    StoreLe(to + kFirstBytes, static_cast<uint32_t>(std::min<uint64_t>(extent.count, UINT32_MAX)));
    to += kExtentBytes;
  }
  node.SetBytes(kName, bytes);
}

std::vector<Extent> LoadWorkingSet(const StateNode& node) {
  const Result<std::span<const uint8_t>> bytes = node.BytesOf(kName);
  std::vector<Extent> pages;
  if (!bytes.ok() || bytes->size() % kExtentBytes != 0 ||
      bytes->size() > kMaxExtents * kExtentBytes) {
    return pages;
  }
  for (size_t at = 0; at < bytes->size(); at += kExtentBytes) {
    const uint8_t* const from = bytes->data() + at;
    const uint32_t count = LoadLe<uint32_t>(from + kFirstBytes);
    if (count > 0) {
      pages.push_back({BlockIndex(LoadLe<uint64_t>(from)), count});
    }
  }
  return pages;
}

}  // namespace pacsvisor
