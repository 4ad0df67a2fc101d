#include "vmm/state/state_node.h"

#include <utility>

namespace pacsvisor {
namespace {

Error WrongKind(std::string_view name, std::string_view wanted) {
  return Error::Make(ErrorCode::kCorrupt, "saved state: field '{}' is not {}", name, wanted);
}

}  // namespace

StateNode::Field& StateNode::NewField(std::string_view name) {
  const auto [position, inserted] = fields_.try_emplace(std::string(name));
  CHECK(inserted, "state field '{}' set twice", name);
  return position->second;
}

void StateNode::SetU64(std::string_view name, uint64_t value) { NewField(name).value = value; }

void StateNode::SetString(std::string_view name, std::string value) {
  NewField(name).value = std::move(value);
}

void StateNode::SetBytes(std::string_view name, std::span<const uint8_t> bytes) {
  NewField(name).value = Bytes(bytes.begin(), bytes.end());
}

StateNode& StateNode::AddChild(std::string_view name) {
  auto& sub = NewField(name).value.emplace<Field::Sub>();
  sub.single = true;
  return sub.nodes.emplace_back();
}

StateNode& StateNode::AppendTo(std::string_view name) {
  const auto [position, inserted] = fields_.try_emplace(std::string(name));
  if (inserted) {
    position->second.value.emplace<Field::Sub>();
  }
  auto* sub = std::get_if<Field::Sub>(&position->second.value);
  CHECK(sub != nullptr && !sub->single, "state field '{}' is not a list", name);
  return sub->nodes.emplace_back();
}

Result<const StateNode::Field*> StateNode::Find(std::string_view name) const {
  const auto found = fields_.find(name);
  if (found == fields_.end()) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: field '{}' is missing", name);
  }
  return &found->second;
}

Result<uint32_t> StateNode::Version(uint32_t newest) const {
  const uint64_t version = TRY(U64("version"));
  if (version == 0 || version > newest) {
    return Error::Make(ErrorCode::kUnsupported,
                       "saved state has version {}; this pacsvisor reads 1 to {}: use a newer one",
                       version, newest);
  }
  return static_cast<uint32_t>(version);
}

Result<uint64_t> StateNode::U64(std::string_view name, uint64_t maximum) const {
  const Field* field = TRY(Find(name));
  const auto* value = std::get_if<uint64_t>(&field->value);
  if (value == nullptr) {
    return WrongKind(name, "a number");
  }
  if (*value > maximum) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: field '{}' is {}, at most {} is possible",
                       name, *value, maximum);
  }
  return *value;
}

Result<std::string> StateNode::String(std::string_view name) const {
  const Field* field = TRY(Find(name));
  const auto* value = std::get_if<std::string>(&field->value);
  if (value == nullptr) {
    return WrongKind(name, "a text");
  }
  return *value;
}

Result<std::span<const uint8_t>> StateNode::BytesOf(std::string_view name) const {
  const Field* field = TRY(Find(name));
  const auto* value = std::get_if<Bytes>(&field->value);
  if (value == nullptr) {
    return WrongKind(name, "a byte string");
  }
  return std::span<const uint8_t>(*value);
}

Result<std::span<const uint8_t>> StateNode::BytesOf(std::string_view name,
                                                    size_t size_bytes) const {
  const std::span<const uint8_t> bytes = TRY(BytesOf(name));
  if (bytes.size() != size_bytes) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: field '{}' has {} bytes, not {}", name,
                       bytes.size(), size_bytes);
  }
  return bytes;
}

Result<const StateNode*> StateNode::Child(std::string_view name) const {
  const Field* field = TRY(Find(name));
  const auto* sub = std::get_if<Field::Sub>(&field->value);
  if (sub == nullptr || !sub->single) {
    return WrongKind(name, "a component");
  }
  return &sub->nodes.front();
}

Result<std::span<const StateNode>> StateNode::Children(std::string_view name) const {
  if (!Has(name)) {
    return std::span<const StateNode>();
  }
  const Field* field = TRY(Find(name));
  const auto* sub = std::get_if<Field::Sub>(&field->value);
  if (sub == nullptr || sub->single) {
    return WrongKind(name, "a list of components");
  }
  return std::span<const StateNode>(sub->nodes);
}

}  // namespace pacsvisor
