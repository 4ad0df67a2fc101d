#include "vmm/store/keep_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/store/sha256.h"

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kHour = 3'600'000'000'000;
constexpr uint64_t kDay = 24 * kHour;
constexpr uint64_t kMonday = 20'000 * kDay + 3 * kDay;  // 2024-10-07

SnapshotId IdOfNumber(uint8_t number) {
  std::array<uint8_t, SnapshotId::kBytes> bytes = {};
  bytes[0] = number;
  return SnapshotId(bytes);
}

// Snapshots 0, 1, 2 … of one machine, each the parent of the next.
std::vector<SnapshotInfo> ChainOf(const std::vector<uint64_t>& instants,
                                  const std::string& machine = "pacs", uint8_t first = 0) {
  std::vector<SnapshotInfo> infos;
  for (size_t i = 0; i < instants.size(); ++i) {
    SnapshotInfo info;
    info.id = IdOfNumber(static_cast<uint8_t>(first + i));
    if (i > 0) {
      info.parent = infos.back().id;
    }
    info.draft.machine = machine;
    info.draft.instant_ns = instants[i];
    infos.push_back(info);
  }
  return infos;
}

std::vector<int> Kept(const KeepRules& rules, const std::vector<SnapshotInfo>& infos) {
  std::vector<int> numbers;
  for (const SnapshotId& id : KeptByRules(rules, infos)) {
    numbers.push_back(id.bytes()[0]);
  }
  return numbers;
}

TEST(KeepRulesTest, WithoutARuleAllAreKept) {
  EXPECT_THAT(Kept({}, ChainOf({1, 2, 3})), ElementsAre(0, 1, 2));
  EXPECT_THAT(Kept({.last = 1}, {}), IsEmpty());
}

TEST(KeepRulesTest, TheLastOnesOfEachMachineStay) {
  std::vector<SnapshotInfo> infos = ChainOf({10, 20, 30});
  const std::vector<SnapshotInfo> other = ChainOf({1, 2}, "archive", 7);
  infos.insert(infos.begin(), other.begin(), other.end());
  EXPECT_THAT(Kept({.last = 1}, infos), ElementsAre(2, 8));
  EXPECT_THAT(Kept({.last = 2}, infos), ElementsAre(1, 2, 7, 8));
}

TEST(KeepRulesTest, TheLastOfEachHourAndDayStays) {
  const std::vector<SnapshotInfo> infos =
      ChainOf({kMonday, kMonday + kHour - 1, kMonday + kHour, kMonday + 5 * kHour, kMonday + kDay});
  EXPECT_THAT(Kept({.hourly = 3}, infos), ElementsAre(2, 3, 4));
  EXPECT_THAT(Kept({.hourly = 9}, infos), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(Kept({.daily = 1}, infos), ElementsAre(4));
  EXPECT_THAT(Kept({.daily = 5}, infos), ElementsAre(3, 4));
}

TEST(KeepRulesTest, AWeekBeginsOnMonday) {
  EXPECT_THAT(Kept({.weekly = 2}, ChainOf({kMonday - 1, kMonday, kMonday + 7 * kDay - 1})),
              ElementsAre(0, 2));
  EXPECT_THAT(Kept({.weekly = 3}, ChainOf({kMonday - 1, kMonday, kMonday + 7 * kDay})),
              ElementsAre(0, 1, 2));
}

TEST(KeepRulesTest, MonthsAndYearsAreThoseOfTheCalendar) {
  constexpr uint64_t kLeapDay = 19'782 * kDay;     // 2024-02-29
  constexpr uint64_t kLastOf2023 = 19'722 * kDay;  // 2023-12-31
  const std::vector<SnapshotInfo> infos =
      ChainOf({kLastOf2023, kLastOf2023 + kDay, kLeapDay - 1, kLeapDay, kLeapDay + kDay});
  EXPECT_THAT(Kept({.monthly = 9}, infos), ElementsAre(0, 1, 3, 4));
  EXPECT_THAT(Kept({.monthly = 2}, infos), ElementsAre(3, 4));
  EXPECT_THAT(Kept({.yearly = 2}, infos), ElementsAre(0, 4));
}

TEST(KeepRulesTest, WhatOneRuleKeepsStays) {
  const std::vector<SnapshotInfo> infos = ChainOf({kMonday, kMonday + 1, kMonday + 2});
  EXPECT_THAT(Kept({.last = 2, .daily = 1}, infos), ElementsAre(1, 2));
}

TEST(KeepRulesTest, AChildIsNewerThanItsParentAlsoWhenTheClockWentBack) {
  EXPECT_THAT(Kept({.last = 1}, ChainOf({kMonday, 5, 6})), ElementsAre(2));
  EXPECT_THAT(Kept({.daily = 1}, ChainOf({kMonday, 5, 6})), ElementsAre(2));
  EXPECT_THAT(Kept({.last = 2}, ChainOf({UINT64_MAX, 5, 6})).size(), testing::Eq(2u));
}

TEST(KeepRulesTest, ALongHistoryTakesNoDepth) {
  std::vector<uint64_t> instants(200);
  for (size_t i = 0; i < instants.size(); ++i) {
    instants[i] = instants.size() - i;
  }
  EXPECT_THAT(Kept({.last = 1}, ChainOf(instants)), ElementsAre(199));
}

}  // namespace
}  // namespace pacsvisor
