#include "vmm/machine/config_write.h"

#include <gtest/gtest.h>

namespace pacsvisor {
namespace {

// Every key, none with its default; what is written is read back, and written the same again.
TEST(ConfigWrite, WhatIsWrittenIsTheSameConfiguration) {
  const std::string text = R"(name = "pacs"
cpus = 3
memory = "1536M"
cpu = "x86-64-v2"
memory_backing = "memfd"
tracking = "ring"
[boot]
kernel = "/k/vmlinuz"
initrd = "/k/initrd.img"
cmdline = "console=ttyS0 quoted=\"a\\b\""
unpack = "host"
[[disk]]
path = "/d/root.raw"
serial = "data"
read_only = true
queues = 2
cache = "none"
bandwidth = "100M"
iops = 2000
[[disk]]
path = "/d/second.raw"
queues = 1
[[net]]
backend = "user"
mac = "52:54:00:12:34:56"
forward = ["127.0.0.1:4242:4242", "udp:127.0.0.1:53:5353"]
isolated = true
bandwidth = "50M"
[[net]]
backend = "tap"
interface = "tap0"
mac = "52:54:00:12:34:57"
[console]
log = "/l/console.log"
[agent]
[store]
path = "/s/store"
write_rate = "100M"
[schedule]
every = "90m"
quiesce = true
verified_within = "7d"
keep = { last = 24, hourly = 48, daily = 7, weekly = 4, monthly = 12, yearly = 10 }
[sandbox]
user = "somebody"
seccomp = false
namespaces = ["pid", "mount", "net"]
[limits]
cpu_percent = 250
memory = "3G"
threads = 200
)";
  const ParsedConfig first = ParseConfigText(text, "");
  ASSERT_TRUE(first.problems.empty()) << first.problems.front().text;
  const std::string written = ConfigToToml(first.config);
  EXPECT_EQ(written, text);
  const ParsedConfig second = ParseConfigText(written, "/elsewhere");
  ASSERT_TRUE(second.problems.empty()) << second.problems.front().text;
  EXPECT_EQ(ConfigToToml(second.config), written);
}

}  // namespace
}  // namespace pacsvisor
