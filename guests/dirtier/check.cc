#include "guests/dirtier/check.h"

#include "guests/dirtier/area.h"
#include "guests/freestanding/cpu.h"

namespace pacsvisor::dirtier {
namespace {

const volatile uint64_t* PageWords(const ControlBlock& control, uint64_t page) {
  return AtAddress<const volatile uint64_t>(AreaPageAddress(control, page));
}

bool HoldsWrite(const LastWriter& writer, uint64_t page, const volatile uint64_t* words) {
  const PageContent content(writer.record->plan, page, writer.ordinal);
  const uint64_t count = writer.record->plan.bytes / sizeof(uint64_t);
  for (uint64_t i = 0; i < count; ++i) {
    if (words[i] != content.Word(i)) return false;
  }
  return true;
}

}  // namespace

std::string_view ParsePageSpan(const Arguments& arguments, uint64_t area_pages, PageSpan& span) {
  if (!arguments.FirstUnknown("first pages").empty()) return "unknown word; known: first= pages=";
  if (const auto text = arguments.Find("first")) {
    const auto number = ParseNumber(*text);
    if (!number) return "first= must be a number";
    span.first = *number;
  }
  if (const auto text = arguments.Find("pages")) {
    const auto number = ParseNumber(*text);
    if (!number) return "pages= must be a number";
    span.pages = *number;
  }
  if (span.pages == 0) return "nothing written yet: say pages=";
  if (span.first >= area_pages || span.pages > area_pages - span.first) {
    return "the area has fewer pages";
  }
  return {};
}

uint64_t ChecksumPages(const ControlBlock& control, const PageSpan& span, Heartbeat& heartbeat) {
  uint64_t checksum = kChecksumStart;
  for (uint64_t page = span.first; page < span.first + span.pages; ++page) {
    const volatile uint64_t* words = PageWords(control, page);
    for (uint64_t i = 0; i < kWordsPerPage; ++i) checksum = ChecksumStep(checksum, words[i]);
    heartbeat.Beat();
  }
  return checksum;
}

VerifyResult VerifyArea(const ControlBlock& control, Heartbeat& heartbeat) {
  VerifyResult result;
  const uint64_t pages = AreaPages(control);
  for (uint64_t page = 0; page < pages; ++page) {
    const LastWriter writer = FindLastWriter(control.runs, RecordedRuns(control), page);
    heartbeat.Beat();
    if (writer.record == nullptr) continue;
    ++result.written;
    if (HoldsWrite(writer, page, PageWords(control, page))) continue;
    if (result.bad++ == 0) result.first_bad = page;
  }
  return result;
}

}  // namespace pacsvisor::dirtier
