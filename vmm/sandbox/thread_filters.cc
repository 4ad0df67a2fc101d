#include "vmm/sandbox/thread_filters.h"

#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "vmm/base/unique_fd.h"
#include "vmm/sandbox/allowed_calls.h"

namespace pacsvisor {
namespace {

struct ReleaseFilter {
  void operator()(void* filter) const { seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, ReleaseFilter>;

// libseccomp returns negative errno values.
Status Checked(int result, const char* what) {
  if (result < 0) {
    return Error::FromErrno(-result, "libseccomp: {}", what);
  }
  return {};
}

Status Allow(const Filter& filter, const AllowedCall& call) {
  std::vector<scmp_arg_cmp> comparisons;
  for (const ArgumentRule& rule : call.rules) {
    comparisons.push_back(scmp_arg_cmp{
        .arg = rule.index, .op = SCMP_CMP_MASKED_EQ, .datum_a = rule.mask, .datum_b = rule.value});
  }
  return Checked(seccomp_rule_add_array(
                     filter.get(), call.error == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(call.error),
                     call.number, static_cast<unsigned>(comparisons.size()), comparisons.data()),
                 "a rule");
}

Result<std::vector<sock_filter>> Export(const Filter& filter) {
  UniqueFd file(memfd_create("seccomp", MFD_CLOEXEC));
  if (!file.valid()) {
    return Error::FromErrno(errno, "memfd_create");
  }
  TRY(Checked(seccomp_export_bpf(filter.get(), file.get()), "export"));
  const off_t size_bytes = lseek(file.get(), 0, SEEK_END);
  CHECK(size_bytes > 0 && static_cast<size_t>(size_bytes) % sizeof(sock_filter) == 0, "{}",
        size_bytes);
  std::vector<sock_filter> program(static_cast<size_t>(size_bytes) / sizeof(sock_filter));
  if (pread(file.get(), program.data(), static_cast<size_t>(size_bytes), 0) != size_bytes) {
    return Error::FromErrno(errno, "cannot read a seccomp program back");
  }
  return program;
}

Result<std::vector<sock_filter>> CompileFor(ThreadKind kind) {
  const Filter filter(seccomp_init(SCMP_ACT_TRAP));
  if (filter == nullptr) {
    return Error::Make(ErrorCode::kNoSpace, "libseccomp: no memory for a filter");
  }
  // Level 2: a binary tree over call numbers instead of a list (seccomp_attr_set(3)).
  TRY(Checked(seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2), "optimize"));
  for (const AllowedCall& call : AllowedCalls(kind)) {
    TRY(Allow(filter, call));
  }
  return Export(filter);
}

}  // namespace

Result<ThreadFilters> ThreadFilters::Compile() {
  ThreadFilters filters;
  for (const ThreadKind kind : kThreadKinds) {
    filters.programs_[static_cast<size_t>(kind)] = TRY(CompileFor(kind));
  }
  return filters;
}

Status ThreadFilters::Apply(ThreadKind kind) const {
  const Program& program = ProgramOf(kind);
  const sock_fprog argument = {.len = static_cast<unsigned short>(program.size()),
                               // The kernel only reads.
                               .filter = const_cast<sock_filter*>(program.data())};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &argument) != 0) {
    return Error::FromErrno(errno, "cannot confine a {} thread by seccomp", ThreadKindName(kind));
  }
  return {};
}

}  // namespace pacsvisor
