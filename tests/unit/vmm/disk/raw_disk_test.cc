// What a disk over one raw image does: RawDisk, and LayeredDisk while it has no layer.
#include "vmm/disk/raw_disk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <deque>
#include <random>

#include "tests/support/fault_engine.h"
#include "tests/support/temporary_directory.h"
#include "vmm/disk/layered_disk.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kImageBytes = 1 << 20;

enum class DiskKind { kRaw, kLayered };

class DiskFixture {
 public:
  explicit DiskFixture(DiskKind kind, DiskCache cache = DiskCache::kWriteback,
                       bool read_only = false)
      : path_(directory_.MakeFile("disk.raw", kImageBytes)),
        kind_(kind),
        cache_(cache),
        read_only_(read_only) {}

  BlockBackend& Create(std::unique_ptr<IoEngine> engine) {
    auto image = std::make_shared<const DiskImage>(
        DiskImage::Open({.path = path_, .read_only = read_only_, .cache = cache_}).value());
    if (kind_ == DiskKind::kRaw) {
      disk_ = RawDisk::Create(std::move(image), std::move(engine)).value();
    } else {
      disk_ = LayeredDisk::Create(std::move(image), std::move(engine),
                                  LayerDirectory::Open(path_).value())
                  .value();
    }
    return *disk_;
  }
  BlockBackend& disk() { return *disk_; }

  // Polls until `count` requests have come through the gate.
  std::vector<BlockRequest*> Await(size_t count) {
    std::vector<BlockRequest*> done;
    while (true) {
      disk_->Kick();
      disk_->Poll();
      disk_->TakeCompletions(done);
      if (done.size() >= count) {
        return done;
      }
      pollfd wait{.fd = disk_->wait_fd(), .events = POLLIN, .revents = 0};
      CHECK(::poll(&wait, 1, 30'000) != 0, "the disk went silent");
    }
  }
  std::vector<uint8_t> FileBytes() const {
    std::vector<uint8_t> bytes(kImageBytes);
    const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    CHECK(::pread(fd.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(kImageBytes));
    return bytes;
  }

 private:
  TemporaryDirectory directory_;
  std::filesystem::path path_;
  DiskKind kind_;
  DiskCache cache_;
  bool read_only_;
  std::unique_ptr<BlockBackend> disk_;
};

struct Buffered {
  BlockRequest request;
  std::vector<uint8_t> bytes;
  std::vector<uint8_t> expected;
  iovec part;

  Buffered(BlockOperation operation, uint64_t offset_bytes, uint64_t size_bytes, uint8_t fill = 0)
      : bytes(operation == BlockOperation::kRead || operation == BlockOperation::kWrite ? size_bytes
                                                                                        : 0,
              fill),
        part{bytes.data(), bytes.size()} {
    request = {.operation = operation,
               .offset_bytes = offset_bytes,
               .size_bytes = size_bytes,
               .iovecs = {&part, 1},
               .owner = this};
  }
  Buffered(const Buffered&) = delete;
};

// ---- order and data, on the real engines

struct RealCase {
  DiskKind kind;
  IoEngineKind engine;
  DiskCache cache;
};

class RawDiskOnRealEngines : public testing::TestWithParam<RealCase> {};

// The oracle: overlapping requests take effect in the order of Submit, so that a model to which
// every change is applied when it is submitted tells what every read must return.
TEST_P(RawDiskOnRealEngines, RandomOverlappingRequestsAgreeWithTheModel) {
  DiskFixture fixture(GetParam().kind, GetParam().cache);
  BlockBackend& disk = fixture.Create(CreateIoEngine(GetParam().engine).value());
  std::mt19937 random(11);
  std::vector<uint8_t> model(kImageBytes);
  std::deque<Buffered> requests;
  size_t unfinished = 0;
  for (int i = 0; i < 3000; ++i) {
    const uint64_t sectors = 1 + random() % (random() % 4 == 0 ? 256 : 16);
    // Half of all in a hot corner, so that they meet; some page-aligned, for O_DIRECT.
    const uint64_t range = random() % 2 == 0 ? 256 : kImageBytes / 512 - sectors;
    uint64_t offset = random() % range * 512;
    uint64_t size = sectors * 512;
    if (random() % 2 == 0) {
      offset = offset / 4096 * 4096;
      size = std::min((size + 4095) / 4096 * 4096, kImageBytes - offset);
    }
    const auto at = model.begin() + static_cast<ptrdiff_t>(offset);
    switch (random() % 8) {
      case 0:
        requests.emplace_back(BlockOperation::kWriteZeroes, offset, size);
        requests.back().request.may_unmap = random() % 2 == 0;
        std::fill_n(at, size, 0);
        break;
      case 1:
        requests.emplace_back(BlockOperation::kFlush, 0, 0);
        break;
      case 2:
      case 3:
      case 4:
        requests.emplace_back(BlockOperation::kWrite, offset, size);
        for (uint8_t& byte : requests.back().bytes) {
          byte = static_cast<uint8_t>(random());
        }
        requests.back().request.durable = random() % 16 == 0;
        std::copy_n(requests.back().bytes.begin(), size, at);
        break;
      default:
        requests.emplace_back(BlockOperation::kRead, offset, size, 0xee);
        requests.back().expected.assign(at, at + static_cast<ptrdiff_t>(size));
        break;
    }
    disk.Submit(requests.back().request);
    ++unfinished;
    if (random() % 8 == 0 || unfinished > 200) {
      unfinished -= fixture.Await(unfinished > 200 ? 100 : 0).size();
    }
  }
  fixture.Await(unfinished);
  for (const Buffered& request : requests) {
    ASSERT_EQ(request.request.error_number, 0);
    if (request.request.operation == BlockOperation::kRead) {
      ASSERT_EQ(request.bytes, request.expected) << "read " << request.request.id;
    }
  }
  EXPECT_EQ(fixture.FileBytes(), model);
  EXPECT_EQ(disk.unfinished(), 0u);
}

std::vector<RealCase> RealCases() {
  std::vector<RealCase> cases;
  for (const DiskKind kind : {DiskKind::kRaw, DiskKind::kLayered}) {
    for (const IoEngineKind engine : {IoEngineKind::kUring, IoEngineKind::kThreads}) {
      for (const DiskCache cache : {DiskCache::kWriteback, DiskCache::kNone}) {
        cases.push_back({kind, engine, cache});
      }
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Engines, RawDiskOnRealEngines, testing::ValuesIn(RealCases()),
                         [](const auto& one) {
                           return std::string(one.param.kind == DiskKind::kRaw ? "Raw"
                                                                               : "Layered") +
                                  (one.param.engine == IoEngineKind::kUring ? "Uring" : "Threads") +
                                  (one.param.cache == DiskCache::kNone ? "Direct" : "Writeback");
                         });

// ---- gate, order, dirty blocks, on an engine that does as told

class RawDiskTest : public testing::TestWithParam<DiskKind> {
 protected:
  RawDiskTest() {
    auto engine = std::make_unique<FaultEngine>();
    faults_ = engine.get();
    fixture_.Create(std::move(engine));
  }
  BlockBackend& disk() { return fixture_.disk(); }
  void SubmitAll(std::deque<Buffered>& requests) {
    for (Buffered& request : requests) {
      disk().Submit(request.request);
    }
    disk().Kick();
  }
  std::vector<BlockRequest*> Take() {
    std::vector<BlockRequest*> done;
    disk().TakeCompletions(done);
    return done;
  }
  void HoldAll() {
    faults_->SetPolicy([](const IoOperation&, uint64_t) { return Fault::Hold(); });
  }
  std::vector<uint64_t> TakeDirty() {
    std::vector<uint64_t> words(disk().dirty().word_count());
    disk().dirty().TakeInto(words);
    return words;
  }
  std::vector<Extent> TakeDirtyExtents() {
    return ExtentsOf(TakeDirty(), disk().dirty().block_count());
  }

  DiskFixture fixture_{GetParam()};
  FaultEngine* faults_;
};

TEST_P(RawDiskTest, LateHostCannotReorderOverlappingWrites) {
  HoldAll();
  std::deque<Buffered> writes;
  for (uint8_t i = 1; i <= 5; ++i) {
    writes.emplace_back(BlockOperation::kWrite, 0, 4096, i);
  }
  SubmitAll(writes);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(faults_->held(), 1u) << "one at a time";
    faults_->ReleaseAll();
    disk().Poll();
  }
  EXPECT_EQ(Take().size(), 5u);
  EXPECT_EQ(fixture_.FileBytes()[0], 5);
}

TEST_P(RawDiskTest, ClosedGateKeepsCompletions) {
  std::deque<Buffered> writes;
  writes.emplace_back(BlockOperation::kWrite, 0, 4096, 1);
  disk().CloseGate();
  SubmitAll(writes);
  EXPECT_EQ(disk().Poll(), 1u);
  EXPECT_TRUE(Take().empty());
  EXPECT_EQ(disk().unfinished(), 1u);
  disk().OpenGate();
  EXPECT_EQ(Take().size(), 1u);
  EXPECT_EQ(disk().unfinished(), 0u);
}

TEST_P(RawDiskTest, PauseAndResetRaiseTheGeneration) {
  std::deque<Buffered> reads;
  for (int i = 0; i < 3; ++i) {
    reads.emplace_back(BlockOperation::kRead, 0, 512);
  }
  disk().Submit(reads[0].request);
  disk().CloseGate();
  disk().OpenGate();
  disk().Submit(reads[1].request);
  const uint64_t reset = disk().RaiseGeneration();
  disk().Submit(reads[2].request);
  EXPECT_LT(reads[0].request.generation, reads[1].request.generation);
  EXPECT_LT(reads[1].request.generation, reset);
  EXPECT_EQ(reads[2].request.generation, reset);
  fixture_.Await(3);
}

TEST_P(RawDiskTest, WriteIsMarkedBeforeItsCompletionIsPublished) {
  std::deque<Buffered> requests;
  requests.emplace_back(BlockOperation::kWrite, 4096 * 3 + 512, 4096, 1);
  requests.emplace_back(BlockOperation::kWriteZeroes, 4096 * 8, 8192);
  requests.emplace_back(BlockOperation::kDiscard, 4096 * 20, 4096);
  requests.emplace_back(BlockOperation::kRead, 4096 * 40, 4096);
  requests.emplace_back(BlockOperation::kFlush, 0, 0);
  disk().CloseGate();
  TakeDirty();
  SubmitAll(requests);
  disk().Poll();
  EXPECT_EQ(TakeDirtyExtents(),
            (std::vector<Extent>{{BlockIndex(3), 2}, {BlockIndex(8), 2}, {BlockIndex(20), 1}}));
  disk().OpenGate();
  Take();
}

TEST_P(RawDiskTest, FailedWriteIsMarked) {
  faults_->SetPolicy([](const IoOperation&, uint64_t) { return Fault::Fail(ENOSPC); });
  std::deque<Buffered> requests;
  requests.emplace_back(BlockOperation::kWrite, 0, 4096, 1);
  SubmitAll(requests);
  disk().Poll();
  EXPECT_EQ(requests[0].request.error_number, ENOSPC);
  EXPECT_EQ(TakeDirtyExtents(), (std::vector<Extent>{{BlockIndex(0), 1}}));
}

// Delays a write across two epochs: it belongs to each epoch it was in flight in.
TEST_P(RawDiskTest, WriteInFlightBelongsToEveryEpochItSpans) {
  HoldAll();
  std::deque<Buffered> requests;
  requests.emplace_back(BlockOperation::kWrite, 4096 * 5, 4096, 1);
  requests.emplace_back(BlockOperation::kWrite, 4096 * 5, 8192, 1);  // waits for the first
  SubmitAll(requests);
  const std::vector<Extent> both = {{BlockIndex(5), 2}};
  for (int epoch = 0; epoch < 2; ++epoch) {
    disk().CloseGate();
    EXPECT_EQ(TakeDirtyExtents(), both) << epoch;
    disk().OpenGate();
  }
  faults_->ReleaseAll();
  disk().Poll();
  faults_->ReleaseAll();
  disk().Poll();
  EXPECT_EQ(TakeDirtyExtents(), both);
  EXPECT_EQ(Take().size(), 2u);
}

TEST_P(RawDiskTest, FlushFollowsTheWritesCompletedBeforeIt) {
  std::deque<Buffered> first;
  first.emplace_back(BlockOperation::kWrite, 0, 4096, 1);
  SubmitAll(first);
  fixture_.Await(1);
  std::deque<Buffered> second;
  second.emplace_back(BlockOperation::kFlush, 0, 0);
  SubmitAll(second);
  fixture_.Await(1);
  const std::vector<IoOperation> trace = faults_->trace();
  ASSERT_EQ(trace.size(), 2u);
  EXPECT_EQ(trace[0].kind, IoKind::kWrite);
  EXPECT_EQ(trace[1].kind, IoKind::kSync);
}

TEST_P(RawDiskTest, FailedFlushIsReported) {
  faults_->SetPolicy([](const IoOperation&, uint64_t) { return Fault::Fail(EIO); });
  std::deque<Buffered> requests;
  requests.emplace_back(BlockOperation::kFlush, 0, 0);
  SubmitAll(requests);
  fixture_.Await(1);
  EXPECT_EQ(requests[0].request.error_number, EIO);
}

// Whichever operation fails, exactly the request it belonged to says so, what waited for it goes
// on, and all else is on the disk.
TEST_P(RawDiskTest, FailureOfEachOperationInTurnHitsOneRequest) {
  constexpr uint64_t kCount = 24;
  for (uint64_t failing = 0; failing < kCount; ++failing) {
    const uint64_t before = faults_->operation_count();
    faults_->SetPolicy([=](const IoOperation&, uint64_t count) {
      return count - before == failing ? Fault::Fail(EIO) : Fault::None();
    });
    std::deque<Buffered> requests;
    std::vector<uint8_t> model = fixture_.FileBytes();
    for (uint64_t i = 0; i < kCount; ++i) {
      requests.emplace_back(BlockOperation::kWrite, (i % 5) * 2048, 4096,
                            static_cast<uint8_t>(1 + i + failing));
    }
    SubmitAll(requests);
    fixture_.Await(kCount);
    uint64_t failed = 0;
    std::vector<const Buffered*> in_order;
    for (const Buffered& request : requests) {
      failed += request.request.error_number != 0 ? 1 : 0;
      if (request.request.error_number == 0) {
        std::fill_n(model.begin() + static_cast<ptrdiff_t>(request.request.offset_bytes), 4096,
                    request.bytes[0]);
      }
    }
    EXPECT_EQ(failed, 1u);
    ASSERT_EQ(fixture_.FileBytes(), model) << failing;
  }
}

TEST_P(RawDiskTest, DrainWaitsForWhatTheHostHas) {
  std::deque<Buffered> requests;
  for (uint8_t i = 0; i < 50; ++i) {
    requests.emplace_back(BlockOperation::kWrite, i % 7 * 512, 2048, i);
  }
  for (Buffered& request : requests) {
    disk().Submit(request.request);
  }
  disk().Drain();
  EXPECT_EQ(Take().size(), 50u);
}

TEST_P(RawDiskTest, ReadOnlyOffersNoChanges) {
  DiskFixture fixture(GetParam(), DiskCache::kWriteback, true);
  BlockBackend& disk = fixture.Create(std::make_unique<FaultEngine>());
  EXPECT_TRUE(disk.read_only());
  EXPECT_FALSE(disk.limits().discard);
  EXPECT_FALSE(disk.limits().write_zeroes);
  Buffered flush(BlockOperation::kFlush, 0, 0);
  disk.Submit(flush.request);
  fixture.Await(1);
  EXPECT_EQ(flush.request.error_number, 0);
}

INSTANTIATE_TEST_SUITE_P(Kinds, RawDiskTest, testing::Values(DiskKind::kRaw, DiskKind::kLayered),
                         [](const auto& one) {
                           return one.param == DiskKind::kRaw ? "Raw" : "Layered";
                         });

}  // namespace
}  // namespace pacsvisor
