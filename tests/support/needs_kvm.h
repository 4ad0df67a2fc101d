// For tests that run something on /dev/kvm: first line of SetUp or of the test. Skips where this
// user has none; fails instead where PACSVISOR_REQUIRE_KVM is set, for machines that should have
// it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#define NEEDS_KVM()                                               \
  do {                                                            \
    if (access("/dev/kvm", R_OK | W_OK) != 0) {                   \
      if (std::getenv("PACSVISOR_REQUIRE_KVM") != nullptr) {      \
        FAIL() << "/dev/kvm: " << std::strerror(errno);           \
      }                                                           \
      GTEST_SKIP() << "needs /dev/kvm: " << std::strerror(errno); \
    }                                                             \
  } while (false)
