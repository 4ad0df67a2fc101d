// TOML as a plain tree with the line of everything in it. The only user of toml++ is
// config_tree.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pacsvisor {

struct ConfigNode {
  enum class Kind { kTable, kArray, kString, kInteger, kFloat, kBoolean, kDate };
  struct Member;

  Kind kind = Kind::kTable;
  int line = 1;                      // of the value, from 1
  std::string text;                  // kString
  int64_t integer = 0;               // kInteger
  bool boolean = false;              // kBoolean
  std::vector<Member> members;       // kTable
  std::vector<ConfigNode> elements;  // kArray

  const Member* Find(std::string_view name) const;
};

struct ConfigNode::Member {
  std::string name;
  int line = 1;  // of the key
  ConfigNode value;
};

// With article, for messages: "a table", "an integer".
std::string_view ConfigKindName(ConfigNode::Kind kind);

struct ConfigTree {
  ConfigNode root;
  // The first syntax error; the root is empty then.
  std::optional<std::pair<int, std::string>> syntax_error;  // line, text
};

ConfigTree ParseToml(std::string_view text);

}  // namespace pacsvisor
