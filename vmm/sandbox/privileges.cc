#include "vmm/sandbox/privileges.h"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>

namespace pacsvisor {
namespace {

constexpr size_t kRecordBytes = 16 << 10;

// As sysconf(_SC_GETPW_R_SIZE_MAX) suggests, grown when a group directory is generous.
template <typename Lookup>
Result<User> FindRecord(const std::string& name, Lookup lookup) {
  std::vector<char> buffer(kRecordBytes);
  passwd record = {};
  passwd* found = nullptr;
  int failure = 0;
  while ((failure = lookup(&record, buffer.data(), buffer.size(), &found)) == ERANGE) {
    buffer.resize(2 * buffer.size());
  }
  if (failure != 0) {
    return Error::FromErrno(failure, "cannot look user '{}' up", name);
  }
  if (found == nullptr) {
    return Error::Make(ErrorCode::kNotFound, "there is no user '{}' on this host", name);
  }
  User user{.name = record.pw_name, .uid = record.pw_uid, .gid = record.pw_gid, .groups = {}};
  int count = 32;
  user.groups.resize(static_cast<size_t>(count));
  while (getgrouplist(record.pw_name, record.pw_gid, user.groups.data(), &count) < 0) {
    user.groups.resize(static_cast<size_t>(count));
  }
  user.groups.resize(static_cast<size_t>(count));
  return user;
}

// The kernel refuses numbers past its last capability with EINVAL.
Status DropBoundingSet(uint64_t kept) {
  for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0;
       ++capability) {
    if (capability < 64 && (kept >> capability & 1) != 0) {
      continue;
    }
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
      return Error::FromErrno(errno, "cannot drop capability {}", capability);
    }
  }
  return {};
}

using CapabilitySets = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

// Those of `kept` that this process has.
Status LimitCapabilities(uint64_t kept) {
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  CapabilitySets sets = {};
  if (syscall(SYS_capget, &header, sets.data()) != 0) {
    return Error::FromErrno(errno, "cannot read this process's capabilities");
  }
  for (size_t i = 0; i < sets.size(); ++i) {
    sets[i].permitted &= static_cast<uint32_t>(kept >> (32 * i));
    sets[i].effective = sets[i].permitted;
    sets[i].inheritable = 0;
  }
  if (syscall(SYS_capset, &header, sets.data()) != 0) {
    return Error::FromErrno(errno, "cannot drop capabilities");
  }
  return {};
}

constexpr uint64_t BitsOf(const KeptPrivileges& kept) {
  return kept.low_ports ? uint64_t{1} << CAP_NET_BIND_SERVICE : 0;
}

}  // namespace

Status GiveDirectory(const User& user, const std::string& path) {
  const auto give = [&user](const std::string& name) -> Status {
    if (::lchown(name.c_str(), user.uid, user.gid) != 0) {
      return Error::FromErrno(errno, "cannot give {} to the machine's user {}", name, user.name);
    }
    return {};
  };
  TRY(give(path));
  std::error_code error;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path, error)) {
    TRY(give(entry.path().string()));
  }
  return {};
}

Result<User> FindUser(const std::string& name) {
  uid_t uid = 0;
  const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), uid);
  if (failure == std::errc() && end == name.data() + name.size()) {
    return FindRecord(name, [uid](passwd* record, char* buffer, size_t size, passwd** found) {
      return getpwuid_r(uid, record, buffer, size, found);
    });
  }
  return FindRecord(name, [&name](passwd* record, char* buffer, size_t size, passwd** found) {
    return getpwnam_r(name.c_str(), record, buffer, size, found);
  });
}

Status BecomeUser(const User& user, const KeptPrivileges& kept) {
  if (geteuid() == 0) {
    TRY(DropBoundingSet(BitsOf(kept)));
    // Else the change of user drops all of them, and none would be left to keep.
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 ||
        setgroups(user.groups.size(), user.groups.data()) != 0 ||
        setresgid(user.gid, user.gid, user.gid) != 0 ||
        setresuid(user.uid, user.uid, user.uid) != 0) {
      return Error::FromErrno(errno, "cannot become user '{}'", user.name);
    }
  } else if (geteuid() != user.uid) {
    return Error::Make(ErrorCode::kPermissionDenied,
                       "only root can become user '{}': start as root or as that user", user.name);
  }
  return GiveUpPrivileges(kept);
}

Status GiveUpPrivileges(const KeptPrivileges& kept) {
  TRY(LimitCapabilities(BitsOf(kept)));
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return Error::FromErrno(errno, "cannot set no_new_privs");
  }
  return {};
}

Status HideMemory() {
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
    return Error::FromErrno(errno, "cannot make this process's memory private");
  }
  return {};
}

}  // namespace pacsvisor
