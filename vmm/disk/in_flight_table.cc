#include "vmm/disk/in_flight_table.h"

#include <algorithm>
#include <bit>

#include "vmm/base/align.h"
#include "vmm/base/check.h"

namespace pacsvisor {

InFlightTable::InFlightTable(uint64_t granularity_bytes)
    : granularity_shift_(static_cast<unsigned>(std::countr_zero(granularity_bytes))) {
  CHECK(IsPowerOfTwo(granularity_bytes) && granularity_bytes >= kSectorSizeBytes, "{}",
        granularity_bytes);
}

bool InFlightTable::Admit(BlockRequest& request) {
  request.id = next_id_++;
  const uint64_t end_bytes = request.offset_bytes + request.size_bytes;
  Entry entry{.first = request.offset_bytes >> granularity_shift_,
              .end = DivideRoundUp(end_bytes, uint64_t{1} << granularity_shift_),
              .id = request.id,
              .request = &request,
              .blockers = 0,
              .changes = ChangesDisk(request.operation)};
  if (request.operation == BlockOperation::kFlush) {
    entry.end = entry.first;
  }
  if (entry.changes || changes_ > 0) {
    entry.blockers = static_cast<uint32_t>(
        std::count_if(entries_.begin(), entries_.end(),
                      [&entry](const Entry& other) { return Conflict(entry, other); }));
  }
  changes_ += entry.changes ? 1 : 0;
  waiting_ += entry.blockers > 0 ? 1 : 0;
  request.table_index = static_cast<uint32_t>(entries_.size());
  entries_.push_back(entry);
  return entry.blockers == 0;
}

void InFlightTable::Finish(BlockRequest& request, std::vector<BlockRequest*>& released) {
  CHECK(request.table_index < entries_.size() && entries_[request.table_index].request == &request,
        "request {} is not in the table", request.id);
  const Entry finished = entries_[request.table_index];
  CHECK(finished.blockers == 0, "request {} finished before it could start", request.id);
  entries_[request.table_index] = entries_.back();
  entries_[request.table_index].request->table_index = request.table_index;
  entries_.pop_back();
  changes_ -= finished.changes ? 1 : 0;
  if (waiting_ == 0) {
    return;
  }
  const size_t before = released.size();
  for (Entry& entry : entries_) {
    if (entry.id > finished.id && Conflict(entry, finished) && --entry.blockers == 0) {
      --waiting_;
      released.push_back(entry.request);
    }
  }
  std::sort(
      released.begin() + static_cast<ptrdiff_t>(before), released.end(),
      [](const BlockRequest* left, const BlockRequest* right) { return left->id < right->id; });
}

}  // namespace pacsvisor
