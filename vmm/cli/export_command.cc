// pacsvisor export and import: a snapshot as one file, or through a pipe.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "vmm/base/unique_fd.h"
#include "vmm/cli/byte_count.h"
#include "vmm/cli/command.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/object_reader.h"

namespace pacsvisor {
namespace {

constexpr char kExportSnapshotFooter[] =
    R"(One file that needs nothing else: memory, disks, state, configuration and holds of the snapshot, every
byte proven against its id while it is written. '-' is standard output, so that ssh or curl can carry
it. An ID may be cut to its first digits.

Of an encrypted store it is encrypted as well, and needs the key file that the store has now: also when
the store's key is changed later.

Examples:
  pacsvisor export 3f9c21 pacs.snapshot --store /srv/store
  pacsvisor export 3f9c21 - --store /srv/store | ssh other pacsvisor import - --store /srv/store)";

constexpr char kImportSnapshotFooter[] =
    R"(The snapshot of a file that pacsvisor export made; '-' is standard input. It keeps its id; what the
store has already is not written again. A file that is damaged or cut short anywhere is refused, and
leaves nothing in the store. A store is made in DIR when that is empty or not there.

An encrypted export (--key, of the store that it came from) goes into a new store, which then has the
same secret, or into one that has it: the store that it came from, or one made by such an import.

Examples:
  pacsvisor import pacs.snapshot --store /srv/store
  curl -s https://archive/pacs.snapshot | pacsvisor import - --store /srv/store)";

struct TransferOptions {
  std::string id;
  std::string file;
  StorePlace store;
  bool json = false;
};

constexpr mode_t kExportMode = 0600;  // the memory of a guest

Status WriteAllTo(int fd, std::span<const uint8_t> bytes, const std::string& name) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) {
      continue;
    }
    if (put < 0) {
      return Error::FromErrno(errno, "cannot write {}", name);
    }
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

Result<ExportReport> ExportTo(Store& store, const SnapshotId& id, int fd, const std::string& name) {
  ProgressBar bar;
  return store.Export(
      id, [&](std::span<const uint8_t> bytes) { return WriteAllTo(fd, bytes, name); },
      [&](const VerifyProgress& progress) {
        bar.Show("exporting", progress.bytes_done, progress.bytes_total);
      });
}

// Under its name only when it is whole and durable.
Result<ExportReport> ExportToFile(Store& store, const SnapshotId& id, const std::string& path) {
  if (::access(path.c_str(), F_OK) == 0) {
    return Error::Make(ErrorCode::kBusy, "{} is there already: give another name, or remove it",
                       path);
  }
  const std::string part = path + ".part";
  const UniqueFd fd(
      ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kExportMode));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot make {}", part);
  }
  Result<ExportReport> report = ExportTo(store, id, fd.get(), part);
  if (report.ok() && (::fsync(fd.get()) != 0 || ::rename(part.c_str(), path.c_str()) != 0)) {
    report = Error::FromErrno(errno, "cannot write {}", path);
  }
  if (!report.ok()) {
    ::unlink(part.c_str());
  }
  return report;
}

Result<ExportReport> ExportFile(const TransferOptions& options) {
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(options.store));
  const SnapshotId id = TRY(store->Resolve(options.id));
  return options.file == "-" ? ExportTo(*store, id, STDOUT_FILENO, "standard output")
                             : ExportToFile(*store, id, options.file);
}

Result<ImportReport> ImportFile(const TransferOptions& options) {
  UniqueFd file;
  int fd = STDIN_FILENO;
  uint64_t file_bytes = 0;
  if (options.file != "-") {
    file = UniqueFd(::open(options.file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) {
      return Error::FromErrno(errno, "cannot open {}", options.file);
    }
    fd = file.get();
  }
  struct stat status {};
  if (::fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
    file_bytes = static_cast<uint64_t>(status.st_size);
  }
  const std::string name = options.file == "-" ? "standard input" : options.file;
  const auto read = [&](std::span<uint8_t> bytes) -> Result<size_t> {
    while (true) {
      const ssize_t got = ::read(fd, bytes.data(), bytes.size());
      if (got >= 0) {
        return static_cast<size_t>(got);
      }
      if (errno != EINTR) {
        return Error::FromErrno(errno, "cannot read {}", name);
      }
    }
  };
  std::array<uint8_t, kExportBeginningBytes> buffer;
  std::span<uint8_t> beginning = std::span(buffer).first(0);
  while (beginning.size() < buffer.size()) {
    const size_t got = TRY(read(std::span(buffer).subspan(beginning.size())));
    if (got == 0) {
      break;
    }
    beginning = std::span(buffer).first(beginning.size() + got);
  }
  const std::unique_ptr<Store> store = TRY(OpenOrMakeStoreAt(
      options.store, [&](const StoreKey* key) { return Store::SecretOfExport(beginning, key); }));
  ProgressBar bar;
  return store->Import(
      [&](std::span<uint8_t> bytes) -> Result<size_t> {
        if (beginning.empty()) {
          return read(bytes);
        }
        const size_t part = std::min(bytes.size(), beginning.size());
        std::copy_n(beginning.begin(), part, bytes.begin());
        beginning = beginning.subspan(part);
        return part;
      },
      [&](const VerifyProgress& progress) {
        if (file_bytes > 0) {
          bar.Show("importing", progress.bytes_done, file_bytes);
        }
      });
}

ExitStatus ExportAndTell(const TransferOptions& options) {
  const bool piped = options.file == "-";
  if (piped && ::isatty(STDOUT_FILENO) == 1) {
    Print(stderr, "pacsvisor: an export is no text for a terminal: give a file, or a pipe\n");
    return ExitStatus::kUsage;
  }
  const Result<ExportReport> report = ExportFile(options);
  if (!report.ok()) {
    return Fail(report.error());
  }
  std::FILE* const out = piped ? stderr : stdout;
  if (options.json) {
    Print(
        out, "{}\n",
        DumpJson(
            {{"id", report->info.id.Hex()}, {"bytes", report->bytes}, {"chunks", report->chunks}}));
  } else {
    Print(out, "snapshot {} exported: {}\n", report->info.id.Short(), FormatBytes(report->bytes));
  }
  return ExitStatus::kDone;
}

ExitStatus ImportAndTell(const TransferOptions& options) {
  const Result<ImportReport> report = ImportFile(options);
  if (!report.ok()) {
    return Fail(report.error());
  }
  if (options.json) {
    Print(stdout, "{}\n",
          DumpJson({{"id", report->info.id.Hex()},
                    {"was_there", report->was_there},
                    {"bytes", report->bytes},
                    {"chunks", report->chunks},
                    {"known_chunks", report->known_chunks},
                    {"stored_bytes", report->stored_bytes}}));
  } else if (report->was_there) {
    Print(stdout, "snapshot {} is in the store already\n", report->info.id.Short());
  } else {
    Print(stdout, "snapshot {} imported: {} read, {} of {} chunks were there, {} written\n",
          report->info.id.Short(), FormatBytes(report->bytes), report->known_chunks, report->chunks,
          FormatBytes(report->stored_bytes));
  }
  return ExitStatus::kDone;
}

}  // namespace

void AddExportCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<TransferOptions>();
  CLI::App* command = app.add_subcommand("export", "Make one file of a snapshot");
  command->add_option("ID", options->id, "The snapshot")->required();
  command->add_option("FILE", options->file, "A new file; -: standard output")->required();
  AddStoreOption(*command, options->store);
  command->get_option("--store")->required();
  command->add_flag("--json", options->json, "Print a JSON object");
  command->footer(kExportSnapshotFooter);
  command->callback([options, status] { *status = ExportAndTell(*options); });
}

void AddImportCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<TransferOptions>();
  CLI::App* command = app.add_subcommand("import", "Take a snapshot out of an exported file");
  command->add_option("FILE", options->file, "The file; -: standard input")->required();
  AddStoreOption(*command, options->store);
  command->get_option("--store")->required();
  command->add_flag("--json", options->json, "Print a JSON object");
  command->footer(kImportSnapshotFooter);
  command->callback([options, status] { *status = ImportAndTell(*options); });
}

}  // namespace pacsvisor
