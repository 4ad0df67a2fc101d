#include "vmm/machine/working_set.h"

#include <gtest/gtest.h>

#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

TEST(WorkingSet, ComesBackInItsOrder) {
  const std::vector<Extent> pages = {
      {BlockIndex(1900), 16}, {BlockIndex(3), 1}, {BlockIndex(uint64_t{1} << 40), 512}};
  StateNode node;
  SaveWorkingSet(pages, node);
  const StateNode loaded = DecodeState(EncodeState(node)).value();
  EXPECT_EQ(LoadWorkingSet(loaded), pages);
}

TEST(WorkingSet, AnEmptyOneIsNotThere) {
  StateNode node;
  SaveWorkingSet({}, node);
  EXPECT_TRUE(node.fields().empty());
  EXPECT_TRUE(LoadWorkingSet(node).empty());
}

TEST(WorkingSet, IsCutToItsLimit) {
  const std::vector<Extent> many(100'000, {BlockIndex(1), 1});
  StateNode node;
  SaveWorkingSet(many, node);
  EXPECT_EQ(LoadWorkingSet(node).size(), size_t{1} << 16);
}

// It is a hint: whatever stands there, nothing fails.
TEST(WorkingSet, NonsenseIsNone) {
  for (const size_t size_bytes : {size_t{1}, size_t{13}, size_t{12} * ((1 << 16) + 1)}) {
    StateNode node;
    node.SetBytes("working_set", std::vector<uint8_t>(size_bytes, 1));
    EXPECT_TRUE(LoadWorkingSet(node).empty()) << size_bytes;
  }
  StateNode number;
  number.SetU64("working_set", 5);
  EXPECT_TRUE(LoadWorkingSet(number).empty());
  StateNode zero;
  zero.SetBytes("working_set", std::vector<uint8_t>(24, 0));  // runs of no page
  EXPECT_TRUE(LoadWorkingSet(zero).empty());
}

}  // namespace
}  // namespace pacsvisor
