#include "devices/console/console_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kConsoleDeviceStateVersion = 1;
constexpr size_t kMaxNameBytes = 64;

// The guest makes a file name of it.
Status CheckPortName(const std::string& name) {
  const bool bad =
      std::ranges::any_of(name, [](char c) { return c <= ' ' || c >= 0x7f || c == '/'; });
  if (name.empty() || name.size() > kMaxNameBytes || bad) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "'{}' cannot name a console port: 1 to {} printable characters without "
                       "blanks and '/'",
                       name, kMaxNameBytes);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<ConsoleDevice>> ConsoleDevice::Create(ConsoleDeviceOptions options) {
  if (options.ports.size() > kMaxNamedPorts) {
    return Error::Make(ErrorCode::kInvalidArgument, "{}: {} named ports; at most {} are possible",
                       options.name, options.ports.size(), kMaxNamedPorts);
  }
  std::vector<std::unique_ptr<ConsolePort>> ports;
  std::optional<PortSocket> console;
  if (options.console != nullptr) {
    console.emplace(std::move(options.console));
  }
  ports.push_back(std::make_unique<ConsolePort>(0, "console", std::move(console)));
  for (ConsoleDeviceOptions::NamedPort& port : options.ports) {
    TRY(CheckPortName(port.name));
    ports.push_back(
        std::make_unique<ConsolePort>(static_cast<uint32_t>(ports.size()), port.name,
                                      PortSocket(std::move(port.listener), std::move(port.line))));
  }
  std::unique_ptr<EventLoop> loop = TRY(EventLoop::Create(options.name));
  return std::unique_ptr<ConsoleDevice>(
      new ConsoleDevice(std::move(options.name), std::move(ports), std::move(loop)));
}

ConsoleDevice::ConsoleDevice(std::string name, std::vector<std::unique_ptr<ConsolePort>> ports,
                             std::unique_ptr<EventLoop> loop)
    : name_(std::move(name)),
      loop_(std::move(loop)),
      doorbells_(*loop_),
      ports_(std::move(ports)),
      queues_(2 * ports_.size() + 2, nullptr) {}

ConsoleDevice::~ConsoleDevice() { loop_->Stop(); }

std::vector<uint16_t> ConsoleDevice::queue_sizes() const {
  std::vector<uint16_t> sizes(2 * ports_.size() + 2, kPortQueueSize);
  sizes[kConsoleControlReceiveQueue] = kControlQueueSize;
  sizes[kConsoleControlTransmitQueue] = kControlQueueSize;
  return sizes;
}

Status ConsoleDevice::Attach(VirtioTransport& transport, GuestMemory& memory) {
  transport_ = &transport;
  memory_ = &memory;
  for (const auto& port : ports_) {
    port->Start(*loop_, [this, raw = port.get()] { ServiceOne(*raw); });
  }
  TRY(loop_->Start());
  // Clients may come before the driver does.
  loop_->Post([this] { ServiceAll(); });
  return {};
}

void ConsoleDevice::ReadConfig(uint64_t offset, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0});
  const VirtioConsoleConfigSpace space = {.port_limit = static_cast<uint32_t>(ports_.size())};
  if (offset < sizeof(space)) {
    const size_t count = std::min<uint64_t>(data.size(), sizeof(space) - offset);
    // An ABI structure without padding, as bytes.
    std::copy_n(reinterpret_cast<const uint8_t*>(&space) + offset, count, data.begin());
  }
}

// VIRTIO_CONSOLE_F_EMERG_WRITE is not offered: nothing here is the driver's to write.
void ConsoleDevice::WriteConfig(uint64_t, std::span<const uint8_t>) {
  transport_->guest_faults().Count(GuestFault::kReadOnlyRegister);
}

void ConsoleDevice::Activate(const VirtioActivation& activation) {
  const MutexLock lock(mutex_);
  running_ = false;
  failed_ = false;
  ++generation_;
  features_ = activation.features;
  for (const VirtioQueueHandle& handle : activation.queues) {
    CHECK(handle.index < queues_.size(), "queue {}", handle.index);
    queues_[handle.index] = handle.queue;
  }
  for (const auto& port : ports_) {
    port->Bind(*memory_, queues_[ConsoleReceiveQueue(port->id())],
               queues_[ConsoleTransmitQueue(port->id())]);
  }
  if (!Multiport()) {
    ports_[0]->set_guest_open(true);  // 5.3.5: port 0 alone, always there
  }
  Result<DoorbellWatch::Doorbells> doorbells = DoorbellWatch::Duplicate(activation.queues);
  if (!doorbells.ok()) {
    Fail(doorbells.error().message());
    return;
  }
  loop_->Post(
      [this, bells = *doorbells, generation = generation_] { TakeOver(bells, generation); });
}

void ConsoleDevice::StartReset() {
  const MutexLock lock(mutex_);
  running_ = false;
  failed_ = false;
  restored_ = false;
  ++generation_;
  features_ = 0;
  std::ranges::fill(queues_, nullptr);
  for (const auto& port : ports_) {
    port->Unbind();
  }
  ++resets_pending_;
  loop_->Post([this] { AcknowledgeReset(); });
}

bool ConsoleDevice::ResetComplete() const {
  const MutexLock lock(mutex_);
  return resets_pending_ == 0;
}

void ConsoleDevice::Pause() {
  const MutexLock lock(mutex_);
  paused_ = true;
}

void ConsoleDevice::Resume() {
  {
    const MutexLock lock(mutex_);
    paused_ = false;
  }
  loop_->Post([this] { ServiceAll(); });
}

bool ConsoleDevice::GuestOpen(uint32_t port) const {
  const MutexLock lock(mutex_);
  return port < ports_.size() && ports_[port]->guest_open();
}

void ConsoleDevice::TakeOver(const DoorbellWatch::Doorbells& doorbells, uint64_t generation) {
  const Status watched = doorbells_.Watch(doorbells, [this](uint16_t queue) { OnDoorbell(queue); });
  {
    const MutexLock lock(mutex_);
    if (generation != generation_) {
      return;  // reset again meanwhile
    }
    running_ = true;
    if (!watched.ok()) {
      Fail(watched.error().message());
    }
  }
  ServiceAll();
}

void ConsoleDevice::AcknowledgeReset() {
  doorbells_.Unwatch();
  const MutexLock lock(mutex_);
  --resets_pending_;
}

void ConsoleDevice::OnDoorbell(uint16_t queue) {
  if (queue == kConsoleControlReceiveQueue || queue == kConsoleControlTransmitQueue) {
    ServiceAll();
    return;
  }
  const uint32_t port = queue < 2 ? 0u : queue / 2u - 1u;
  ServiceOne(*ports_[port]);
}

void ConsoleDevice::ServiceAll() {
  const MutexLock lock(mutex_);
  FinishRestore();
  ReadControl();
  for (const auto& port : ports_) {
    ServicePort(*port);
  }
  TellDriver();
}

void ConsoleDevice::ServiceOne(ConsolePort& port) {
  const MutexLock lock(mutex_);
  FinishRestore();  // a client or a doorbell may come before what Resume posted
  ServicePort(port);
  TellDriver();
}

void ConsoleDevice::ServicePort(ConsolePort& port) {
  if (paused_) {
    port.Sleep();
    return;
  }
  const ConsolePort::Outcome outcome = port.Service(CanRun());
  if (CanRun()) {
    InterruptIfWanted(ConsoleReceiveQueue(port.id()));
    InterruptIfWanted(ConsoleTransmitQueue(port.id()));
  }
  if (outcome == ConsolePort::Outcome::kBroken) {
    Fail(port.broken_rule(), port.broken_reason());
  } else if (outcome == ConsolePort::Outcome::kMore) {
    loop_->Post([this, raw = &port] { ServiceOne(*raw); });  // after the other ports' turn
  }
}

void ConsoleDevice::InterruptIfWanted(uint16_t queue) {
  if (queues_[queue] != nullptr && queues_[queue]->ShouldInterrupt()) {
    transport_->InterruptQueue(queue);
  }
}

void ConsoleDevice::Fail(std::string_view reason) {
  failed_ = true;
  transport_->NeedsReset(reason);
}

void ConsoleDevice::Fail(GuestFault rule, std::string_view reason) {
  failed_ = true;
  transport_->BrokeRule(rule, reason);
}

void ConsoleDevice::Save(StateNode& node) const {
  const MutexLock lock(mutex_);
  CHECK(paused_, "{} is saved while it runs", name_);
  node.SetVersion(kConsoleDeviceStateVersion);
  for (const auto& port : ports_) {
    port->Save(node.AppendTo("ports"));
  }
}

Status ConsoleDevice::Load(const StateNode& node) {
  TRY(node.Version(kConsoleDeviceStateVersion));
  const std::span<const StateNode> saved = TRY(node.Children("ports"));
  if (saved.size() != ports_.size()) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "saved state: {} has {} ports, this machine's {}", name_, saved.size(),
                       ports_.size());
  }
  const MutexLock lock(mutex_);
  CHECK(!running_, "{} is loaded while it runs", name_);
  for (size_t i = 0; i < ports_.size(); ++i) {
    TRY(ports_[i]->Load(saved[i]));
  }
  restored_ = true;
  paused_ = true;
  return {};
}

// The saved state comes from outside: what it says is in flight must be what the rings say.
void ConsoleDevice::FinishRestore() {
  if (!CanRun() || !std::exchange(restored_, false)) {
    return;
  }
  bool fits = true;
  for (const auto& port : ports_) {
    fits = port->FinishRestore() && fits;
  }
  for (const uint16_t queue : {kConsoleControlReceiveQueue, kConsoleControlTransmitQueue}) {
    fits = fits && (queues_[queue] == nullptr || queues_[queue]->in_flight() == 0);
  }
  if (!fits) {
    Fail(GuestFault::kSavedBroken, "the saved state does not fit the queues");
  }
}

}  // namespace pacsvisor
