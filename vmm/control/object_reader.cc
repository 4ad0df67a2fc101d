#include "vmm/control/object_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace pacsvisor {

using Json = nlohmann::json;

ObjectReader::ObjectReader(const Json& object) : object_(object) {
  if (!object.is_object()) {
    problem_ = "is no object";
  }
}

std::string ObjectReader::Text(const char* name) {
  const Json* member = Find(name);
  return member != nullptr && Expect(member->is_string(), name) ? member->get<std::string>() : "";
}

uint64_t ObjectReader::Number(const char* name, uint64_t limit) {
  const Json* member = Find(name);
  if (member == nullptr ||
      !Expect(member->is_number_unsigned() && member->get<uint64_t>() <= limit, name)) {
    return 0;
  }
  return member->get<uint64_t>();
}

bool ObjectReader::Boolean(const char* name) {
  const Json* member = Find(name);
  return member != nullptr && Expect(member->is_boolean(), name) && member->get<bool>();
}

const Json& ObjectReader::List(const char* name) {
  static const Json kEmpty = Json::array();
  const Json* member = Find(name);
  return member != nullptr && Expect(member->is_array(), name) ? *member : kEmpty;
}

const Json& ObjectReader::Object(const char* name) {
  static const Json kEmpty = Json::object();
  const Json* member = Find(name);
  return member != nullptr && Expect(member->is_object(), name) ? *member : kEmpty;
}

bool ObjectReader::Has(const char* name) const {
  return object_.is_object() && object_.contains(name);
}

void ObjectReader::RefuseOthers(std::initializer_list<std::string_view> known) {
  if (!object_.is_object()) {
    return;
  }
  for (const auto& [name, value] : object_.items()) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      Fail("has the unknown member '" + name.substr(0, 64) + "'");
    }
  }
}

void ObjectReader::Fail(std::string problem) {
  if (problem_.empty()) {
    problem_ = std::move(problem);
  }
}

const Json* ObjectReader::Find(const char* name) {
  if (!Has(name)) {
    Fail(fmt::format("has no '{}'", name));
    return nullptr;
  }
  return &object_[name];
}

bool ObjectReader::Expect(bool holds, const char* name) {
  if (!holds) {
    Fail(fmt::format("has a '{}' of a wrong type or out of range", name));
  }
  return holds;
}

std::string DumpJson(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace pacsvisor
