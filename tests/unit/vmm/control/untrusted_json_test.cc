#include "vmm/control/untrusted_json.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <string>

namespace pacsvisor {
namespace {

using testing::HasSubstr;

constexpr size_t kLimit = 1 << 20;

std::string Repeat(const std::string& text, size_t count) {
  std::string all;
  for (size_t i = 0; i < count; ++i) {
    all += text;
  }
  return all;
}

std::string Refusal(const std::string& text) {
  const Result<nlohmann::json> json = ParseUntrustedJson(text, kLimit);
  return json.ok() ? "(no error)" : json.error().message();
}

TEST(UntrustedJson, ReadsWhatTheLibraryReads) {
  for (const char* text :
       {"null", "true", "-1", "18446744073709551615", "1.5", "\"x\"", "[]", "{}", "[1,[2,{}],[]]",
        R"({"a":{"b":[{"c":null},{"c":"\u00e9"}]},"d":[],"":0})"}) {
    const Result<nlohmann::json> json = ParseUntrustedJson(text, kLimit);
    ASSERT_TRUE(json.ok()) << text;
    EXPECT_EQ(*json, nlohmann::json::parse(text)) << text;
  }
}

TEST(UntrustedJson, RefusesANameTwice) {
  EXPECT_THAT(Refusal(R"({"a":1,"b":2,"a":3})"), HasSubstr("the name 'a' twice"));
  EXPECT_THAT(Refusal(R"([{"a":{"x":1,"x":1}}])"), HasSubstr("twice"));
  EXPECT_THAT(Refusal(R"({"a":1,"\u0061":1})"), HasSubstr("twice"));
  EXPECT_EQ(Refusal(R"([{"a":1},{"a":1}])"), "(no error)");
}

TEST(UntrustedJson, RefusesTheLevelAfterTheLast) {
  EXPECT_EQ(Refusal(Repeat("[", kJsonDepthLimit) + Repeat("]", kJsonDepthLimit)), "(no error)");
  EXPECT_THAT(Refusal(Repeat("[", kJsonDepthLimit + 1) + Repeat("]", kJsonDepthLimit + 1)),
              HasSubstr("deeper"));
  EXPECT_THAT(Refusal(Repeat("{\"a\":", 100'000)), HasSubstr("deeper"));
  EXPECT_THAT(Refusal(Repeat("[", 1'000'000)), HasSubstr("deeper"));
}

TEST(UntrustedJson, RefusesMoreThanItsLimit) {
  EXPECT_TRUE(ParseUntrustedJson("[1]", 3).ok());
  EXPECT_FALSE(ParseUntrustedJson("[1]", 2).ok());
}

TEST(UntrustedJson, RefusesWhatIsNoJson) {
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\"}", "{}x", "nul", "'a'", "\"\xff\"",
                           "1e999", "\"\\ud800\"", "[1 2]", "\xef\xbb"}) {
    EXPECT_NE(Refusal(text), "(no error)") << text;
  }
}

}  // namespace
}  // namespace pacsvisor
