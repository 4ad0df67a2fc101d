#include "vmm/machine/config_suggest.h"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace pacsvisor {
namespace {

constexpr size_t kMaxWordLength = 64;

// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1);
  std::vector<size_t> above(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) {
    above[j] = j;
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    before.swap(above);
    above.swap(row);
  }
  return above[b.size()];
}

}  // namespace

std::optional<std::string_view> NearestWord(std::string_view word,
                                            std::span<const std::string_view> known) {
  std::optional<std::string_view> nearest;
  if (word.size() > kMaxWordLength) {
    return nearest;
  }
  size_t least = 4;
  for (const std::string_view candidate : known) {
    const size_t distance = EditDistance(word, candidate);
    const size_t allowed = std::max<size_t>(1, std::max(word.size(), candidate.size()) / 3);
    if (distance < least && distance <= allowed) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace pacsvisor
