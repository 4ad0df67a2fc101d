#include "vmm/control/restore_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pacsvisor {
namespace {

using testing::HasSubstr;

SnapshotInfo InfoOf(const std::string& config) {
  SnapshotInfo info;
  info.draft.machine = "pacs";
  info.draft.texts = {{"config", config}, {"config_directory", "/srv/pacs"}};
  info.spaces = {{"memory", 4096, 512 * kMiB}, {"disk0", 4096, 5 * kMiB}, {"disk1", 4096, 512}};
  return info;
}

constexpr char kRecorded[] = R"(name = "pacs"
memory = "512M"
[boot]
kernel = "vmlinuz"
[[disk]]
path = "root.raw"
[[disk]]
path = "data.raw"
serial = "data"
[[net]]
backend = "user"
forward = ["127.0.0.1:4242:4242"]
[[net]]
backend = "tap"
interface = "tap0"
[store]
path = "store"
)";

TEST(RestorePlan, AForwardThatNoCardCanTakeIsRefused) {
  std::string without = kRecorded;
  without.erase(without.find("[[net]]"), without.find("[store]") - without.find("[[net]]"));
  const RestoreOptions wish = {
      .new_name = "copy",
      .directory = "/srv/copy",
      .forwards = {{.host_address = "127.0.0.1", .host_port = 14242, .guest_port = 4242}},
      .store_path = "/backup/store"};
  const Result<RestorePlan> refused = PlanRestore(InfoOf(without), wish);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(), HasSubstr("--forward"));
  EXPECT_TRUE(PlanRestore(InfoOf(kRecorded), wish).ok());
}

TEST(RestorePlan, InPlaceIsTheMachineAsItWas) {
  const RestorePlan plan = PlanRestore(InfoOf(kRecorded), {.store_path = "/backup/store"}).value();
  EXPECT_EQ(plan.config.name, "pacs");
  EXPECT_EQ(plan.config.boot.kernel, "/srv/pacs/vmlinuz");
  EXPECT_EQ(plan.config.store_path, "/backup/store");
  EXPECT_EQ(plan.config.nets[0].forwards.size(), 1u);
  EXPECT_EQ(plan.config.source_text, kRecorded);
  ASSERT_EQ(plan.disks.size(), 2u);
  EXPECT_EQ(plan.disks[0].path, "/srv/pacs/root.raw");
  EXPECT_EQ(plan.disks[1].space, 2u);
  EXPECT_EQ(plan.disks[1].size_bytes, 512u);
}

TEST(RestorePlan, ANewMachineHasItsOwnDisksAndReachesNothing) {
  const RestorePlan plan =
      PlanRestore(
          InfoOf(kRecorded),
          {.new_name = "rehearsal",
           .directory = "/tmp/rehearsal",
           .forwards = {{.host_address = "127.0.0.1", .host_port = 14242, .guest_port = 4242}},
           .store_path = "/backup/store"})
          .value();
  EXPECT_EQ(plan.config.name, "rehearsal");
  EXPECT_EQ(plan.disks[1].path, "/tmp/rehearsal/disk1.raw");
  EXPECT_TRUE(plan.config.nets[0].isolated);
  ASSERT_EQ(plan.config.nets[0].forwards.size(), 1u);
  EXPECT_EQ(plan.config.nets[0].forwards[0].host_port, 14242);
  EXPECT_EQ(plan.config.nets[1].backend, NetBackend::kNone);
  EXPECT_TRUE(plan.config.nets[1].interface.empty());
  // The guest knows its cards.
  EXPECT_EQ(plan.config.nets[0].mac, DefaultMac("pacs", 0));
  // What a snapshot of it takes along is itself.
  const ParsedConfig parsed = ParseConfigText(plan.config.source_text, "/");
  EXPECT_TRUE(parsed.problems.empty());
  EXPECT_EQ(parsed.config.name, "rehearsal");
  EXPECT_EQ(parsed.config.disks[0].path, "/tmp/rehearsal/disk0.raw");
}

TEST(RestorePlan, ALiveOneIsConnectedAsTheOldOneWas) {
  const RestorePlan plan =
      PlanRestore(InfoOf(kRecorded),
                  {.new_name = "second", .directory = "/tmp/x", .live = true, .store_path = "/s"})
          .value();
  EXPECT_EQ(plan.config.nets[1].interface, "tap0");
  EXPECT_FALSE(plan.config.nets[0].isolated);
}

TEST(RestorePlan, MemoryAndProcessorsChangeOnlyCold) {
  const RestoreOptions wish{.memory_bytes = 8 * kGiB, .cpus = 4, .store_path = "/s"};
  const Result<RestorePlan> warm = PlanRestore(InfoOf(kRecorded), wish);
  ASSERT_FALSE(warm.ok());
  EXPECT_THAT(warm.error().message(), HasSubstr("--cold"));
  RestoreOptions cold = wish;
  cold.cold = true;
  const RestorePlan plan = PlanRestore(InfoOf(kRecorded), cold).value();
  EXPECT_EQ(plan.config.memory_bytes, 8 * kGiB);
  EXPECT_EQ(plan.config.cpus, 4u);
}

TEST(RestorePlan, ASnapshotThatLacksAPartIsRefusedByName) {
  SnapshotInfo info = InfoOf(kRecorded);
  info.spaces.pop_back();
  EXPECT_THAT(PlanRestore(info, {.store_path = "/s"}).error().message(), HasSubstr("disk1"));
  info = InfoOf("name = 3\n");
  EXPECT_THAT(PlanRestore(info, {.store_path = "/s"}).error().message(),
              HasSubstr("cannot be read by this pacsvisor"));
  info.draft.texts.clear();
  EXPECT_THAT(PlanRestore(info, {.store_path = "/s"}).error().message(),
              HasSubstr("no configuration"));
}

}  // namespace
}  // namespace pacsvisor
