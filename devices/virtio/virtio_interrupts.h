// How a virtio PCI function interrupts: the vectors the driver chose for configuration changes and
// for each queue (virtio 1.2, 4.1.5.1.2), and the ISR status byte (4.1.4.5).
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "devices/pci/msix_table.h"
#include "devices/virtio/virtio_pci_registers.h"

namespace pacsvisor {

// Threads: any, without a lock but the MSI-X table's own (a leaf).
class VirtioInterrupts {
 public:
  // One vector for configuration changes plus one a queue.
  VirtioInterrupts(std::string name, std::unique_ptr<MsiVectors> vectors, uint16_t queue_count,
                   GuestFaultCounters& faults)
      : msix_(std::move(name), std::move(vectors), queue_count + 1u, faults),
        queue_vectors_(queue_count) {
    Reset();
  }

  MsixTable& msix() { return msix_; }
  const MsixTable& msix() const { return msix_; }

  uint16_t config_vector() const { return config_vector_.load(std::memory_order_relaxed); }
  uint16_t queue_vector(uint16_t queue) const {
    return queue_vectors_.at(queue).load(std::memory_order_relaxed);
  }
  // A vector that is not there reads back as none (4.1.5.1.2). False: it is not there.
  bool SetConfigVector(uint16_t vector) {
    config_vector_ = Known(vector);
    return config_vector() == vector;
  }
  bool SetQueueVector(uint16_t queue, uint16_t vector) {
    queue_vectors_.at(queue) = Known(vector);
    return queue_vector(queue) == vector;
  }

  void InterruptQueue(uint16_t queue) {
    isr_.fetch_or(kVirtioIsrQueue);
    Trigger(queue_vector(queue));
  }
  void InterruptConfigChange() {
    isr_.fetch_or(kVirtioIsrConfigChange);
    Trigger(config_vector());
  }
  // Reading clears (4.1.4.5).
  uint8_t TakeIsr() { return isr_.exchange(0); }
  uint8_t isr() const { return isr_.load(); }
  void SetIsr(uint8_t isr) { isr_ = isr; }

  // The virtio reset; the table belongs to PCI and stays.
  void Reset() {
    config_vector_ = kVirtioNoVector;
    for (auto& vector : queue_vectors_) {
      vector = kVirtioNoVector;
    }
    isr_ = 0;
  }

 private:
  uint16_t Known(uint16_t vector) const {
    return vector < msix_.vector_count() ? vector : kVirtioNoVector;
  }
  void Trigger(uint16_t vector) {
    if (vector != kVirtioNoVector) {
      msix_.Trigger(vector);
    }
  }

  MsixTable msix_;
  std::atomic<uint16_t> config_vector_ = kVirtioNoVector;
  std::vector<std::atomic<uint16_t>> queue_vectors_;
  std::atomic<uint8_t> isr_ = 0;
};

}  // namespace pacsvisor
