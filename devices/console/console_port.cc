#include "devices/console/console_port.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <utility>

#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kConsolePortStateVersion = 1;
constexpr size_t kPieceBytes = 4096;
constexpr int kPiecesPerTurn = 64;

// The bytes of `ranges` from `offset` on, at most as many as `to` holds; how many.
size_t CopyOut(const GuestMemory& memory, std::span<const GuestRange> ranges, uint64_t offset,
               std::span<uint8_t> to) {
  size_t size = 0;
  for (const GuestRange& range : ranges) {
    if (offset >= range.size_bytes) {
      offset -= range.size_bytes;
      continue;
    }
    const size_t part = std::min<uint64_t>(range.size_bytes - offset, to.size() - size);
    const bool read = memory.Read(GuestAddress(range.start.raw() + offset), to.subspan(size, part));
    CHECK(read, "a popped range at {} is not inside memory", range.start);
    size += part;
    offset = 0;
    if (size == to.size()) {
      break;
    }
  }
  return size;
}

void CopyIn(GuestMemory& memory, std::span<const GuestRange> ranges,
            std::span<const uint8_t> from) {
  for (const GuestRange& range : ranges) {
    const size_t part = std::min<uint64_t>(range.size_bytes, from.size());
    const bool written = memory.Write(range.start, from.first(part));
    CHECK(written, "a popped range at {} is not inside memory", range.start);
    from = from.subspan(part);
  }
}

}  // namespace

void ConsolePort::Start(EventLoop& loop, std::function<void()> on_events) {
  on_events_ = std::move(on_events);
  if (exists()) {
    socket_->Start(loop, [this](uint32_t events) { OnEvents(events); });
  }
}

void ConsolePort::OnEvents(uint32_t events) {
  hung_up_ = hung_up_ || (events & (EPOLLHUP | EPOLLERR)) != 0;
  on_events_();
}

void ConsolePort::Bind(GuestMemory& memory, Virtqueue* receive, Virtqueue* transmit) {
  memory_ = &memory;
  receive_ = receive;
  transmit_ = transmit;
  broken_reason_.clear();
}

void ConsolePort::set_guest_open(bool open) {
  guest_open_ = open;
  if (exists()) {
    socket_->SetListened(open);
  }
}

void ConsolePort::Unbind() {
  receive_ = nullptr;
  transmit_ = nullptr;
  set_guest_open(false);
  announcement_ = {};
  output_.reset();
  output_blocked_ = false;
  restored_output_.reset();
}

ConsolePort::Outcome ConsolePort::Service(bool run) {
  if (exists() && socket_->Accept()) {
    hung_up_ = false;
  }
  Outcome output = Outcome::kIdle;
  auto input = Input::kNoRoom;
  output_blocked_ = false;
  if (run) {
    output = PumpOutput();
    input = output == Outcome::kBroken ? Input::kBroken : PumpInput();
  }
  if (hung_up_ && input != Input::kMore && host_open()) {
    // What is left of its input has nowhere to go.
    socket_->Disconnect();
  }
  if (!WatchSocket(input == Input::kIdle)) {
    return Outcome::kIdle;
  }
  if (output == Outcome::kBroken || input == Input::kBroken) {
    return Outcome::kBroken;
  }
  return output == Outcome::kMore || input == Input::kMore ? Outcome::kMore : Outcome::kIdle;
}

// False: the kernel refuses, and the client was sent away.
bool ConsolePort::WatchSocket(bool want_input) {
  if (!exists()) {
    return true;
  }
  const uint32_t events = (want_input ? EPOLLIN : 0u) | (output_blocked_ ? EPOLLOUT : 0u);
  const Status watched = socket_->Watch(events);
  if (!watched.ok()) {
    log_.Log(LogLevel::kWarning, "console port {}: {}", name_, watched.error().message());
    socket_->Disconnect();
  }
  return watched.ok();
}

void ConsolePort::Sleep() {
  if (exists()) {
    socket_->Unwatch();
  }
}

ConsolePort::Outcome ConsolePort::PumpOutput() {
  if (transmit_ == nullptr) {
    return Outcome::kIdle;
  }
  for (int i = 0; i < kPiecesPerTurn; ++i) {
    if (!output_.has_value()) {
      if (const Outcome popped = PopOutput(); popped != Outcome::kMore) {
        return popped;
      }
    }
    if (!host_open()) {
      output_->offset = output_->chain.readable_bytes;
    } else if (!WriteOutput()) {
      output_blocked_ = true;
      return Outcome::kIdle;
    }
    if (output_->offset == output_->chain.readable_bytes) {
      transmit_->Push(output_->chain.head, 0);
      output_.reset();
    }
  }
  return Outcome::kMore;
}

// kMore: there is one.
ConsolePort::Outcome ConsolePort::PopOutput() {
  Output output;
  while (true) {
    switch (transmit_->Pop(output.chain)) {
      case Virtqueue::PopResult::kChain:
        if (!output.chain.writable.empty()) {
          Break(GuestFault::kBufferDirection, "output in a buffer that the device may only write");
          return Outcome::kBroken;
        }
        transmit_->DisableNotifications();
        output_.emplace(std::move(output));
        return Outcome::kMore;
      case Virtqueue::PopResult::kBroken:
        Break(transmit_->broken_rule(), transmit_->broken_reason());
        return Outcome::kBroken;
      case Virtqueue::PopResult::kEmpty:
        if (!transmit_->EnableNotifications()) {
          return Outcome::kIdle;
        }
        break;
    }
  }
}

bool ConsolePort::WriteOutput() {
  std::array<uint8_t, kPieceBytes> piece;
  const size_t size = CopyOut(*memory_, output_->chain.readable, output_->offset, piece);
  if (size == 0) {
    return true;
  }
  size_t written = 0;
  switch (socket_->Write(std::span(piece).first(size), written)) {
    case PortSocket::Transfer::kDone:
      output_->offset += written;
      return true;
    case PortSocket::Transfer::kWouldBlock:
      if (is_console()) {
        output_->offset = output_->chain.readable_bytes;
        return true;
      }
      return false;
    case PortSocket::Transfer::kClosed:
      hung_up_ = true;
      output_->offset = output_->chain.readable_bytes;
      return true;
  }
  return true;
}

ConsolePort::Input ConsolePort::PumpInput() {
  if (receive_ == nullptr || !guest_open_ || !host_open()) {
    return Input::kNoRoom;
  }
  DescriptorChain chain;
  for (int i = 0; i < kPiecesPerTurn; ++i) {
    switch (receive_->Pop(chain)) {
      case Virtqueue::PopResult::kChain:
        if (const Input read = ReadInto(chain); read != Input::kMore) {
          return read;
        }
        break;
      case Virtqueue::PopResult::kBroken:
        Break(receive_->broken_rule(), receive_->broken_reason());
        return Input::kBroken;
      case Virtqueue::PopResult::kEmpty:
        if (!receive_->EnableNotifications()) {
          return Input::kNoRoom;
        }
        break;
    }
  }
  return Input::kMore;
}

ConsolePort::Input ConsolePort::ReadInto(const DescriptorChain& chain) {
  if (!chain.readable.empty() || chain.writable_bytes == 0) {
    Break(chain.readable.empty() ? GuestFault::kBufferTooShort : GuestFault::kBufferDirection,
          "input buffer that the device may not write");
    return Input::kBroken;
  }
  receive_->DisableNotifications();
  std::array<uint8_t, kPieceBytes> piece;
  const size_t room = std::min<uint64_t>(piece.size(), chain.writable_bytes);
  size_t size = 0;
  switch (socket_->Read(std::span(piece).first(room), size)) {
    case PortSocket::Transfer::kDone:
      CopyIn(*memory_, chain.writable, std::span(piece).first(size));
      receive_->Push(chain.head, static_cast<uint32_t>(size));
      return Input::kMore;
    case PortSocket::Transfer::kWouldBlock:
      receive_->UndoPop();
      return Input::kIdle;
    case PortSocket::Transfer::kClosed:
      receive_->UndoPop();
      hung_up_ = true;
      return Input::kIdle;
  }
  return Input::kIdle;
}

void ConsolePort::Save(StateNode& node) const {
  node.SetVersion(kConsolePortStateVersion);
  node.SetString("name", name_);
  node.SetBool("guest_open", guest_open_);
  node.SetBool("add", announcement_.add);
  node.SetBool("console", announcement_.console);
  node.SetBool("announce_name", announcement_.name);
  node.SetBool("ready", announcement_.ready);
  node.SetBool("told_open", announcement_.told_open);
  auto output = restored_output_;
  if (output_.has_value()) {
    output = {output_->chain.head, output_->offset};
  }
  node.SetBool("has_output", output.has_value());
  if (output.has_value()) {
    node.SetU64("output_head", output->first);
    node.SetU64("output_offset", output->second);
  }
}

Status ConsolePort::Load(const StateNode& node) {
  TRY(node.Version(kConsolePortStateVersion));
  const std::string name = TRY(node.String("name"));
  if (name != name_) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "saved state: console port {} is '{}', this machine's is '{}'", id_, name,
                       name_);
  }
  set_guest_open(TRY(node.Bool("guest_open")));
  announcement_.add = TRY(node.Bool("add"));
  announcement_.console = TRY(node.Bool("console"));
  announcement_.name = TRY(node.Bool("announce_name"));
  announcement_.ready = TRY(node.Bool("ready"));
  announcement_.told_open = TRY(node.Bool("told_open"));
  restored_output_.reset();
  if (TRY(node.Bool("has_output"))) {
    const auto head = TRY(node.Get<uint16_t>("output_head"));
    restored_output_ = {head, TRY(node.U64("output_offset"))};
  }
  return {};
}

bool ConsolePort::FinishRestore() {
  const auto restored = std::exchange(restored_output_, std::nullopt);
  const size_t in_flight = transmit_ == nullptr ? 0 : transmit_->in_flight();
  if (in_flight != (restored.has_value() ? 1u : 0u) ||
      (receive_ != nullptr && receive_->in_flight() != 0)) {
    return false;
  }
  if (restored.has_value()) {
    Output output;
    if (transmit_->ReadChain(restored->first, output.chain) != Virtqueue::PopResult::kChain ||
        !output.chain.writable.empty() || restored->second > output.chain.readable_bytes) {
      return false;
    }
    output.offset = restored->second;
    output_.emplace(std::move(output));
  }
  return true;
}

}  // namespace pacsvisor
