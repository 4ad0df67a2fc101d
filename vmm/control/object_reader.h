// A JSON object from outside, read member by member: the first that is missing or of a wrong type
// is the problem, and what is read after it has no effect. Threads: one.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace pacsvisor {

class ObjectReader {
 public:
  explicit ObjectReader(const nlohmann::json& object);

  std::string Text(const char* name);
  uint64_t Number(const char* name, uint64_t limit);
  bool Boolean(const char* name);
  const nlohmann::json& List(const char* name);
  const nlohmann::json& Object(const char* name);
  bool Has(const char* name) const;
  // A member of another name is a problem.
  void RefuseOthers(std::initializer_list<std::string_view> known);

  void Fail(std::string problem);
  const std::string& problem() const { return problem_; }  // "has no 'x'"; empty: none

 private:
  const nlohmann::json* Find(const char* name);
  bool Expect(bool holds, const char* name);

  const nlohmann::json& object_;
  std::string problem_;
};

// On one line. Paths are bytes, JSON is Unicode: what is no UTF-8 is shown by U+FFFD.
std::string DumpJson(const nlohmann::json& json);

}  // namespace pacsvisor
