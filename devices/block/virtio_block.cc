#include "devices/block/virtio_block.h"

#include <sys/epoll.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace pacsvisor {
namespace {

constexpr uint32_t kLogicalBlockBytes = 512;

bool IsPrintable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

VirtioBlockConfig MakeConfig(const BlockBackend& backend, uint16_t queue_count) {
  const BlockLimits host = backend.limits();
  const BlockRequestLimits limits;
  VirtioBlockConfig config;
  config.capacity_sectors = backend.size_bytes() / kSectorSizeBytes;
  // Header and status take two descriptors of a ring's worth.
  config.seg_max = VirtioBlock::kQueueSize - 2;
  config.block_size_bytes = kLogicalBlockBytes;
  const uint32_t physical_blocks = std::max(1u, host.physical_block_bytes / kLogicalBlockBytes);
  config.physical_block_exponent = static_cast<uint8_t>(std::countr_zero(physical_blocks));
  config.min_io_size = static_cast<uint16_t>(physical_blocks);
  config.num_queues = queue_count;
  if (host.discard) {
    config.max_discard_sectors = limits.max_segment_sectors;
    config.max_discard_segments = limits.max_segments;
    config.discard_sector_alignment =
        host.discard_granularity_bytes / static_cast<uint32_t>(kSectorSizeBytes);
  }
  if (host.write_zeroes) {
    config.max_write_zeroes_sectors = limits.max_segment_sectors;
    config.max_write_zeroes_segments = limits.max_segments;
    config.write_zeroes_may_unmap = 1;
  }
  return config;
}

}  // namespace

Result<std::unique_ptr<VirtioBlock>> VirtioBlock::Create(Options options,
                                                         std::unique_ptr<BlockBackend> backend) {
  if (options.queue_count < 1 || options.queue_count > kMaxQueues) {
    return Error::Make(ErrorCode::kInvalidArgument, "{}: {} queues; it takes 1 to {}", options.name,
                       options.queue_count, kMaxQueues);
  }
  if (options.serial.size() > kVirtioBlockIdBytes || !IsPrintable(options.serial)) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "{}: serial '{}' is not one of at most {} printable ASCII characters",
                       options.name, options.serial, kVirtioBlockIdBytes);
  }
  EventFd wake = TRY(EventFd::Create());
  return std::unique_ptr<VirtioBlock>(
      new VirtioBlock(std::move(options), std::move(backend), std::move(wake)));
}

VirtioBlock::VirtioBlock(Options options, std::unique_ptr<BlockBackend> backend, EventFd wake)
    : options_(std::move(options)),
      backend_(std::move(backend)),
      wake_(std::move(wake)),
      config_(MakeConfig(*backend_, options_.queue_count)) {}

VirtioBlock::~VirtioBlock() = default;

uint64_t VirtioBlock::device_features() const {
  const BlockLimits host = backend_->limits();
  uint64_t features = kVirtioBlockSegMax | kVirtioBlockBlockSize | kVirtioBlockFlush |
                      kVirtioBlockTopology | kVirtioBlockMultiQueue;
  features |= backend_->read_only() ? kVirtioBlockReadOnly : 0;
  features |= host.discard ? kVirtioBlockDiscard : 0;
  features |= host.write_zeroes ? kVirtioBlockWriteZeroes : 0;
  return features;
}

std::vector<uint16_t> VirtioBlock::queue_sizes() const {
  return std::vector<uint16_t>(options_.queue_count, kQueueSize);
}

BlockRequestLimits VirtioBlock::Limits() const {
  const BlockLimits host = backend_->limits();
  BlockRequestLimits limits;
  limits.capacity_bytes = backend_->size_bytes();
  limits.read_only = backend_->read_only();
  limits.discard = host.discard;
  limits.write_zeroes = host.write_zeroes;
  return limits;
}

Status VirtioBlock::Attach(VirtioTransport& transport, GuestMemory& memory) {
  CHECK(server_ == nullptr, "{} attached twice", options_.name);
  transport_ = &transport;
  server_ = std::make_unique<BlockQueueServer>(
      BlockQueueServer::Options{options_.name, options_.serial, options_.queue_count, Limits(),
                                options_.limiter},
      *backend_, transport, memory);
  worker_ = TRY(EventLoop::Create(options_.name));
  doorbells_ = std::make_unique<DoorbellWatch>(*worker_);
  TRY(worker_->Add(backend_->wait_fd(), EPOLLIN, [this](uint32_t) {
    backend_->Poll();
    server_->Service();
  }));
  TRY(worker_->Add(wake_.fd(), EPOLLIN, [this](uint32_t) {
    wake_.Consume();
    server_->Service();
  }));
  if (options_.limiter != nullptr) {
    TRY(worker_->Add(options_.limiter->timer_fd(), EPOLLIN, [this](uint32_t) {
      options_.limiter->ConsumeTimer();
      server_->Service();
    }));
  }
  return worker_->Start();
}

void VirtioBlock::ReadConfig(uint64_t offset, std::span<uint8_t> data) {
  std::fill(data.begin(), data.end(), uint8_t{0});
  if (offset < sizeof(config_)) {
    const size_t size = std::min<uint64_t>(data.size(), sizeof(config_) - offset);
    // A trivially copyable structure may be read as bytes.
    std::memcpy(data.data(), reinterpret_cast<const uint8_t*>(&config_) + offset, size);
  }
}

// Nothing is writable without CONFIG_WCE.
void VirtioBlock::WriteConfig(uint64_t /*offset*/, std::span<const uint8_t> /*data*/) {
  transport_->guest_faults().Count(GuestFault::kReadOnlyRegister);
}

void VirtioBlock::Activate(const VirtioActivation& activation) {
  server_->Activate(activation);
  Result<DoorbellWatch::Doorbells> doorbells = DoorbellWatch::Duplicate(activation.queues);
  if (!doorbells.ok()) {
    transport_->NeedsReset(doorbells.error().message());
    return;
  }
  worker_->Post([this, watched = std::move(*doorbells)] {
    const Status status =
        doorbells_->Watch(watched, [this](uint16_t /*queue*/) { server_->Service(); });
    if (!status.ok()) {
      transport_->NeedsReset(status.error().message());
    }
    server_->Service();
  });
}

void VirtioBlock::StartReset() {
  server_->StartReset();
  resets_pending_.fetch_add(1);
  worker_->Post([this] {
    doorbells_->Unwatch();
    resets_pending_.fetch_sub(1);
  });
}

bool VirtioBlock::ResetComplete() const {
  return resets_pending_.load() == 0 && server_->ResetComplete();
}

void VirtioBlock::Pause() { server_->Pause(); }

void VirtioBlock::Resume() {
  server_->Resume();
  wake_.Signal();
}

void VirtioBlock::Save(StateNode& node) const { server_->Save(node); }

Status VirtioBlock::Load(const StateNode& node) { return server_->Load(node); }

}  // namespace pacsvisor
