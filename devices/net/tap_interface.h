// A TAP interface of the host (Linux, Documentation/networking/tuntap.rst), with the virtio-net
// header before each frame, opened without blocking.
#pragma once

#include <cstdint>
#include <string>

#include "devices/net/network_backend.h"
#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class TapInterface {
 public:
  // Attaches to the interface `name`, or creates it where this process may; one that was created
  // goes away with the descriptor. Errors: kInvalidArgument (name, or an interface of another
  // kind), kNotFound (no TUN driver), kPermissionDenied, kBusy (attached to another process),
  // kUnsupported.
  static Result<TapInterface> Open(const std::string& name);

  int fd() const { return fd_.get(); }
  const std::string& name() const { return name_; }
  // What the kernel can leave undone in the frames it hands over.
  const NetOffloads& offloads() const { return offloads_; }
  Status SetOffloads(const NetOffloads& offloads) const;
  // After the interface was deleted and made anew: attaches to it again. kNotFound when there is
  // none of its name. Not from a filtered thread but the main one.
  Status Reattach() const;

 private:
  TapInterface(std::string name, UniqueFd fd) : name_(std::move(name)), fd_(std::move(fd)) {}
  bool Exists() const;
  Status Attach() const;
  Status SetHeaderSize() const;
  void ProbeOffloads();
  void WarnWhenDown() const;

  std::string name_;
  UniqueFd fd_;
  NetOffloads offloads_;
};

}  // namespace pacsvisor
