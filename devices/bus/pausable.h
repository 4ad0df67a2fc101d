// What a device with threads of its own does when the machine pauses.
//
// Pause runs on the control thread when all vCPUs stand still. It returns when no thread of the
// device touches guest memory, queues or device state any more, and waits for nothing but the
// device's own short locks: never for a disk, a network or a thread inside a system call. What was
// handed to the host before goes on; its completions wait at the device's gate, and its guest
// buffers are recorded as in flight. Between Pause and Resume the device may be saved. Resume lets
// the gate open.
#pragma once

namespace pacsvisor {

class Pausable {
 public:
  virtual ~Pausable() = default;
  virtual void Pause() = 0;
  virtual void Resume() = 0;
};

}  // namespace pacsvisor
