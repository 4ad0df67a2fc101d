// Saved state as somebody else may have written it: a snapshot is the guest's.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tests/support/fuzz_input.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// Changes up to three fields of the tree: a number to any other, bytes and texts in place and in
// length, lists in length; or takes a field away. Returns how many were changed.
class StateMutation {
 public:
  static unsigned Apply(StateNode& root, FuzzInput& input) {
    const unsigned changes = input.Take<uint8_t>() % 4;
    for (unsigned i = 0; i < changes; ++i) {
      std::vector<Place> places;
      Collect(root, places);
      if (!places.empty()) {
        const auto [node, name] = places[input.Take<uint16_t>() % places.size()];
        Change(*node, name, input);
      }
    }
    return changes;
  }

 private:
  using Place = std::pair<StateNode*, std::string>;
  using Field = StateNode::Field;

  static void Collect(StateNode& node, std::vector<Place>& places) {
    for (auto& [name, field] : node.mutable_fields()) {
      places.emplace_back(&node, name);
      if (auto* sub = std::get_if<Field::Sub>(&field.value)) {
        for (StateNode& child : sub->nodes) {
          Collect(child, places);
        }
      }
    }
  }

  static void Change(StateNode& node, const std::string& name, FuzzInput& input) {
    const auto how = input.Take<uint8_t>();
    if (how == 0xff) {
      node.mutable_fields().erase(name);
      return;
    }
    auto& value = node.mutable_fields().find(name)->second.value;
    if (auto* number = std::get_if<uint64_t>(&value)) {
      *number = NewNumber(*number, how, input);
    } else if (auto* bytes = std::get_if<StateNode::Bytes>(&value)) {
      ChangeBytes(*bytes, how, input);
    } else if (auto* text = std::get_if<std::string>(&value)) {
      ChangeBytes(*text, how, input);
    } else {
      ChangeList(std::get<Field::Sub>(value), how);
    }
  }

  static uint64_t NewNumber(uint64_t old, uint8_t how, FuzzInput& input) {
    switch (how % 6) {
      case 0:
        return input.Take<uint8_t>();
      case 1:
        return input.Take<uint16_t>();
      case 2:
        return input.Take<uint64_t>();
      case 3:
        return old + 1;
      case 4:
        return old - 1;
      default:
        return old ^ uint64_t { 1 } << (input.Take<uint8_t>() % 64);
    }
  }

  template <typename Sequence>
  static void ChangeBytes(Sequence& bytes, uint8_t how, FuzzInput& input) {
    const size_t at = bytes.empty() ? 0 : input.Take<uint16_t>() % bytes.size();
    using Element = typename Sequence::value_type;
    if (how % 4 == 0) {
      bytes.resize(at);
    } else if (how % 4 == 1) {
      bytes.insert(bytes.end(), 1 + how / 4, Element{});
    } else if (!bytes.empty()) {
      const std::span<const uint8_t> changed = input.TakeBytes(std::min<size_t>(8, how / 4 + 1));
      for (size_t i = 0; i < changed.size() && at + i < bytes.size(); ++i) {
        bytes[at + i] = static_cast<Element>(changed[i]);
      }
    }
  }

  // A single child stays one; a list loses or repeats its last element.
  static void ChangeList(Field::Sub& sub, uint8_t how) {
    if (sub.single || sub.nodes.empty()) {
      return;
    }
    if (how % 2 == 0) {
      sub.nodes.pop_back();
    } else {
      sub.nodes.push_back(StateNode(sub.nodes.back()));
    }
  }
};

}  // namespace pacsvisor
