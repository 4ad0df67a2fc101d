// Runs over all processors: from the words of a `dirty` command to plans, and back to outcomes.
#pragma once

#include <string_view>

#include "guests/dirtier/clock.h"
#include "guests/dirtier/control_block.h"
#include "guests/dirtier/worker.h"

namespace pacsvisor::dirtier {

struct RunRequest {
  uint64_t first_page = 0;
  uint64_t pages = 0;
  uint64_t hot_percent = 10;
  uint64_t seed = 1;
  uint64_t bytes = kPageBytes;
  uint64_t seconds = 0;  // 0: no limit
  uint64_t writes = 0;   // over all processors; 0: no limit
  uint64_t rate = 0;     // over all processors; 0: as fast as it can
  Pattern pattern = Pattern::kSequential;
};

// Parses key=value words. Returns what is wrong with them, or an empty text. `area_pages` is the
// limit, and what pages=all stands for.
std::string_view ParseRunRequest(const Arguments& arguments, uint64_t area_pages,
                                 uint64_t processors, RunRequest& request);

struct RunOutcome {
  uint64_t first_run;
  uint64_t writes;  // over all processors
  uint64_t cycles;  // of the processor that took longest
  RunEnd end;       // processor 0's
};

// Processor 0 only.
class Runs {
 public:
  constexpr Runs(ControlBlock& control, Worker* workers) : control_(control), workers_(workers) {}

  // Gives each processor an equal part of the pages, in ascending order, as a run of its own.
  // Only when nothing runs and HasRoomForRuns. Returns the first run's number.
  uint64_t Begin(const RunRequest& request, const Clock& clock);
  // A boot has 65,535 runs: the number is part of each page's stamp.
  bool HasRoomForRuns() const { return control_.run_count + control_.processors < 0x10000; }
  void RequestStop();
  bool running() const;
  bool finished() const;  // all processors have, and none has been acknowledged

  // Only when finished; nothing runs afterwards.
  RunOutcome Acknowledge();

  uint64_t last_first_page() const { return last_first_page_; }
  uint64_t last_pages() const { return last_pages_; }

 private:
  ControlBlock& control_;
  Worker* workers_;
  uint64_t last_first_page_ = 0;
  uint64_t last_pages_ = 0;
};

}  // namespace pacsvisor::dirtier
