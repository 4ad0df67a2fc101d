#include "vmm/machine/snapshot_blocks.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/support/temporary_directory.h"
#include "vmm/disk/layered_disk.h"
#include "vmm/snapshot/disks_snapshot.h"

namespace pacsvisor {
namespace {

using testing::HasSubstr;

constexpr uint64_t kDiskBytes = 900 * 4096 + 1536;

class NobodyLooks : public CaptureObserver {
 public:
  void OnProgress(CapturePhase, uint64_t, uint64_t) override {}
  bool cancelled() const override { return false; }
};

std::vector<uint8_t> FileBytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A disk with data, zeroes and a short last block, in a store on the host's disk.
class SnapshotBlocksTest : public testing::Test {
 protected:
  SnapshotBlocksTest() {
    const std::filesystem::path original = directory_.MakeFile("original.raw", kDiskBytes);
    for (uint64_t at = 0; at < kDiskBytes; ++at) {
      const uint64_t block = at / 4096;
      const bool data = block < 70 || (block > 500 && block % 3 == 0) || block == 900;
      bytes_.push_back(data ? static_cast<uint8_t>(1 + (at / 512 + block) % 250) : uint8_t{0});
    }
    std::ofstream(original, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes_.data()),  // bytes as characters
               static_cast<std::streamsize>(bytes_.size()));
    const std::shared_ptr<StoreFiles> files = Files();
    EXPECT_TRUE(Store::Create(*files).ok());
    const auto disk = FileSpace::Open("disk0", original.string(), FileSpace::Mode::kRead).value();
    const FileSpace* const disks[] = {disk.get()};
    NobodyLooks observer;
    SnapshotDraft draft;
    draft.machine = "pacs";
    const auto store = Store::Open(files).value();
    origin_ = {
        .store = StorePath().string(),
        .snapshot = TakeDisksSnapshot(*store, std::nullopt, disks, draft, observer).value().id,
        .space = "disk0"};
  }

  std::filesystem::path StorePath() const { return directory_.path() / "store"; }
  std::shared_ptr<StoreFiles> Files() const {
    std::filesystem::create_directories(StorePath());
    return StoreFiles::OpenDirectory(StorePath().string()).value();
  }
  std::shared_ptr<SnapshotReader> Reader() const {
    return Store::Open(Files()).value()->OpenSnapshot(origin_.snapshot).value();
  }
  Result<std::unique_ptr<LayeredDisk>> OpenDisk(std::shared_ptr<BlockSource> source) {
    auto image = std::make_shared<const DiskImage>(
        TRY(DiskImage::Open({.path = image_, .with_layers = true, .owner = {}})));
    std::shared_ptr<IoEngine> engine = TRY(CreateIoEngine(IoEngineKind::kAuto));
    std::shared_ptr<LayerDirectory> layers = TRY(LayerDirectory::Open(image_));
    return LayeredDisk::Create(std::move(image), std::move(engine), std::move(layers),
                               std::move(source));
  }

  TemporaryDirectory directory_;
  std::filesystem::path image_ = directory_.MakeFile("restored.raw", kDiskBytes);
  std::vector<uint8_t> bytes_;
  BlockOrigin origin_;
};

TEST_F(SnapshotBlocksTest, RestoredDiskIsTheSnapshotsWhoeverGoesOnWithIt) {
  {
    const UniqueFd fd(::open(image_.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(
        LayerDirectory::Open(image_).value()->BeginFromSource(fd.get(), origin_.Name()).ok());
  }
  for (int life = 0; life < 2; ++life) {
    const std::string recorded = LayerDirectory::SourceOf(image_).value();
    const BlockOrigin origin = BlockOrigin::Parse(recorded).value();
    EXPECT_EQ(origin, origin_);
    const auto disk =
        OpenDisk(SnapshotBlocks::Create(Reader(), origin, kDiskBytes).value()).value();
    EXPECT_TRUE(disk->needs_source());
    const auto how =
        life == 0 ? LayeredDisk::SourceBlocks::kLeave : LayeredDisk::SourceBlocks::kFetch;
    ASSERT_TRUE(disk->MergeAll(how).ok());
    EXPECT_EQ(disk->needs_source(), life == 0);
  }
  EXPECT_EQ(LayerDirectory::SourceOf(image_).value(), "");
  EXPECT_EQ(FileBytes(image_), bytes_);
}

TEST_F(SnapshotBlocksTest, DamagedStoreIsNoWrongDisk) {
  {
    const UniqueFd fd(::open(image_.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(
        LayerDirectory::Open(image_).value()->BeginFromSource(fd.get(), origin_.Name()).ok());
  }
  const auto disk = OpenDisk(SnapshotBlocks::Create(Reader(), origin_, kDiskBytes).value()).value();
  size_t damaged = 0;
  for (const auto& entry : std::filesystem::directory_iterator(StorePath() / "packs")) {
    std::fstream pack(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
    pack.seekp(static_cast<std::streamoff>(entry.file_size() / 2));
    pack.put('\x5a');
    pack.put('\xa5');
    ++damaged;
  }
  ASSERT_GT(damaged, 0u);
  const Status merged = disk->MergeAll();
  ASSERT_FALSE(merged.ok());
  EXPECT_THAT(merged.error().message(), HasSubstr(origin_.Name()));
  const std::vector<uint8_t> image = FileBytes(image_);
  for (uint64_t at = 0; at < kDiskBytes; ++at) {
    ASSERT_TRUE(image[at] == bytes_[at] || image[at] == 0) << at;
  }
}

TEST_F(SnapshotBlocksTest, DiskOfAnotherSizeOrNameIsRefused) {
  EXPECT_FALSE(SnapshotBlocks::Create(Reader(), origin_, kDiskBytes + 512).ok());
  BlockOrigin other = origin_;
  other.space = "disk1";
  EXPECT_THAT(SnapshotBlocks::Create(Reader(), other, kDiskBytes).error().message(),
              HasSubstr("disk1 of snapshot"));
}

TEST(BlockOriginTest, NameIsReadBackWhateverThePath) {
  for (const std::string path : {"/srv/store", "/a in the store b", "/x of snapshot y\n", "s"}) {
    const BlockOrigin origin{.store = path, .snapshot = SnapshotId(), .space = "disk12"};
    EXPECT_EQ(BlockOrigin::Parse(origin.Name()).value(), origin);
  }
  const std::string zeroes(64, '0');
  for (const std::string& name :
       {std::string(), std::string("disk0"), "disk0 of snapshot " + zeroes,
        "disk0 of snapshot " + zeroes + " in the store ",
        " of snapshot " + zeroes + " in the store /s",
        std::string("disk0 of snapshot 12 in the store /s")}) {
    const Result<BlockOrigin> parsed = BlockOrigin::Parse(name);
    ASSERT_FALSE(parsed.ok()) << name;
    EXPECT_EQ(parsed.error().code(), ErrorCode::kCorrupt);
  }
}

}  // namespace
}  // namespace pacsvisor
