// dirtier_check: checks a dirtier's memory from outside.
//
// Given copies of guest-physical memory (a snapshot's, a stopped machine's), finds the control
// block and proves that every page holds exactly what the last of the completed writes left there:
// all of memory is of one instant, and nothing is lost. What it reads may be broken in any way.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "guests/dirtier/control_block.h"

namespace pacsvisor::dirtier {
namespace {

constexpr int kExitBad = 1;
constexpr int kExitUsage = 2;

constexpr char kUsage[] =
    "usage: dirtier_check [--checksum FIRST:PAGES] ADDRESS:FILE[@OFFSET+SIZE] …\n"
    "  Each FILE (or SIZE bytes of it from OFFSET on) holds guest memory from ADDRESS on.\n"
    "  Prints one line; exit status 0: every written page is right, 1: some are not, 2: cannot "
    "tell.\n"
    "  --checksum also prints the checksum that these area pages should have, computed from the\n"
    "  runs alone, for memory that was zero at the start.\n";

[[noreturn, gnu::format(printf, 1, 2)]] void Fail(const char* format, ...) {
  std::fputs("dirtier_check: ", stderr);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::exit(kExitUsage);
}

[[noreturn]] void FailUsage() {
  std::fputs(kUsage, stderr);
  std::exit(kExitUsage);
}

// A number that ends at `end` (any character of it) or at the text's end.
uint64_t TakeNumber(const char*& text, const char* what) {
  char* end = nullptr;
  errno = 0;
  const uint64_t value = std::strtoull(text, &end, 0);
  if (end == text || errno != 0) Fail("%s is not a number: '%s'", what, text);
  text = end;
  return value;
}

// A piece of guest memory, mapped for the life of the process.
struct Piece {
  uint64_t address;
  uint64_t size_bytes;
  const uint8_t* bytes;
};

Piece MapPiece(const char* text) {
  const uint64_t address = TakeNumber(text, "ADDRESS");
  if (*text != ':') FailUsage();
  std::string path = text + 1;
  uint64_t offset = 0;
  uint64_t size = 0;
  if (const size_t at = path.rfind('@'); at != std::string::npos) {
    const char* rest = path.c_str() + at + 1;
    offset = TakeNumber(rest, "OFFSET");
    if (*rest != '+') FailUsage();
    ++rest;
    size = TakeNumber(rest, "SIZE");
    if (*rest != '\0' || offset % kPageBytes != 0) Fail("OFFSET must be a multiple of 4096");
    path.resize(at);
  }
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (fd < 0 || fstat(fd, &status) != 0) Fail("%s: %s", path.c_str(), std::strerror(errno));
  const auto file_bytes = static_cast<uint64_t>(status.st_size);
  if (size == 0) size = file_bytes;
  if (size == 0 || offset > file_bytes || size > file_bytes - offset) {
    Fail("%s is shorter than asked for", path.c_str());
  }
  void* mapped = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (mapped == MAP_FAILED) Fail("%s: %s", path.c_str(), std::strerror(errno));
  close(fd);
  return {address, size, static_cast<const uint8_t*>(mapped)};
}

using PageWords = std::array<uint64_t, kWordsPerPage>;

class GuestMemory {
 public:
  explicit GuestMemory(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {}

  void Read(uint64_t address, void* to, uint64_t bytes) const {
    for (const Piece& piece : pieces_) {
      if (address < piece.address || address - piece.address >= piece.size_bytes) continue;
      if (bytes > piece.size_bytes - (address - piece.address)) continue;
      std::memcpy(to, piece.bytes + (address - piece.address), bytes);
      return;
    }
    Fail("no file holds guest memory at 0x%lx", address);
  }

 private:
  std::vector<Piece> pieces_;
};

bool IsSane(const RunPlan& plan, uint64_t area_pages) {
  if (plan.run == 0 || plan.run >= 0x10000) return false;
  if (plan.pages == 0 || plan.first_page >= area_pages) return false;
  if (plan.pages > area_pages - plan.first_page) return false;
  if (plan.bytes == 0 || plan.bytes > kPageBytes || plan.bytes % 8 != 0) return false;
  if (plan.pattern == Pattern::kHot) return plan.hot_pages > 0 && plan.hot_pages < plan.pages;
  return plan.pattern == Pattern::kSequential || plan.pattern == Pattern::kRandom;
}

ControlBlock ReadControlBlock(const GuestMemory& memory) {
  ControlBlock control;
  memory.Read(kControlBlockAddress, &control, sizeof(control));
  if (control.magic != kControlBlockMagic || control.version != 1) {
    Fail("no control block at 0x%lx: is this a dirtier's memory?", kControlBlockAddress);
  }
  if (control.extent_count == 0 || control.extent_count > kMaxExtents || control.processors == 0 ||
      control.processors > kMaxProcessors) {
    Fail("the control block is broken");
  }
  uint64_t area_pages = 0;
  for (uint64_t i = 0; i < control.extent_count; ++i) {
    const Extent& extent = control.extents[i];
    if (extent.pages > (uint64_t{1} << 40)) Fail("extent %lu of the control block is broken", i);
    area_pages += extent.pages;
  }
  for (uint64_t i = 0; i < RecordedRuns(control); ++i) {
    if (!IsSane(control.runs[i].plan, area_pages)) Fail("run record %lu is broken", i);
  }
  return control;
}

uint64_t AreaPages(const ControlBlock& control) {
  uint64_t pages = 0;
  for (uint64_t i = 0; i < control.extent_count; ++i) pages += control.extents[i].pages;
  return pages;
}

// The records of the youngest runs may each have one write under way, of which any prefix is there.
class Checker {
 public:
  Checker(const GuestMemory& memory, const ControlBlock& control)
      : memory_(memory), control_(control) {
    const uint64_t recorded = RecordedRuns(control);
    const uint64_t active = std::min<uint64_t>(control.processors, recorded);
    for (uint64_t i = 0; i < active; ++i) {
      const RunRecord& record = control.runs[(control.run_count - 1 - i) % kMaxRuns];
      in_flight_.push_back({&record, PageOfWrite(record.plan, record.writes + 1)});
    }
  }

  bool IsRight(uint64_t page, const LastWriter& last) const {
    PageWords words;
    memory_.Read(AreaPageAddress(control_, page), words.data(), kPageBytes);
    uint64_t begun = 0;  // words that a write under way has replaced
    for (const auto& [record, its_page] : in_flight_) {
      if (its_page != page) continue;
      const PageContent content(record->plan, page, record->writes + 1);
      const uint64_t count = record->plan.bytes / sizeof(uint64_t);
      while (begun < count && words[begun] == content.Word(begun)) ++begun;
    }
    if (last.record == nullptr) return true;
    const PageContent content(last.record->plan, page, last.ordinal);
    const uint64_t count = last.record->plan.bytes / sizeof(uint64_t);
    for (uint64_t i = begun; i < count; ++i) {
      if (words[i] != content.Word(i)) return false;
    }
    return true;
  }

 private:
  struct InFlight {
    const RunRecord* record;
    uint64_t page;
  };
  const GuestMemory& memory_;
  const ControlBlock& control_;
  std::vector<InFlight> in_flight_;
};

// What all recorded runs together leave in a page that was zero.
PageWords ExpectedPage(const ControlBlock& control, uint64_t page) {
  std::vector<const RunRecord*> records;
  for (uint64_t i = 0; i < RecordedRuns(control); ++i) records.push_back(&control.runs[i]);
  std::sort(records.begin(), records.end(),
            [](const auto* a, const auto* b) { return a->plan.run < b->plan.run; });
  PageWords words = {};
  for (const RunRecord* record : records) {
    const uint64_t ordinal = LastWriteTo(record->plan, record->writes, page);
    if (ordinal != 0) WritePage(record->plan, page, ordinal, words.data());
  }
  return words;
}

uint64_t ExpectedChecksum(const ControlBlock& control, uint64_t first, uint64_t pages) {
  uint64_t checksum = kChecksumStart;
  for (uint64_t page = first; page < first + pages; ++page) {
    for (const uint64_t word : ExpectedPage(control, page)) checksum = ChecksumStep(checksum, word);
  }
  return checksum;
}

int Check(const GuestMemory& memory, const ControlBlock& control) {
  const Checker checker(memory, control);
  uint64_t written = 0;
  uint64_t bad = 0;
  uint64_t first_bad = 0;
  const uint64_t area_pages = AreaPages(control);
  for (uint64_t page = 0; page < area_pages; ++page) {
    const LastWriter last = FindLastWriter(control.runs, RecordedRuns(control), page);
    if (last.record == nullptr) continue;
    ++written;
    if (!checker.IsRight(page, last) && bad++ == 0) first_bad = page;
  }
  uint64_t writes = 0;
  for (uint64_t i = 0; i < RecordedRuns(control); ++i) writes += control.runs[i].writes;
  std::printf("runs=%lu writes=%lu written=%lu bad=%lu counter_ms=%lu", control.run_count, writes,
              written, bad, control.counter_ms);
  if (bad != 0) {
    std::printf(" first_bad=%lu at=0x%lx", first_bad, AreaPageAddress(control, first_bad));
  }
  return bad == 0 ? 0 : kExitBad;
}

int Main(int argc, char** argv) {
  uint64_t first = 0;
  uint64_t pages = 0;
  int next = 1;
  if (argc > 2 && std::strcmp(argv[1], "--checksum") == 0) {
    const char* text = argv[2];
    first = TakeNumber(text, "FIRST");
    if (*text != ':') FailUsage();
    ++text;
    pages = TakeNumber(text, "PAGES");
    next = 3;
  }
  if (next >= argc || argv[next][0] == '-') FailUsage();
  std::vector<Piece> pieces;
  for (; next < argc; ++next) pieces.push_back(MapPiece(argv[next]));
  const GuestMemory memory(std::move(pieces));
  const ControlBlock control = ReadControlBlock(memory);
  const uint64_t area_pages = AreaPages(control);
  if (first > area_pages || pages > area_pages - first) Fail("the area has fewer pages");
  const int status = Check(memory, control);
  if (pages != 0) std::printf(" checksum=0x%lx", ExpectedChecksum(control, first, pages));
  std::printf("\n");
  return status;
}

}  // namespace
}  // namespace pacsvisor::dirtier

int main(int argc, char** argv) { return pacsvisor::dirtier::Main(argc, argv); }
