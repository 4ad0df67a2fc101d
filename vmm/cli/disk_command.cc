// pacsvisor disk: images that machines use as disks.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmm/cli/byte_count.h"
#include "vmm/cli/command.h"
#include "vmm/cli/disk_facts.h"
#include "vmm/cli/interrupts.h"
#include "vmm/cli/new_disk_file.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/cli/qemu_img.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/control/object_reader.h"
#include "vmm/machine/config_text.h"

namespace pacsvisor {
namespace {

using Json = nlohmann::json;
using Existing = NewDiskFile::Existing;

constexpr uint64_t kDiskSectorBytes = 512;

constexpr char kDiskFooter[] = R"(Examples:
  pacsvisor disk create data.raw 500G
  pacsvisor disk import old-server.vhdx root.raw
  pacsvisor disk info root.raw
  pacsvisor disk check root.raw)";
constexpr char kCreateFooter[] =
    R"(The file is sparse: it takes room on the host as the guest writes. Only its owner may read it.

Examples:
  pacsvisor disk create data.raw 500G
  pacsvisor disk create --force scratch.raw 20G)";
constexpr char kImportFooter[] =
    R"(Reads qcow2, VHDX, VHD, VMDK, VDI and raw images through qemu-img and writes a raw one, sparse
where the disk holds zeroes. The format is told by the image's first bytes; --format is needed for
an image whose guest could have written these (a raw one that looks like another), and for a VHD of
fixed size, which has no mark there. TO appears when it is whole: a full disk or Ctrl-C leaves
nothing.

Examples:
  pacsvisor disk import old-server.vhdx root.raw
  pacsvisor disk import --format vpc fixed.vhd root.raw)";
constexpr char kInfoFooter[] = R"(Examples:
  pacsvisor disk info root.raw
  pacsvisor disk info --json root.raw | jq .size_bytes)";
constexpr char kCheckFooter[] =
    R"(Changes nothing. A raw image is checked for its size, one of another program by qemu-img. What the
guest keeps in it is not looked at: fsck in the guest does that.

Exit status: 0 nothing is wrong; 1 something is.

Examples:
  pacsvisor disk check root.raw
  pacsvisor disk check old-server.qcow2)";

struct DiskOptions {
  std::string path;
  std::string from;
  std::string size;
  std::string format;
  bool force = false;
  bool follow = false;
  bool json = false;
};

Existing ExistingOf(const DiskOptions& options) {
  return options.force ? Existing::kReplace : Existing::kRefuse;
}

Result<uint64_t> DiskSize(const std::string& text) {
  const std::optional<uint64_t> size_bytes = ParseSize(text);
  if (!size_bytes || *size_bytes == 0 || *size_bytes % kDiskSectorBytes != 0 ||
      *size_bytes > INT64_MAX) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "\"{}\" is no size of a disk: give a number with K, M, G or T (powers of "
                       "1024), such as 500G; in bytes a multiple of {}",
                       Printable(text), kDiskSectorBytes);
  }
  return *size_bytes;
}

Status Create(const DiskOptions& options) {
  const uint64_t size_bytes = TRY(DiskSize(options.size));
  NewDiskFile file = TRY(NewDiskFile::Create(options.path, ExistingOf(options)));
  if (ftruncate(file.fd(), static_cast<off_t>(size_bytes)) != 0) {
    return Error::FromErrno(errno, "cannot make '{}' as large as {}", options.path,
                            FormatSize(size_bytes));
  }
  return file.Finish();
}

Result<std::string> FormatOf(const DiskFacts& facts, const DiskOptions& options) {
  if (!options.format.empty()) {
    return options.format;
  }
  if (facts.foreign && facts.foreign->format.empty()) {
    return Error::Make(ErrorCode::kUnsupported, "'{}' is {}: unpack it first, with {}",
                       options.from, facts.foreign->name,
                       UnpackCommand(*facts.foreign, options.from));
  }
  return std::string(facts.foreign ? facts.foreign->format : "raw");
}

// An image is input: one that names files of the host must not carry these into a guest unasked.
Status CheckOtherFiles(const QemuImg::Info& info, const DiskOptions& options) {
  if (info.other_files.empty() || options.follow) {
    return {};
  }
  std::string files;
  for (const std::string& file : info.other_files) {
    files += (files.empty() ? "'" : ", '") + Printable(file) + "'";
  }
  return Error::Make(ErrorCode::kInvalidArgument,
                     "'{}' has part of its contents in other files: {}; if these are meant to be "
                     "read, add --follow",
                     options.from, files);
}

Status Import(const DiskOptions& options) {
  const DiskFacts facts = TRY(InspectDisk(options.from));
  if (!facts.holders.empty()) {
    return Error::Make(ErrorCode::kBusy, "'{}' is in use by {}: stop that first", options.from,
                       facts.holders);
  }
  if (!facts.source.empty()) {
    return Error::Make(
        ErrorCode::kBusy,
        "'{}' is not whole: it was restored, and what is missing is still in {}; run "
        "its machine until that is fetched ('pacsvisor ps --json': there_bytes)",
        options.from, facts.source);
  }
  if (facts.has_layers) {
    return Error::Make(ErrorCode::kBusy,
                       "'{}' is not whole: '{}' holds what a machine last wrote to it; run that "
                       "machine once, and stop it",
                       options.from, LayerDirectoryOf(options.from));
  }
  const std::string format = TRY(FormatOf(facts, options));
  Interrupts interrupts = TRY(Interrupts::Catch());
  QemuImg qemu_img(interrupts);
  const QemuImg::Info info = TRY(qemu_img.Ask(options.from, format));
  TRY(CheckOtherFiles(info, options));
  NewDiskFile file = TRY(NewDiskFile::Create(options.path, ExistingOf(options)));
  ProgressBar progress;
  const Status converted =
      qemu_img.ConvertToRaw(options.from, format, file.temporary_path(), info.size_bytes, progress);
  if (!converted.ok()) {
    return Error::Make(converted.error().code(), "{}; '{}' was not made",
                       converted.error().message(), options.path);
  }
  progress.Show("making it durable", 0, 0);
  TRY(file.Finish());
  progress.Clear();
  const DiskFacts made = TRY(InspectDisk(options.path));
  Print(stdout, "{}: {}, {} on disk, from {}\n", options.path, FormatBytes(made.size_bytes),
        FormatBytes(made.allocated_bytes),
        facts.foreign ? facts.foreign->name : std::string_view("a raw image"));
  return {};
}

// What a machine would refuse, or lose by.
Result<std::vector<std::string>> Problems(const DiskFacts& facts, const DiskOptions& options) {
  std::vector<std::string> problems;
  if (facts.foreign && facts.foreign->format.empty()) {
    problems.push_back(fmt::format("it is {}: {} unpacks it", facts.foreign->name,
                                   UnpackCommand(*facts.foreign, options.path)));
  } else if (facts.foreign) {
    Interrupts interrupts = TRY(Interrupts::Catch());
    QemuImg qemu_img(interrupts);
    if (std::string words = TRY(qemu_img.Check(options.path, std::string(facts.foreign->format)));
        !words.empty()) {
      problems.push_back(std::move(words));
    }
  } else if (facts.size_bytes == 0 || facts.size_bytes % kDiskSectorBytes != 0) {
    problems.push_back(fmt::format(
        "it has {} bytes: a disk has whole sectors of {} bytes and at least one; it may be cut "
        "short",
        facts.size_bytes, kDiskSectorBytes));
  }
  return problems;
}

std::string_view KindOf(const DiskFacts& facts) {
  return facts.foreign           ? facts.foreign->name
         : facts.is_block_device ? "a block device"
                                 : "a raw image";
}

// Of the disk that a guest would see; nothing where that cannot be told: of packed images, and
// without qemu-img.
std::optional<uint64_t> SizeOfDisk(const DiskFacts& facts, const DiskOptions& options) {
  if (!facts.foreign) {
    return facts.size_bytes;
  }
  Result<Interrupts> interrupts = Interrupts::Catch();
  if (facts.foreign->format.empty() || !interrupts.ok()) {
    return std::nullopt;
  }
  const Result<QemuImg::Info> info =
      QemuImg(*interrupts).Ask(options.path, std::string(facts.foreign->format));
  return info.ok() ? std::optional(info->size_bytes) : std::nullopt;
}

Json ToJson(const DiskFacts& facts, const DiskOptions& options) {
  const std::optional<uint64_t> size_bytes = SizeOfDisk(facts, options);
  return {{"path", options.path},
          {"kind", KindOf(facts)},
          {"block_device", facts.is_block_device},
          {"size_bytes", size_bytes ? Json(*size_bytes) : Json()},
          {"file_bytes", facts.size_bytes},
          {"allocated_bytes", facts.allocated_bytes},
          {"holders", facts.holders},
          {"layers", facts.has_layers},
          {"source", facts.source}};
}

void PrintFacts(const DiskFacts& facts, const DiskOptions& options) {
  Print(stdout, "path     {}\n", options.path);
  Print(stdout, "kind     {}\n", KindOf(facts));
  if (const std::optional<uint64_t> size_bytes = SizeOfDisk(facts, options)) {
    Print(stdout, "size     {} ({} bytes)\n", FormatBytes(*size_bytes), *size_bytes);
  }
  if (!facts.is_block_device) {
    Print(stdout, "on disk  {}\n", FormatBytes(facts.allocated_bytes));
  }
  Print(stdout, "in use   {}\n", facts.holders.empty() ? "no" : "by " + facts.holders);
  if (!facts.source.empty()) {
    Print(stdout, "source   what is not fetched yet is in {}{}\n", facts.source,
          facts.holders.empty() ? ": the image alone is not the disk; the next run goes on" : "");
  } else if (facts.has_layers) {
    Print(stdout, "layers   '{}' holds {}\n", LayerDirectoryOf(options.path),
          facts.holders.empty()
              ? "what a killed machine last wrote: the image alone is not the disk; the next run "
                "merges them"
              : "what was written since the last snapshots");
  }
  if (facts.foreign && !facts.foreign->format.empty()) {
    Print(stdout, "note     machines use raw images: pacsvisor disk import makes one\n");
  }
}

Result<ExitStatus> Info(const DiskOptions& options) {
  const DiskFacts facts = TRY(InspectDisk(options.path));
  if (options.json) {
    Print(stdout, "{}\n", DumpJson(ToJson(facts, options)));
  } else {
    PrintFacts(facts, options);
  }
  return ExitStatus::kDone;
}

Result<ExitStatus> Check(const DiskOptions& options) {
  const DiskFacts facts = TRY(InspectDisk(options.path));
  const std::vector<std::string> problems = TRY(Problems(facts, options));
  if (options.json) {
    Json json = ToJson(facts, options);
    json["problems"] = problems;
    Print(stdout, "{}\n", DumpJson(json));
  } else {
    PrintFacts(facts, options);
    for (const std::string& problem : problems) {
      Print(stdout, "problem  {}\n", problem);
    }
    if (problems.empty()) {
      Print(stdout, "nothing is wrong with it\n");
    }
  }
  return problems.empty() ? ExitStatus::kDone : ExitStatus::kFailed;
}

void AddCreate(CLI::App& disk, ExitStatus* status) {
  auto options = std::make_shared<DiskOptions>();
  CLI::App* command = disk.add_subcommand("create", "Make an empty disk");
  command->add_option("PATH", options->path, "The image to make")->required();
  command->add_option("SIZE", options->size, "Its size: 500G, 2T")
      ->required()
      ->check([](const std::string& text) {
        const Result<uint64_t> size = DiskSize(text);
        return size.ok() ? std::string() : size.error().message();
      });
  command->add_flag("--force", options->force, "Replace a file that is there and not in use");
  command->footer(kCreateFooter);
  command->callback([options, status] {
    const Status created = Create(*options);
    *status = created.ok() ? ExitStatus::kDone : Fail(created.error());
  });
}

void AddImport(CLI::App& disk, ExitStatus* status) {
  auto options = std::make_shared<DiskOptions>();
  CLI::App* command = disk.add_subcommand("import", "Make a disk of an image of another program");
  command->add_option("FROM", options->from, "The image to read")->required();
  command->add_option("TO", options->path, "The image to make")->required();
  command
      ->add_option("--format", options->format,
                   "What FROM is: raw, qcow2, vhdx, vpc (VHD), vmdk, vdi; default: by its first "
                   "bytes")
      ->check([](const std::string& text) {
        const std::vector<std::string>& formats = QemuImg::Formats();
        return std::find(formats.begin(), formats.end(), text) != formats.end()
                   ? std::string()
                   : fmt::format("'{}' is none of raw, qcow2, vhdx, vpc, vmdk, vdi", text);
      });
  command->add_flag("--follow", options->follow,
                    "Read the other files that FROM names: a backing file, VMDK extents");
  command->add_flag("--force", options->force, "Replace a file that is there and not in use");
  command->footer(kImportFooter);
  command->callback([options, status] {
    const Status imported = Import(*options);
    *status = imported.ok() ? ExitStatus::kDone : Fail(imported.error());
  });
}

void AddReport(CLI::App& disk, const char* verb, const char* help, const char* footer,
               Result<ExitStatus> (*report)(const DiskOptions&), ExitStatus* status) {
  auto options = std::make_shared<DiskOptions>();
  CLI::App* command = disk.add_subcommand(verb, help);
  command->add_option("PATH", options->path, "The image or block device")->required();
  command->add_flag("--json", options->json, "Print a JSON object");
  command->footer(footer);
  command->callback([options, report, status] {
    const Result<ExitStatus> reported = report(*options);
    *status = reported.ok() ? *reported : Fail(reported.error());
  });
}

}  // namespace

void AddDiskCommand(CLI::App& app, ExitStatus* status) {
  CLI::App* disk = app.add_subcommand("disk", "Make, import and look at disk images");
  disk->require_subcommand(1);
  disk->footer(kDiskFooter);
  AddCreate(*disk, status);
  AddImport(*disk, status);
  AddReport(*disk, "info", "Tell what an image is and who uses it", kInfoFooter, Info, status);
  AddReport(*disk, "check", "Look for what is wrong with an image", kCheckFooter, Check, status);
}

}  // namespace pacsvisor
