// The test program, and the second process of the restore tests: guest_test --restore COPY CONFIG…
#include <gtest/gtest.h>

#include <cstring>

#include "tests/guest/restore_process.h"
#include "vmm/base/log.h"

int main(int argc, char** argv) {
  pacsvisor::SetLogLevel(pacsvisor::LogLevel::kWarning);
  if (argc > 1 && std::strcmp(argv[1], "--restore") == 0) {
    return pacsvisor::RunRestoredGuest(argc - 2, argv + 2);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
