#include "vmm/cli/line_diff.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>

namespace pacsvisor {
namespace {

constexpr size_t kMostCells = 4'000'000;  // of the table of common lines, 4 bytes each

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

using LineSpan = std::span<const std::string_view>;

// [i][j]: the length of the longest common subsequence of before[i…] and after[j…].
class CommonLines {
 public:
  CommonLines(LineSpan before, LineSpan after)
      : width_(after.size() + 1), lengths_((before.size() + 1) * width_) {
    for (size_t i = before.size(); i-- > 0;) {
      for (size_t j = after.size(); j-- > 0;) {
        lengths_[i * width_ + j] =
            before[i] == after[j] ? At(i + 1, j + 1) + 1 : std::max(At(i + 1, j), At(i, j + 1));
      }
    }
  }
  uint32_t At(size_t i, size_t j) const { return lengths_[i * width_ + j]; }

 private:
  const size_t width_;
  std::vector<uint32_t> lengths_;
};

}  // namespace

std::vector<LineChange> DiffLines(std::string_view before, std::string_view after) {
  const std::vector<std::string_view> all_old = Lines(before);
  const std::vector<std::string_view> all_new = Lines(after);
  LineSpan old_lines(all_old);
  LineSpan new_lines(all_new);
  const auto begins =
      std::mismatch(old_lines.begin(), old_lines.end(), new_lines.begin(), new_lines.end());
  const auto same = static_cast<size_t>(begins.first - old_lines.begin());
  old_lines = old_lines.subspan(same);
  new_lines = new_lines.subspan(same);
  while (!old_lines.empty() && !new_lines.empty() && old_lines.back() == new_lines.back()) {
    old_lines = old_lines.first(old_lines.size() - 1);
    new_lines = new_lines.first(new_lines.size() - 1);
  }
  std::vector<LineChange> changes;
  size_t i = 0;
  size_t j = 0;
  if ((old_lines.size() + 1) * (new_lines.size() + 1) <= kMostCells) {
    const CommonLines common(old_lines, new_lines);
    while (i < old_lines.size() && j < new_lines.size()) {
      if (old_lines[i] == new_lines[j]) {
        ++i;
        ++j;
      } else if (common.At(i + 1, j) >= common.At(i, j + 1)) {
        changes.push_back({.added = false, .line = std::string(old_lines[i++])});
      } else {
        changes.push_back({.added = true, .line = std::string(new_lines[j++])});
      }
    }
  }
  for (; i < old_lines.size(); ++i) {
    changes.push_back({.added = false, .line = std::string(old_lines[i])});
  }
  for (; j < new_lines.size(); ++j) {
    changes.push_back({.added = true, .line = std::string(new_lines[j])});
  }
  return changes;
}

}  // namespace pacsvisor
