#include "vmm/sandbox/confinement.h"

#include <ctime>
#include <memory>
#include <utility>

#include "vmm/base/thread.h"
#include "vmm/sandbox/namespaces.h"
#include "vmm/sandbox/supervisor.h"
#include "vmm/sandbox/thread_filters.h"
#include "vmm/sandbox/violation.h"

namespace pacsvisor {
namespace {

Status FilterCalls(void (*last)()) {
  auto filters = std::make_shared<const ThreadFilters>(TRY(ThreadFilters::Compile()));
  TRY(ReportViolations(last));
  TRY(filters->Apply(ThreadKind::kMain));
  SetThreadEntry([filters](ThreadKind kind) {
    const Status confined = filters->Apply(kind);
    // The main thread's went through: only memory can be short, and a thread does not go without.
    CHECK(confined.ok(), "{}", confined.error().message());
  });
  return {};
}

}  // namespace

Status Confine(const ConfinementOptions& options) {
  tzset();  // reads a file, on the first use of local time otherwise
  if (options.empty_network) {
    TRY(EnterEmptyNetwork());
  }
  if (options.empty_root) {
    TRY(EnterEmptyRoot());
  }
  TRY(options.user ? BecomeUser(*options.user, options.kept) : GiveUpPrivileges(options.kept));
  TRY(DieWithSupervisor());
  if (!BuildCanBeConfined()) {
    return {};
  }
  TRY(HideMemory());  // after the change of user, which decides this anew
  if (options.filter_calls) {
    TRY(FilterCalls(options.last));
  }
  return {};
}

bool BuildCanBeConfined() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return false;
#else
  return true;
#endif
}

}  // namespace pacsvisor
