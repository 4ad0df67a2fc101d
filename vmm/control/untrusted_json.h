// JSON from outside: read by nlohmann's SAX parser under limits, duplicate names refused.
// Threads: any.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "vmm/base/result.h"

namespace pacsvisor {

inline constexpr size_t kJsonDepthLimit = 64;

Result<nlohmann::json> ParseUntrustedJson(std::string_view text, size_t size_limit_bytes);

}  // namespace pacsvisor
