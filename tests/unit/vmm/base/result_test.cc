#include "vmm/base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>

namespace pacsvisor {
namespace {

Result<int> Half(int value) {
  if (value % 2 != 0) {
    return Error::Make(ErrorCode::kInvalidArgument, "{} is odd", value);
  }
  return value / 2;
}

Result<int> Quarter(int value) {
  const int half = TRY(Half(value));
  return TRY(Half(half));
}

Status CheckQuarter(int value) {
  TRY(Quarter(value));
  return {};
}

Result<std::unique_ptr<int>> Boxed(int value) {
  auto box = std::make_unique<int>(TRY(Half(value)));
  return box;
}

TEST(ResultTest, TryHandsOnTheValue) { EXPECT_EQ(*Quarter(12), 3); }

TEST(ResultTest, TryReturnsTheFirstError) {
  const Result<int> result = Quarter(6);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(result.error().message(), "3 is odd");
}

TEST(ResultTest, TryWorksWithoutAValue) {
  EXPECT_TRUE(CheckQuarter(8).ok());
  EXPECT_FALSE(CheckQuarter(7).ok());
}

TEST(ResultTest, CarriesWhatCanOnlyBeMoved) {
  const std::unique_ptr<int> box = Boxed(8).value();
  EXPECT_EQ(*box, 4);
}

TEST(ResultTest, ContextComesFirst) {
  const Error error = Error::Make(ErrorCode::kIo, "no answer").WithContext("disk 'a'");
  EXPECT_EQ(error.message(), "disk 'a': no answer");
  EXPECT_EQ(error.code(), ErrorCode::kIo);
}

TEST(ResultTest, ErrnoBecomesACodeAndWords) {
  const Error error = Error::FromErrno(ENOENT, "cannot open {}", "x");
  EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  EXPECT_EQ(error.error_number(), ENOENT);
  EXPECT_EQ(error.message(), "cannot open x: No such file or directory");
}

TEST(ResultTest, EachErrnoHasTheCodeThatTellsWhatToDo) {
  const std::pair<int, ErrorCode> cases[] = {{EACCES, ErrorCode::kPermissionDenied},
                                             {EBUSY, ErrorCode::kBusy},
                                             {ENOSPC, ErrorCode::kNoSpace},
                                             {ENOMEM, ErrorCode::kNoSpace},
                                             {ENOSYS, ErrorCode::kUnsupported},
                                             {EINVAL, ErrorCode::kInvalidArgument},
                                             {ETIMEDOUT, ErrorCode::kTimeout},
                                             {EINTR, ErrorCode::kCancelled},
                                             {EIO, ErrorCode::kIo},
                                             {9999, ErrorCode::kIo}};
  for (const auto& [number, code] : cases) {
    EXPECT_EQ(Error::FromErrno(number, "x").code(), code) << number;
  }
}

TEST(ResultDeathTest, TakingTheValueOfAnErrorIsABug) { EXPECT_DEATH(Half(1).value(), "1 is odd"); }

TEST(CheckDeathTest, SaysWhereAndWithWhatValues) {
  const int value = 7;
  EXPECT_DEATH(CHECK(value == 8, "value {}", value), "pacsvisor bug: .*value == 8.*value 7");
}

}  // namespace
}  // namespace pacsvisor
