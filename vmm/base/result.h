// Errors as values. What the host or a user's input makes fail travels as Result<T> up to whoever
// can tell the user; the message says what failed, why, and what to do about it.
#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

#include "vmm/base/check.h"

namespace pacsvisor {

enum class ErrorCode {
  kInvalidArgument,   // the caller's or the user's input is wrong
  kNotFound,          // a named thing is not there
  kPermissionDenied,  // the host refuses this user
  kBusy,              // held by somebody else
  kUnsupported,       // this host, kernel or version cannot do it
  kCorrupt,           // bytes that fail their check
  kNoSpace,           // disk, memory or quota is exhausted
  kIo,                // the host's I/O failed
  kTimeout,           // not within the time given
  kCancelled,         // asked to stop
};

std::string_view ErrorCodeName(ErrorCode code);

class [[nodiscard]] Error {
 public:
  template <typename... Args>
  static Error Make(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
    return Error(code, 0, fmt::format(format, std::forward<Args>(args)...));
  }
  // From errno of a failed system call: "WHAT: strerror"; the code is derived from `error_number`.
  template <typename... Args>
  static Error FromErrno(int error_number, fmt::format_string<Args...> format, Args&&... args) {
    return FromErrnoText(error_number, fmt::format(format, std::forward<Args>(args)...));
  }

  // The same error, its message preceded by "context: ".
  Error WithContext(std::string_view context) &&;

  ErrorCode code() const { return code_; }
  int error_number() const { return error_number_; }  // 0 when no system call failed
  const std::string& message() const { return message_; }

 private:
  Error(ErrorCode code, int error_number, std::string message)
      : code_(code), error_number_(error_number), message_(std::move(message)) {}
  static Error FromErrnoText(int error_number, std::string what);

  ErrorCode code_;
  int error_number_;
  std::string message_;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : inner_(std::move(value)) {}
  Result(Error error) : inner_(tl::unexpected<Error>(std::move(error))) {}

  bool ok() const { return inner_.has_value(); }
  T& value() & { return Checked(), *inner_; }
  const T& value() const& { return Checked(), *inner_; }
  T&& value() && { return Checked(), *std::move(inner_); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  Error& error() & { return inner_.error(); }
  const Error& error() const& { return inner_.error(); }
  Error&& error() && { return std::move(inner_).error(); }

 private:
  void Checked() const { CHECK(inner_.has_value(), "{}", inner_.error().message()); }

  tl::expected<T, Error> inner_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() = default;
  Result(Error error) : inner_(tl::unexpected<Error>(std::move(error))) {}

  bool ok() const { return inner_.has_value(); }
  void value() const { CHECK(inner_.has_value(), "{}", inner_.error().message()); }
  Error& error() & { return inner_.error(); }
  const Error& error() const& { return inner_.error(); }
  Error&& error() && { return std::move(inner_).error(); }

 private:
  tl::expected<void, Error> inner_;
};

using Status = Result<void>;

}  // namespace pacsvisor

// TRY(expression): the value of a Result, or return its error from the calling function.
#define TRY(expression)                      \
  ({                                         \
    auto&& try_result_ = (expression);       \
    if (!try_result_.ok()) [[unlikely]] {    \
      return std::move(try_result_).error(); \
    }                                        \
    std::move(try_result_).value();          \
  })
