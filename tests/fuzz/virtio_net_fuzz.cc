// virtio-net: any rings, headers, frames, control commands and registers, while frames come in;
// saved, taken over by another device from state that may have been changed, reset
// (hostile_device.h). The input begins with the frames to be received. Whatever the bytes say, the
// device lives on, and what it makes of a frame to be sent has right checksums.
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "devices/net/internet_checksum.h"
#include "devices/net/net_device.h"
#include "tests/fuzz/hostile_device.h"
#include "vmm/base/log.h"

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
    for (int count = input.Take<uint8_t>() % 8; count > 0; --count) {
      Packet& packet = packets_.emplace_back();
      packet.header.flags = input.Take<uint8_t>();
      packet.header.gso_type = input.Take<uint8_t>();
      packet.header.checksum_start = input.Take<uint16_t>();
      packet.header.checksum_offset = input.Take<uint16_t>();
      packet.frame.resize(kNetMinFrameBytes + input.Take<uint16_t>());
      const std::span<const uint8_t> bytes = input.TakeBytes(input.Take<uint8_t>() % 65);
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
  explicit Card(GuestMemory& memory)
      : hostile(NetDevice::Create({.name = "net0", .mac = {2, 0, 0, 0, 0, 1}},
                                  std::unique_ptr<NetworkBackend>(network))
                    .value(),
                memory) {
    auto& device = static_cast<NetDevice&>(hostile.device());
    hostile.OnHost([&device](uint16_t action) {
      if (action % 4 == 0) {
        device.Announce();
      } else {
        device.SetLink(action % 4 != 1);
      }
      CHECK(device.counters().received_frames <= device.counters().received_bytes);
    });
  }

  InputNetwork* network = new InputNetwork();
  HostileDevice hostile;
};

void Run(FuzzInput input) {
  static FuzzMemory memory;
  static const auto make = [] { return std::make_unique<Card>(memory.memory()); };
  static std::unique_ptr<Card> card = make();
  static std::unique_ptr<Card> twin = make();
  memory.Clean();
  static_cast<NetDevice&>(card->hostile.device()).SetLink(true);
  static_cast<NetDevice&>(twin->hostile.device()).SetLink(true);
  card->network->SetPackets(input);
  twin->network->SetPackets(input);
  card->hostile.Begin(input);
  PlayHostileLife(card, twin, input, make);
}

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pacsvisor::SetLogLevel(pacsvisor::LogLevel::kOff);
  pacsvisor::Run(pacsvisor::FuzzInput({data, size}));
  return 0;
}
