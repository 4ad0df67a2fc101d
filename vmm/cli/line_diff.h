// Which lines two texts differ in. Threads: any.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pacsvisor {

struct LineChange {
  bool added = false;  // else removed
  std::string line;    // without its end
  friend bool operator==(const LineChange&, const LineChange&) = default;
};

// The fewest lines to remove and to add that make `after` of `before`, in their order; of texts
// that differ in very many lines, those between the first and the last difference.
std::vector<LineChange> DiffLines(std::string_view before, std::string_view after);

}  // namespace pacsvisor
