// Looking through an initrd before a guest is started with it: a guest that finds it wrong only
// says so half a minute later, on a console that nobody reads.
#pragma once

#include "firmware/boot/image_source.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

// Refuses what is no initrd at all (an ELF, a disk image, ...), saying what it is.
Status CheckInitrdKind(const ImageSource& source);

// Walks an initrd that lies at `range` as the kernel will: cpio archives (Linux,
// Documentation/driver-api/early-userspace/buffer-format.rst) and compressed streams, one behind
// the other, and refuses one that is cut short. What gzip, bzip2, lzma and lzo streams hold cannot
// be known without unpacking them: the guest will tell.
Status CheckInitrdWhole(const GuestMemory& memory, GuestRange range, std::string_view name);

}  // namespace pacsvisor
