#include <gmock/gmock.h>

#include <string>

#include "vmm/machine/config.h"
#include "vmm/machine/config_text.h"
#include "vmm/machine/config_write.h"

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr char kDesignExample[] = R"(name = "pacs"
cpus = 2
memory = "2G"
[boot]
kernel = "vmlinuz"
initrd = "initrd.img"
cmdline = "console=ttyS0 root=/dev/vda"
[[disk]]
path = "root.raw"
[[disk]]
path = "orthanc.raw"
serial = "data"
[[net]]
backend = "user"
forward = ["127.0.0.1:4242:4242"]
[store]
path = "store"
)";

// What is needed for a configuration without problems; the rest is the test's.
ParsedConfig ParseWith(const std::string& rest) {
  return ParseConfigText("name = \"m\"\nmemory = \"64M\"\nboot.kernel = \"k\"\n" + rest, "");
}

void ExpectOnly(const ParsedConfig& parsed, int line, const std::string& text) {
  ASSERT_THAT(parsed.problems, SizeIs(1));
  EXPECT_EQ(parsed.problems[0].line, line);
  EXPECT_THAT(parsed.problems[0].text, HasSubstr(text));
}

TEST(ConfigParse, ReadsTheExampleOfTheDesign) {
  const ParsedConfig parsed = ParseConfigText(kDesignExample, "/vm");
  EXPECT_THAT(parsed.problems, IsEmpty());
  const MachineConfig& config = parsed.config;
  EXPECT_EQ(config.name, "pacs");
  EXPECT_EQ(config.cpus, 2u);
  EXPECT_EQ(config.memory_bytes, 2ul << 30);
  EXPECT_EQ(config.boot.kernel, "/vm/vmlinuz");
  EXPECT_EQ(config.boot.initrd, "/vm/initrd.img");
  EXPECT_EQ(config.boot.cmdline, "console=ttyS0 root=/dev/vda");
  ASSERT_THAT(config.disks, SizeIs(2));
  EXPECT_EQ(config.disks[1].path, "/vm/orthanc.raw");
  EXPECT_EQ(config.disks[1].serial, "data");
  ASSERT_THAT(config.nets, SizeIs(1));
  EXPECT_EQ(FormatForward(config.nets[0].forwards.at(0)), "127.0.0.1:4242:4242");
  EXPECT_EQ(config.store_path, "/vm/store");
  EXPECT_THAT(ValidateConfig(config), IsEmpty());
}

TEST(ConfigParse, AStoreMayHaveARateThatItIsWrittenAt) {
  const ParsedConfig parsed =
      ParseConfigText(std::string(kDesignExample) + "write_rate = \"50M\"\n", "/vm");
  EXPECT_THAT(parsed.problems, IsEmpty());
  EXPECT_EQ(parsed.config.store_write_rate_bytes, 50ul << 20);
  EXPECT_THAT(ConfigToToml(parsed.config), HasSubstr("write_rate = \"50M\""));
  EXPECT_EQ(ParseConfigText(kDesignExample, "/vm").config.store_write_rate_bytes, std::nullopt);
  ExpectOnly(ParseWith("write_rate = \"50M\"\n"), 4, "in [store]");
}

TEST(ConfigParse, TheKeyOfAStoreIsAFileBesideTheConfiguration) {
  const ParsedConfig parsed =
      ParseConfigText(std::string(kDesignExample) + "key = \"store.key\"\n", "/vm");
  EXPECT_THAT(parsed.problems, IsEmpty());
  EXPECT_EQ(parsed.config.store_key, "/vm/store.key");
  EXPECT_THAT(ConfigToToml(parsed.config), HasSubstr("key = \"/vm/store.key\""));
}

TEST(ConfigParse, ReadsEveryOptionalKey) {
  const ParsedConfig parsed = ParseConfigText(R"(name = "all"
cpus = 16
memory = 1073741824
cpu = "x86-64-v3"
memory_backing = "memfd"
tracking = "pagemap"
boot = { kernel = "/k", unpack = "guest" }
disk = [{ path = "d", read_only = true, queues = 4, cache = "none" }]
net = [{ backend = "tap", interface = "tap0", mac = "52:54:00:aA:bb:0c" },
       { backend = "user", isolated = true, forward = ["udp:0.0.0.0:53:53"] }]
console.log = "serial.log"
agent.enabled = true
)",
                                              "dir/");
  EXPECT_THAT(parsed.problems, IsEmpty());
  const MachineConfig& config = parsed.config;
  EXPECT_EQ(config.memory_bytes, 1ul << 30);
  EXPECT_EQ(config.cpu, CpuModel::kX86_64V3);
  EXPECT_EQ(config.memory_backing, MemoryBacking::kMemfd);
  EXPECT_EQ(config.tracking, Tracking::kPagemap);
  EXPECT_EQ(config.boot.kernel, "/k");
  EXPECT_EQ(config.boot.unpack, KernelUnpack::kGuest);
  EXPECT_TRUE(config.disks.at(0).read_only);
  EXPECT_EQ(config.disks.at(0).queues, 4u);
  EXPECT_EQ(config.disks.at(0).cache, DiskCache::kNone);
  EXPECT_EQ(config.nets.at(0).interface, "tap0");
  EXPECT_EQ(FormatMac(config.nets.at(0).mac), "52:54:00:aa:bb:0c");
  EXPECT_TRUE(config.nets.at(1).isolated);
  EXPECT_EQ(config.nets.at(1).forwards.at(0).protocol, ForwardProtocol::kUdp);
  EXPECT_EQ(config.console_log, "dir/serial.log");
  EXPECT_TRUE(config.agent_enabled);
  EXPECT_THAT(ValidateConfig(config), IsEmpty());
}

TEST(ConfigParse, ReadsASchedule) {
  const ParsedConfig parsed = ParseConfigText(R"(name = "pacs"
cpus = 1
memory = "1G"
boot.kernel = "/k"
store.path = "/s"
agent = {}
[schedule]
every = "1h"
quiesce = true
verified_within = "7d"
keep = { last = 24, daily = 7 }
)",
                                              "");
  ASSERT_THAT(parsed.problems, IsEmpty());
  const ScheduleConfig& schedule = parsed.config.schedule.value();
  EXPECT_EQ(schedule.every_us, 3'600'000'000u);
  EXPECT_TRUE(schedule.quiesce);
  EXPECT_EQ(schedule.verified_within_us, 604'800'000'000u);
  EXPECT_EQ(schedule.keep.last, 24u);
  EXPECT_EQ(schedule.keep.daily, 7u);
  EXPECT_EQ(schedule.keep.yearly, 0u);
  EXPECT_THAT(ValidateConfig(parsed.config), IsEmpty());
}

TEST(ConfigParse, AScheduleSaysHowOftenInUnits) {
  const auto problems = [](const std::string& schedule) {
    std::string text;
    for (const ConfigProblem& problem :
         ParseConfigText(
             "name = \"a\"\nmemory = \"1G\"\nboot.kernel = \"/k\"\n[schedule]\n" + schedule, "")
             .problems) {
      text += problem.key + ": " + problem.text + "\n";
    }
    return text;
  };
  EXPECT_THAT(problems("every = \"1 hour\""),
              HasSubstr("schedule.every: every = \"1 hour\" is no time"));
  EXPECT_THAT(problems("every = \"500ms\""), HasSubstr("from 1s to 366d"));
  EXPECT_THAT(problems("quiesce = true"), HasSubstr("schedule.every"));
  EXPECT_THAT(problems("every = \"1h\"\nkeep = { dayly = 3 }"), HasSubstr("did you mean 'daily'?"));
}

TEST(ConfigParse, ReadsTheLimitsOfDisksAndCards) {
  const ParsedConfig parsed = ParseWith(R"([[disk]]
path = "d"
bandwidth = "100M"
iops = 2000
[[disk]]
path = "e"
[[net]]
backend = "user"
bandwidth = "50M"
)");
  EXPECT_THAT(parsed.problems, IsEmpty());
  const MachineConfig& config = parsed.config;
  EXPECT_EQ(config.disks.at(0).rates.bytes_per_second, 100ul << 20);
  EXPECT_EQ(config.disks.at(0).rates.operations_per_second, 2000u);
  EXPECT_FALSE(config.disks.at(1).rates.any());
  EXPECT_EQ(config.nets.at(0).bandwidth_bytes, 50ul << 20);
  ExpectOnly(ParseWith("[[net]]\nbackend = \"user\"\niops = 5\n"), 6, "belongs in [[disk]]");
}

TEST(ConfigParse, ReadsEveryKindOfTracking) {
  EXPECT_EQ(ParseWith("").config.tracking, Tracking::kAuto);
  EXPECT_EQ(ParseWith("tracking = \"auto\"\n").config.tracking, Tracking::kAuto);
  for (const Tracking tracking : kTrackingSources) {
    const std::string name(TrackingName(tracking));
    EXPECT_EQ(ParseWith("tracking = \"" + name + "\"\n").config.tracking, tracking) << name;
  }
  ExpectOnly(ParseWith("tracking = \"bitmaps\"\n"), 4, "did you mean \"bitmap\"?");
  ExpectOnly(ParseWith("tracking = true\n"), 4, "must be a string");
  ExpectOnly(ParseWith("[store]\npath = \"s\"\ntracking = \"ring\"\n"), 6,
             "before the first [table]");
}

TEST(ConfigParse, StopsAtTheFirstSyntaxError) {
  const ParsedConfig parsed = ParseConfigText("name = \"m\"\nmemory = \ncpus = \n", "");
  EXPECT_FALSE(parsed.is_toml);
  ExpectOnly(parsed, 2, "no TOML");
}

TEST(ConfigParse, ATableHeaderThatIsNoKeyIsASyntaxError) {
  const ParsedConfig parsed = ParseConfigText("cpus = 1\n[;net]]\n", "");
  EXPECT_FALSE(parsed.is_toml);
  ExpectOnly(parsed, 2, "no TOML");
}

TEST(ConfigParse, LettersBeyondAsciiOutsideOfQuotesAreASyntaxError) {
  // One of each block of Unicode that holds white space.
  for (const char* letter : {"é", "ᚁ", "‑", "あ", "ﻟ"}) {
    const ParsedConfig parsed = ParseConfigText(std::string("cpus = 1\n") + letter + " = 2\n", "");
    EXPECT_FALSE(parsed.is_toml);
    ExpectOnly(parsed, 2, "no TOML");
  }
  EXPECT_TRUE(ParseWith("console.log = \"\"\"é\\\n  ﻟ\"\"\" # あ\n").problems.empty());
}

TEST(ConfigParse, AKeyTwiceIsASyntaxError) {
  const ParsedConfig parsed = ParseConfigText("cpus = 1\ncpus = 2\n", "");
  EXPECT_FALSE(parsed.is_toml);
  ExpectOnly(parsed, 2, "cpus");
}

TEST(ConfigParse, ReportsAllProblemsTogetherEachWithItsLine) {
  const ParsedConfig parsed = ParseConfigText(R"(name = 5
cpu = "x86-64-v4"
memroy = "2G"
[boot]
kernel = ["vmlinuz"]
[[disk]]
path = "d"
queues = "two"
[[net]]
backend = "bridge"
forward = ["127.0.0.1:80",
           "127.0.0.1:4242:4242",
           "1.2.3:1:1"]
)",
                                              "");
  std::vector<int> lines;
  for (const ConfigProblem& problem : parsed.problems) {
    lines.push_back(problem.line);
  }
  EXPECT_THAT(lines, testing::UnorderedElementsAre(1, 1 /* no memory */, 2, 3, 5, 8, 10, 11, 13));
}

TEST(ConfigParse, SuggestsTheNearestKey) {
  ExpectOnly(ParseWith("[[disk]]\npath = \"d\"\nreadonly = true\n"), 6,
             "did you mean 'read_only'?");
}

TEST(ConfigParse, SuggestsTheTableAKeyBelongsTo) {
  ExpectOnly(ParseWith("[store]\npath = \"s\"\ncpus = 2\n"), 6, "before the first [table]");
  ExpectOnly(ParseWith("cmdline = \"quiet\"\n"), 4, "in [boot]");
}

TEST(ConfigParse, SuggestsTheNearestValue) {
  ExpectOnly(ParseWith("cpu = \"x86-64-2\"\n"), 4, "did you mean \"x86-64-v2\"?");
}

TEST(ConfigParse, ListsTheKnownKeysWhenNoneIsNear) {
  ExpectOnly(ParseWith("[agent]\nfrobnicate = 1\n"), 5, "known here: enabled");
}

TEST(ConfigParse, AWrongTypeNamesBothTypes) {
  ExpectOnly(ParseWith("cpus = \"2\"\n"), 4, "'cpus' is a string and must be an integer");
  ExpectOnly(ParseWith("cpus = 1.5\n"), 4, "a number with a fraction");
  ExpectOnly(ParseWith("[[disk]]\npath = true\n"), 5, "must be a string");
  ExpectOnly(ParseWith("disk = { path = \"d\" }\n"), 4, "must be a list");
  ExpectOnly(ParseWith("disk = [1979-05-27]\n"), 4, "[[disk]] table");
  ExpectOnly(ParseWith("[[store]]\npath = \"s\"\n"), 4, "must be a table");
  ExpectOnly(ParseWith("[[net]]\nbackend = \"user\"\nforward = [4242]\n"), 6, "in quotes");
}

TEST(ConfigParse, NumbersOutOfRangeAreNotWrappedAround) {
  ExpectOnly(ParseWith("cpus = -1\n"), 4, "out of range");
  ExpectOnly(ParseWith("cpus = 4294967298\n"), 4, "out of range");
  ExpectOnly(ParseConfigText("name=\"m\"\nmemory=-5\nboot.kernel=\"k\"\n", ""), 2, "negative");
}

TEST(ConfigParse, AMissingKeyStandsAtItsTable) {
  ExpectOnly(ParseConfigText("name = \"m\"\nmemory = \"64M\"\n\n[boot]\n", ""), 4,
             "'kernel' is missing in boot");
  ExpectOnly(ParseWith("[[disk]]\nserial = \"a\"\n"), 4, "'path' is missing in disk[0]");
}

TEST(ConfigParse, AZeroByteEndsNoString) {
  ExpectOnly(ParseWith("console.log = \"a\\u0000b\"\n"), 4, "zero byte");
  ExpectOnly(ParseWith("[[net]]\nbackend=\"user\"\nforward=[\"127.0.0.1\\u0000:1:1\"]\n"), 6,
             "zero byte");
}

TEST(ConfigParse, WhatIsNoConfigurationIsRefusedByItsSizeAndDots) {
  EXPECT_FALSE(ParseConfigText(std::string(kConfigSizeLimitBytes + 1, ' '), "").is_toml);
  std::string deep = "a";
  for (int i = 0; i < 20'000; ++i) {
    deep += ".a";
  }
  EXPECT_FALSE(ParseConfigText(deep + " = 1\n", "").is_toml);
}

TEST(ConfigParse, TheDeepestTablesAllowedAreTakenDown) {
  std::string deep = "a";
  for (int i = 0; i < 4090; ++i) {
    deep += ".a";
  }
  EXPECT_THAT(ParseWith(deep + " = 1\n").problems, SizeIs(1));
}

TEST(ConfigParse, MacsAreMadeOfNameAndIndex) {
  const std::string nets = "[[net]]\nbackend=\"user\"\n[[net]]\nbackend=\"user\"\n";
  const MachineConfig config = ParseWith(nets).config;
  EXPECT_NE(config.nets.at(0).mac, config.nets.at(1).mac);
  EXPECT_EQ(config.nets.at(0).mac, ParseWith(nets).config.nets.at(0).mac);
  EXPECT_NE(DefaultMac("a", 0), DefaultMac("b", 0));
}

TEST(ConfigText, SizesAreBytesOrPowersOf1024) {
  EXPECT_EQ(ParseSize("2G"), 2ul << 30);
  EXPECT_EQ(ParseSize("512M"), 512ul << 20);
  EXPECT_EQ(ParseSize("1T"), 1ul << 40);
  EXPECT_EQ(ParseSize("4K"), 4096u);
  EXPECT_EQ(ParseSize("4KiB"), 4096u);
  EXPECT_EQ(ParseSize("4Gi"), 4ul << 30);
  EXPECT_EQ(ParseSize("4096"), 4096u);
  for (const char* wrong :
       {"", "G", "-1G", "1.5G", "2g", "2 G", "2GB", "2iB", "0x10", "99999999T"}) {
    EXPECT_EQ(ParseSize(wrong), std::nullopt) << wrong;
  }
}

TEST(ConfigText, SizesAreWrittenInTheLargestWholeUnit) {
  EXPECT_EQ(FormatSize(2ul << 30), "2G");
  EXPECT_EQ(FormatSize(1536ul << 20), "1536M");
  EXPECT_EQ(FormatSize(1000), "1000 bytes");
  EXPECT_EQ(FormatSize(0), "0 bytes");
}

TEST(ConfigText, MacsAreSixPairsOfHexDigits) {
  EXPECT_TRUE(ParseMac("52:54:00:12:34:56"));
  for (const char* wrong : {"", "52:54:00:12:34", "52:54:00:12:34:56:78", "5:54:00:12:34:56",
                            "52-54-00-12-34-56", "52:54:00:12:34:5g", "+2:54:00:12:34:56"}) {
    EXPECT_FALSE(ParseMac(wrong)) << wrong;
  }
}

TEST(ConfigText, AForwardSaysWhatIsWrongWithIt) {
  EXPECT_TRUE(ParseForward("tcp:127.0.0.1:1:65535").ok());
  EXPECT_THAT(ParseForward("4242:4242").error().message(), HasSubstr("has not the parts"));
  EXPECT_THAT(ParseForward("localhost:1:1").error().message(), HasSubstr("no IPv4 address"));
  EXPECT_THAT(ParseForward("0.0.0.0:65536:1").error().message(), HasSubstr("\"65536\" is no port"));
  EXPECT_THAT(ParseForward("0.0.0.0:1:0").error().message(), HasSubstr("\"0\" is no port"));
}

TEST(ConfigText, MessagesHoldNoControlCharacters) {
  EXPECT_EQ(Printable("a\x1b[2Jb\n"), "a?[2Jb?");
  EXPECT_EQ(Printable(std::string(63, 'x') + "é"), std::string(63, 'x') + "…");
}

TEST(ConfigPlaces, AKeyThatIsNotThereStandsWhereItsTableDoes) {
  ConfigPlaces places;
  places.Set("", 1);
  places.Set("disk[0]", 7);
  places.Set("disk[0].path", 8);
  EXPECT_EQ(places.LineOf("disk[0].path"), 8);
  EXPECT_EQ(places.LineOf("disk[0].serial"), 7);
  EXPECT_EQ(places.LineOf("memory"), 1);
  EXPECT_EQ(ConfigPlaces().LineOf("memory"), 0);
}

}  // namespace
}  // namespace pacsvisor
