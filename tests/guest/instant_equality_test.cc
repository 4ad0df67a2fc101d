// Incremental snapshots of a Linux that writes memory and disks all the while are, block for block,
// what a program of its own saw at the instant (witnessed_subject.h). What requests that were on
// their way then may have been changing is left out, and printed; those requests are
// in_flight_test's.
#include <gtest/gtest.h>

#include <cstdio>
#include <ostream>

#include "tests/guest/instant_lab.h"

namespace pacsvisor {
namespace {

// Two disks written through different ways, and memory of user programs.
constexpr char kEqualityLoad[] = R"job(
/run/job/page_writer $(sed 's/.*writer.mib=\([0-9]*\).*/\1/' /proc/cmdline) &
mkdir -p /run/fs; mount -o discard /dev/vdd /run/fs
fio --name=raw --filename=/dev/vdc --direct=1 --ioengine=libaio --iodepth=16 --rw=randrw \
  --bsrange=512-64k --fsync=32 --time_based --runtime=600 --size=24M --rate_iops=400 >/dev/null &
(while :; do
  fio --name=files --directory=/run/fs --nrfiles=4 --ioengine=psync --rw=randwrite --bsrange=1k-16k \
    --fsync=16 --size=8M --rate_iops=400 >/dev/null
  rm -f /run/fs/files*
done) &
)job";

struct InstantCase {
  Tracking tracking;
  uint64_t memory_mib;
  int snapshots;

  friend void PrintTo(const InstantCase& one, std::ostream* out) {
    *out << TrackingName(one.tracking) << ", " << one.memory_mib << " MiB";
  }
};

std::vector<InstantCase> AllSources(std::initializer_list<uint64_t> memory_mib, int snapshots) {
  std::vector<InstantCase> cases;
  for (const uint64_t mib : memory_mib) {
    for (const Tracking tracking : kTrackingSources) {
      cases.push_back({tracking, mib, snapshots});
    }
  }
  return cases;
}

std::string NameOfInstantCase(const testing::TestParamInfo<InstantCase>& one) {
  return std::string(TrackingName(one.param.tracking)) + std::to_string(one.param.memory_mib) +
         "Mib";
}

class InstantEquality : public testing::TestWithParam<InstantCase> {
 protected:
  MachineConfig Config(const std::string& job, DiskCache cache) {
    MachineConfig config =
        LinuxConfig(files_, job, 2, GetParam().memory_mib * kMiB, {PACSVISOR_PAGE_WRITER});
    config.tracking = GetParam().tracking;
    config.boot.cmdline += " writer.mib=" + std::to_string(GetParam().memory_mib / 2);
    config.disks.push_back({.path = files_.MakeDisk("raw.raw", 24 * kMiB),
                            .serial = "raw",
                            .queues = 2,
                            .cache = cache});
    config.disks.push_back({.path = files_.MakeFileSystem("files", 64 * kMiB), .serial = "fs"});
    return config;
  }

  void ExpectAsSeen(InstantLab& lab, const SnapshotId& id, const SeenAtInstant& seen) {
    const std::unique_ptr<SnapshotReader> snapshot = lab.store().OpenSnapshot(id).value();
    const Differences differences = lab.subject().Compare(*snapshot, seen);
    EXPECT_EQ(differences.memory_pages, 0u) << "of snapshot " << id.Short();
    EXPECT_EQ(differences.disk_blocks, 0u) << "of snapshot " << id.Short();
    std::printf("%s: %zu requests on their way, %llu blocks of theirs left out\n",
                id.Short().c_str(), seen.requests.size(),
                static_cast<unsigned long long>(differences.left_out));
  }

  GuestFiles files_;
};

// What a source sees of the guest's memory the dirtier's test shows for all of them.
INSTANTIATE_TEST_SUITE_P(Sources, InstantEquality,
                         testing::Values(InstantCase{Tracking::kBitmap, 256, 2},
                                         InstantCase{Tracking::kCompare, 256, 2}),
                         NameOfInstantCase);
INSTANTIATE_TEST_SUITE_P(Full, InstantEquality, testing::ValuesIn(AllSources({256, 1024, 5120}, 6)),
                         NameOfInstantCase);

TEST_P(InstantEquality, SnapshotsUnderLoadAreWhatSomebodyElseSaw) {
  InstantLab lab(files_, Config(kEqualityLoad, DiskCache::kNone), InstantLab::Engines::kTheHosts);
  ASSERT_EQ(lab.guest().machine().tracker().source_name(), TrackingName(GetParam().tracking));
  lab.guest().Expect("pacs-job touched");
  std::vector<std::pair<SnapshotId, SeenAtInstant>> all;
  for (int i = 0; i < GetParam().snapshots; ++i) {
    lab.AwaitMerged();
    const Result<TakenSnapshot> taken = lab.Take();
    ASSERT_TRUE(taken.ok()) << taken.error().message();
    EXPECT_EQ(taken->info.parent.has_value(), i > 0);
    // Nothing was in a layer: what the witness read of the image is the disk.
    EXPECT_EQ(lab.subject().seen().log_batches, std::vector<uint64_t>(4, 0));
    all.emplace_back(taken->info.id, lab.subject().seen());
  }
  for (const auto& [id, seen] : all) {
    ExpectAsSeen(lab, id, seen);
  }
  EXPECT_TRUE(lab.store().Verify({}, [](const VerifyProgress&) {}).value().damages.empty());
}

// Disks whose last layers are not merged when they are frozen again: the witness resolves image,
// layers and log itself, which is exact since the guest had flushed what it wrote.
using LayeredInstantEquality = InstantEquality;
INSTANTIATE_TEST_SUITE_P(Full, LayeredInstantEquality,
                         testing::Values(InstantCase{Tracking::kBitmap, 256, 6}),
                         NameOfInstantCase);

TEST_P(LayeredInstantEquality, SnapshotsOverUnmergedLayersAreWhatSomebodyElseSaw) {
  InstantLab lab(
      files_,
      Config("/run/job/page_writer $(sed 's/.*writer.mib=\\([0-9]*\\).*/\\1/' /proc/cmdline) &\n",
             DiskCache::kWriteback));
  lab.guest().Expect("pacs-job touched");
  int written = 0;
  const auto write_some = [&] {
    // Blocks of some former round and new ones. The word comes in two, since the line is echoed.
    const std::string round = std::to_string(++written);
    lab.guest().SendToShell(
        "for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/dev/vdc bs=4k count=$((i * 2)) "
        "seek=$((" +
        round + " * 97 + i * i * 90)) oflag=direct status=none; done; blkdiscard -o $((" + round +
        " << 20)) -l 65536 /dev/vdc; blkdiscard -z -o $(((" + round +
        " << 20) + 131072)) -l 32768 /dev/vdc; sync /dev/vdc; sync; echo pacs-job writ''ten " +
        round);
    lab.guest().Expect("pacs-job written " + round);
  };
  FaultEngine& engine = lab.engine(InstantLab::kFirstDisk);
  std::vector<std::pair<SnapshotId, SeenAtInstant>> all;
  // Merging reads the layers through the engine, the snapshot beside it: it never gets anywhere.
  engine.SetPolicy([](const IoOperation& operation, uint64_t) {
    return operation.kind == IoKind::kRead && operation.file > 0 ? Fault::Fail(EIO) : Fault::None();
  });
  lab.subject().AfterInstant(write_some);  // into the new layer
  for (int i = 0; i < GetParam().snapshots; ++i) {
    write_some();
    const Result<TakenSnapshot> taken = lab.Take();
    ASSERT_TRUE(taken.ok()) << taken.error().message();
    EXPECT_EQ(lab.subject().seen().log_batches[InstantLab::kFirstDisk] > 0, i > 0);
    all.emplace_back(taken->info.id, lab.subject().seen());
  }
  for (const auto& [id, seen] : all) {
    ExpectAsSeen(lab, id, seen);
  }
}

}  // namespace
}  // namespace pacsvisor
