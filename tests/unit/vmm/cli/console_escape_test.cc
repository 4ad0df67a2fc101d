#include "vmm/cli/console_escape.h"

#include <gmock/gmock.h>

#include <string>

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Action = ConsoleEscape::Action;

ConsoleEscape::Typed Take(ConsoleEscape& escape, const std::string& keys) {
  // Characters as bytes.
  return escape.Take({reinterpret_cast<const uint8_t*>(keys.data()), keys.size()});
}

std::string ForGuest(const ConsoleEscape::Typed& typed) {
  return {typed.for_guest.begin(), typed.for_guest.end()};
}

TEST(ConsoleEscape, PassesOtherKeysAsTheyAre) {
  ConsoleEscape escape;
  std::string all;
  for (int byte = 0; byte < 256; ++byte) {
    if (byte != 0x1d) {
      all += static_cast<char>(byte);
    }
  }
  const ConsoleEscape::Typed typed = Take(escape, all);
  EXPECT_EQ(ForGuest(typed), all);
  EXPECT_THAT(typed.actions, IsEmpty());
}

TEST(ConsoleEscape, XLeavesAndQuestionMarkHelps) {
  ConsoleEscape escape;
  const ConsoleEscape::Typed typed = Take(escape, "a\x1dxb\x1d?c");
  EXPECT_EQ(ForGuest(typed), "abc");
  EXPECT_THAT(typed.actions, ElementsAre(Action::kLeave, Action::kHelp));
}

TEST(ConsoleEscape, IsKeptFromOneReadToTheNext) {
  ConsoleEscape escape;
  EXPECT_EQ(ForGuest(Take(escape, "a\x1d")), "a");
  EXPECT_THAT(Take(escape, "x").actions, ElementsAre(Action::kLeave));
  EXPECT_EQ(ForGuest(Take(escape, "x")), "x");
}

TEST(ConsoleEscape, TwiceIsItself) {
  ConsoleEscape escape;
  EXPECT_EQ(ForGuest(Take(escape, "\x1d\x1dx")), "\x1dx");
}

TEST(ConsoleEscape, BeforeAnyOtherKeyItIsSentWithIt) {
  ConsoleEscape escape;
  EXPECT_EQ(ForGuest(Take(escape, "\x1dq")), "\x1dq");
}

}  // namespace
}  // namespace pacsvisor
