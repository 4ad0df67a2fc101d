#include <gmock/gmock.h>

#include <string>

#include "vmm/machine/config.h"

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

MachineConfig Valid() {
  MachineConfig config;
  config.name = "m";
  config.memory_bytes = 64ul << 20;
  config.boot.kernel = "k";
  return config;
}

NetConfig Net(NetBackend backend, uint8_t last_byte) {
  NetConfig net;
  net.backend = backend;
  net.mac = {0x52, 0x54, 0, 0, 0, last_byte};
  return net;
}

PortForward Forward(const std::string& address, uint16_t port) {
  return {.host_address = address, .host_port = port, .guest_port = 1};
}

void ExpectOnly(const MachineConfig& config, const std::string& key, const std::string& text) {
  const std::vector<ConfigProblem> problems = ValidateConfig(config);
  ASSERT_THAT(problems, SizeIs(1)) << key;
  EXPECT_EQ(problems[0].key, key);
  EXPECT_THAT(problems[0].text, HasSubstr(text));
}

TEST(ConfigValidate, AMinimalConfigurationIsValid) {
  EXPECT_THAT(ValidateConfig(Valid()), IsEmpty());
}

TEST(ConfigValidate, ANameIsOneComponentOfAPath) {
  for (const std::string name : {"pacs", "a", "PACS-2.old_1", "0"}) {
    MachineConfig config = Valid();
    config.name = name;
    EXPECT_THAT(ValidateConfig(config), IsEmpty()) << name;
  }
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("-a"),
        std::string("a b"), std::string("ä"), std::string(64, 'a')}) {
    MachineConfig config = Valid();
    config.name = name;
    ExpectOnly(config, "name", "cannot name a machine");
  }
}

TEST(ConfigValidate, CpusAreOneToSixteen) {
  for (const uint32_t cpus : {0u, 17u, 4'000'000'000u}) {
    MachineConfig config = Valid();
    config.cpus = cpus;
    ExpectOnly(config, "cpus", "give 1 to 16");
  }
}

TEST(ConfigValidate, MemoryIsEnoughAndWhole) {
  MachineConfig config = Valid();
  config.memory_bytes = 1 << 20;
  ExpectOnly(config, "memory", "at least 8M");
  config.memory_bytes = (64ul << 20) + 4096;
  ExpectOnly(config, "memory", "multiple of 1M");
}

TEST(ConfigValidate, ACommandLineIsOneLineThatLinuxTakes) {
  MachineConfig config = Valid();
  config.boot.cmdline = std::string(2047, 'x');
  EXPECT_THAT(ValidateConfig(config), IsEmpty());
  config.boot.cmdline += 'x';
  ExpectOnly(config, "boot.cmdline", "at most 2047");
  config.boot.cmdline = "a\nb";
  ExpectOnly(config, "boot.cmdline", "spans lines");
}

TEST(ConfigValidate, TwoDisksOnOneFileClash) {
  MachineConfig config = Valid();
  config.disks = {{.path = "/vm/a.raw"}, {.path = "/vm/b.raw"}, {.path = "/vm/../vm/./a.raw"}};
  ExpectOnly(config, "disk[2].path", "is a disk twice");
}

TEST(ConfigValidate, ASerialIsShortPrintableAndUnique) {
  MachineConfig config = Valid();
  config.disks = {{.path = "a", .serial = std::string(20, 's')}};
  EXPECT_THAT(ValidateConfig(config), IsEmpty());
  config.disks[0].serial += 's';
  ExpectOnly(config, "disk[0].serial", "at most 20");
  config.disks[0].serial = "a b";
  ExpectOnly(config, "disk[0].serial", "printable");
  config.disks = {{.path = "a", .serial = "x"}, {.path = "b", .serial = "x"}};
  ExpectOnly(config, "disk[1].serial", "taken by another disk");
}

TEST(ConfigValidate, ThereAreOnlySoManyDisksQueuesAndCards) {
  MachineConfig config = Valid();
  config.disks = {{.path = "a", .queues = 0}};
  ExpectOnly(config, "disk[0].queues", "give 1 to 16");
  config.disks.clear();
  for (size_t i = 0; i <= MachineConfig::kMaxDisks; ++i) {
    config.disks.push_back({.path = std::to_string(i)});
  }
  ExpectOnly(config, "disk[16]", "too many");
  config.disks.clear();
  for (size_t i = 0; i <= MachineConfig::kMaxNets; ++i) {
    config.nets.push_back(Net(NetBackend::kNone, static_cast<uint8_t>(i)));
  }
  ExpectOnly(config, "net[8]", "too many");
}

TEST(ConfigValidate, ALimitIsOneThatAGuestCanLiveWith) {
  MachineConfig config = Valid();
  config.disks = {{.path = "a", .rates = {.bytes_per_second = 0}}};
  ExpectOnly(config, "disk[0].bandwidth", "leave it out for no limit");
  config.disks = {{.path = "a", .rates = {.bytes_per_second = 1ul << 41}}};
  ExpectOnly(config, "disk[0].bandwidth", "64K to 1T");
  config.disks = {{.path = "a", .rates = {.operations_per_second = 9}}};
  ExpectOnly(config, "disk[0].iops", "give 10 to 1000000000");
  config.disks = {
      {.path = "a", .rates = {.bytes_per_second = 64ul << 10, .operations_per_second = 10}}};
  EXPECT_THAT(ValidateConfig(config), IsEmpty());
  config.nets = {Net(NetBackend::kNone, 1)};
  config.nets[0].bandwidth_bytes = 1;
  ExpectOnly(config, "net[0].bandwidth", "1 bytes a second is out of range");
}

TEST(ConfigValidate, AMacIsThatOfOneCard) {
  MachineConfig config = Valid();
  config.nets = {Net(NetBackend::kNone, 1)};
  config.nets[0].mac[0] = 0x53;
  ExpectOnly(config, "net[0].mac", "multicast");
  config.nets[0].mac = {};
  ExpectOnly(config, "net[0].mac", "no address");
  config.nets = {Net(NetBackend::kNone, 1), Net(NetBackend::kNone, 1)};
  ExpectOnly(config, "net[1].mac", "two cards");
}

TEST(ConfigValidate, ATapNeedsAnInterfaceOfItsOwn) {
  MachineConfig config = Valid();
  config.nets = {Net(NetBackend::kTap, 1)};
  ExpectOnly(config, "net[0].interface", "names no TAP interface");
  config.nets[0].interface = "../../etc/passwd";
  ExpectOnly(config, "net[0].interface", "names no TAP interface");
  config.nets[0].interface = "tap0";
  EXPECT_THAT(ValidateConfig(config), IsEmpty());
  config.nets.push_back(Net(NetBackend::kTap, 2));
  config.nets[1].interface = "tap0";
  ExpectOnly(config, "net[1].interface", "used twice");
}

TEST(ConfigValidate, KeysOfAnotherBackendAreNotSilentlyIgnored) {
  MachineConfig config = Valid();
  config.nets = {Net(NetBackend::kUser, 1)};
  config.nets[0].interface = "tap0";
  ExpectOnly(config, "net[0].interface", "is for backend = \"tap\"");
  config.nets = {Net(NetBackend::kNone, 1)};
  config.nets[0].forwards = {Forward("127.0.0.1", 1)};
  ExpectOnly(config, "net[0].forward", "is for backend = \"user\"");
  config.nets[0].forwards.clear();
  config.nets[0].isolated = true;
  ExpectOnly(config, "net[0].isolated", "is for backend = \"user\"");
}

TEST(ConfigValidate, AStoresWriteRateHasLimits) {
  MachineConfig config = Valid();
  config.store_path = "/s";
  for (const uint64_t good : {1ul << 20, 50'000'000ul, 1ul << 40}) {
    config.store_write_rate_bytes = good;
    EXPECT_THAT(ValidateConfig(config), IsEmpty()) << good;
  }
  for (const uint64_t bad : {0ul, (1ul << 20) - 1, (1ul << 40) + 1}) {
    config.store_write_rate_bytes = bad;
    ExpectOnly(config, "store.write_rate", "out of range");
  }
}

TEST(ConfigValidate, AScheduleNeedsAStoreAndAnAgentToQuiesce) {
  MachineConfig config = Valid();
  config.schedule = ScheduleConfig{.every_us = 3'600'000'000, .quiesce = true};
  config.agent_enabled = true;
  ExpectOnly(config, "schedule", "add [store]");
  config.store_path = "/s";
  config.agent_enabled = false;
  ExpectOnly(config, "schedule.quiesce", "add [agent]");
}

TEST(ConfigValidate, ForwardsOfTheSamePortClash) {
  MachineConfig config = Valid();
  config.nets = {Net(NetBackend::kUser, 1), Net(NetBackend::kUser, 2)};
  config.nets[0].forwards = {Forward("127.0.0.1", 80), Forward("127.0.0.2", 80)};
  config.nets[1].forwards = {Forward("127.0.0.1", 81)};
  EXPECT_THAT(ValidateConfig(config), IsEmpty());
  config.nets[1].forwards = {Forward("127.0.0.1", 81), Forward("0.0.0.0", 80)};
  ExpectOnly(config, "net[1].forward[1]", "port 80 twice");
  config.nets[1].forwards[1].protocol = ForwardProtocol::kUdp;
  EXPECT_THAT(ValidateConfig(config), IsEmpty());
}

TEST(ConfigValidate, AProblemStandsAtItsLine) {
  const ParsedConfig parsed = ParseConfigText(
      "name = \"m\"\nmemory = \"1G\"\ncpus = 99\n[boot]\nkernel = \"k\"\n[[disk]]\npath = \"a\"\n"
      "[[disk]]\nserial = \"x\"\npath = \"a\"\n",
      "");
  const std::vector<ConfigProblem> problems = ValidateConfig(parsed.config, parsed.places);
  ASSERT_THAT(problems, SizeIs(2));
  EXPECT_EQ(problems[0].line, 3);
  EXPECT_EQ(problems[1].line, 10);
  EXPECT_THAT(problems[1].text, HasSubstr("first on line 7"));
}

}  // namespace
}  // namespace pacsvisor
