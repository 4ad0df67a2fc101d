#include "vmm/cli/line_diff.h"

#include <gmock/gmock.h>

#include <random>

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string Joined(const std::vector<int>& lines) {
  std::string text;
  for (const int line : lines) {
    text += std::to_string(line) + "\n";
  }
  return text;
}

TEST(DiffLines, TellsWhatWasReplaced) {
  EXPECT_THAT(DiffLines("name\ncpus = 2\nend\n", "name\ncpus = 4\nend\n"),
              ElementsAre(LineChange{false, "cpus = 2"}, LineChange{true, "cpus = 4"}));
  EXPECT_THAT(DiffLines("", "one\n"), ElementsAre(LineChange{true, "one"}));
  EXPECT_THAT(DiffLines("one", ""), ElementsAre(LineChange{false, "one"}));
  EXPECT_THAT(DiffLines("one\ntwo\n", "one\ntwo\n"), IsEmpty());
}

// The longest common subsequence, by trying out all subsets of lines.
size_t LongestCommon(const std::vector<int>& before, const std::vector<int>& after) {
  size_t longest = 0;
  for (unsigned chosen = 0; chosen < 1u << before.size(); ++chosen) {
    size_t at = 0;
    size_t length = 0;
    for (size_t i = 0; i < before.size(); ++i) {
      if ((chosen >> i & 1) == 0) {
        continue;
      }
      while (at < after.size() && after[at] != before[i]) {
        ++at;
      }
      if (at == after.size()) {
        length = 0;
        break;
      }
      ++at;
      ++length;
    }
    longest = std::max(longest, length);
  }
  return longest;
}

TEST(DiffLines, IsTheShortestAndLeadsFromOneTextToTheOther) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<int> before(random() % 8);
    std::vector<int> after(random() % 8);
    for (std::vector<int>* lines : {&before, &after}) {
      for (int& line : *lines) {
        line = static_cast<int>(random() % 4);
      }
    }
    const std::vector<LineChange> changes = DiffLines(Joined(before), Joined(after));
    EXPECT_EQ(changes.size(), before.size() + after.size() - 2 * LongestCommon(before, after));
    // Every removed line stands in the one text, every added one in the other, in their order.
    size_t old_at = 0;
    size_t new_at = 0;
    for (const LineChange& change : changes) {
      const std::vector<int>& lines = change.added ? after : before;
      size_t& at = change.added ? new_at : old_at;
      while (at < lines.size() && std::to_string(lines[at]) != change.line) {
        ++at;
      }
      ASSERT_LT(at, lines.size());
      ++at;
    }
  }
}

TEST(DiffLines, OfVeryLongTextsIsWhatLiesBetween) {
  std::string before = "first\n";
  std::string after = "first\n";
  for (int i = 0; i < 3000; ++i) {
    before += std::to_string(i) + "\n";
    after += std::to_string(i + 5000) + "\n";
  }
  EXPECT_EQ(DiffLines(before + "last\n", after + "last\n").size(), 6000u);
}

}  // namespace
}  // namespace pacsvisor
