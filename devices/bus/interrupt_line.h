// An edge-triggered interrupt that a platform device raises. The machine hands the device one that
// is an irqfd on an IOAPIC pin; tests hand it a counter.
#pragma once

namespace pacsvisor {

// Threads: any. Never blocks.
class InterruptLine {
 public:
  virtual ~InterruptLine() = default;
  virtual void Trigger() = 0;
};

}  // namespace pacsvisor
