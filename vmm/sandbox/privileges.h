// Giving rights up, for good: after it the process can become nobody else and gain nothing by
// running a program (no_new_privs, prctl(2)).
//
// Threads: before any is started; credentials are each thread's own (credentials(7)).
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "vmm/base/result.h"

namespace pacsvisor {

struct User {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // with gid; /dev/kvm is usually the group kvm's
};

// By name or number. kNotFound names who is missing.
Result<User> FindUser(const std::string& name);
// Makes `user` the owner of a directory that was made for a machine, and of all in it.
Status GiveDirectory(const User& user, const std::string& path);

// What a process without privileges may still do.
struct KeptPrivileges {
  bool low_ports = false;  // CAP_NET_BIND_SERVICE: DICOM's own port is 104
};

// Becomes `user` where it is not already, with its groups; drops every capability but those kept
// (which this process must have), also those that a later program could get; sets no_new_privs.
// kPermissionDenied when this process is neither root nor `user`.
Status BecomeUser(const User& user, const KeptPrivileges& kept = {});
// The same without changing the user: what a process started by an ordinary user does.
Status GiveUpPrivileges(const KeptPrivileges& kept = {});

// No other process of the same user may read this one's memory (ptrace, /proc/PID/mem), and none
// of it is written to a core dump.
Status HideMemory();

}  // namespace pacsvisor
