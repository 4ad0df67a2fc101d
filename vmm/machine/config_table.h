// Reads one table of the configuration key by key: checks types, notes where each key stands, and
// at the end names the keys that nobody asked for.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm/machine/config.h"
#include "vmm/machine/config_tree.h"

namespace pacsvisor {

class ConfigTable {
 public:
  // `path` is "" for the root, "boot", "disk[0]"; what is found goes to `out`.
  ConfigTable(const ConfigNode& table, std::string path, ParsedConfig* out);

  // Each returns nothing when the key is not there, or is wrong: that is noted as a problem.
  std::optional<std::string> String(std::string_view name);
  std::optional<std::string> Path(std::string_view name, std::string_view directory);
  std::optional<bool> Boolean(std::string_view name);
  std::optional<uint32_t> Number(std::string_view name);
  std::optional<uint64_t> Size(std::string_view name);  // "2G", "512M", bytes

  template <typename Enum>
  std::optional<Enum> Choice(std::string_view name,
                             std::span<const std::pair<std::string_view, Enum>> choices) {
    const std::optional<std::string> text = String(name);
    std::vector<std::string_view> names;
    for (const auto& [choice, value] : choices) {
      if (text == choice) {
        return value;
      }
      names.push_back(choice);
    }
    if (text) {
      NoSuchChoice(name, *text, names);
    }
    return std::nullopt;
  }

  const ConfigNode* Table(std::string_view name);
  // Elements of [[name]]; empty when it is not there.
  std::span<const ConfigNode> Tables(std::string_view name);
  // Elements of a list of strings; nothing in place of those that are none.
  std::vector<std::optional<std::string>> Strings(std::string_view name);

  void Problem(std::string_view name, std::string text);
  void Missing(std::string_view name, std::string_view example);
  // Once, after all keys were asked for.
  void ReportUnknown();

 private:
  const ConfigNode* Get(std::string_view name, ConfigNode::Kind kind, std::string_view example);
  std::string PathOf(std::string_view name) const;
  void NoSuchChoice(std::string_view name, std::string_view value,
                    std::span<const std::string_view> choices);

  const ConfigNode& table_;
  const std::string path_;
  ParsedConfig& out_;
  std::vector<std::string_view> known_;
};

}  // namespace pacsvisor
