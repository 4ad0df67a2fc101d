// What a thread is for: decides which system calls it is allowed (vmm/sandbox/allowed_calls.h).
#pragma once

#include <array>
#include <string_view>

namespace pacsvisor {

enum class ThreadKind {
  kMain,      // builds the machine, starts threads, waits
  kVcpu,      // runs guest code
  kDevice,    // a virtio worker, a timer: descriptors that are open already
  kNetwork,   // the user-mode network: opens connections on the guest's behalf
  kDiskIo,    // reads and writes disk images where the host has no io_uring
  kControl,   // serves the control socket; pauses, saves
  kSnapshot,  // harvests dirty memory; reads and writes the files of a store
  kStore,     // hashes, compresses and writes for a snapshot: what is in memory, files open already
  kFault,     // fetches pages of guest memory and blocks of disks for who waits, and ahead
};

inline constexpr std::array kThreadKinds = {
    ThreadKind::kMain,     ThreadKind::kVcpu,   ThreadKind::kDevice,
    ThreadKind::kNetwork,  ThreadKind::kDiskIo, ThreadKind::kControl,
    ThreadKind::kSnapshot, ThreadKind::kStore,  ThreadKind::kFault};

constexpr std::string_view ThreadKindName(ThreadKind kind) {
  switch (kind) {
    case ThreadKind::kMain:
      return "main";
    case ThreadKind::kVcpu:
      return "vcpu";
    case ThreadKind::kDevice:
      return "device";
    case ThreadKind::kNetwork:
      return "network";
    case ThreadKind::kDiskIo:
      return "disk-io";
    case ThreadKind::kControl:
      return "control";
    case ThreadKind::kSnapshot:
      return "snapshot";
    case ThreadKind::kStore:
      return "store";
    case ThreadKind::kFault:
      return "fault";
  }
  return "unknown";
}

}  // namespace pacsvisor
