// For tests that run over a userfaultfd: first line of SetUp or of the test. Skips where this user
// has none; fails instead where PACSVISOR_REQUIRE_KVM is set: a machine that should have KVM should
// have this as well.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

#include "vmm/memory/user_fault_fd.h"

#define NEEDS_USERFAULTFD()                                                         \
  do {                                                                              \
    if (const auto userfault = ::pacsvisor::UserFaultFd::Open(); !userfault.ok()) { \
      if (std::getenv("PACSVISOR_REQUIRE_KVM") != nullptr) {                        \
        FAIL() << userfault.error().message();                                      \
      }                                                                             \
      GTEST_SKIP() << userfault.error().message();                                  \
    }                                                                               \
  } while (false)
