#include "vmm/machine/config_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/machine/config_suggest.h"
#include "vmm/machine/config_text.h"

namespace pacsvisor {
namespace {

// Where a key belongs that stands in the wrong table: a key written after a [table] is that
// table's.
struct Home {
  std::string_view key;
  std::string_view place;
};
constexpr Home kHomes[] = {
    {"name", "at the top, before the first [table]"},
    {"cpus", "at the top, before the first [table]"},
    {"memory", "at the top, before the first [table]"},
    {"cpu", "at the top, before the first [table]"},
    {"memory_backing", "at the top, before the first [table]"},
    {"tracking", "at the top, before the first [table]"},
    {"kernel", "in [boot]"},
    {"initrd", "in [boot]"},
    {"cmdline", "in [boot]"},
    {"unpack", "in [boot]"},
    {"path", "in [[disk]] or [store]"},
    {"key", "in [store]"},
    {"write_rate", "in [store]"},
    {"serial", "in [[disk]]"},
    {"read_only", "in [[disk]]"},
    {"queues", "in [[disk]]"},
    {"cache", "in [[disk]]"},
    {"bandwidth", "in [[disk]] or [[net]]"},
    {"iops", "in [[disk]]"},
    {"backend", "in [[net]]"},
    {"interface", "in [[net]]"},
    {"mac", "in [[net]]"},
    {"forward", "in [[net]]"},
    {"isolated", "in [[net]]"},
    {"log", "in [console]"},
    {"enabled", "in [agent]"},
    {"every", "in [schedule]"},
    {"quiesce", "in [schedule]"},
    {"keep", "in [schedule]"},
    {"verified_within", "in [schedule]"},
    {"user", "in [sandbox]"},
    {"seccomp", "in [sandbox]"},
    {"namespaces", "in [sandbox]"},
    {"cpu_percent", "in [limits]"},
    {"threads", "in [limits]"},
};

std::string Hint(std::string_view name, std::span<const std::string_view> known) {
  if (const auto near = NearestWord(name, known)) {
    return fmt::format("did you mean '{}'?", *near);
  }
  for (const Home& home : kHomes) {
    if (home.key == name) {
      return fmt::format("'{}' belongs {}", name, home.place);
    }
  }
  return fmt::format("known here: {}", fmt::join(known, ", "));
}

}  // namespace

ConfigTable::ConfigTable(const ConfigNode& table, std::string path, ParsedConfig* out)
    : table_(table), path_(std::move(path)), out_(*out) {
  out_.places.Set(path_, table_.line);
}

std::string ConfigTable::PathOf(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

void ConfigTable::Problem(std::string_view name, std::string text) {
  std::string key = PathOf(name);
  const int line = out_.places.LineOf(key);
  out_.problems.push_back({.key = std::move(key), .line = line, .text = std::move(text)});
}

void ConfigTable::Missing(std::string_view name, std::string_view example) {
  if (table_.Find(name) == nullptr) {
    Problem(name, fmt::format("'{}' is missing{}: write, for example, {} = {}", name,
                              path_.empty() ? "" : fmt::format(" in {}", path_), name, example));
  }
}

const ConfigNode* ConfigTable::Get(std::string_view name, ConfigNode::Kind kind,
                                   std::string_view example) {
  known_.push_back(name);
  const ConfigNode::Member* member = table_.Find(name);
  if (member == nullptr) {
    return nullptr;
  }
  out_.places.Set(PathOf(name), member->line);
  if (member->value.kind != kind) {
    Problem(name, fmt::format("'{}' is {} and must be {}: write, for example, {}", name,
                              ConfigKindName(member->value.kind), ConfigKindName(kind), example));
    return nullptr;
  }
  return &member->value;
}

std::optional<std::string> ConfigTable::String(std::string_view name) {
  const ConfigNode* node = Get(name, ConfigNode::Kind::kString, fmt::format("{} = \"text\"", name));
  if (node == nullptr) {
    return std::nullopt;
  }
  if (node->text.find('\0') != std::string::npos) {
    Problem(name, fmt::format("'{}' holds a zero byte, which ends a string in the kernel: remove "
                              "it",
                              name));
    return std::nullopt;
  }
  return node->text;
}

std::optional<std::string> ConfigTable::Path(std::string_view name, std::string_view directory) {
  const std::optional<std::string> text = String(name);
  if (!text) {
    return std::nullopt;
  }
  if (text->empty()) {
    Problem(name, fmt::format("'{}' is empty: give a path, relative to this file or absolute; or "
                              "leave the key out",
                              name));
    return std::nullopt;
  }
  if (directory.empty() || text->front() == '/') {
    return text;
  }
  return fmt::format("{}{}{}", directory, directory.back() == '/' ? "" : "/", *text);
}

std::optional<bool> ConfigTable::Boolean(std::string_view name) {
  const ConfigNode* node = Get(name, ConfigNode::Kind::kBoolean, fmt::format("{} = true", name));
  return node == nullptr ? std::nullopt : std::optional<bool>(node->boolean);
}

std::optional<uint32_t> ConfigTable::Number(std::string_view name) {
  const ConfigNode* node = Get(name, ConfigNode::Kind::kInteger, fmt::format("{} = 2", name));
  if (node == nullptr) {
    return std::nullopt;
  }
  if (node->integer < 0 || node->integer > std::numeric_limits<uint32_t>::max()) {
    Problem(name, fmt::format("{} = {} is out of range: give a small positive number", name,
                              node->integer));
    return std::nullopt;
  }
  return static_cast<uint32_t>(node->integer);
}

std::optional<uint64_t> ConfigTable::Size(std::string_view name) {
  const ConfigNode::Member* member = table_.Find(name);
  if (member != nullptr && member->value.kind == ConfigNode::Kind::kInteger) {
    const ConfigNode* node = Get(name, ConfigNode::Kind::kInteger, "");
    if (node->integer < 0) {
      Problem(name, fmt::format("{} = {} is negative: give bytes, or a string such as \"2G\"", name,
                                node->integer));
      return std::nullopt;
    }
    return static_cast<uint64_t>(node->integer);
  }
  const ConfigNode* node = Get(name, ConfigNode::Kind::kString, fmt::format("{} = \"2G\"", name));
  if (node == nullptr) {
    return std::nullopt;
  }
  const std::optional<uint64_t> size_bytes = ParseSize(node->text);
  if (!size_bytes) {
    Problem(name, fmt::format("{} = \"{}\" is no size: give bytes, or a number with K, M, G or T "
                              "(powers of 1024), such as \"512M\" or \"2G\"",
                              name, Printable(node->text)));
  }
  return size_bytes;
}

const ConfigNode* ConfigTable::Table(std::string_view name) {
  return Get(name, ConfigNode::Kind::kTable, fmt::format("[{}]", name));
}

std::span<const ConfigNode> ConfigTable::Tables(std::string_view name) {
  const ConfigNode* list = Get(name, ConfigNode::Kind::kArray, fmt::format("[[{}]]", name));
  if (list == nullptr) {
    return {};
  }
  for (const ConfigNode& element : list->elements) {
    if (element.kind != ConfigNode::Kind::kTable) {
      Problem(name, fmt::format("'{}' lists {}: write a [[{}]] table for each", name,
                                ConfigKindName(element.kind), name));
      return {};
    }
  }
  return list->elements;
}

std::vector<std::optional<std::string>> ConfigTable::Strings(std::string_view name) {
  std::vector<std::optional<std::string>> strings;
  const ConfigNode* list =
      Get(name, ConfigNode::Kind::kArray, fmt::format("{} = [\"text\"]", name));
  if (list == nullptr) {
    return strings;
  }
  for (size_t i = 0; i < list->elements.size(); ++i) {
    const ConfigNode& element = list->elements[i];
    const std::string key = fmt::format("{}[{}]", name, i);
    out_.places.Set(PathOf(key), element.line);
    if (element.kind != ConfigNode::Kind::kString) {
      Problem(key, fmt::format("'{}' is {} and must be a string in quotes", key,
                               ConfigKindName(element.kind)));
      strings.emplace_back();
    } else if (element.text.find('\0') != std::string::npos) {
      Problem(key, fmt::format("'{}' holds a zero byte: remove it", key));
      strings.emplace_back();
    } else {
      strings.emplace_back(element.text);
    }
  }
  return strings;
}

void ConfigTable::NoSuchChoice(std::string_view name, std::string_view value,
                               std::span<const std::string_view> choices) {
  const auto near = NearestWord(value, choices);
  Problem(name, fmt::format("{} = \"{}\" is not known: use \"{}\"{}", name, Printable(value),
                            fmt::join(choices, "\" or \""),
                            near ? fmt::format("; did you mean \"{}\"?", *near) : ""));
}

void ConfigTable::ReportUnknown() {
  for (const ConfigNode::Member& member : table_.members) {
    if (std::find(known_.begin(), known_.end(), member.name) == known_.end()) {
      out_.problems.push_back(
          {.key = PathOf(member.name),
           .line = member.line,
           .text = fmt::format("unknown key '{}'{}: {}", Printable(member.name),
                               path_.empty() ? "" : fmt::format(" in {}", path_),
                               Hint(member.name, known_))});
    }
  }
}

}  // namespace pacsvisor
