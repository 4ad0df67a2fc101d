#include "vmm/machine/snapshot_blocks.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "tests/support/temporary_directory.h"
#include "vmm/disk/layered_disk.h"
#include "vmm/machine/host_resources.h"
#include "vmm/machine/source_release.h"
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
  std::shared_ptr<Store> OpenStore() const { return Store::Open(Files()).value(); }
  std::shared_ptr<SnapshotReader> Reader() const {
    return OpenStore()->OpenSnapshot(origin_.snapshot).value();
  }
  Result<std::shared_ptr<SnapshotBlocks>> Source(const BlockOrigin& origin) const {
    return SnapshotBlocks::Create(OpenStore(), Reader(), origin, kDiskBytes);
  }
  static NewFetchedDisk NewDisk(const std::filesystem::path& image, int fd) {
    return {.fd = fd,
            .size_bytes = kDiskBytes,
            .image = image.string(),
            .path = image.string(),
            .machine = "pacs"};
  }
  void Begin(const std::filesystem::path& image) {
    const UniqueFd fd(::open(image.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    const Result<BegunDisk> begun =
        BeginFromSnapshot(*OpenStore(), origin_, NewDisk(image, fd.get()));
    ASSERT_TRUE(begun.ok()) << begun.error().message();
  }
  Status Merge(LayeredDisk::SourceBlocks how) {
    auto image = std::make_shared<const DiskImage>(
        TRY(DiskImage::Open({.path = image_, .with_layers = true, .owner = {}})));
    std::shared_ptr<IoEngine> engine = TRY(CreateIoEngine(IoEngineKind::kAuto));
    std::shared_ptr<LayerDirectory> layers = TRY(LayerDirectory::Open(image_));
    const std::shared_ptr<SnapshotBlocks> source = TRY(OpenBlockSource(image_.string(), nullptr));
    return MergeDisk(std::move(image), std::move(engine), std::move(layers), source, how);
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
  Begin(image_);
  const std::vector<Hold> holds = OpenStore()->Holds().value();
  ASSERT_EQ(holds.size(), 1u);
  EXPECT_EQ(holds[0].snapshot, origin_.snapshot);
  EXPECT_EQ(holds[0].reason, "disk '" + image_.string() + "' of machine pacs is fetched from it");
  EXPECT_EQ(DiskPathOf(holds[0]), image_.string());
  const BlockOrigin recorded = BlockOrigin::Parse(*LayerDirectory::SourceOf(image_)).value();
  EXPECT_EQ(recorded.hold, holds[0].word);
  EXPECT_EQ(recorded.store, origin_.store);
  ASSERT_TRUE(Merge(LayeredDisk::SourceBlocks::kLeave).ok());
  EXPECT_EQ(OpenStore()->Holds()->size(), 1u) << "it is needed as before";
  ASSERT_TRUE(Merge(LayeredDisk::SourceBlocks::kFetch).ok());
  EXPECT_EQ(LayerDirectory::SourceOf(image_).value(), "");
  EXPECT_EQ(FileBytes(image_), bytes_);
  EXPECT_EQ(OpenStore()->Holds()->size(), 0u);
}

TEST_F(SnapshotBlocksTest, TwoDisksOfOneSnapshotDoNotReleaseEachOthersHold) {
  Begin(image_);
  Begin(directory_.path() / "other.raw");
  ASSERT_TRUE(Merge(LayeredDisk::SourceBlocks::kFetch).ok());
  const std::vector<Hold> holds = OpenStore()->Holds().value();
  ASSERT_EQ(holds.size(), 1u);
  EXPECT_THAT(holds[0].reason, HasSubstr("other.raw"));
}

// The store's lock is somebody else's: what names the hold stays, and so does the hold.
TEST_F(SnapshotBlocksTest, HoldThatCannotBeReleasedNowIsTheNextOnes) {
  Begin(image_);
  {
    const auto store = OpenStore();
    const auto writer =
        store->Begin(std::nullopt, {{.name = "disk0", .block_bytes = 4096, .size_bytes = 4096}})
            .value();
    ASSERT_TRUE(Merge(LayeredDisk::SourceBlocks::kFetch).ok());
    EXPECT_NE(LayerDirectory::SourceOf(image_).value(), "");
  }
  EXPECT_EQ(OpenStore()->Holds()->size(), 1u);
  ASSERT_TRUE(Merge(LayeredDisk::SourceBlocks::kLeave).ok());
  EXPECT_EQ(OpenStore()->Holds()->size(), 0u);
  EXPECT_EQ(LayerDirectory::SourceOf(image_).value(), "");
  EXPECT_EQ(FileBytes(image_), bytes_);
}

TEST_F(SnapshotBlocksTest, StoreThatWasMovedIsFoundByTheMachinesConfiguration) {
  Begin(image_);
  std::filesystem::rename(StorePath(), directory_.path() / "moved");
  const Result<std::shared_ptr<SnapshotBlocks>> lost = OpenBlockSource(image_.string(), nullptr);
  ASSERT_FALSE(lost.ok());
  EXPECT_THAT(lost.error().message(), HasSubstr(image_.string()));
  EXPECT_THAT(lost.error().message(), HasSubstr(StorePath().string()));
  EXPECT_THAT(lost.error().message(), HasSubstr("[store] path"));
  const std::shared_ptr<Store> own =
      Store::Open(StoreFiles::OpenDirectory((directory_.path() / "moved").string()).value())
          .value();
  const auto source = OpenBlockSource(image_.string(), own);
  ASSERT_TRUE(source.ok()) << source.error().message();
  const auto disk = OpenDisk(*source).value();
  ASSERT_TRUE(disk->MergeAll().ok());
  ASSERT_TRUE((*source)->Release().ok());
  EXPECT_EQ(FileBytes(image_), bytes_);
  EXPECT_EQ(own->Holds()->size(), 0u);
}

TEST_F(SnapshotBlocksTest, ReleasedItHasNothingToGiveAndKeepsNothing) {
  Begin(image_);
  const auto source = OpenBlockSource(image_.string(), nullptr).value();
  EXPECT_FALSE(source->MayForget());
  ASSERT_TRUE(source->Release().ok());
  EXPECT_TRUE(source->Release().ok());
  EXPECT_TRUE(source->MayForget());
  std::vector<uint8_t> block(4096);
  EXPECT_FALSE(source->Fetch(BlockIndex(0), block).ok());
  EXPECT_EQ(OpenStore()->Prune({.keep = {.last = 0}}).value().spared.size(), 0u);
}

TEST_F(SnapshotBlocksTest, WhatCannotBeBegunHoldsNothing) {
  Begin(image_);
  const UniqueFd fd(::open(image_.c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(BeginFromSnapshot(*OpenStore(), origin_, NewDisk(image_, fd.get())).ok());
  EXPECT_EQ(OpenStore()->Holds()->size(), 1u) << "the first one's";
}

TEST_F(SnapshotBlocksTest, GivenUpItIsAnEmptyFileAndHoldsNothing) {
  const UniqueFd fd(::open(image_.c_str(), O_RDWR | O_CLOEXEC));
  const auto store = OpenStore();
  {
    const Result<BegunDisk> begun = BeginFromSnapshot(*store, origin_, NewDisk(image_, fd.get()));
    ASSERT_TRUE(begun.ok()) << begun.error().message();
    GiveUpBegunDisk(*store, *begun);
  }
  EXPECT_EQ(LayerDirectory::SourceOf(image_).value(), "");
  EXPECT_FALSE(std::filesystem::exists(image_.string() + ".layers"));
  EXPECT_EQ(store->Holds()->size(), 0u);
}

// The machine's thread that does so while it runs.
TEST_F(SnapshotBlocksTest, SnapshotIsLetGoOfWhenItsDiskIsWhole) {
  Begin(image_);
  const auto source = OpenBlockSource(image_.string(), nullptr).value();
  std::atomic<bool> needed = true;
  const auto release =
      SourceRelease::Start({{"none", nullptr, {}},
                            {image_.string(), source, [&needed] { return needed.load(); }, [] {}}})
          .value();
  ASSERT_NE(release, nullptr);
  EXPECT_EQ(OpenStore()->Holds()->size(), 1u);
  needed = false;
  while (!source->MayForget()) {
    std::this_thread::yield();
  }
  EXPECT_EQ(OpenStore()->Holds()->size(), 0u);
  EXPECT_EQ(SourceRelease::Start({{image_.string(), source, {}, {}}}).value(), nullptr);
}

TEST_F(SnapshotBlocksTest, DamagedStoreIsNoWrongDisk) {
  Begin(image_);
  origin_ = BlockOrigin::Parse(*LayerDirectory::SourceOf(image_)).value();
  const auto disk = OpenDisk(Source(origin_).value()).value();
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
  EXPECT_FALSE(SnapshotBlocks::Create(OpenStore(), Reader(), origin_, kDiskBytes + 512).ok());
  BlockOrigin other = origin_;
  other.space = "disk1";
  EXPECT_THAT(Source(other).error().message(), HasSubstr("disk1 of snapshot"));
}

TEST(BlockOriginTest, NameIsReadBackWhateverThePath) {
  for (const std::string path : {"/srv/store", "/a in the store b", "/x of snapshot y\n", "s", "\"",
                                 "\\\"", "/ with the key "}) {
    for (const std::string& key : {std::string(), path}) {
      for (const std::string hold : {"", "fetch0123456789abcdef"}) {
        const BlockOrigin origin{
            .store = path, .key = key, .snapshot = SnapshotId(), .space = "disk12", .hold = hold};
        EXPECT_EQ(BlockOrigin::Parse(origin.Name()).value(), origin);
      }
    }
  }
}

TEST(DiskPathOfHold, IsToldOnlyWhereItIsWhole) {
  const auto path_of = [](const std::string& word, const std::string& reason) {
    return DiskPathOf({.snapshot = {}, .word = word, .reason = reason});
  };
  EXPECT_EQ(path_of("fetch1", "disk '/a' of machine b' of machine c is fetched from it"),
            "/a' of machine b");
  EXPECT_EQ(path_of("fetch1", "disk '…/a' of machine c is fetched from it"), std::nullopt);
  EXPECT_EQ(path_of("ab12", "disk '/a' of machine c is fetched from it"), std::nullopt);
  EXPECT_EQ(path_of("fetch1", "no disk"), std::nullopt);
}

TEST(BlockOriginTest, OtherNamesAreRefused) {
  const std::string zeroes(64, '0');
  for (const std::string& name :
       {std::string(), std::string("disk0"), "disk0 of snapshot " + zeroes,
        "disk0 of snapshot " + zeroes + " in the store ",
        "disk0 of snapshot " + zeroes + " in the store /s",
        "disk0 of snapshot " + zeroes + " in the store \"\"",
        "disk0 of snapshot " + zeroes + " in the store \"/s",
        "disk0 of snapshot " + zeroes + " in the store \"/s\" and more",
        "disk0 of snapshot " + zeroes + " in the store \"/s\\",
        "disk0 of snapshot " + zeroes + " (hold ../x) in the store \"/s\"",
        "disk0 of snapshot " + zeroes + " (hold a",
        "disk0 of snapshot " + zeroes + " in the store \"/s\" with the key ",
        " of snapshot " + zeroes + " in the store \"/s\"",
        std::string("disk0 of snapshot 12 in the store \"/s\"")}) {
    const Result<BlockOrigin> parsed = BlockOrigin::Parse(name);
    ASSERT_FALSE(parsed.ok()) << name;
    EXPECT_EQ(parsed.error().code(), ErrorCode::kCorrupt);
  }
}

}  // namespace
}  // namespace pacsvisor
