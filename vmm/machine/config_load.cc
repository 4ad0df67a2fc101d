#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>

#include "vmm/base/unique_fd.h"
#include "vmm/machine/config.h"

namespace pacsvisor {
namespace {

// At most one byte more than the limit, by which the parser knows it.
Result<std::string> ReadConfigFile(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) {
    return Error::FromErrno(
        errno, "cannot open the configuration '{}' (give the path of a VM.toml)", path);
  }
  struct stat status;
  if (fstat(fd.get(), &status) == 0 && S_ISDIR(status.st_mode)) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "'{}' is a directory: give the path of the VM.toml in it", path);
  }
  std::string text(kConfigSizeLimitBytes + 1, '\0');
  size_t length = 0;
  while (length < text.size()) {
    const ssize_t count = read(fd.get(), text.data() + length, text.size() - length);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return Error::FromErrno(errno, "cannot read the configuration '{}'", path);
    }
    if (count == 0) {
      break;
    }
    length += static_cast<size_t>(count);
  }
  text.resize(length);
  return text;
}

// Leaves out what follows from a problem that is known: the later checks see defaults in place of
// what could not be read.
void Append(std::vector<ConfigProblem> more, std::vector<ConfigProblem>* problems) {
  const std::vector<ConfigProblem> known = *problems;
  const auto follows = [&](const ConfigProblem& problem) {
    return std::any_of(known.begin(), known.end(), [&](const ConfigProblem& cause) {
      return problem.key == cause.key || problem.key.starts_with(cause.key + ".") ||
             problem.key.starts_with(cause.key + "[");
    });
  };
  std::remove_copy_if(std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()),
                      std::back_inserter(*problems), follows);
}

Error Report(const std::string& path, std::vector<ConfigProblem> problems) {
  std::stable_sort(problems.begin(), problems.end(),
                   [](const ConfigProblem& a, const ConfigProblem& b) { return a.line < b.line; });
  std::string report;
  for (const ConfigProblem& problem : problems) {
    report += report.empty() ? "" : "\n";
    report += problem.line == 0 ? fmt::format("{}: {}", path, problem.text)
                                : fmt::format("{}:{}: {}", path, problem.line, problem.text);
  }
  return Error::Make(ErrorCode::kInvalidArgument, "{}", report);
}

}  // namespace

Result<MachineConfig> LoadConfig(const std::string& path) {
  const std::string text = TRY(ReadConfigFile(path));
  ParsedConfig parsed = ParseConfigText(text, std::filesystem::path(path).parent_path().string());
  if (parsed.is_toml) {
    Append(ValidateConfig(parsed.config, parsed.places), &parsed.problems);
    Append(CheckConfigAgainstHost(parsed.config, parsed.places, HostLimits::OfThisHost()),
           &parsed.problems);
  }
  if (!parsed.problems.empty()) {
    return Report(path, std::move(parsed.problems));
  }
  parsed.config.source_text = text;
  std::error_code error;
  parsed.config.source_directory =
      std::filesystem::absolute(std::filesystem::path(path), error).parent_path().string();
  return std::move(parsed.config);
}

}  // namespace pacsvisor
