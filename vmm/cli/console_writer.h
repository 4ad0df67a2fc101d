// Writes a guest's console to a file descriptor on a thread of its own: whoever hands bytes over
// never waits for a terminal that is stopped or a pipe that nobody reads. What does not fit in the
// buffer is lost, and the output says how much. Threads: Write from any; the others belong to the
// owner.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class ConsoleWriter {
 public:
  static constexpr size_t kBufferBytes = 1 << 20;

  // `fd` is borrowed when `owned` is not valid.
  static Result<std::unique_ptr<ConsoleWriter>> Start(int fd, UniqueFd owned = UniqueFd());
  // Gives what is in the buffer this long to be written; a write that hangs is left behind.
  static constexpr int kFlushMs = 2000;
  ~ConsoleWriter();

  void Write(std::span<const uint8_t> bytes);

 private:
  struct State;

  explicit ConsoleWriter(std::shared_ptr<State> state) : state_(std::move(state)) {}
  static void Loop(State& state);

  const std::shared_ptr<State> state_;  // shared with the thread, which may outlive this
};

}  // namespace pacsvisor
