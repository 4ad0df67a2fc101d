#include "vmm/control/untrusted_json.h"

#include <nlohmann/json.hpp>

#include <string>
#include <utility>
#include <vector>

namespace pacsvisor {
namespace {

using Json = nlohmann::json;

// Builds the document; returns false, which ends the parse, at the first thing it refuses.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Json TakeRoot() { return std::move(root_); }
  const std::string& problem() const { return problem_; }

  bool null() override { return Leaf(nullptr); }
  bool boolean(bool value) override { return Leaf(value); }
  bool number_integer(number_integer_t value) override { return Leaf(value); }
  bool number_unsigned(number_unsigned_t value) override { return Leaf(value); }
  bool number_float(number_float_t value, const string_t&) override { return Leaf(value); }
  bool string(string_t& value) override { return Leaf(std::move(value)); }
  bool binary(binary_t&) override { return Refuse("holds bytes"); }  // not in text

  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    if (open_.back()->contains(name)) {
      return Refuse("has the name '" + name.substr(0, 64) + "' twice");
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const Json::exception&) override {
    return Refuse("ends or goes wrong at byte " + std::to_string(position));
  }

 private:
  bool Refuse(std::string what) {
    problem_ = std::move(what);
    return false;
  }

  // Where the next value goes. Pointers in open_ stay valid: a parent does not grow while a child
  // of it is open.
  Json* Place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }

  template <typename Value>
  bool Leaf(Value value) {
    Place(Json(std::move(value)));
    return true;
  }

  bool Open(Json container) {
    if (open_.size() >= kJsonDepthLimit) {
      return Refuse("nests deeper than " + std::to_string(kJsonDepthLimit) + " levels");
    }
    open_.push_back(Place(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Json*> open_;
  std::string key_;
  std::string problem_;
};

}  // namespace

Result<Json> ParseUntrustedJson(std::string_view text, size_t size_limit_bytes) {
  if (text.size() > size_limit_bytes) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "the JSON text has {} bytes: at most {} are read", text.size(),
                       size_limit_bytes);
  }
  Builder builder;
  bool whole = false;
  try {
    whole = Json::sax_parse(text.begin(), text.end(), &builder);
  } catch (const std::exception& error) {
    return Error::Make(ErrorCode::kInvalidArgument, "the JSON text cannot be read: {}",
                       error.what());
  }
  if (!whole) {
    return Error::Make(ErrorCode::kInvalidArgument, "the JSON text {}", builder.problem());
  }
  return builder.TakeRoot();
}

}  // namespace pacsvisor
