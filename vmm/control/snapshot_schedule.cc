#include "vmm/control/snapshot_schedule.h"

#include <algorithm>
#include <utility>

namespace pacsvisor {
namespace {

constexpr uint64_t kMaxDoublings = 16;

}  // namespace

SnapshotSchedule::SnapshotSchedule(uint64_t every_ns, std::optional<uint64_t> newest_age_ns,
                                   uint64_t now_ns)
    : every_ns_(every_ns) {
  const uint64_t age_ns = std::min(newest_age_ns.value_or(every_ns), every_ns);
  due_ns_ = now_ns + std::max(every_ns - age_ns, std::min(every_ns, kFirstAfterNs));
}

void SnapshotSchedule::Done(uint64_t begin_ns) {
  due_ns_ = begin_ns + every_ns_;
  failures_ = 0;
  last_error_.clear();
}

void SnapshotSchedule::Failed(uint64_t now_ns, std::string error) {
  due_ns_ = now_ns + std::min(every_ns_, kRetryAfterNs << std::min(failures_, kMaxDoublings));
  ++failures_;
  last_error_ = std::move(error);
}

void SnapshotSchedule::Busy(uint64_t now_ns) {
  due_ns_ = now_ns + std::min(every_ns_, kBusyAfterNs);
}

}  // namespace pacsvisor
