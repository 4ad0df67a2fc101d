#include "vmm/sandbox/privileges.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

namespace pacsvisor {
namespace {

std::string OwnStatus() {
  std::ifstream file("/proc/self/status");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

bool HasNoCapabilities() {
  const std::string status = OwnStatus();
  for (const char* set : {"CapInh:\t", "CapPrm:\t", "CapEff:\t", "CapAmb:\t"}) {
    if (status.find(std::string(set) + "0000000000000000") == std::string::npos) {
      return false;
    }
  }
  return true;
}

TEST(FindUser, ByNameAndByNumber) {
  const Result<User> root = FindUser("root");
  ASSERT_TRUE(root.ok());
  EXPECT_EQ(root->uid, 0u);
  const Result<User> zero = FindUser("0");
  ASSERT_TRUE(zero.ok());
  EXPECT_EQ(zero->name, "root");
  EXPECT_NE(std::find(zero->groups.begin(), zero->groups.end(), zero->gid), zero->groups.end());
}

TEST(FindUser, NamesTheOneThatIsMissing) {
  const Result<User> user = FindUser("nobody-of-that-name");
  ASSERT_FALSE(user.ok());
  EXPECT_EQ(user.error().code(), ErrorCode::kNotFound);
  EXPECT_NE(user.error().message().find("nobody-of-that-name"), std::string::npos);
}

class AsRoot : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "needs root: only root can become somebody else";
    }
  }
};

TEST_F(AsRoot, BecomesTheUserForGood) {
  EXPECT_EXIT(
      {
        BecomeUser(FindUser("nobody").value()).value();
        CHECK(getuid() == geteuid() && getuid() != 0 && getgid() != 0);
        CHECK(setuid(0) != 0 && setgid(0) != 0);
        CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
        CHECK(HasNoCapabilities());
        CHECK(OwnStatus().find("CapBnd:\t0000000000000000") != std::string::npos);
        CHECK(getgroups(0, nullptr) == 1);  // root's own are gone
        _exit(0);
      },
      testing::ExitedWithCode(0), "");
}

TEST_F(AsRoot, KeepsThePortsBelow1024WhereAsked) {
  EXPECT_EXIT(
      {
        BecomeUser(FindUser("nobody").value(), {.low_ports = true}).value();
        CHECK(getuid() != 0 && setuid(0) != 0);
        CHECK(OwnStatus().find("CapEff:\t0000000000000400") != std::string::npos);
        CHECK(OwnStatus().find("CapBnd:\t0000000000000400") != std::string::npos);
        _exit(0);
      },
      testing::ExitedWithCode(0), "");
}

TEST_F(AsRoot, AnOrdinaryUserBecomesNobodyElse) {
  EXPECT_EXIT(
      {
        BecomeUser(FindUser("nobody").value()).value();
        const Status other = BecomeUser(FindUser("daemon").value());
        CHECK(!other.ok() && other.error().code() == ErrorCode::kPermissionDenied);
        BecomeUser(FindUser("nobody").value()).value();  // that it already is
        _exit(0);
      },
      testing::ExitedWithCode(0), "");
}

TEST(GiveUpPrivileges, LeavesNoCapability) {
  EXPECT_EXIT(
      {
        GiveUpPrivileges().value();
        CHECK(HasNoCapabilities());
        CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
        _exit(0);
      },
      testing::ExitedWithCode(0), "");
}

TEST(HideMemory, NoCoreDump) {
  EXPECT_EXIT(
      {
        HideMemory().value();
        CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
        _exit(0);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace pacsvisor
