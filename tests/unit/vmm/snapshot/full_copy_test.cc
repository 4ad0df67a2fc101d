#include "vmm/snapshot/full_copy.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "vmm/snapshot/file_space.h"
#include "vmm/snapshot/memory_space.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;

class FullCopyTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/pacsvisor-full-copy-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  std::unique_ptr<GuestMemory> NewMemory() {
    return GuestMemory::Create(MemoryLayout::Create(4 * kMiB, 40).value(),
                               MemoryBacking::kAnonymous)
        .value();
  }

  // Some pages and some disk blocks with random bytes, the last of each included.
  void WriteCopy() {
    memory_ = NewMemory();
    disk_ = FileSpace::Open("disk0", Path("disk"), FileSpace::Mode::kCreate, kDiskBytes).value();
    MemorySpace memory(*memory_);
    std::mt19937 random(1);
    std::vector<uint8_t> block(4096);
    for (Space* space : {static_cast<Space*>(&memory), static_cast<Space*>(disk_.get())}) {
      for (uint64_t i = 0; i < space->block_count(); i += 1 + random() % 17) {
        std::generate(block.begin(), block.end(), [&] { return static_cast<uint8_t>(random()); });
        ASSERT_TRUE(space->Write(BlockIndex(i), block).ok());
      }
      std::fill(block.begin(), block.end(), uint8_t{0xa5});
      ASSERT_TRUE(space->Write(BlockIndex(space->block_count() - 1), block).ok());
    }
    StateNode state;
    state.SetU64("answer", 42);
    const Space* spaces[] = {&memory, disk_.get()};
    const Status written = WriteFullCopy(Path("copy"), state, spaces);
    ASSERT_TRUE(written.ok()) << written.error().message();
  }

  Result<StateNode> ReadBack(GuestMemory& memory, const std::string& disk_name) {
    auto disk =
        FileSpace::Open("disk0", Path(disk_name), FileSpace::Mode::kCreate, kDiskBytes).value();
    MemorySpace memory_space(memory);
    Space* spaces[] = {&memory_space, disk.get()};
    return ReadFullCopy(Path("copy"), spaces);
  }

  static constexpr uint64_t kDiskBytes = 3 * kMiB + 512;  // the last block is a part of one
  std::string directory_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<FileSpace> disk_;
};

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_F(FullCopyTest, BringsBackEveryByteAndTheState) {
  WriteCopy();
  const auto memory = NewMemory();
  const Result<StateNode> state = ReadBack(*memory, "restored");
  ASSERT_TRUE(state.ok()) << state.error().message();
  EXPECT_EQ(state->U64("answer").value(), 42u);
  std::vector<uint8_t> before(4 * kMiB);
  std::vector<uint8_t> after(4 * kMiB);
  ASSERT_TRUE(memory_->Read(GuestAddress(0), before));
  ASSERT_TRUE(memory->Read(GuestAddress(0), after));
  EXPECT_EQ(before, after);
  EXPECT_EQ(Contents(Path("disk")), Contents(Path("restored")));
}

TEST_F(FullCopyTest, NamesTheRecordOfAnyByteThatChanged) {
  WriteCopy();
  const std::string whole = Contents(Path("copy"));
  std::mt19937 random(2);
  for (int round = 0; round < 60; ++round) {
    // The header and the first records byte by byte, the rest by sample.
    const size_t position = round < 30 ? static_cast<size_t>(round) * 4 : random() % whole.size();
    std::string changed = whole;
    changed[position] = static_cast<char>(changed[position] ^ (1 << random() % 8));
    std::ofstream(Path("copy"), std::ios::binary | std::ios::trunc) << changed;
    const auto memory = NewMemory();
    const Result<StateNode> state = ReadBack(*memory, "restored" + std::to_string(round));
    ASSERT_FALSE(state.ok()) << "byte " << position;
  }
}

TEST_F(FullCopyTest, RefusesACopyCutAnywhere) {
  WriteCopy();
  const std::string whole = Contents(Path("copy"));
  std::mt19937 random(3);
  for (int round = 0; round < 30; ++round) {
    fs::resize_file(Path("copy"), random() % whole.size());
    const auto memory = NewMemory();
    ASSERT_FALSE(ReadBack(*memory, "restored" + std::to_string(round)).ok());
    std::ofstream(Path("copy"), std::ios::binary | std::ios::trunc) << whole;
  }
}

TEST_F(FullCopyTest, RefusesAMachineOfAnotherSize) {
  WriteCopy();
  const auto larger =
      GuestMemory::Create(MemoryLayout::Create(8 * kMiB, 40).value(), MemoryBacking::kAnonymous)
          .value();
  const Result<StateNode> state = ReadBack(*larger, "restored");
  ASSERT_FALSE(state.ok());
  EXPECT_THAT(state.error().message(), testing::HasSubstr("does not fit"));
}

TEST_F(FullCopyTest, NeverReplacesAFile) {
  WriteCopy();
  StateNode state;
  EXPECT_EQ(WriteFullCopy(Path("copy"), state, {}).error().code(), ErrorCode::kBusy);
}

TEST_F(FullCopyTest, LeavesNothingBehindWhenTheDiskIsFull) {
  // A file system of its own, smaller than the copy: /dev/full has no names, a small tmpfs needs
  // rights; a file-size limit behaves the same and needs neither.
  StateNode state;
  state.SetBytes("large", std::vector<uint8_t>(1 * kMiB, 1));
  const pid_t child = ::fork();
  if (child == 0) {
    const struct rlimit limit { 64 * 1024, 64 * 1024 };
    ::signal(SIGXFSZ, SIG_IGN);
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const Status written = WriteFullCopy(Path("small"), state, {});
    ::_exit(!written.ok() && written.error().code() == ErrorCode::kNoSpace ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(fs::is_empty(directory_));
}

}  // namespace
}  // namespace pacsvisor
