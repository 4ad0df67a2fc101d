// The design's layer table, held against every #include "..." of the sources; and rules of
// tidiness.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using Layers = std::set<std::string>;

const fs::path kRoot = PACSVISOR_SOURCE_DIR;
constexpr size_t kMaximumLines = 600;
constexpr size_t kMaximumTestLines = 800;  // a fixture and the cases round it

// What a folder may include beside itself and vmm/base.
const std::map<std::string, Layers>& AllowedIncludes() {
  static const Layers kDevices = {"devices/bus",   "devices/pci",     "devices/virtio",
                                  "devices/block", "devices/net",     "devices/console",
                                  "devices/rng",   "devices/platform"};
  static const auto with = [](Layers layers, const Layers& more) {
    layers.insert(more.begin(), more.end());
    return layers;
  };
  static const Layers kBus = {"vmm/dirty", "vmm/memory", "vmm/state"};
  static const Layers kPci = with(kBus, {"devices/bus"});
  static const Layers kVirtio = with(kPci, {"devices/pci"});
  static const Layers kDevice = with(kVirtio, {"devices/virtio"});
  static const Layers kMachine =
      with(kDevices, {"vmm/dirty", "vmm/memory", "vmm/disk", "vmm/state", "vmm/store", "vmm/kvm",
                      "vmm/snapshot", "vmm/sandbox", "firmware/acpi", "firmware/boot"});
  static const std::map<std::string, Layers> kTable = {
      {"vmm/base", {}},
      {"vmm/dirty", {}},
      {"vmm/memory", {"vmm/dirty"}},
      {"vmm/state", {}},
      {"vmm/disk", {"vmm/dirty", "vmm/state"}},
      {"vmm/store", {}},
      {"vmm/kvm", {"vmm/dirty", "vmm/memory", "vmm/state"}},
      {"vmm/snapshot", {"vmm/dirty", "vmm/memory", "vmm/state", "vmm/store"}},
      {"vmm/sandbox", {}},
      {"vmm/machine", kMachine},
      {"vmm/control", {"vmm/machine", "vmm/snapshot", "vmm/store"}},
      {"vmm/cli",
       {"vmm/control", "vmm/machine", "vmm/snapshot", "vmm/store", "vmm/disk", "vmm/sandbox"}},
      {"devices/bus", kBus},
      {"devices/pci", kPci},
      {"devices/virtio", kVirtio},
      {"devices/block", with(kDevice, {"vmm/disk"})},
      {"devices/net", kDevice},
      {"devices/console", kDevice},
      {"devices/rng", kDevice},
      {"devices/platform", kDevice},
      {"firmware/acpi", {"vmm/memory"}},
      {"firmware/boot", {"vmm/memory", "firmware/acpi"}}};
  return kTable;
}

struct SourceFile {
  std::string path;   // from the root
  std::string layer;  // its first two folders
  std::vector<std::string> lines;
};

bool IsSource(const fs::path& path) {
  return path.extension() == ".h" || path.extension() == ".cc";
}

std::vector<std::string> LinesOf(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(line);
  }
  return lines;
}

std::vector<SourceFile> Sources(const std::vector<std::string>& folders) {
  std::vector<SourceFile> sources;
  for (const std::string& folder : folders) {
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      if (entry.is_regular_file() && IsSource(entry.path())) {
        const std::string path = fs::relative(entry.path(), kRoot).string();
        const size_t second = path.find('/', path.find('/') + 1);
        sources.push_back({path, path.substr(0, second), LinesOf(entry.path())});
      }
    }
  }
  EXPECT_FALSE(sources.empty());
  return sources;
}

std::vector<std::string> IncludesOf(const SourceFile& source) {
  static const std::regex pattern("^\\s*#\\s*include\\s*\"([^\"]+)\"");
  std::vector<std::string> includes;
  for (const std::string& line : source.lines) {
    std::smatch match;
    if (std::regex_search(line, match, pattern)) {
      includes.push_back(match[1]);
    }
  }
  return includes;
}

TEST(LayersTest, EveryFolderHasItsPlaceInTheTable) {
  for (const SourceFile& source : Sources({"vmm", "devices", "firmware"})) {
    EXPECT_TRUE(AllowedIncludes().contains(source.layer)) << source.path;
  }
}

TEST(LayersTest, IncludesGoOnlyDownwards) {
  for (const SourceFile& source : Sources({"vmm", "devices", "firmware"})) {
    const auto found = AllowedIncludes().find(source.layer);
    const Layers allowed = found == AllowedIncludes().end() ? Layers{} : found->second;
    for (const std::string& include : IncludesOf(source)) {
      const std::string layer = include.substr(0, include.find('/', include.find('/') + 1));
      EXPECT_TRUE(layer == source.layer || layer == "vmm/base" || allowed.contains(layer))
          << source.path << " includes " << include << ", which its layer may not";
    }
  }
}

TEST(LayersTest, TheTableHasNoCircle) {
  // Taking away, again and again, what depends on nothing that is left must take away everything.
  std::map<std::string, Layers> left = AllowedIncludes();
  for (size_t before = left.size() + 1; before != left.size();) {
    before = left.size();
    std::erase_if(left, [&](const auto& layer) {
      return std::none_of(layer.second.begin(), layer.second.end(),
                          [&](const std::string& below) { return left.contains(below); });
    });
  }
  for (const auto& [layer, below] : left) {
    ADD_FAILURE() << layer << " depends on itself";
  }
}

TEST(LayersTest, IncludesNameFilesFromTheRoot) {
  for (const SourceFile& source : Sources({"vmm", "devices", "firmware", "tests"})) {
    for (const std::string& include : IncludesOf(source)) {
      EXPECT_TRUE(fs::exists(kRoot / include)) << source.path << " includes " << include;
    }
  }
}

TEST(TidyTest, NoSourceFileIsTooLong) {
  for (const SourceFile& source : Sources({"vmm", "devices", "firmware", "tests", "bench"})) {
    EXPECT_LE(source.lines.size(),
              source.path.starts_with("tests/") ? kMaximumTestLines : kMaximumLines)
        << source.path;
  }
}

TEST(TidyTest, HeadersAreIncludedOnce) {
  for (const SourceFile& source : Sources({"vmm", "devices", "firmware", "tests"})) {
    if (source.path.ends_with(".h")) {
      EXPECT_TRUE(std::find(source.lines.begin(), source.lines.end(), "#pragma once") !=
                  source.lines.end())
          << source.path;
    }
  }
}

TEST(TidyTest, HeadersBeginWithWhatTheyAreFor) {
  for (const SourceFile& source : Sources({"vmm", "devices", "firmware"})) {
    if (source.path.ends_with(".h")) {
      EXPECT_TRUE(!source.lines.empty() && source.lines.front().starts_with("//")) << source.path;
    }
  }
}

TEST(TidyTest, NoTabsAndNoTrailingSpace) {
  for (const SourceFile& source : Sources({"vmm", "devices", "firmware", "tests"})) {
    for (size_t i = 0; i < source.lines.size(); ++i) {
      const std::string& line = source.lines[i];
      EXPECT_TRUE(line.find('\t') == std::string::npos && !line.ends_with(' '))
          << source.path << ":" << i + 1;
    }
  }
}

}  // namespace
}  // namespace pacsvisor
