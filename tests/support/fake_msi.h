// Interrupt vectors and doorbells that count, in place of KVM's.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "devices/pci/msi.h"
#include "devices/virtio/virtio_pci_transport.h"

namespace pacsvisor {

// Threads: any.
class FakeMsiVectors : public MsiVectors {
 public:
  explicit FakeMsiVectors(unsigned count) : messages_(count), triggered_(count) {}

  Status SetMessage(unsigned vector, const MsiMessage& message) override;
  void Trigger(unsigned vector) override;

  MsiMessage message(unsigned vector) const;
  uint64_t triggered(unsigned vector) const;

 private:
  mutable std::mutex mutex_;
  std::vector<MsiMessage> messages_;
  std::vector<uint64_t> triggered_;
};

class FakeMsiController : public MsiController {
 public:
  Result<std::unique_ptr<MsiVectors>> Allocate(unsigned vector_count) override;
  // What Allocate handed out, in order; owned by its users.
  FakeMsiVectors& vectors(size_t allocation = 0) { return *allocated_.at(allocation); }

 private:
  std::vector<FakeMsiVectors*> allocated_;
};

class FakeDoorbellRegistrar : public DoorbellRegistrar {
 public:
  Status Register(GuestAddress address, const EventFd& doorbell) override;
  void Unregister(GuestAddress address, const EventFd& doorbell) override;

  // As KVM does with a write to a bound address; false when none is bound there.
  bool Ring(GuestAddress address) const;
  const std::map<GuestAddress, const EventFd*>& bound() const { return bound_; }
  void RefuseAll() { refuse_ = true; }

 private:
  std::map<GuestAddress, const EventFd*> bound_;
  bool refuse_ = false;
};

}  // namespace pacsvisor
