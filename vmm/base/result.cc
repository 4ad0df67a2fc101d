#include "vmm/base/result.h"

#include <cerrno>
#include <cstring>

namespace pacsvisor {
namespace {

ErrorCode CodeOf(int error_number) {
  switch (error_number) {
    case EACCES:
    case EPERM:
      return ErrorCode::kPermissionDenied;
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return ErrorCode::kNotFound;
    case EBUSY:
    case EAGAIN:
    case EADDRINUSE:
    case ETXTBSY:
      return ErrorCode::kBusy;
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EFBIG:
      return ErrorCode::kNoSpace;
    case ENOSYS:
    case EOPNOTSUPP:
    case ENOTTY:
      return ErrorCode::kUnsupported;
    case EINVAL:
    case EISDIR:
    case ENOTDIR:
    case ENAMETOOLONG:
      return ErrorCode::kInvalidArgument;
    case ETIMEDOUT:
      return ErrorCode::kTimeout;
    case ECANCELED:
    case EINTR:
      return ErrorCode::kCancelled;
    default:
      return ErrorCode::kIo;
  }
}

}  // namespace

std::string_view ErrorCodeName(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid argument";
    case ErrorCode::kNotFound:
      return "not found";
    case ErrorCode::kPermissionDenied:
      return "permission denied";
    case ErrorCode::kBusy:
      return "busy";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kCorrupt:
      return "corrupt";
    case ErrorCode::kNoSpace:
      return "no space";
    case ErrorCode::kIo:
      return "input/output";
    case ErrorCode::kTimeout:
      return "timeout";
    case ErrorCode::kCancelled:
      return "cancelled";
  }
  CHECK(false, "error code {}", static_cast<int>(code));
  return {};  // not reached; g++ does not see it under the thread sanitizer
}

Error Error::WithContext(std::string_view context) && {
  return Error(code_, error_number_, fmt::format("{}: {}", context, message_));
}

Error Error::FromErrnoText(int error_number, std::string what) {
  char buffer[128];
  return Error(CodeOf(error_number), error_number,
               fmt::format("{}: {}", what, strerror_r(error_number, buffer, sizeof(buffer))));
}

}  // namespace pacsvisor
