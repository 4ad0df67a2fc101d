// VM.toml: any bytes are refused with lines that exist, or read into a configuration.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "vmm/base/check.h"
#include "vmm/machine/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pacsvisor;
  // Bytes as characters.
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const ParsedConfig parsed = ParseConfigText(text, "/vm");
  const auto lines = std::count(text.begin(), text.end(), '\n') + 1;
  for (const ConfigProblem& problem : parsed.problems) {
    CHECK(problem.line >= 0 && problem.line <= lines + 1, "{} of {}: {}", problem.line, lines,
          problem.text);
    CHECK(!problem.text.empty());
  }
  CHECK(parsed.is_toml || parsed.problems.size() == 1);
  if (parsed.problems.empty()) {
    CHECK(!parsed.config.name.empty() || !ValidateConfig(parsed.config, parsed.places).empty());
  }
  return 0;
}
