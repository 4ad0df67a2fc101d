// Reading and naming small texts; nothing here allocates.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace pacsvisor {

// Cuts the first word off `text`; words are separated by any of `separators`. Empty at the end.
std::string_view TakeWord(std::string_view& text, std::string_view separators = " ");

// Decimal, or hexadecimal after 0x; the whole text. Nothing on any other character or overflow.
std::optional<uint64_t> ParseNumber(std::string_view text);

// Words of the form key=value.
class Arguments {
 public:
  explicit Arguments(std::string_view text, std::string_view separators = " ")
      : text_(text), separators_(separators) {}

  // The value of the first word with this key.
  std::optional<std::string_view> Find(std::string_view key) const;

  // The first word whose key (or which, having no '=', itself) is not among the space-separated
  // `known`; empty if there is none.
  std::string_view FirstUnknown(std::string_view known) const;

 private:
  std::string_view text_;
  std::string_view separators_;
};

}  // namespace pacsvisor
