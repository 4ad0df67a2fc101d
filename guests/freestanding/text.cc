#include "guests/freestanding/text.h"

namespace pacsvisor {

std::string_view TakeWord(std::string_view& text, std::string_view separators) {
  while (!text.empty() && separators.find(text.front()) != std::string_view::npos) {
    text.remove_prefix(1);
  }
  size_t length = 0;
  while (length < text.size() && separators.find(text[length]) == std::string_view::npos) ++length;
  const std::string_view word(text.data(), length);
  text.remove_prefix(length);
  return word;
}

std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t base = 10;
  if (text.starts_with("0x")) {
    base = 16;
    text.remove_prefix(2);
  }
  if (text.empty()) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    uint64_t digit = base;
    if (c >= '0' && c <= '9') digit = static_cast<uint64_t>(c - '0');
    if (c >= 'a' && c <= 'f') digit = static_cast<uint64_t>(c - 'a' + 10);
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, base, &value)) return std::nullopt;
    if (__builtin_add_overflow(value, digit, &value)) return std::nullopt;
  }
  return value;
}

std::optional<std::string_view> Arguments::Find(std::string_view key) const {
  std::string_view rest = text_;
  for (std::string_view word = TakeWord(rest, separators_); !word.empty();
       word = TakeWord(rest, separators_)) {
    if (word.size() > key.size() && word.starts_with(key) && word[key.size()] == '=') {
      word.remove_prefix(key.size() + 1);
      return word;
    }
  }
  return std::nullopt;
}

std::string_view Arguments::FirstUnknown(std::string_view known) const {
  std::string_view rest = text_;
  for (std::string_view word = TakeWord(rest, separators_); !word.empty();
       word = TakeWord(rest, separators_)) {
    const size_t equals = word.find('=');
    const std::string_view key(word.data(), equals == std::string_view::npos ? 0 : equals);
    std::string_view keys = known;
    std::string_view candidate = TakeWord(keys);
    while (!candidate.empty() && candidate != key) candidate = TakeWord(keys);
    if (candidate.empty()) return word;
  }
  return {};
}

}  // namespace pacsvisor
