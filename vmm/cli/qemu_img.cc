#include "vmm/cli/qemu_img.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "vmm/cli/child_process.h"
#include "vmm/control/untrusted_json.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kAnswerLimitBytes = 1ul << 20;
// Exit statuses of qemu-img check.
constexpr int kSound = 0;
constexpr int kCorruptions = 2;
constexpr int kLeaks = 3;
constexpr int kChecksNotSupported = 63;

Result<ChildOutcome> RunQemuImg(std::vector<std::string> arguments, Interrupts& interrupts,
                                const std::function<void(std::string_view)>& on_output) {
  arguments.insert(arguments.begin(), "qemu-img");
  Result<ChildOutcome> outcome = RunChild(arguments, interrupts, on_output);
  if (!outcome.ok() && outcome.error().code() == ErrorCode::kNotFound) {
    return Error::Make(ErrorCode::kNotFound,
                       "qemu-img is not installed: it comes with the package qemu-utils (Debian, "
                       "Ubuntu), qemu-img (Fedora, RHEL) or qemu-tools (SUSE)");
  }
  return outcome;
}

// Absolute: qemu-img takes what stands before a colon for a protocol.
std::string Plain(const std::string& path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  return error ? path : absolute.string();
}

// Its messages begin with its own name.
std::string Words(const ChildOutcome& outcome) {
  static constexpr std::string_view kName = "qemu-img: ";
  std::string words = outcome.errors;
  if (words.starts_with(kName)) {
    words.erase(0, kName.size());
  }
  return words.empty() ? fmt::format("exit status {}", outcome.status) : words;
}

void AddText(const Json& object, const char* name, std::vector<std::string>* files) {
  if (object.is_object() && object.contains(name) && object[name].is_string()) {
    files->push_back(object[name].get<std::string>());
  }
}

// A backing file, a qcow2's data file, a VMDK's extents.
std::vector<std::string> OtherFiles(const Json& info, const std::string& path) {
  std::vector<std::string> files;
  AddText(info, "backing-filename", &files);
  const Json& specific = info.contains("format-specific") ? info["format-specific"] : Json();
  const Json data = specific.is_object() && specific.contains("data") ? specific["data"] : Json();
  AddText(data, "data-file", &files);
  if (data.is_object() && data.contains("extents") && data["extents"].is_array()) {
    for (const Json& extent : data["extents"]) {
      AddText(extent, "filename", &files);
    }
  }
  std::erase(files, path);
  return files;
}

// "    (45.00/100%)\r" as it comes, in pieces of any size.
class PercentReader {
 public:
  std::optional<double> Take(std::string_view text) {
    std::optional<double> newest;
    for (const char character : text) {
      if (character == '(') {
        number_.clear();
        open_ = true;
      } else if (open_ && character == '/') {
        double percent = 0;
        const char* const end = number_.data() + number_.size();
        if (std::from_chars(number_.data(), end, percent).ptr == end && !number_.empty()) {
          newest = std::clamp(percent, 0.0, 100.0);
        }
        open_ = false;
      } else if (open_ && number_.size() < 16) {
        number_ += character;
      }
    }
    return newest;
  }

 private:
  bool open_ = false;
  std::string number_;
};

}  // namespace

const std::vector<std::string>& QemuImg::Formats() {
  static const std::vector<std::string> formats = {"raw", "qcow2", "vhdx", "vpc", "vmdk", "vdi"};
  return formats;
}

Result<QemuImg::Info> QemuImg::Ask(const std::string& path, const std::string& format) {
  const std::string plain = Plain(path);
  std::string answer;
  const ChildOutcome outcome = TRY(RunQemuImg(
      {"info", "--output=json", "-f", format, plain}, interrupts_, [&](std::string_view text) {
        if (answer.size() <= kAnswerLimitBytes) {
          answer += text;  // one that is too long is refused as such
        }
      }));
  if (outcome.status != 0) {
    return Error::Make(ErrorCode::kInvalidArgument, "'{}' cannot be read as {}: {}", path, format,
                       Words(outcome));
  }
  const Json json = TRY(ParseUntrustedJson(answer, kAnswerLimitBytes));
  if (!json.is_object() || !json.contains("virtual-size") ||
      !json["virtual-size"].is_number_unsigned()) {
    return Error::Make(ErrorCode::kUnsupported, "qemu-img does not tell the size of '{}'", path);
  }
  return Info{.size_bytes = json["virtual-size"].get<uint64_t>(),
              .other_files = OtherFiles(json, plain)};
}

Status QemuImg::ConvertToRaw(const std::string& path, const std::string& format,
                             const std::string& to, uint64_t size_bytes, ProgressBar& progress) {
  PercentReader percents;
  const ChildOutcome outcome = TRY(RunQemuImg(
      {"convert", "-p", "-f", format, "-O", "raw", Plain(path), Plain(to)}, interrupts_,
      [&](std::string_view text) {
        if (const std::optional<double> percent = percents.Take(text)) {
          progress.Show("importing",
                        static_cast<uint64_t>(static_cast<double>(size_bytes) * *percent / 100),
                        size_bytes);
        }
      }));
  progress.Clear();
  if (outcome.status != 0) {
    return Error::Make(ErrorCode::kIo, "qemu-img could not convert '{}': {}", path, Words(outcome));
  }
  return {};
}

Result<std::string> QemuImg::Check(const std::string& path, const std::string& format) {
  std::string answer;
  const ChildOutcome outcome =
      TRY(RunQemuImg({"check", "-f", format, Plain(path)}, interrupts_, [&](std::string_view text) {
        if (answer.size() < kAnswerLimitBytes) {
          answer += text;
        }
      }));
  switch (outcome.status) {
    case kSound:
    case kChecksNotSupported:
      return std::string();
    case kCorruptions:
    case kLeaks:
      return answer.empty() ? Words(outcome) : answer;
    default:
      return Error::Make(ErrorCode::kIo, "qemu-img could not check '{}': {}", path, Words(outcome));
  }
}

}  // namespace pacsvisor
