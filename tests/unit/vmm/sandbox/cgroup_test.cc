#include "vmm/sandbox/cgroup.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/support/temporary_directory.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;

// A tree of files as cgroup version 2 lays them out. It shows what is written and what is refused;
// whether a kernel obeys is not shown here.
class CgroupTest : public testing::Test {
 protected:
  CgroupTest() {
    Write("own-cgroup", "1:name=systemd:/elsewhere\n0::/own\n");
    Write("mount/cgroup.controllers", "cpuset cpu io memory pids\n");
    MakeCgroup("mount");
    MakeCgroup("mount/own");
    MakeCgroup("mount/own/pacs");
    MakeCgroup("mount/pacsvisor");
    MakeCgroup("mount/pacsvisor/pacs");
  }

  std::string Path(const std::string& name) const { return (directory_.path() / name).string(); }
  void Write(const std::string& name, const std::string& text) {
    fs::create_directories(fs::path(Path(name)).parent_path());
    std::ofstream(Path(name)) << text;
  }
  void MakeCgroup(const std::string& name) {
    for (const char* file :
         {"cgroup.procs", "cgroup.subtree_control", "cpu.max", "memory.max", "pids.max"}) {
      Write(name + "/" + file, "");
    }
  }
  std::string Read(const std::string& name) const {
    std::ifstream file(Path(name));
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // Where the machine's cgroup is made, by who runs the test.
  std::string Parent() const { return geteuid() == 0 ? "mount/pacsvisor" : "mount/own"; }

  TemporaryDirectory directory_;
  const CgroupHost host_{.mount = Path("mount"), .own_cgroup_file = Path("own-cgroup")};
};

TEST_F(CgroupTest, WritesTheLimitsAndIsJoined) {
  const Result<Cgroup> cgroup = Cgroup::Create(
      "pacs", {.cpu_percent = 150, .memory_bytes = 1ul << 30, .thread_count = 64}, host_);
  ASSERT_TRUE(cgroup.ok()) << cgroup.error().message();
  EXPECT_EQ(Read(Parent() + "/pacs/cpu.max"), "150000 100000");
  EXPECT_EQ(Read(Parent() + "/pacs/memory.max"), "1073741824");
  EXPECT_EQ(Read(Parent() + "/pacs/pids.max"), "64");
  EXPECT_EQ(Read(Parent() + "/pacs/cgroup.procs"), "");
  ASSERT_TRUE(cgroup->Join().ok());
  EXPECT_EQ(Read(Parent() + "/pacs/cgroup.procs"), "0");
  EXPECT_EQ(cgroup->path(), Path(Parent() + "/pacs"));
}

TEST_F(CgroupTest, AsksOnlyForWhatIsLimited) {
  const Result<Cgroup> cgroup = Cgroup::Create("pacs", {.memory_bytes = 1ul << 30}, host_);
  ASSERT_TRUE(cgroup.ok());
  EXPECT_EQ(Read(Parent() + "/cgroup.subtree_control"), "+memory");
  EXPECT_EQ(Read(Parent() + "/pacs/cpu.max"), "");
}

TEST_F(CgroupTest, CountsWhomTheKernelKilledForMemory) {
  const Result<Cgroup> cgroup = Cgroup::Create("pacs", {.memory_bytes = 1ul << 30}, host_);
  ASSERT_TRUE(cgroup.ok());
  EXPECT_EQ(cgroup->OutOfMemoryKills(), 0u);
  Write(Parent() + "/pacs/memory.events", "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n");
  EXPECT_EQ(cgroup->OutOfMemoryKills(), 1u);
}

TEST_F(CgroupTest, NamesTheControllerThatIsMissing) {
  Write("mount/cgroup.controllers", "cpuset cpu io pids\n");
  const Result<Cgroup> cgroup = Cgroup::Create("pacs", {.memory_bytes = 1ul << 30}, host_);
  ASSERT_FALSE(cgroup.ok());
  EXPECT_EQ(cgroup.error().code(), ErrorCode::kUnsupported);
  EXPECT_NE(cgroup.error().message().find("'memory'"), std::string::npos);
  EXPECT_EQ(Read(Parent() + "/pacs/cgroup.procs"), "");
}

TEST_F(CgroupTest, AHostWithVersion1OnlyIsRefusedByName) {
  fs::remove(Path("mount/cgroup.controllers"));
  const Result<Cgroup> cgroup = Cgroup::Create("pacs", {.cpu_percent = 100}, host_);
  ASSERT_FALSE(cgroup.ok());
  EXPECT_NE(cgroup.error().message().find("no cgroup version 2"), std::string::npos);
  EXPECT_FALSE(ProbeCgroups(host_).ok());
}

TEST_F(CgroupTest, TheProbeIsContentWithAWholeTree) { EXPECT_TRUE(ProbeCgroups(host_).ok()); }

}  // namespace
}  // namespace pacsvisor
