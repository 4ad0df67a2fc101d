#include "devices/bus/guest_fault.h"

#include <gtest/gtest.h>

#include <set>

namespace pacsvisor {
namespace {

TEST(GuestFaultTest, EveryKindHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < kGuestFaultKinds; ++i) {
    const std::string_view name = GuestFaultName(static_cast<GuestFault>(i));
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), std::string_view::npos)
        << name;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
}

TEST(GuestFaultTest, CountsAreKeptByKind) {
  GuestFaultCounters counters;
  EXPECT_TRUE(counters.NonZero().empty());
  counters.Count(GuestFault::kChainLoop);
  counters.Count(GuestFault::kMmioUnanswered);
  counters.Count(GuestFault::kChainLoop);
  EXPECT_EQ(counters.count(GuestFault::kChainLoop), 2u);
  const std::vector<GuestFaultCount> expected = {{GuestFault::kChainLoop, 2},
                                                 {GuestFault::kMmioUnanswered, 1}};
  EXPECT_EQ(counters.NonZero(), expected);
}

}  // namespace
}  // namespace pacsvisor
