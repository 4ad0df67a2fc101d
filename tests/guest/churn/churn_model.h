// The oracle of the churn program: fed with what it said, tells what its files may hold.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tests/guest/churn/churn_plan.h"

namespace pacsvisor::churn {

class Model {
 public:
  explicit Model(uint64_t seed) : seed_(seed) {}

  // A line of the guest's console, whatever it is.
  void Feed(const std::string& line);
  bool ready() const { return ready_; }
  bool done() const { return done_; }
  uint64_t flush_count() const { return flush_count_; }
  const std::string& failure() const { return failure_; }  // what the program complained of

  // What is wrong with the bytes of a file, one line a cell; nothing when all is well. A cell is to
  // hold what the last operation on it before the file's last reported flush left there, or what a
  // later one did. A file may be shorter than its cells: what is missing counts as zeroes.
  std::vector<std::string> Check(uint32_t worker, uint32_t file,
                                 std::span<const uint8_t> bytes) const;

 private:
  static constexpr int64_t kNone = -1;
  struct Allowed {
    bool zeroes = true;
    std::vector<uint64_t> writes;  // operations
  };

  // Operations after the last one reported that the program may have begun: more than lie between
  // two flushes, or than could be reported and lost on their way to the console.
  static constexpr uint64_t kBegunUnreported = 2000;

  std::vector<Allowed> AllowedCells(uint32_t worker, uint32_t file) const;
  int64_t LastFlush(uint32_t worker, uint32_t file) const;

  const uint64_t seed_;
  bool ready_ = false;
  bool done_ = false;
  uint64_t flush_count_ = 0;
  std::string failure_;
  std::map<uint32_t, int64_t> last_reported_;                            // by worker
  std::map<std::pair<uint32_t, uint32_t>, int64_t> last_flush_of_file_;  // by worker and file
};

}  // namespace pacsvisor::churn
