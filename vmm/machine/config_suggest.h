// "Did you mean …": the known word nearest to a mistyped one.
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace pacsvisor {

// None when no word is near: at most a third of its letters, and not more than three, may differ.
std::optional<std::string_view> NearestWord(std::string_view word,
                                            std::span<const std::string_view> known);

}  // namespace pacsvisor
