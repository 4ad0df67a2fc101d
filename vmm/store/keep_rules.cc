#include "vmm/store/keep_rules.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace pacsvisor {
namespace {

using Days = std::chrono::sys_days;

constexpr uint64_t kNsPerHour = 3'600'000'000'000;
constexpr uint64_t kHoursPerDay = 24;

struct Dated {
  const SnapshotInfo* info = nullptr;
  uint64_t instant_ns = 0;  // later than the parent's
};

// The number of the hour, day and so on that an instant is in.
uint64_t Hour(uint64_t instant_ns) { return instant_ns / kNsPerHour; }
uint64_t Day(uint64_t instant_ns) { return Hour(instant_ns) / kHoursPerDay; }
uint64_t Week(uint64_t instant_ns) {
  return (Day(instant_ns) + 3) / 7;
}  // 1970 began on a Thursday
std::chrono::year_month_day DateOf(uint64_t instant_ns) {
  return Days(std::chrono::days(static_cast<int>(Day(instant_ns))));
}
uint64_t Year(uint64_t instant_ns) {
  return static_cast<uint64_t>(static_cast<int>(DateOf(instant_ns).year()));
}
uint64_t Month(uint64_t instant_ns) {
  return Year(instant_ns) * 12 + static_cast<unsigned>(DateOf(instant_ns).month());
}
uint64_t Any(uint64_t) { return 0; }

class Dating {
 public:
  explicit Dating(const std::vector<SnapshotInfo>& snapshots) {
    for (const SnapshotInfo& info : snapshots) {
      infos_[info.id] = &info;
    }
  }

  uint64_t InstantOf(const SnapshotInfo& info) {
    // From the oldest ancestor that is not dated on. Ids are hashes of what names the parent: no
    // snapshot is its own ancestor.
    std::vector<const SnapshotInfo*> chain = {&info};
    while (!dates_.contains(chain.back()->id)) {
      const SnapshotInfo* const parent = ParentOf(*chain.back());
      if (parent == nullptr) {
        dates_[chain.back()->id] = chain.back()->draft.instant_ns;
        break;
      }
      chain.push_back(parent);
    }
    uint64_t date = dates_[chain.back()->id];
    for (chain.pop_back(); !chain.empty(); chain.pop_back()) {
      const uint64_t after = date == UINT64_MAX ? date : date + 1;
      date = std::max(chain.back()->draft.instant_ns, after);
      dates_[chain.back()->id] = date;
    }
    return date;
  }

 private:
  const SnapshotInfo* ParentOf(const SnapshotInfo& info) const {
    if (!info.parent.has_value()) {
      return nullptr;
    }
    const auto found = infos_.find(*info.parent);
    return found == infos_.end() ? nullptr : found->second;
  }

  std::map<SnapshotId, const SnapshotInfo*> infos_;
  std::map<SnapshotId, uint64_t> dates_;
};

// `newest_first` is of one machine.
void KeepOf(const std::vector<Dated>& newest_first, uint32_t count, uint64_t (*number)(uint64_t),
            std::set<SnapshotId>& kept) {
  std::optional<uint64_t> last;
  for (const Dated& dated : newest_first) {
    if (count == 0) {
      break;
    }
    const uint64_t at = number(dated.instant_ns);
    if (number == Any || last != at) {
      kept.insert(dated.info->id);
      last = at;
      --count;
    }
  }
}

}  // namespace

std::set<SnapshotId> KeptByRules(const KeepRules& rules,
                                 const std::vector<SnapshotInfo>& snapshots) {
  std::set<SnapshotId> kept;
  std::map<std::string, std::vector<Dated>> machines;
  Dating dating(snapshots);
  for (const SnapshotInfo& info : snapshots) {
    if (!rules.any()) {
      kept.insert(info.id);
    }
    machines[info.draft.machine].push_back({&info, dating.InstantOf(info)});
  }
  if (!rules.any()) {
    return kept;
  }
  for (auto& [machine, dated] : machines) {
    std::sort(dated.begin(), dated.end(), [](const Dated& left, const Dated& right) {
      return std::pair(left.instant_ns, left.info->id) >
             std::pair(right.instant_ns, right.info->id);
    });
    KeepOf(dated, rules.last, Any, kept);
    KeepOf(dated, rules.hourly, Hour, kept);
    KeepOf(dated, rules.daily, Day, kept);
    KeepOf(dated, rules.weekly, Week, kept);
    KeepOf(dated, rules.monthly, Month, kept);
    KeepOf(dated, rules.yearly, Year, kept);
  }
  return kept;
}

}  // namespace pacsvisor
