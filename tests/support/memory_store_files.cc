#include "tests/support/memory_store_files.h"

#include <algorithm>
#include <cerrno>
#include <optional>

#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr size_t kTornSectorBytes = 512;

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

}  // namespace

// What the handles share: they may outlive the files.
struct MemoryStoreFiles::State {
  enum class Kind { kLook, kChange };

  // The error of a call that is not done. With `mutex` held.
  std::optional<Error> Refuse(Kind kind, const std::string& what) {
    ++calls;
    if (ended || (kind == Kind::kChange && changes_left == 0)) {
      ended = true;
      return Error::Make(ErrorCode::kIo, "{}: the power is off", what);
    }
    if (calls == failing_call) {
      failed = true;
      return Error::FromErrno(failure, "{}", what);
    }
    changes_left -= kind == Kind::kChange ? 1 : 0;
    return std::nullopt;
  }

  bool HasDirectory(const std::string& path) const {
    return path == "." || directories.contains(path);
  }
  // A name that means something else from now on, for certain once its directory is synced.
  void Changed(const std::string& path) {
    const auto found = files.find(path);
    unsynced[path].push_back(found == files.end() ? nullptr : found->second);
  }

  mutable std::mutex mutex;
  std::map<std::string, Inode> files;
  std::set<std::string> directories;
  std::map<std::string, Inode> durable_files;
  std::set<std::string> durable_directories;
  std::map<std::string, std::vector<Inode>> unsynced;  // what a name meant since, null: nothing
  std::map<std::string, LockState> locks;
  uint64_t calls = 0;
  uint64_t changes_left = UINT64_MAX;
  bool ended = false;
  uint64_t failing_call = 0;
  int failure = 0;
  bool failed = false;
  uint64_t appended_bytes = 0;
};

class MemoryStoreFiles::File : public StoreFile {
 public:
  File(std::shared_ptr<State> state, std::string path, Inode inode)
      : state_(std::move(state)), path_(std::move(path)), inode_(std::move(inode)) {}

  Result<uint64_t> SizeBytes() override {
    const std::lock_guard lock(state_->mutex);
    if (std::optional<Error> error = state_->Refuse(State::Kind::kLook, path_)) {
      return *error;
    }
    return inode_->bytes.size();
  }
  Status ReadAt(uint64_t offset_bytes, std::span<uint8_t> bytes) override {
    const std::lock_guard lock(state_->mutex);
    if (std::optional<Error> error = state_->Refuse(State::Kind::kLook, path_)) {
      return *error;
    }
    if (offset_bytes > inode_->bytes.size() || bytes.size() > inode_->bytes.size() - offset_bytes) {
      return Error::Make(ErrorCode::kCorrupt, "{} ends too early", path_);
    }
    std::copy_n(inode_->bytes.begin() + static_cast<ptrdiff_t>(offset_bytes), bytes.size(),
                bytes.begin());
    return {};
  }
  Status Append(std::span<const uint8_t> bytes) override {
    const std::lock_guard lock(state_->mutex);
    const std::optional<Error> error = state_->Refuse(State::Kind::kChange, path_);
    if (error.has_value() && state_->ended) {
      return *error;
    }
    const size_t done = error.has_value() ? bytes.size() / 2 : bytes.size();
    inode_->bytes.insert(inode_->bytes.end(), bytes.begin(),
                         bytes.begin() + static_cast<ptrdiff_t>(done));
    state_->appended_bytes += done;
    return error.has_value() ? Status(*error) : Status();
  }
  Status Sync() override {
    const std::lock_guard lock(state_->mutex);
    if (std::optional<Error> error = state_->Refuse(State::Kind::kChange, path_)) {
      return *error;
    }
    inode_->synced_bytes = inode_->bytes.size();
    return {};
  }

 private:
  const std::shared_ptr<State> state_;
  const std::string path_;
  const Inode inode_;
};

class MemoryStoreFiles::HeldLock : public StoreFiles::Lock {
 public:
  HeldLock(std::shared_ptr<State> state, std::string path)
      : state_(std::move(state)), path_(std::move(path)) {}
  ~HeldLock() override {
    const std::lock_guard lock(state_->mutex);
    --state_->locks[path_].holders;
  }

 private:
  const std::shared_ptr<State> state_;
  const std::string path_;
};

std::shared_ptr<MemoryStoreFiles> MemoryStoreFiles::Create() {
  return std::shared_ptr<MemoryStoreFiles>(new MemoryStoreFiles(std::make_shared<State>()));
}

void MemoryStoreFiles::EndAfter(uint64_t changes) {
  const std::lock_guard lock(state_->mutex);
  state_->changes_left = changes;
}

bool MemoryStoreFiles::ended() const {
  const std::lock_guard lock(state_->mutex);
  return state_->ended;
}

void MemoryStoreFiles::FailAfter(uint64_t calls, int error_number) {
  const std::lock_guard lock(state_->mutex);
  state_->failing_call = state_->calls + calls + 1;
  state_->failure = error_number;
  state_->failed = false;
}

bool MemoryStoreFiles::failed() const {
  const std::lock_guard lock(state_->mutex);
  return state_->failed;
}

uint64_t MemoryStoreFiles::calls() const {
  const std::lock_guard lock(state_->mutex);
  return state_->calls;
}

uint64_t MemoryStoreFiles::appended_bytes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->appended_bytes;
}

std::shared_ptr<MemoryStoreFiles> MemoryStoreFiles::After(Cut cut, uint64_t seed) const {
  const std::lock_guard lock(state_->mutex);
  std::mt19937_64 random(seed);
  auto left = std::make_shared<State>();
  left->directories = cut == Cut::kUnsynced ? state_->durable_directories : state_->directories;
  if (cut == Cut::kTorn) {
    std::erase_if(left->directories, [&](const std::string& path) {
      return !state_->durable_directories.contains(path) && random() % 2 == 0;
    });
  }
  std::map<std::string, Inode> files = cut == Cut::kKilled ? state_->files : state_->durable_files;
  if (cut == Cut::kTorn) {
    // Any of the things that a name has meant since it was durable.
    for (const auto& [path, versions] : state_->unsynced) {
      const size_t chosen = random() % (versions.size() + 1);
      if (chosen > 0) {
        files[path] = versions[chosen - 1];
      }
    }
  }
  for (const auto& [path, inode] : files) {
    if (inode == nullptr || !left->HasDirectory(DirectoryOf(path))) {
      continue;
    }
    const Inode copy = std::make_shared<Contents>(*inode);
    std::vector<uint8_t>& bytes = copy->bytes;
    if (cut == Cut::kUnsynced) {
      bytes.resize(inode->synced_bytes);
    } else if (cut == Cut::kTorn && bytes.size() > inode->synced_bytes) {
      const size_t tail = bytes.size() - inode->synced_bytes;
      bytes.resize(random() % 2 == 0 ? bytes.size() : inode->synced_bytes + random() % (tail + 1));
      // Room that was taken, but not written.
      for (size_t at = inode->synced_bytes; at < bytes.size(); at += kTornSectorBytes) {
        if (random() % 4 == 0) {
          std::fill(
              bytes.begin() + static_cast<ptrdiff_t>(at),
              bytes.begin() + static_cast<ptrdiff_t>(std::min(at + kTornSectorBytes, bytes.size())),
              uint8_t{0});
        }
      }
    }
    copy->synced_bytes = bytes.size();
    left->files[path] = copy;
  }
  left->durable_files = left->files;
  left->durable_directories = left->directories;
  return std::shared_ptr<MemoryStoreFiles>(new MemoryStoreFiles(std::move(left)));
}

std::vector<std::string> MemoryStoreFiles::Paths() const {
  const std::lock_guard lock(state_->mutex);
  std::vector<std::string> paths;
  for (const auto& [path, inode] : state_->files) {
    if (path != "lock" && !path.starts_with("leases/")) {
      paths.push_back(path);
    }
  }
  return paths;
}

std::vector<uint8_t> MemoryStoreFiles::Bytes(const std::string& path) const {
  const std::lock_guard lock(state_->mutex);
  return state_->files.at(path)->bytes;
}

void MemoryStoreFiles::SetBytes(const std::string& path, std::vector<uint8_t> bytes) {
  const std::lock_guard lock(state_->mutex);
  state_->files.at(path)->bytes = std::move(bytes);
}

void MemoryStoreFiles::FlipBit(const std::string& path, uint64_t byte, unsigned bit) {
  const std::lock_guard lock(state_->mutex);
  state_->files.at(path)->bytes.at(byte) ^= static_cast<uint8_t>(1u << bit);
}

Result<std::vector<std::string>> MemoryStoreFiles::List(const std::string& directory) {
  const std::lock_guard lock(state_->mutex);
  if (std::optional<Error> error = state_->Refuse(State::Kind::kLook, directory)) {
    return *error;
  }
  if (!state_->HasDirectory(directory)) {
    return Error::FromErrno(ENOENT, "{}", directory);
  }
  std::vector<std::string> names;
  const auto add = [&](const std::string& path) {
    if (DirectoryOf(path) == directory) {
      names.push_back(path.substr(path.rfind('/') + 1));
    }
  };
  for (const auto& [path, inode] : state_->files) {
    add(path);
  }
  for (const std::string& path : state_->directories) {
    add(path);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::unique_ptr<StoreFile>> MemoryStoreFiles::OpenForRead(const std::string& path) {
  const std::lock_guard lock(state_->mutex);
  if (std::optional<Error> error = state_->Refuse(State::Kind::kLook, path)) {
    return *error;
  }
  const auto found = state_->files.find(path);
  if (found == state_->files.end()) {
    return Error::FromErrno(ENOENT, "cannot open {}", path);
  }
  return std::unique_ptr<StoreFile>(std::make_unique<File>(state_, path, found->second));
}

Result<std::unique_ptr<StoreFile>> MemoryStoreFiles::CreateFile(const std::string& path) {
  const std::lock_guard lock(state_->mutex);
  if (std::optional<Error> error = state_->Refuse(State::Kind::kChange, path)) {
    return *error;
  }
  if (state_->files.contains(path)) {
    return Error::Make(ErrorCode::kBusy, "{} is there already", path);
  }
  if (!state_->HasDirectory(DirectoryOf(path))) {
    return Error::FromErrno(ENOENT, "cannot make {}", path);
  }
  const Inode inode = std::make_shared<Contents>();
  state_->files[path] = inode;
  state_->Changed(path);
  return std::unique_ptr<StoreFile>(std::make_unique<File>(state_, path, inode));
}

Status MemoryStoreFiles::Rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(state_->mutex);
  if (std::optional<Error> error = state_->Refuse(State::Kind::kChange, from)) {
    return *error;
  }
  const auto found = state_->files.find(from);
  if (found == state_->files.end() || !state_->HasDirectory(DirectoryOf(to))) {
    return Error::FromErrno(ENOENT, "cannot rename {} to {}", from, to);
  }
  state_->files[to] = found->second;
  state_->files.erase(found);
  state_->Changed(to);
  state_->Changed(from);
  return {};
}

Status MemoryStoreFiles::Remove(const std::string& path) {
  const std::lock_guard lock(state_->mutex);
  if (std::optional<Error> error = state_->Refuse(State::Kind::kChange, path)) {
    return *error;
  }
  if (state_->files.erase(path) == 0) {
    return Error::FromErrno(ENOENT, "cannot remove {}", path);
  }
  state_->Changed(path);
  return {};
}

Status MemoryStoreFiles::Overwrite(const std::string& path) {
  const std::lock_guard lock(state_->mutex);
  if (std::optional<Error> error = state_->Refuse(State::Kind::kChange, path)) {
    return *error;
  }
  const auto found = state_->files.find(path);
  if (found == state_->files.end()) {
    return Error::FromErrno(ENOENT, "cannot open {}", path);
  }
  std::fill(found->second->bytes.begin(), found->second->bytes.end(), uint8_t{0});
  return {};
}

Status MemoryStoreFiles::CreateDirectory(const std::string& path) {
  const std::lock_guard lock(state_->mutex);
  if (std::optional<Error> error = state_->Refuse(State::Kind::kChange, path)) {
    return *error;
  }
  if (!state_->HasDirectory(DirectoryOf(path))) {
    return Error::FromErrno(ENOENT, "cannot make {}", path);
  }
  state_->directories.insert(path);
  return {};
}

Status MemoryStoreFiles::SyncDirectory(const std::string& path) {
  const std::lock_guard lock(state_->mutex);
  if (std::optional<Error> error = state_->Refuse(State::Kind::kChange, path)) {
    return *error;
  }
  if (!state_->HasDirectory(path)) {
    return Error::FromErrno(ENOENT, "cannot sync {}", path);
  }
  for (auto name = state_->unsynced.begin(); name != state_->unsynced.end();) {
    if (DirectoryOf(name->first) != path) {
      ++name;
      continue;
    }
    if (name->second.back() == nullptr) {
      state_->durable_files.erase(name->first);
    } else {
      state_->durable_files[name->first] = name->second.back();
    }
    name = state_->unsynced.erase(name);
  }
  for (const std::string& directory : state_->directories) {
    if (DirectoryOf(directory) == path) {
      state_->durable_directories.insert(directory);
    }
  }
  return {};
}

Result<std::unique_ptr<StoreFiles::Lock>> MemoryStoreFiles::AcquireLock(const std::string& path,
                                                                        LockMode mode,
                                                                        const std::string& words) {
  const std::lock_guard lock(state_->mutex);
  if (std::optional<Error> error = state_->Refuse(State::Kind::kLook, path)) {
    return *error;
  }
  LockState& held = state_->locks[path];  // by its name: only whoever holds it removes it
  if (held.holders > 0 && (held.exclusive || mode == LockMode::kExclusive)) {
    return Error::Make(ErrorCode::kBusy, "{} is locked by {}", path, held.words);
  }
  if (!state_->HasDirectory(DirectoryOf(path))) {
    return Error::FromErrno(ENOENT, "cannot open {}", path);
  }
  if (!state_->files.contains(path)) {
    state_->files[path] = std::make_shared<Contents>();
    state_->Changed(path);
  }
  state_->files[path]->bytes.assign(words.begin(), words.end());
  ++held.holders;
  held.exclusive = mode == LockMode::kExclusive;
  held.words = words;
  return std::unique_ptr<Lock>(std::make_unique<HeldLock>(state_, path));
}

}  // namespace pacsvisor
