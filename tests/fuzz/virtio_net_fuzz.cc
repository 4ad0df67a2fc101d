// virtio-net: any rings, headers, frames and control commands, while frames come in; saved, taken
// over by another device, reset. The input is the features, the queues (hostile_queues.h), then
// frames to be received. Whatever the bytes say, the device lives on, and what it makes of a frame
// to be sent has right checksums.
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "devices/net/internet_checksum.h"
#include "devices/net/net_device.h"
#include "tests/fuzz/hostile_queues.h"
#include "vmm/base/log.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

constexpr NetOffloads kAll = {
    .checksum = true, .tcp4_segments = true, .tcp6_segments = true, .ecn_segments = true};

// Completes what it is sent as the user-mode back end does, and hands over what the input holds.
class InputNetwork final : public NetworkBackend {
 public:
  const NetCapabilities& capabilities() const override { return capabilities_; }
  std::string Description() const override { return "the input"; }
  Status Start(EventLoop& /*loop*/, NetReceiver& receiver) override {
    receiver_ = &receiver;
    return {};
  }
  Status SetGuestOffloads(const NetOffloads& /*offloads*/) override { return {}; }

  SendResult Send(const VirtioNetHeader& header, std::span<const iovec> frame) override {
    CHECK(frame.size() == 1 && frame[0].iov_len >= kNetMinFrameBytes &&
          frame[0].iov_len <= kNetMaxFrameBytes);
    const std::span<uint8_t> bytes(static_cast<uint8_t*>(frame[0].iov_base), frame[0].iov_len);
    if (header.gso_type == kNetGsoNone) {
      CompleteChecksum(header, bytes);
    } else if (CompleteLargeTcp4(bytes) == TransmitVerdict::kOk) {
      InternetChecksum sum;  // over a header with its right checksum: 0
      sum.Add(bytes.subspan(14, (bytes[14] & 15u) * 4u));
      CHECK(sum.Finish() == 0);
    }
    return SendResult::kSent;
  }

  void ResumeReceive() override {
    const std::lock_guard lock(mutex_);
    while (!packets_.empty()) {
      NetPacket packet{packets_.back().header, packets_.back().frame};
      if (receiver_->Receive({&packet, 1}) == 0) {
        return;
      }
      packets_.pop_back();
    }
  }
  bool link_up() const override { return true; }

  void SetPackets(FuzzInput& input) {
    const std::lock_guard lock(mutex_);
    packets_.clear();
    while (!input.empty() && packets_.size() < 16) {
      Packet& packet = packets_.emplace_back();
      packet.header.flags = input.Take<uint8_t>();
      packet.header.gso_type = input.Take<uint8_t>();
      packet.header.checksum_start = input.Take<uint16_t>();
      packet.header.checksum_offset = input.Take<uint16_t>();
      packet.frame.resize(kNetMinFrameBytes + input.Take<uint16_t>());
      const std::span<const uint8_t> bytes = input.TakeBytes(64);
      std::copy_n(bytes.begin(), std::min(bytes.size(), packet.frame.size()), packet.frame.begin());
    }
  }

 private:
  struct Packet {
    VirtioNetHeader header;
    std::vector<uint8_t> frame;
  };

  const NetCapabilities capabilities_{kAll, kAll, false};
  NetReceiver* receiver_ = nullptr;
  std::mutex mutex_;
  std::vector<Packet> packets_;  // guarded by mutex_
};

struct Card {
  explicit Card(GuestMemory& memory) : queues(*device, memory) {}

  InputNetwork* network = new InputNetwork();
  std::unique_ptr<NetDevice> device = NetDevice::Create({.name = "net0", .mac = {2, 0, 0, 0, 0, 1}},
                                                        std::unique_ptr<NetworkBackend>(network))
                                          .value();
  HostileQueues queues;
};

void Run(FuzzInput input) {
  static const std::unique_ptr<GuestMemory> memory = MakeTestMemory(2 * kMiB);
  static Card card(*memory);
  static Card twin(*memory);
  const uint64_t features = input.Take<uint32_t>() & card.device->device_features();
  card.queues.Place(input);
  card.network->SetPackets(input);
  card.queues.Activate(features);
  card.queues.Serve();

  StateNode state;
  card.device->Pause();
  card.queues.Save(state);
  card.queues.Reset();
  card.device->Resume();

  const StateNode decoded = DecodeState(EncodeState(state)).value();
  twin.device->Pause();
  twin.queues.TakeOver(card.queues);
  twin.queues.Activate(features, decoded);
  twin.device->Resume();
  twin.queues.Serve();
  twin.queues.Reset();
}

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pacsvisor::SetLogLevel(pacsvisor::LogLevel::kOff);
  pacsvisor::Run(pacsvisor::FuzzInput({data, size}));
  return 0;
}
