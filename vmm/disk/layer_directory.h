// The directory that holds a disk's layers: IMAGE.layers beside its image. It is opened once,
// before the process is confined, and everything in it is reached through that descriptor.
//
//   map        the map log (layer_log.h); while it is there the image alone is not the disk
//   map.new    a log that is being made
//   layer-N    the data of layer N: block i at i * 4096, as large as the disk, sparse
//
// Every call waits for the host. Threads: any, one at a time.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"
#include "vmm/disk/block_map.h"
#include "vmm/disk/layer_log.h"

namespace pacsvisor {

struct LayerFile {
  UniqueFd buffered;
  UniqueFd direct;  // O_DIRECT; invalid without
};

class LayerDirectory {
 public:
  // Whether `image` has layers that are not merged into it.
  static bool HoldsLayers(const std::filesystem::path& image);

  // What `image` still fetches its blocks from, as its log's header says (LayerLogHeader::source);
  // empty: nothing, or there is no log.
  static Result<std::string> SourceOf(const std::filesystem::path& image);

  // That of `image`, made when missing. It is removed with this object when it is empty then.
  static Result<std::shared_ptr<LayerDirectory>> Open(const std::filesystem::path& image);
  ~LayerDirectory();

  const std::string& name() const { return name_; }  // its path, for messages

  // Empty, of `size_bytes`, in place of what a removal that failed has left; `direct`: also past
  // the page cache, where the host can.
  Result<LayerFile> CreateLayer(uint8_t layer, uint64_t size_bytes, bool direct);
  // A new log that holds its header, in place of none.
  Result<UniqueFd> CreateLog(const LayerLogHeader& header);
  // The disk of the new, empty image `fd` is what `source` holds (BlockSource::name), from now on
  // and durably: its blocks are fetched by whoever runs it. There is no log yet. On failure the
  // image is an empty one.
  Status BeginFromSource(int fd, const std::string& source);
  // Names made and removed so far outlive a power cut.
  Status Sync();
  Status RemoveLayer(uint8_t layer);
  Status RemoveLog();

  // What a machine left that was killed.
  struct Leftover {
    LayerLogHeader header;
    LayerLogEnd end;
    UniqueFd log;
    std::array<LayerFile, kMaxLayers + 1> layers;  // those that the map names
  };
  // Replays the log into `map` and opens the layers it names; removes what nothing names. None when
  // nothing is left over; a log that names a source is, since whoever keeps that must know first.
  // kCorrupt, kUnsupported and kInvalidArgument (another image's) say what to do; nothing is
  // removed then.
  Result<std::optional<Leftover>> Recover(const LayerLogHeader& expected, bool direct,
                                          BlockMap& map);

 private:
  LayerDirectory(std::string name, UniqueFd parent, UniqueFd directory)
      : name_(std::move(name)), parent_(std::move(parent)), directory_(std::move(directory)) {}
  Result<LayerFile> OpenLayer(uint8_t layer, int flags, bool direct);
  Status RemoveOrphans(const std::array<bool, kMaxLayers + 1>& named);
  Status Remove(const std::string& file);

  const std::string name_;
  const UniqueFd parent_;
  const UniqueFd directory_;
};

}  // namespace pacsvisor
