// Which page a write goes to, and what it leaves there: pure functions of a run's plan, so that
// whoever knows how many writes a run has done knows every byte of the memory it has written.
//
// Used by the guest (freestanding) and by programs outside that check its memory.
#pragma once

#include <cstdint>

namespace pacsvisor::dirtier {

inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kWordsPerPage = kPageBytes / sizeof(uint64_t);

enum class Pattern : uint32_t {
  kSequential = 0,  // pages in ascending order, round after round
  kRandom = 1,      // each round visits every page once, in an order of its own
  kHot = 2,         // 9 of 10 writes go to the first hot_pages pages, the tenth to the others;
                    // both parts in random order as above
};

// What one processor does to its part of the area. ABI: lies in guest memory (control_block.h).
struct RunPlan {
  uint64_t run;         // number of the run, from 1; no two runs of a boot share it
  uint64_t first_page;  // area page
  uint64_t pages;       // at least 1; for kHot at least 2
  uint64_t hot_pages;   // kHot only: 1 to pages - 1
  uint64_t seed;
  Pattern pattern;
  uint32_t bytes;  // written at the start of each page: 8 to 4096, a multiple of 8
  uint64_t reserved;
};
static_assert(sizeof(RunPlan) == 56);

// A run, and how many writes it has completed. The writer stores `writes` after the page.
struct RunRecord {
  RunPlan plan;
  uint64_t writes;
};
static_assert(sizeof(RunRecord) == 64);

// Writes are numbered from 1 ("ordinal"); 0 stands for none.

// The area page that write `ordinal` goes to.
uint64_t PageOfWrite(const RunPlan& plan, uint64_t ordinal);

// The last of the first `writes` writes that went to area page `page`, or 0.
uint64_t LastWriteTo(const RunPlan& plan, uint64_t writes, uint64_t page);

// What write `ordinal` leaves in word `index` of area page `page`. Word 0 is the stamp,
// run << 48 | ordinal: no two writes of a boot leave the same content.
class PageContent {
 public:
  PageContent(const RunPlan& plan, uint64_t page, uint64_t ordinal);
  uint64_t Word(uint64_t index) const;

 private:
  uint64_t stamp_;
  uint64_t key_;
};

// Writes the first plan.bytes bytes of the page, in ascending order.
void WritePage(const RunPlan& plan, uint64_t page, uint64_t ordinal, volatile uint64_t* words);

// The youngest write to a page, over the records of several runs.
struct LastWriter {
  const RunRecord* record = nullptr;  // null: no recorded run has written the page
  uint64_t ordinal = 0;
};
LastWriter FindLastWriter(const RunRecord* records, uint64_t count, uint64_t page);

// FNV-1a over 64-bit words; begin with kChecksumStart.
inline constexpr uint64_t kChecksumStart = 0xcbf29ce484222325;
constexpr uint64_t ChecksumStep(uint64_t checksum, uint64_t word) {
  return (checksum ^ word) * 0x100000001b3;
}

}  // namespace pacsvisor::dirtier
