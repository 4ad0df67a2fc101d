#include "tests/guest/churn/churn_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace pacsvisor::churn {

void Model::Feed(const std::string& line) {
  const size_t start = line.find("churn ");
  if (start == std::string::npos) {
    return;
  }
  const std::string text = line.substr(start + 6);
  unsigned worker = 0;
  unsigned long long number = 0;
  int length = 0;
  if (text == "ready") {
    ready_ = true;
  } else if (text == "done") {
    done_ = true;
  } else if (text.rfind("failed ", 0) == 0) {
    failure_ = text;
  } else if (std::sscanf(text.c_str(), "flushed %u %llu%n", &worker, &number, &length) == 2 &&
             static_cast<size_t>(length) == text.size() && worker < kWorkers) {
    const Operation operation = OperationAt(seed_, worker, number);
    if (operation.kind != Kind::kFlush) {
      failure_ = "no flush: " + text;
      return;
    }
    ++flush_count_;
    last_reported_[worker] = static_cast<int64_t>(number);
    last_flush_of_file_[{worker, operation.file}] = static_cast<int64_t>(number);
  }
}

int64_t Model::LastFlush(uint32_t worker, uint32_t file) const {
  const auto found = last_flush_of_file_.find({worker, file});
  return found == last_flush_of_file_.end() ? kNone : found->second;
}

std::vector<Model::Allowed> Model::AllowedCells(uint32_t worker, uint32_t file) const {
  std::vector<Allowed> cells(kFileCells);
  const auto reported = last_reported_.find(worker);
  const uint64_t end =
      (reported == last_reported_.end() ? 0 : static_cast<uint64_t>(reported->second)) +
      kBegunUnreported;
  const int64_t durable = LastFlush(worker, file);
  for (uint64_t number = 0; number < end; ++number) {
    const Operation operation = OperationAt(seed_, worker, number);
    const bool writes = operation.kind == Kind::kWrite || operation.kind == Kind::kDirectWrite;
    if (operation.file != file || (!writes && !Zeroes(operation.kind))) {
      continue;
    }
    for (uint32_t i = 0; i < operation.cell_count; ++i) {
      Allowed& cell = cells[operation.first_cell + i];
      if (static_cast<int64_t>(number) < durable) {
        cell = {.zeroes = false, .writes = {}};
      }
      if (writes) {
        cell.writes.push_back(number);
      } else {
        cell.zeroes = true;
      }
    }
  }
  return cells;
}

std::vector<std::string> Model::Check(uint32_t worker, uint32_t file,
                                      std::span<const uint8_t> bytes) const {
  std::vector<std::string> problems;
  const std::vector<Allowed> cells = AllowedCells(worker, file);
  std::vector<uint8_t> whole(bytes.begin(), bytes.end());
  whole.resize(size_t{kFileCells} * kCellBytes);
  for (uint32_t i = 0; i < kFileCells; ++i) {
    Cell found;
    std::memcpy(found.data(), whole.data() + size_t{i} * kCellBytes, kCellBytes);
    const uint64_t number = found[0] - 1;
    const std::vector<uint64_t>& writes = cells[i].writes;
    const bool good = found == Cell{}
                          ? cells[i].zeroes
                          : std::find(writes.begin(), writes.end(), number) != writes.end() &&
                                found == CellOf(seed_, worker, file, i, number);
    if (!good) {
      problems.push_back(fmt::format(
          "{} cell {}: holds {}, flushed up to operation {}, allowed: {}zeroes, operations [{}]",
          FileName(worker, file), i,
          found == Cell{} ? "zeroes" : fmt::format("operation {}", number), LastFlush(worker, file),
          cells[i].zeroes ? "" : "no ", fmt::join(cells[i].writes, ", ")));
    }
  }
  return problems;
}

}  // namespace pacsvisor::churn
