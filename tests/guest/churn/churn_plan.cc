#include "tests/guest/churn/churn_plan.h"

#include <algorithm>

namespace pacsvisor::churn {
namespace {

constexpr uint32_t kCellsOfAPage = 8;

// The finaliser of splitmix64: every bit of the input changes half of those of the output.
uint64_t Mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

Kind KindOf(uint64_t choice) {
  if (choice < 36) {
    return Kind::kWrite;
  }
  if (choice < 50) {
    return Kind::kDirectWrite;
  }
  if (choice < 58) {
    return Kind::kPunchHole;
  }
  if (choice < 64) {
    return Kind::kZeroRange;
  }
  if (choice < 67) {
    return Kind::kTruncate;
  }
  if (choice < 92) {
    return Kind::kFlush;
  }
  return choice < 97 ? Kind::kRename : Kind::kTrim;
}

}  // namespace

Operation OperationAt(uint64_t seed, uint32_t worker, uint64_t number) {
  const uint64_t random = Mix(Mix(seed * kWorkers + worker) + number);
  Operation operation;
  operation.kind = KindOf(random % 100);
  operation.file = static_cast<uint32_t>((random >> 8) % kFiles);
  operation.data_only = ((random >> 16) & 1) != 0;
  // Half of all in the first eighth, so that they meet.
  const uint32_t range = ((random >> 17) & 1) != 0 ? kFileCells / 8 : kFileCells;
  operation.first_cell = static_cast<uint32_t>((random >> 20) % range);
  operation.cell_count = 1 + static_cast<uint32_t>((random >> 40) % 128);
  if (operation.kind == Kind::kDirectWrite) {
    operation.first_cell -= operation.first_cell % kCellsOfAPage;
    operation.cell_count += kCellsOfAPage - operation.cell_count % kCellsOfAPage;
  }
  if (operation.kind == Kind::kTruncate) {
    operation.cell_count = kFileCells;
  }
  operation.cell_count = std::min(operation.cell_count, kFileCells - operation.first_cell);
  return operation;
}

bool Zeroes(Kind kind) {
  return kind == Kind::kPunchHole || kind == Kind::kZeroRange || kind == Kind::kTruncate;
}

Cell CellOf(uint64_t seed, uint32_t worker, uint32_t file, uint32_t cell, uint64_t number) {
  Cell words;
  uint64_t value = Mix(Mix(seed + number) + ((uint64_t{worker} * kFiles + file) << 32) + cell);
  for (uint64_t& word : words) {
    word = value;
    value = Mix(value);
  }
  words[0] = number + 1;
  return words;
}

std::string FileName(uint32_t worker, uint32_t file) {
  return "w" + std::to_string(worker) + "f" + std::to_string(file);
}

}  // namespace pacsvisor::churn
