#include "guests/dirtier/pattern.h"

#include <bit>

namespace pacsvisor::dirtier {
namespace {

constexpr uint64_t kGoldenGamma = 0x9e3779b97f4a7c15;
constexpr uint64_t kHotWritesPerCold = 9;
constexpr int kFeistelRounds = 4;

// A bijection of 64-bit words without visible structure.
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93;
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93;
  return x ^ (x >> 32);
}

// A permutation of [0, size): a Feistel network over the next even number of bits, applied again
// while the result is outside (cycle walking), so that it can be inverted exactly.
class Permutation {
 public:
  Permutation(uint64_t size, uint64_t key) : size_(size), key_(key) {
    const auto bits = static_cast<int>(std::bit_width(size - 1));
    half_bits_ = bits < 2 ? 1 : (bits + 1) / 2;
    half_mask_ = (uint64_t{1} << half_bits_) - 1;
  }

  uint64_t Forward(uint64_t x) const {
    do {
      uint64_t left = x >> half_bits_;
      uint64_t right = x & half_mask_;
      for (int round = 0; round < kFeistelRounds; ++round) {
        const uint64_t next = left ^ RoundValue(right, round);
        left = right;
        right = next;
      }
      x = left << half_bits_ | right;
    } while (x >= size_);
    return x;
  }

  uint64_t Backward(uint64_t x) const {
    do {
      uint64_t left = x >> half_bits_;
      uint64_t right = x & half_mask_;
      for (int round = kFeistelRounds - 1; round >= 0; --round) {
        const uint64_t previous = right ^ RoundValue(left, round);
        right = left;
        left = previous;
      }
      x = left << half_bits_ | right;
    } while (x >= size_);
    return x;
  }

 private:
  uint64_t RoundValue(uint64_t half, int round) const {
    return Mix(half + key_ + static_cast<uint64_t>(round) * kGoldenGamma) & half_mask_;
  }

  uint64_t size_;
  uint64_t key_;
  int half_bits_;
  uint64_t half_mask_;
};

// A run is one stream of writes over all its pages, or (kHot) two over the two parts.
// Positions in a stream count from 0.
struct Stream {
  uint64_t first_page;
  uint64_t pages;
  uint64_t seed;
  bool shuffled;

  Permutation Order(uint64_t round) const { return Permutation(pages, Mix(Mix(seed) ^ round)); }

  uint64_t PageAt(uint64_t position) const {
    const uint64_t place = position % pages;
    return first_page + (shuffled ? Order(position / pages).Forward(place) : place);
  }

  uint64_t PlaceInRound(uint64_t round, uint64_t page) const {
    const uint64_t offset = page - first_page;
    return shuffled ? Order(round).Backward(offset) : offset;
  }

  // 1 + the last position below `count` that is `page`'s, or 0.
  uint64_t LastPositionOf(uint64_t page, uint64_t count) const {
    const uint64_t round = count / pages;
    const uint64_t place = PlaceInRound(round, page);
    if (place < count % pages) return round * pages + place + 1;
    if (round == 0) return 0;
    return (round - 1) * pages + PlaceInRound(round - 1, page) + 1;
  }
};

Stream WholeStream(const RunPlan& plan) {
  return {plan.first_page, plan.pages, plan.seed, plan.pattern != Pattern::kSequential};
}
Stream HotStream(const RunPlan& plan) { return {plan.first_page, plan.hot_pages, plan.seed, true}; }
Stream ColdStream(const RunPlan& plan) {
  return {plan.first_page + plan.hot_pages, plan.pages - plan.hot_pages, plan.seed, true};
}

}  // namespace

uint64_t PageOfWrite(const RunPlan& plan, uint64_t ordinal) {
  const uint64_t index = ordinal - 1;
  if (plan.pattern != Pattern::kHot) return WholeStream(plan).PageAt(index);
  const uint64_t cold = index / (kHotWritesPerCold + 1);
  if (index % (kHotWritesPerCold + 1) == kHotWritesPerCold) return ColdStream(plan).PageAt(cold);
  return HotStream(plan).PageAt(index - cold);
}

uint64_t LastWriteTo(const RunPlan& plan, uint64_t writes, uint64_t page) {
  if (page < plan.first_page || page - plan.first_page >= plan.pages) return 0;
  if (plan.pattern != Pattern::kHot) return WholeStream(plan).LastPositionOf(page, writes);
  const uint64_t cold_writes = writes / (kHotWritesPerCold + 1);
  if (page - plan.first_page >= plan.hot_pages) {
    return ColdStream(plan).LastPositionOf(page, cold_writes) * (kHotWritesPerCold + 1);
  }
  const uint64_t position = HotStream(plan).LastPositionOf(page, writes - cold_writes);
  return position == 0 ? 0 : position + (position - 1) / kHotWritesPerCold;
}

PageContent::PageContent(const RunPlan& plan, uint64_t page, uint64_t ordinal)
    : stamp_(plan.run << 48 | ordinal), key_(Mix(Mix(Mix(plan.seed) ^ page) ^ stamp_)) {}

uint64_t PageContent::Word(uint64_t index) const {
  return index == 0 ? stamp_ : Mix(key_ + index * kGoldenGamma);
}

void WritePage(const RunPlan& plan, uint64_t page, uint64_t ordinal, volatile uint64_t* words) {
  const PageContent content(plan, page, ordinal);
  const uint64_t count = plan.bytes / sizeof(uint64_t);
  for (uint64_t i = 0; i < count; ++i) words[i] = content.Word(i);
}

LastWriter FindLastWriter(const RunRecord* records, uint64_t count, uint64_t page) {
  LastWriter last;
  for (uint64_t i = 0; i < count; ++i) {
    const RunRecord& record = records[i];
    if (last.record != nullptr && record.plan.run < last.record->plan.run) continue;
    const uint64_t ordinal = LastWriteTo(record.plan, record.writes, page);
    if (ordinal != 0) last = {&record, ordinal};
  }
  return last;
}

}  // namespace pacsvisor::dirtier
