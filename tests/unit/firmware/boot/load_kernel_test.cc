// Kernels and initrds as files of the host.
#include "firmware/boot/load_kernel.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temporary_directory.h"
#include "tests/unit/firmware/boot/boot_fixture.h"

namespace pacsvisor {
namespace {

class LoadKernelTest : public BootFixture {
 protected:
  std::string WriteFile(const std::string& name, const ImageBytes& bytes) {
    const std::filesystem::path path = directory_.path() / name;
    std::ofstream file(path, std::ios::binary);
    for (const uint8_t byte : bytes) {
      file.put(static_cast<char>(byte));
    }
    return path.string();
  }
  Result<BootState> LoadFiles() { return LoadKernel(*memory_, platform_.memory, source_, acpi_); }

  TemporaryDirectory directory_;
};

TEST_F(LoadKernelTest, FilesArriveByteForByteAndMarked) {
  const ImageBytes image = MakeBzImage({});
  const ImageBytes initrd = MakeCpio();
  source_.kernel = WriteFile("vmlinuz", image);
  source_.initrd = WriteFile("initrd.img", initrd);
  const BootState state = LoadFiles().value();
  const ImageBytes code(image.begin() + kBzCodeOffset, image.end());
  EXPECT_EQ(Read(state.kernel_range.start, code.size()), code);
  EXPECT_EQ(Read(state.initrd_range.start, initrd.size()), initrd);
  for (const GuestAddress written :
       {state.kernel_range.start, state.initrd_range.start, GuestAddress(0x8000),
        GuestAddress(0x1000), GuestAddress(0x2000), GuestAddress(0x1'0000)}) {
    EXPECT_TRUE(memory_->dirty().IsMarked(*memory_->BlockOf(written))) << written.raw();
  }
}

TEST_F(LoadKernelTest, AMissingFileIsNamed) {
  source_.kernel = (directory_.path() / "absent").string();
  ExpectError(LoadFiles(), ErrorCode::kNotFound, "kernel '" + source_.kernel + "'");
  source_.kernel = WriteFile("vmlinuz", MakeBzImage({}));
  source_.initrd = (directory_.path() / "absent").string();
  ExpectError(LoadFiles(), ErrorCode::kNotFound, "initrd '" + source_.initrd + "'");
}

TEST_F(LoadKernelTest, ADirectoryIsNoKernel) {
  source_.kernel = directory_.path().string();
  ExpectError(LoadFiles(), ErrorCode::kInvalidArgument, "a directory");
}

TEST_F(LoadKernelTest, AFifoDoesNotHoldUpTheProgram) {
  source_.kernel = (directory_.path() / "fifo").string();
  ASSERT_EQ(::mkfifo(source_.kernel.c_str(), 0600), 0);
  ExpectError(LoadFiles(), ErrorCode::kInvalidArgument, "not a regular file");
}

TEST_F(LoadKernelTest, WrongFilesAreNamedForWhatTheyAre) {
  const std::pair<ImageBytes, std::string> cases[] = {
      {{}, "empty"},
      {TextBytes("\x1f\x8b-------"), "gzip-compressed data"},
      {{0xfd, '7', 'z', 'X', 'Z', 0, 0}, "xz-compressed data"},
      {TextBytes("!<arch>\ndebian-binary"), "a Debian package"},
      {TextBytes("#!/bin/sh\n"), "a script"},
      {TextBytes("<!DOCTYPE html>"), "an HTML or XML text"},
      {TextBytes("MZ......"), "a Windows or EFI program"},
      {ImageBytes(4096, 0), "full of zeroes"},
      {TextBytes("hello"), "of an unknown kind"},
      {MakeCpio(), "a cpio archive"}};
  for (const auto& [bytes, description] : cases) {
    source_.kernel = WriteFile("file", bytes);
    ExpectError(LoadFiles(), ErrorCode::kInvalidArgument, description);
  }
}

TEST_F(LoadKernelTest, ACommandLineWithAZeroIsRefused) {
  source_.kernel = WriteFile("vmlinuz", MakeBzImage({}));
  source_.command_line = std::string("a\0b", 3);
  ExpectError(LoadFiles(), ErrorCode::kInvalidArgument, "zero character");
}

// Debian's own kernels, where the guests' scripts have fetched them.
class StockKernelTest : public LoadKernelTest, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    Resize(256 * kMiB);
    const std::filesystem::path cache =
        std::filesystem::path(PACSVISOR_SOURCE_DIR) / "build/cache/kernels";
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(cache, none)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(std::string("linux-image-") + GetParam()) &&
          std::filesystem::exists(entry.path() / "vmlinuz")) {
        source_.kernel = (entry.path() / "vmlinuz").string();
      }
    }
    if (source_.kernel.empty()) {
      GTEST_SKIP() << "no kernel " << GetParam()
                   << " in build/cache/kernels: guests/lib/kernels.sh fetches it";
    }
  }
};

TEST_P(StockKernelTest, LoadsAsItIs) {
  const BootState state = LoadFiles().value();
  EXPECT_EQ(state.kernel, "bzImage, unpacked by the guest");
  EXPECT_EQ(state.entry, GuestAddress(0x100'0200));
}

TEST_P(StockKernelTest, LoadsUnpackedByTheHost) {
  source_.unpacking = KernelUnpacking::kByHost;
  const BootState state = LoadFiles().value();
  EXPECT_EQ(state.kernel, "bzImage, unpacked by the host");
  EXPECT_GE(state.entry, GuestAddress(0x100'0000));
  // Linux's banner, which lies packed in the file.
  const ImageBytes memory = Read(state.kernel_range.start, state.kernel_range.size_bytes);
  const std::string_view banner = "Linux version ";
  EXPECT_NE(std::search(memory.begin(), memory.end(), banner.begin(), banner.end()), memory.end());
}

TEST_P(StockKernelTest, NeedsMoreThanASmallMachine) {
  Resize(32 * kMiB);
  const Result<BootState> result = LoadFiles();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), ErrorCode::kNoSpace);
}

INSTANTIATE_TEST_SUITE_P(Debian, StockKernelTest, testing::Values("6.1.", "6.12."));

}  // namespace
}  // namespace pacsvisor
