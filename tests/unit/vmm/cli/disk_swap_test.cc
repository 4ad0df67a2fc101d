// Disks exchanged as one, by a process that is killed before each of its steps.
#include "vmm/cli/disk_swap.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/support/temporary_directory.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int kKilled = 77;

class DiskSwapTest : public testing::Test {
 protected:
  DiskSwapTest() {
    for (const char* name : {"root.raw", "data.raw", "more.raw"}) {
      config_.disks.push_back({.path = PathOf(name)});
    }
  }
  std::string PathOf(const std::string& name) const { return (folder_.path() / name).string(); }
  static void Write(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::trunc) << text;
  }
  static std::string Read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void Lay() {
    for (const DiskConfig& disk : config_.disks) {
      LayDisk(disk.path, "old");
      LayDisk(RestoredName(disk.path), "new");
      fs::remove(ReplacedName(disk.path));
      fs::remove_all(ReplacedName(disk.path) + ".layers");
    }
  }
  // With layers that hold the same, where there are to be any.
  void LayDisk(const std::string& path, const std::string& text) const {
    Write(path, text);
    fs::remove_all(path + ".layers");
    if (text == layers_of_ || layers_of_ == "both") {
      fs::create_directory(path + ".layers");
      Write(path + ".layers/layer-1", text);
    }
  }
  // What all disks hold; "mixed" when they do not hold the same.
  std::string Held() const {
    const std::string first = Read(config_.disks.front().path);
    for (const DiskConfig& disk : config_.disks) {
      const bool layers = first == layers_of_ || layers_of_ == "both";
      if (Read(disk.path) != first ||
          Read(disk.path + ".layers/layer-1") != (layers ? first : "")) {
        return "mixed";
      }
    }
    return first;
  }
  // Runs `work` in a process that is killed before its step `step`, from 0. False: it had fewer.
  template <typename Work>
  bool KillAt(int step, const Work& work) {
    const pid_t child = fork();
    if (child == 0) {
      internal::before_swap_step = [step](const std::string&) mutable {
        if (step-- == 0) {
          _exit(kKilled);
        }
      };
      _exit(work().ok() ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == kKilled));
    return WEXITSTATUS(status) == kKilled;
  }

  const TemporaryDirectory folder_;
  MachineConfig config_;
  std::string layers_of_;  // "old", "new" or "both" have them
};

class DiskSwapLayersTest : public DiskSwapTest, public testing::WithParamInterface<const char*> {
 protected:
  DiskSwapLayersTest() { layers_of_ = GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Of, DiskSwapLayersTest, testing::Values("", "old", "new", "both"),
                         [](const auto& one) {
                           return std::string(*one.param == '\0' ? "none" : one.param);
                         });

TEST_P(DiskSwapLayersTest, ExchangesAllAndBack) {
  Lay();
  ASSERT_TRUE(SwapDisks(config_, SwapDirection::kRestore).ok());
  EXPECT_EQ(Held(), "new");
  EXPECT_EQ(Read(ReplacedName(config_.disks[1].path)), "old");
  ASSERT_TRUE(SwapDisks(config_, SwapDirection::kPutBack).ok());
  EXPECT_EQ(Held(), "old");
  ASSERT_TRUE(SwapDisks(config_, SwapDirection::kRestore).ok());
  DropReplacedDisks(config_);
  EXPECT_EQ(Held(), "new");
  const int layers = layers_of_ == "new" || layers_of_ == "both" ? 3 : 0;
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 3 + layers);
}

TEST_P(DiskSwapLayersTest, KilledAnywhereItIsAllOfTheOldOrAllOfTheNew) {
  int killed = 0;
  int stayed_old = 0;
  for (int step = 0;; ++step) {
    SCOPED_TRACE(step);
    Lay();
    if (!KillAt(step, [this] { return SwapDisks(config_, SwapDirection::kRestore); })) {
      break;
    }
    ++killed;
    ASSERT_TRUE(FinishDiskSwap(config_).ok());
    const std::string held = Held();
    ASSERT_TRUE(held == "old" || held == "new") << held;
    stayed_old += held == "old" ? 1 : 0;
    EXPECT_FALSE(fs::exists(config_.disks[0].path + ".swap"));
  }
  const int layers = layers_of_ == "both" ? 6 : layers_of_.empty() ? 0 : 3;
  EXPECT_EQ(killed, 9 + layers) << "the record's two, two a disk and its layers, the record's end";
  EXPECT_EQ(stayed_old, 2) << "until the record has its name";
}

TEST_P(DiskSwapLayersTest, KilledWhileItIsPutBackOrFinishedItIsNeverAMix) {
  for (int step = 0;; ++step) {
    Lay();
    ASSERT_TRUE(SwapDisks(config_, SwapDirection::kRestore).ok());
    const bool killed =
        KillAt(step, [this] { return SwapDisks(config_, SwapDirection::kPutBack); });
    for (int later = 0; later < step; ++later) {
      KillAt(later, [this] { return FinishDiskSwap(config_); });
    }
    ASSERT_TRUE(FinishDiskSwap(config_).ok());
    const std::string held = Held();
    EXPECT_TRUE(held == "old" || held == "new") << held;
    if (!killed) {
      EXPECT_EQ(held, "old");
      break;
    }
  }
}

TEST_F(DiskSwapTest, NothingIsExchangedUnlessAllAreThere) {
  Lay();
  fs::remove(RestoredName(config_.disks[2].path));
  EXPECT_EQ(SwapDisks(config_, SwapDirection::kRestore).error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(Held(), "old");
}

TEST_F(DiskSwapTest, DiskThatWasNotThereComesAllTheSame) {
  Lay();
  fs::remove(config_.disks[1].path);
  ASSERT_TRUE(SwapDisks(config_, SwapDirection::kRestore).ok());
  EXPECT_EQ(Held(), "new");
}

TEST_F(DiskSwapTest, RecordOfOtherDisksOrOfNothingIsRefused) {
  Lay();
  ASSERT_TRUE(KillAt(3, [this] { return SwapDisks(config_, SwapDirection::kRestore); }));
  MachineConfig other = config_;
  other.disks.pop_back();
  const Status refused = FinishDiskSwap(other);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(), HasSubstr("another configuration"));
  ASSERT_TRUE(FinishDiskSwap(config_).ok());
  for (const char* text : {"", "{}", "[]", "{\"swap\": \"away\", \"disks\": []}", "\xff"}) {
    Write(config_.disks[0].path + ".swap", text);
    EXPECT_FALSE(FinishDiskSwap(config_).ok()) << text;
  }
  EXPECT_EQ(Held(), "new");
}

TEST_F(DiskSwapTest, RestoredFilesAreOneProcesssAlone) {
  const std::vector<std::string> disks = {config_.disks[0].path};
  {
    RestoredFiles files = RestoredFiles::Create(disks).value();
    EXPECT_EQ(write(files.fd(0), "new", 3), 3);
    const Result<RestoredFiles> second = RestoredFiles::Create(disks);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
    EXPECT_EQ(Read(RestoredName(disks[0])), "new");
    EXPECT_TRUE(files.Sync().ok());
  }
  EXPECT_FALSE(fs::exists(RestoredName(disks[0])));
}

TEST_F(DiskSwapTest, RestoredFileThatHasBecomeADiskStays) {
  Lay();
  {
    RestoredFiles files = RestoredFiles::Create({config_.disks[0].path}).value();
    EXPECT_EQ(write(files.fd(0), "new", 3), 3);
    ASSERT_TRUE(SwapDisks(config_, SwapDirection::kRestore).ok());
  }
  EXPECT_EQ(Held(), "new");
}

}  // namespace
}  // namespace pacsvisor
