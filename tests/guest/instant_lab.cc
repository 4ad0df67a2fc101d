#include "tests/guest/instant_lab.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "vmm/disk/layered_disk.h"
#include "vmm/snapshot/file_space.h"

namespace pacsvisor {
namespace {

class NobodyWatches : public CaptureObserver {
 public:
  void OnProgress(CapturePhase, uint64_t, uint64_t) override {}
  bool cancelled() const override { return false; }
};

// What a test waits for comes, or the test fails.
void Await(const std::string& what, const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + GuestMachine::kDeadline;
  while (!condition()) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << what;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void RestoreDisk(SnapshotReader& snapshot, uint32_t space, const std::string& path) {
  constexpr uint64_t kBlocksRead = 256;
  const StoredSpace& stored = snapshot.info().spaces[space];
  const auto file =
      FileSpace::Open(stored.name, path, FileSpace::Mode::kCreate, stored.size_bytes).value();
  std::vector<uint8_t> bytes(kBlocksRead * file->block_bytes());
  for (uint64_t block = 0; block < file->block_count();) {
    const uint64_t zero = snapshot.ZeroRun(space, BlockIndex(block)).value();
    if (zero > 0) {
      block += zero;
      continue;
    }
    const uint64_t count = std::min(kBlocksRead, file->block_count() - block);
    const std::span<uint8_t> part(bytes.data(), count * file->block_bytes());
    ASSERT_TRUE(snapshot.Read(space, BlockIndex(block), part).ok());
    ASSERT_TRUE(file->Write(BlockIndex(block), part).ok());
    block += count;
  }
}

}  // namespace

InstantLab::InstantLab(const GuestFiles& files, MachineConfig config, Engines engines)
    : config_(std::move(config)) {
  config_.store_path = files.Path("store");
  host_ = HostResources::Open(config_, {}).value();
  // It was made for this test, which exchanges the engines before anybody uses them.
  auto& disks = const_cast<HostResources&>(*host_).disks;
  for (size_t i = kFirstDisk; engines == Engines::kHeld && i < disks.size(); ++i) {
    engines_.push_back(std::make_shared<FaultEngine>());
    disks[i].engine = engines_.back();
  }
  guest_ = std::make_unique<GuestMachine>(config_, host_);
  subject_ = std::make_unique<WitnessedSubject>(guest_->machine());
  taker_ = std::make_unique<SnapshotTaker>(*subject_, *host_->store);
  guest_->Start();
}

InstantLab::~InstantLab() {
  LetGo();
  taker_.reset();
  subject_.reset();
  guest_.reset();
}

void InstantLab::Hold() {
  for (const auto& engine : engines_) {
    engine->SetPolicy([](const IoOperation&, uint64_t) { return Fault::Hold(); });
  }
}

void InstantLab::LetGo() {
  for (const auto& engine : engines_) {
    engine->SetPolicy({});
    engine->ReleaseAll();
    engine->ForgetTrace();
  }
}

void InstantLab::AwaitHeld(size_t each) {
  for (const auto& engine : engines_) {
    Await("operations of the guest's", [&] { return engine->held() >= each; });
  }
}

void InstantLab::AwaitMerged() {
  for (SealedView* view : guest_->machine().sealed_views()) {
    const auto* disk = dynamic_cast<LayeredDisk*>(view);
    Await("the end of merging", [&] { return disk->layer_count() == 0; });
  }
}

Result<TakenSnapshot> InstantLab::Take() {
  NobodyWatches nobody;
  return Take(nobody);
}

Result<TakenSnapshot> InstantLab::Take(CaptureObserver& observer) {
  return taker_->Take({.machine = config_.name}, observer);
}

std::unique_ptr<GuestMachine> RestoreBeside(Store& store, const SnapshotId& id,
                                            const MachineConfig& source,
                                            const std::string& directory, RestoredClock clock,
                                            uint64_t age_ns) {
  const std::shared_ptr<SnapshotReader> snapshot = store.OpenSnapshot(id).value();
  MachineConfig config = source;
  config.store_path.clear();
  std::filesystem::create_directories(directory);
  for (size_t i = 0; i < config.disks.size(); ++i) {
    config.disks[i].path = directory + "/disk" + std::to_string(i) + ".raw";
    RestoreDisk(*snapshot, static_cast<uint32_t>(1 + i), config.disks[i].path);
  }
  auto guest = std::make_unique<GuestMachine>(
      config,
      HostResources::Open(
          config,
          {.image_record_directory = {}, .agent_socket = {}, .boot = HostResources::Boot::kNone})
          .value(),
      true);
  const auto aged = std::make_shared<AgedSnapshot>(snapshot, age_ns);
  const Status restored = RestoreMachine(guest->machine(), aged, clock, MemoryFill::kLazy);
  EXPECT_TRUE(restored.ok()) << restored.error().message();
  return guest;
}

}  // namespace pacsvisor
