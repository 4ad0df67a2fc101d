// Disks that nobody wants any more, with what belongs to them. Threads: one.
#pragma once

#include <string>

namespace pacsvisor {

// The layers of the disk `path`, and the hold on the snapshot that its blocks were to be fetched
// from. What cannot be done is logged.
void DropLayers(const std::string& path);

// Those, and the image itself.
void DropDisk(const std::string& path);

}  // namespace pacsvisor
