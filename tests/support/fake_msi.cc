#include "tests/support/fake_msi.h"

namespace pacsvisor {

Status FakeMsiVectors::SetMessage(unsigned vector, const MsiMessage& message) {
  const std::lock_guard lock(mutex_);
  messages_.at(vector) = message;
  return {};
}

void FakeMsiVectors::Trigger(unsigned vector) {
  const std::lock_guard lock(mutex_);
  ++triggered_.at(vector);
}

MsiMessage FakeMsiVectors::message(unsigned vector) const {
  const std::lock_guard lock(mutex_);
  return messages_.at(vector);
}

uint64_t FakeMsiVectors::triggered(unsigned vector) const {
  const std::lock_guard lock(mutex_);
  return triggered_.at(vector);
}

Result<std::unique_ptr<MsiVectors>> FakeMsiController::Allocate(unsigned vector_count) {
  auto vectors = std::make_unique<FakeMsiVectors>(vector_count);
  allocated_.push_back(vectors.get());
  return Result<std::unique_ptr<MsiVectors>>(std::move(vectors));
}

Status FakeDoorbellRegistrar::Register(GuestAddress address, const EventFd& doorbell) {
  if (refuse_) {
    return Error::Make(ErrorCode::kNoSpace, "the test refuses doorbells");
  }
  CHECK(bound_.emplace(address, &doorbell).second, "two doorbells at {}", address);
  return {};
}

void FakeDoorbellRegistrar::Unregister(GuestAddress address, const EventFd& doorbell) {
  const auto found = bound_.find(address);
  CHECK(found != bound_.end() && found->second == &doorbell, "no such doorbell at {}", address);
  bound_.erase(found);
}

bool FakeDoorbellRegistrar::Ring(GuestAddress address) const {
  const auto found = bound_.find(address);
  if (found == bound_.end()) {
    return false;
  }
  found->second->Signal();
  return true;
}

}  // namespace pacsvisor
