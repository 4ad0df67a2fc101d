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

// Becomes `user` where it is not already, with its groups; drops every capability, also those that
// a later program could get; sets no_new_privs. kPermissionDenied when this process is neither
// root nor `user`.
Status BecomeUser(const User& user);
// The same without changing the user: what a process started by an ordinary user does.
Status GiveUpPrivileges();

// No other process of the same user may read this one's memory (ptrace, /proc/PID/mem), and none
// of it is written to a core dump.
Status HideMemory();

}  // namespace pacsvisor
