#include "vmm/machine/config_tree.h"

// Header-only and without exceptions, in this file alone: Debian's library is built with them,
// which would be another ABI.
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <toml++/toml.h>
#pragma GCC diagnostic pop

#include <algorithm>

#include "vmm/base/check.h"
#include "vmm/machine/config.h"

namespace pacsvisor {
namespace {

// toml++ bounds the nesting of values, not that of dotted keys ("a.a.a.a"), and takes its tables
// down by recursion. A level needs a dot, so dots bound the stack.
constexpr int64_t kMaxDots = 4096;

int LineOf(const toml::source_region& region) { return static_cast<int>(region.begin.line); }

ConfigNode Convert(const toml::node& node);

ConfigNode ConvertTable(const toml::table& table) {
  ConfigNode out{.kind = ConfigNode::Kind::kTable};
  for (const auto& [key, value] : table) {
    out.members.push_back(
        {.name = std::string(key.str()), .line = LineOf(key.source()), .value = Convert(value)});
  }
  return out;
}

ConfigNode ConvertArray(const toml::array& array) {
  ConfigNode out{.kind = ConfigNode::Kind::kArray};
  for (const toml::node& element : array) {
    out.elements.push_back(Convert(element));
  }
  return out;
}

ConfigNode ConvertValue(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return ConvertTable(*node.as_table());
    case toml::node_type::array:
      return ConvertArray(*node.as_array());
    case toml::node_type::string:
      return {.kind = ConfigNode::Kind::kString, .text = node.as_string()->get()};
    case toml::node_type::integer:
      return {.kind = ConfigNode::Kind::kInteger, .integer = node.as_integer()->get()};
    case toml::node_type::boolean:
      return {.kind = ConfigNode::Kind::kBoolean, .boolean = node.as_boolean()->get()};
    case toml::node_type::floating_point:
      return {.kind = ConfigNode::Kind::kFloat};
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time:
      return {.kind = ConfigNode::Kind::kDate};
    case toml::node_type::none:
      break;
  }
  CHECK(false, "node type {}", static_cast<int>(node.type()));
}

ConfigNode Convert(const toml::node& node) {
  ConfigNode out = ConvertValue(node);
  out.line = LineOf(node.source());
  return out;
}

ConfigTree SyntaxError(int line, std::string text) {
  ConfigTree tree;
  tree.syntax_error.emplace(line, std::move(text));
  return tree;
}

}  // namespace

const ConfigNode::Member* ConfigNode::Find(std::string_view name) const {
  const auto found = std::find_if(members.begin(), members.end(),
                                  [&](const Member& member) { return member.name == name; });
  return found == members.end() ? nullptr : &*found;
}

std::string_view ConfigKindName(ConfigNode::Kind kind) {
  switch (kind) {
    case ConfigNode::Kind::kTable:
      return "a table";
    case ConfigNode::Kind::kArray:
      return "a list";
    case ConfigNode::Kind::kString:
      return "a string";
    case ConfigNode::Kind::kInteger:
      return "an integer";
    case ConfigNode::Kind::kFloat:
      return "a number with a fraction";
    case ConfigNode::Kind::kBoolean:
      return "true or false";
    case ConfigNode::Kind::kDate:
      return "a date";
  }
  CHECK(false, "kind {}", static_cast<int>(kind));
}

ConfigTree ParseToml(std::string_view text) {
  if (text.size() > kConfigSizeLimitBytes) {
    return SyntaxError(1, fmt::format("the file has {} bytes: a configuration has at most {}; is "
                                      "this a disk image?",
                                      text.size(), kConfigSizeLimitBytes));
  }
  if (std::count(text.begin(), text.end(), '.') > kMaxDots) {
    return SyntaxError(1, fmt::format("the file has more than {} dots, which no configuration "
                                      "needs: is this another kind of file?",
                                      kMaxDots));
  }
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return SyntaxError(LineOf(parsed.error().source()),
                       fmt::format("this is no TOML: {}", parsed.error().description()));
  }
  return {.root = ConvertTable(parsed.table())};
}

}  // namespace pacsvisor
