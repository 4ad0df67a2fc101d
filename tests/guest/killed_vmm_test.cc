// The program is killed while its guest writes: what the guest was told to be durable is on the
// disk, and the file system needs no more than its journal.
//
// Suites named Full kill many times; PACSVISOR_KILLS=N changes how many, PACSVISOR_SEED=N begins
// with another seed. SIGKILL takes the process, not the host's page cache: what a power cut takes
// is the matter of tests/unit/vmm/disk/power_cut_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>
#include <random>

#include "tests/guest/churn/churn_model.h"
#include "tests/guest/guest_process.h"
#include "tests/guest/linux_guest.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;

uint64_t NumberFromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

struct KillCase {
  const char* name;
  uint64_t kills;
  uint32_t cpus;
  bool refuse_uring;
  DiskCache cache;
  uint32_t queues;

  friend void PrintTo(const KillCase& one, std::ostream* out) { *out << one.kills << " kills"; }
};

class KilledVmm : public testing::TestWithParam<KillCase> {
 protected:
  static constexpr uint64_t kDiskBytes = 64 * kMiB;
  static constexpr uint64_t kMinFlushes = 40;
  static constexpr uint64_t kMaxFlushes = 400;

  KilledVmm() {
    disk_ = files_.MakeFileSystem("churn", kDiskBytes);
    config_ = LinuxConfig(files_,
                          "mkdir -p /run/churn; mount -o discard /dev/vdc /run/churn; "
                          "exec /run/job/churn /run/churn $(sed 's/.*churn.seed=//' /proc/cmdline)",
                          GetParam().cpus, 256 * kMiB, {PACSVISOR_CHURN});
    config_.disks.push_back(
        {.path = disk_, .serial = "churn", .queues = GetParam().queues, .cache = GetParam().cache});
  }

  // Boots, kills after `flushes` reports, and returns what the guest said up to then.
  churn::Model RunAndKill(uint64_t seed, uint64_t flushes) {
    MachineConfig config = config_;
    config.boot.cmdline += " churn.seed=" + std::to_string(seed);
    std::ofstream(files_.Path("VM.toml")) << ConfigText(config);
    fs::remove(files_.Path("errors"));
    GuestProcess program({.arguments = {PACSVISOR_PROGRAM, "run", files_.Path("VM.toml")},
                          .environment = {{"PACSVISOR_RUNTIME_DIR", files_.Path("runtime")}},
                          .refuse_uring = GetParam().refuse_uring,
                          .error_log = files_.Path("errors")});
    churn::Model model(seed);
    while (model.flush_count() < flushes && model.failure().empty() && !HasFailure()) {
      model.Feed(program.Expect("churn "));
    }
    program.Kill();
    for (const std::string& line : program.TakeRest()) {
      model.Feed(line);
    }
    return model;
  }

  void CheckFiles(const churn::Model& model) {
    const std::string tree = files_.Path("tree");
    fs::remove_all(tree);
    fs::create_directory(tree);
    // Reads the file system without mounting it.
    const HostResult dump = AskHost("debugfs -R 'rdump / " + tree + "' " + disk_);
    for (uint32_t worker = 0; worker < churn::kWorkers; ++worker) {
      for (uint32_t file = 0; file < churn::kFiles; ++file) {
        const std::string path = tree + "/" + churn::FileName(worker, file);
        ASSERT_TRUE(fs::exists(path)) << dump.output;
        std::ifstream stream(path, std::ios::binary);
        const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), {}};
        const std::vector<std::string> problems = model.Check(
            worker, file,
            {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});  // characters as bytes
        EXPECT_THAT(problems, testing::IsEmpty());
      }
    }
  }

  std::string Errors() const {
    std::ifstream stream(files_.Path("errors"));
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  GuestFiles files_;
  std::string disk_;
  MachineConfig config_;
};

TEST_P(KilledVmm, LosesNothingThatTheGuestFlushed) {
  const uint64_t kills = NumberFromEnvironment("PACSVISOR_KILLS", GetParam().kills);
  const uint64_t first_seed = NumberFromEnvironment("PACSVISOR_SEED", 1);
  for (uint64_t seed = first_seed; seed < first_seed + kills; ++seed) {
    std::mt19937_64 random(seed);
    const uint64_t flushes = kMinFlushes + random() % (kMaxFlushes - kMinFlushes);
    SCOPED_TRACE(testing::Message() << "seed " << seed << ", killed after " << flushes);
    const churn::Model model = RunAndKill(seed, flushes);
    ASSERT_EQ(model.failure(), "");
    ASSERT_TRUE(model.ready() && !HasFailure()) << Errors();
    EXPECT_EQ(GetParam().refuse_uring, Errors().find("threads instead") != std::string::npos)
        << Errors();
    ExpectSoundFileSystem(config_.disks[0].path);
    ExpectSoundFileSystem(disk_);
    ASSERT_NO_FATAL_FAILURE(CheckFiles(model));
    ASSERT_FALSE(HasFailure());
  }
}

std::vector<KillCase> Cases(uint64_t kills) {
  return {{"Uring1Cpu", kills, 1, false, DiskCache::kWriteback, 1},
          {"Uring2CpusDirect", kills, 2, false, DiskCache::kNone, 2},
          {"Threads2Cpus", kills, 2, true, DiskCache::kWriteback, 2}};
}
std::string NameOf(const testing::TestParamInfo<KillCase>& one) { return one.param.name; }

INSTANTIATE_TEST_SUITE_P(Engines, KilledVmm, testing::ValuesIn(Cases(2)), NameOf);
INSTANTIATE_TEST_SUITE_P(Full, KilledVmm, testing::ValuesIn(Cases(12)), NameOf);

}  // namespace
}  // namespace pacsvisor
