#include "vmm/machine/kvm_interrupts.h"

#include <utility>

#include "vmm/base/log.h"

namespace pacsvisor {
namespace {

// One MSI-X vector: its GSI and the eventfd that raises it. The eventfd is bound once the vector
// has a message, since a GSI without a route cannot be bound.
struct Vector {
  Gsi gsi;
  EventFd event;
  bool bound = false;
};

class KvmMsiVectors : public MsiVectors {
 public:
  KvmMsiVectors(KvmVm& vm, InterruptRoutes& routes) : vm_(vm), routes_(routes) {}
  ~KvmMsiVectors() override {
    for (const Vector& vector : vectors_) {
      if (vector.bound) {
        const Status removed = vm_.RemoveIrqfd(vector.gsi, vector.event);
        CHECK(removed.ok(), "{}", removed.error().message());
      }
      routes_.FreeMsi(vector.gsi);
    }
  }

  Status Add() {
    EventFd event = TRY(EventFd::Create());
    vectors_.push_back({TRY(routes_.AllocateMsi()), std::move(event)});
    return {};
  }

  Status SetMessage(unsigned vector, const MsiMessage& message) override {
    Vector& target = vectors_.at(vector);
    TRY(routes_.SetMsi(target.gsi, message.address, message.data));
    if (!target.bound) {
      TRY(vm_.AddIrqfd(target.gsi, target.event));
      target.bound = true;
    }
    return {};
  }

  void Trigger(unsigned vector) override { vectors_.at(vector).event.Signal(); }

 private:
  KvmVm& vm_;
  InterruptRoutes& routes_;
  std::vector<Vector> vectors_;
};

}  // namespace

Result<std::unique_ptr<IrqfdLine>> IrqfdLine::Create(KvmVm& vm, Gsi gsi) {
  EventFd event = TRY(EventFd::Create());
  TRY(vm.AddIrqfd(gsi, event));
  return std::unique_ptr<IrqfdLine>(new IrqfdLine(std::move(event)));
}

Result<std::unique_ptr<MsiVectors>> KvmMsiController::Allocate(unsigned vector_count) {
  auto vectors = std::make_unique<KvmMsiVectors>(vm_, routes_);
  for (unsigned i = 0; i < vector_count; ++i) {
    TRY(vectors->Add());
  }
  return std::unique_ptr<MsiVectors>(std::move(vectors));
}

void KvmDoorbells::Unregister(GuestAddress address, const EventFd& doorbell) {
  const Status removed = vm_.RemoveDoorbell(address, doorbell);
  CHECK(removed.ok(), "{}", removed.error().message());
}

}  // namespace pacsvisor
