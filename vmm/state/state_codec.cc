#include "vmm/state/state_codec.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

namespace pacsvisor {
namespace {

using Json = nlohmann::json;

Json ToJson(const StateNode& node) {
  Json object = Json::object();
  for (const auto& [name, field] : node.fields()) {
    if (const auto* number = std::get_if<uint64_t>(&field.value)) {
      object[name] = *number;
    } else if (const auto* text = std::get_if<std::string>(&field.value)) {
      object[name] = *text;
    } else if (const auto* bytes = std::get_if<StateNode::Bytes>(&field.value)) {
      object[name] = Json::binary(*bytes);
    } else {
      const auto& sub = std::get<StateNode::Field::Sub>(field.value);
      if (sub.single) {
        object[name] = ToJson(sub.nodes.front());
      } else {
        Json array = Json::array();
        for (const StateNode& element : sub.nodes) {
          array.push_back(ToJson(element));
        }
        object[name] = std::move(array);
      }
    }
  }
  return object;
}

// Goes through the heads of all items, one behind the other (RFC 8949, 3), and refuses indefinite
// lengths: the library calls itself for each chunk of such a text or byte string, chunks may nest,
// and its consumer hears nothing of it until all have ended.
Status RefuseIndefiniteLengths(std::span<const uint8_t> cbor) {
  constexpr uint8_t kFirstArgumentByte = 24;  // one byte follows; 25 to 27: two, four, eight
  constexpr uint8_t kLastArgumentByte = 27;
  constexpr uint8_t kByteString = 2;
  constexpr uint8_t kText = 3;
  while (!cbor.empty()) {
    const uint8_t major = cbor[0] >> 5;
    const uint8_t info = cbor[0] & 0x1f;
    cbor = cbor.subspan(1);
    if (info > kLastArgumentByte) {
      return Error::Make(ErrorCode::kCorrupt, "saved state holds a length without end");
    }
    uint64_t argument = info;
    if (info >= kFirstArgumentByte) {
      const size_t bytes = std::min(size_t{1} << (info - kFirstArgumentByte), cbor.size());
      argument = 0;
      for (size_t i = 0; i < bytes; ++i) {
        argument = argument << 8 | cbor[i];
      }
      cbor = cbor.subspan(bytes);
    }
    if (major == kByteString || major == kText) {
      cbor = cbor.subspan(std::min<uint64_t>(argument, cbor.size()));
    }
  }
  return {};
}

// The library's parser recurses as deep as arrays and maps nest; this consumer stops it by
// returning false at the first level too many.
class Decoder : public nlohmann::json_sax<Json> {
 public:
  StateNode TakeRoot() { return std::move(root_); }
  const std::string& problem() const { return problem_; }

  bool null() override { return Refuse("a null"); }
  bool boolean(bool) override { return Refuse("a boolean"); }
  bool number_integer(number_integer_t) override { return Refuse("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return Refuse("a fraction"); }
  bool number_unsigned(number_unsigned_t value) override { return SetLeaf(value); }
  bool string(string_t& value) override { return SetLeaf(std::move(value)); }
  bool binary(binary_t& value) override {
    return SetLeaf(StateNode::Bytes(value.begin(), value.end()));
  }

  bool start_object(size_t) override {
    if (open_.size() >= kStateDepthLimit || !CountField()) {
      return Refuse("more nesting or more fields than the limit");
    }
    if (open_.empty()) {
      if (finished_) {
        return Refuse("a second root");
      }
      open_.push_back({.node = &root_});
      return true;
    }
    Level& level = open_.back();
    if (level.list != nullptr) {
      StateNode* element = &level.list->emplace_back();
      open_.push_back({.node = element});
      return true;
    }
    StateNode::Field::Sub* sub = OpenSub(level);
    if (sub == nullptr) {
      return false;
    }
    sub->single = true;
    open_.push_back({.node = &sub->nodes.emplace_back()});
    return true;
  }

  bool key(string_t& name) override {
    Level& level = open_.back();
    if (level.node->fields().contains(name)) {
      return Refuse("the name '" + name + "' twice");
    }
    if (!CountField()) {
      return Refuse("more fields than the limit");
    }
    level.key = std::move(name);
    return true;
  }

  bool end_object() override { return Close(); }

  bool start_array(size_t) override {
    if (open_.empty() || open_.back().list != nullptr || open_.size() >= kStateDepthLimit) {
      return Refuse("a list where none can be");
    }
    StateNode::Field::Sub* sub = OpenSub(open_.back());
    if (sub == nullptr) {
      return false;
    }
    open_.push_back({.list = &sub->nodes});
    return true;
  }

  bool end_array() override { return Close(); }

  bool parse_error(size_t position, const std::string&, const Json::exception& error) override {
    if (problem_.empty()) {
      problem_ = fmt::format("{} at byte {}", error.what(), position);
    }
    return false;
  }

 private:
  struct Level {
    StateNode* node = nullptr;        // a component ...
    StateNode::List* list = nullptr;  // ... or a list; pointers stay valid: a parent is not changed
                                      // while a child of it is open
    std::string key = {};
  };

  bool Refuse(std::string what) {
    problem_ = "it holds " + std::move(what);
    return false;
  }

  bool CountField() { return ++field_count_ <= kStateFieldLimit; }

  StateNode::Field::Sub* OpenSub(Level& level) {
    auto& field = level.node->mutable_fields()[level.key];
    return &field.value.emplace<StateNode::Field::Sub>();
  }

  template <typename Value>
  bool SetLeaf(Value value) {
    if (open_.empty() || open_.back().node == nullptr) {
      return Refuse("a value outside a component");
    }
    open_.back().node->mutable_fields()[open_.back().key].value = std::move(value);
    return true;
  }

  bool Close() {
    open_.pop_back();
    finished_ = open_.empty();
    return true;
  }

  StateNode root_;
  std::vector<Level> open_;
  bool finished_ = false;
  size_t field_count_ = 0;
  std::string problem_;
};

}  // namespace

std::vector<uint8_t> EncodeState(const StateNode& node) { return Json::to_cbor(ToJson(node)); }

Result<StateNode> DecodeState(std::span<const uint8_t> cbor) {
  if (cbor.size() > kStateSizeLimitBytes) {
    return Error::Make(ErrorCode::kCorrupt, "saved state of {} bytes: more than {} is refused",
                       cbor.size(), kStateSizeLimitBytes);
  }
  TRY(RefuseIndefiniteLengths(cbor));
  Decoder decoder;
  bool whole = false;
  try {
    whole = Json::sax_parse(cbor.begin(), cbor.end(), &decoder, Json::input_format_t::cbor);
  } catch (const std::exception& error) {
    return Error::Make(ErrorCode::kCorrupt, "saved state cannot be read: {}", error.what());
  }
  if (!whole) {
    return Error::Make(ErrorCode::kCorrupt, "saved state cannot be read: {}", decoder.problem());
  }
  return decoder.TakeRoot();
}

}  // namespace pacsvisor
