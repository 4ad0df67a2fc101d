#include "vmm/disk/layer_directory.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLogName = "map";
constexpr const char* kNewLogName = "map.new";

std::string LayerName(uint8_t layer) { return fmt::format("layer-{}", layer); }

// Beside the file itself, whichever link leads to it.
fs::path DirectoryOf(const fs::path& image) {
  std::error_code error;
  fs::path real = fs::canonical(image, error);
  if (error) {
    real = image;
  }
  real += ".layers";
  return real;
}

Status WriteAll(int fd, std::span<const uint8_t> bytes) {
  const ssize_t written = ::pwrite(fd, bytes.data(), bytes.size(), 0);
  if (written != static_cast<ssize_t>(bytes.size())) {
    return Error::FromErrno(written < 0 ? errno : ENOSPC, "write");
  }
  return {};
}

Status ReadExactly(int fd, uint64_t offset_bytes, std::span<uint8_t> bytes) {
  const ssize_t size = ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes));
  if (size != static_cast<ssize_t>(bytes.size())) {
    return Error::FromErrno(size < 0 ? errno : EIO, "read of {} bytes at {}", bytes.size(),
                            offset_bytes);
  }
  return {};
}

LayerLogSource LogSourceOf(int fd, std::string name) {
  const off_t size = ::lseek(fd, 0, SEEK_END);
  return {.name = std::move(name),
          .size_bytes = size < 0 ? 0 : static_cast<uint64_t>(size),
          .read = [fd](uint64_t offset, std::span<uint8_t> bytes) {
            return ReadExactly(fd, offset, bytes);
          }};
}

}  // namespace

bool LayerDirectory::HoldsLayers(const fs::path& image) {
  struct stat status {};
  return ::stat((DirectoryOf(image) / kLogName).c_str(), &status) == 0;
}

Result<std::string> LayerDirectory::SourceOf(const fs::path& image) {
  const std::string path = (DirectoryOf(image) / kLogName).string();
  const UniqueFd log(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!log.valid()) {
    return errno == ENOENT ? Result<std::string>(std::string())
                           : Error::FromErrno(errno, "cannot open {}", path);
  }
  LayerLogHeader header = TRY(ReadLogHeader(LogSourceOf(log.get(), path)));
  return std::move(header.source);
}

Result<std::shared_ptr<LayerDirectory>> LayerDirectory::Open(const fs::path& image) {
  const fs::path path = DirectoryOf(image);
  UniqueFd parent(::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent.valid() ||
      (::mkdirat(parent.get(), path.filename().c_str(), 0700) != 0 && errno != EEXIST)) {
    return Error::FromErrno(errno,
                            "cannot make {}, which holds a disk's layers while it is snapshotted",
                            path.string());
  }
  UniqueFd directory(::openat(parent.get(), path.filename().c_str(),
                              O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory.valid()) {
    return Error::FromErrno(errno, "cannot open {}", path.string());
  }
  return std::shared_ptr<LayerDirectory>(
      new LayerDirectory(path.string(), std::move(parent), std::move(directory)));
}

LayerDirectory::~LayerDirectory() {
  // Fails when it holds layers, which is as it should be.
  ::unlinkat(parent_.get(), fs::path(name_).filename().c_str(), AT_REMOVEDIR);
}

Result<LayerFile> LayerDirectory::OpenLayer(uint8_t layer, int flags, bool direct) {
  const std::string file = LayerName(layer);
  LayerFile opened;
  opened.buffered.Reset(
      ::openat(directory_.get(), file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600));
  if (!opened.buffered.valid()) {
    return Error::FromErrno(errno, "cannot open {}/{}", name_, file);
  }
  if (direct) {
    // A file system without it: through the page cache, as the image would be.
    opened.direct.Reset(
        ::openat(directory_.get(), file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_DIRECT));
  }
  return opened;
}

Result<LayerFile> LayerDirectory::CreateLayer(uint8_t layer, uint64_t size_bytes, bool direct) {
  LayerFile file = TRY(OpenLayer(layer, O_CREAT | O_TRUNC, direct));
  if (::ftruncate(file.buffered.get(), static_cast<off_t>(size_bytes)) != 0 ||
      ::fsync(file.buffered.get()) != 0) {
    const int error_number = errno;
    (void)Remove(LayerName(layer));
    return Error::FromErrno(error_number, "cannot make {}/{} of {} bytes", name_, LayerName(layer),
                            size_bytes);
  }
  return file;
}

Result<UniqueFd> LayerDirectory::CreateLog(const LayerLogHeader& header) {
  UniqueFd log(::openat(directory_.get(), kNewLogName,
                        O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!log.valid()) {
    return Error::FromErrno(errno, "cannot make {}/{}", name_, kNewLogName);
  }
  Status written = WriteAll(log.get(), EncodeLogHeader(header));
  if (written.ok() && (::fsync(log.get()) != 0 || ::renameat(directory_.get(), kNewLogName,
                                                             directory_.get(), kLogName) != 0)) {
    written = Error::FromErrno(errno, "sync");
  }
  if (!written.ok()) {
    (void)Remove(kNewLogName);
    return std::move(written).error().WithContext(
        fmt::format("cannot make {}/{}", name_, kLogName));
  }
  return log;
}

Status LayerDirectory::BeginFromSource(int fd, const std::string& source) {
  if (source.empty() || source.size() > kMaxSourceNameBytes) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "{}: {} bytes for the name of what a disk is fetched from; 1 to {} can be",
                       name_, source.size(), kMaxSourceNameBytes);
  }
  struct stat status {};
  if (::fstat(fd, &status) != 0 || ::fsync(fd) != 0) {
    return Error::FromErrno(errno, "cannot sync the image of {}", name_);
  }
  // A log that stands there is another disk's; and the layers of one must not be met.
  if (::faccessat(directory_.get(), kLogName, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
    return Error::Make(ErrorCode::kBusy, "{} holds the layers of another disk", name_);
  }
  TRY(RemoveOrphans({}));
  LayerLogHeader header{.disk_bytes = static_cast<uint64_t>(status.st_size),
                        .base_identity = status.st_ino,
                        .log_id = 0,
                        .source = source};
  if (::getrandom(&header.log_id, sizeof(header.log_id), 0) !=
      static_cast<ssize_t>(sizeof(header.log_id))) {
    return Error::FromErrno(errno, "getrandom");
  }
  (void)TRY(CreateLog(header));
  Status synced = Sync();
  // The directory's own name too.
  if (synced.ok() && ::fsync(parent_.get()) != 0) {
    synced = Error::FromErrno(errno, "cannot make the name of {} durable", name_);
  }
  if (!synced.ok()) {
    (void)RemoveLog();
  }
  return synced;
}

Status LayerDirectory::Sync() {
  if (::fsync(directory_.get()) != 0) {
    return Error::FromErrno(errno, "cannot sync {}", name_);
  }
  return {};
}

Status LayerDirectory::Remove(const std::string& file) {
  if (::unlinkat(directory_.get(), file.c_str(), 0) != 0 && errno != ENOENT) {
    return Error::FromErrno(errno, "cannot remove {}/{}", name_, file);
  }
  return {};
}

Status LayerDirectory::RemoveLayer(uint8_t layer) { return Remove(LayerName(layer)); }

Status LayerDirectory::RemoveLog() { return Remove(kLogName); }

Status LayerDirectory::RemoveOrphans(const std::array<bool, kMaxLayers + 1>& named) {
  TRY(Remove(kNewLogName));
  for (uint8_t layer = 1; layer <= kMaxLayers; ++layer) {
    if (!named[layer]) {
      TRY(RemoveLayer(layer));
    }
  }
  return {};
}

Result<std::optional<LayerDirectory::Leftover>> LayerDirectory::Recover(
    const LayerLogHeader& expected, bool direct, BlockMap& map) {
  std::array<bool, kMaxLayers + 1> named = {};
  Leftover leftover;
  leftover.log.Reset(::openat(directory_.get(), kLogName, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!leftover.log.valid()) {
    if (errno != ENOENT) {
      return Error::FromErrno(errno, "cannot open {}/{}", name_, kLogName);
    }
    TRY(RemoveOrphans(named));
    return std::optional<Leftover>();
  }
  const int fd = leftover.log.get();
  const LayerLogSource source = LogSourceOf(fd, name_ + "/" + kLogName);
  leftover.header = TRY(ReadLogHeader(source));
  if (leftover.header.disk_bytes != expected.disk_bytes ||
      leftover.header.base_identity != expected.base_identity) {
    return Error::Make(
        ErrorCode::kInvalidArgument,
        "the layers in {} belong to another image (inode {}, {} bytes) than the one beside them "
        "(inode {}, {} bytes); put that one back in its place, or, to give up what is in them, "
        "remove {}",
        name_, leftover.header.base_identity, leftover.header.disk_bytes, expected.base_identity,
        expected.disk_bytes, name_);
  }
  Result<LayerLogEnd> end = ReplayLog(source, leftover.header, map);
  if (!end.ok()) {
    return Error::Make(end.error().code(),
                       "{}; restore the image from a snapshot or a copy, then remove {}",
                       end.error().message(), name_);
  }
  leftover.end = *end;
  // A tail that was torn must not be met again; and what was read back may still be in the host's
  // cache only, though everything that follows builds on it.
  if (::ftruncate(fd, static_cast<off_t>(leftover.end.end_bytes)) != 0 || ::fsync(fd) != 0) {
    return Error::FromErrno(errno, "cannot sync {}", source.name);
  }
  for (uint64_t block = map.NextInLayers(0); block < map.block_count();
       block = map.NextInLayers(block + 1)) {
    const uint8_t layer = map.Get(block).layer();
    if (!named[layer]) {
      named[layer] = true;
      leftover.layers[layer] = TRY(OpenLayer(layer, 0, direct));
    }
  }
  TRY(RemoveOrphans(named));
  if (map.layered_count() == 0 && leftover.header.source.empty()) {
    TRY(RemoveLog());
    TRY(Sync());
    return std::optional<Leftover>();
  }
  return std::optional(std::move(leftover));
}

}  // namespace pacsvisor
