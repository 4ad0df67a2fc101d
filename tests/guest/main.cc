// The test program, and the second process of the restore tests: guest_test --restore COPY CONFIG…
#include <gtest/gtest.h>

#include <cstring>

#include "tests/guest/restore_process.h"
#include "vmm/base/log.h"

#ifdef __SANITIZE_THREAD__
// Bytes of guest memory are the guest's to order: a page that one device wrote may be read by
// another next, and what the guest's processors did in between the sanitizer does not see. The
// accessors copy such bytes once, and what they copied belongs to one thread.
extern "C" const char* __tsan_default_suppressions() {
  return "race:pacsvisor::GuestMemory::Read\n"
         "race:pacsvisor::GuestMemory::Write\n"
         "race:pacsvisor::GuestMemory::Fill\n";
}
#endif

int main(int argc, char** argv) {
  pacsvisor::SetLogLevel(pacsvisor::LogLevel::kWarning);
  if (argc > 1 && std::strcmp(argv[1], "--restore") == 0) {
    return pacsvisor::RunRestoredGuest(argc - 2, argv + 2);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
