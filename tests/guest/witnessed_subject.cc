#include "tests/guest/witnessed_subject.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <xxhash.h>

#include <fstream>
#include <sstream>

#include "tests/guest/linux_guest.h"
#include "vmm/base/align.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kWitnessedBlockBytes = 4096;
constexpr uint64_t kBlocksCompared = 256;  // at a time

}  // namespace

WitnessedSubject::WitnessedSubject(Machine& machine)
    : machine_(machine), subject_(MachineSubject::Create(machine).value()) {}

Status WitnessedSubject::AtInstant(const std::function<Status()>& work, PauseTimes& times) {
  Status done = subject_->AtInstant(
      [&] {
        Status worked = work();
        if (look_) {
          Witness();
        }
        return worked;
      },
      times);
  if (after_instant_) {
    after_instant_();
  }
  return done;
}

Status WitnessedSubject::SaveState(StateNode& node) {
  Status saved = subject_->SaveState(node);
  state_ = node;
  return saved;
}

void WitnessedSubject::Witness() {
  const std::string result = (directory_.path() / "seen").string();
  std::ostringstream command;
  command << PACSVISOR_INSTANT_WITNESS << ' ' << ::getpid() << ' ' << result;
  std::vector<uint64_t> blocks = {machine_.memory().page_count()};
  for (const GuestMemory::HostRange& range : machine_.memory().host_ranges()) {
    // A place in this process, as a number for another one.
    command << " memory:" << reinterpret_cast<uintptr_t>(range.host) << ':' << range.size_bytes;
  }
  for (size_t i = 0; i < subject_->disks().size(); ++i) {
    command << " disk:" << machine_.config().disks[i].path;
    blocks.push_back(DivideRoundUp<uint64_t>(subject_->disks()[i]->size_bytes(), 4096));
  }
  const HostResult witness = AskHost(command.str());
  ASSERT_EQ(witness.status, 0) << witness.output;
  seen_ = {
      .spaces = {}, .log_batches = {}, .requests = RecordedRequests(state_, machine_.memory())};
  std::ifstream stream(result, std::ios::binary);
  for (const uint64_t count : blocks) {
    std::vector<BlockHash>& hashes = seen_.spaces.emplace_back(count);
    stream.read(reinterpret_cast<char*>(hashes.data()),  // numbers as they were written
                static_cast<std::streamsize>(count * sizeof(BlockHash)));
    ASSERT_TRUE(stream.good());
  }
  std::istringstream lines(witness.output);
  std::string word;
  for (uint64_t batches = 0; lines >> word >> batches;) {
    seen_.log_batches.push_back(batches);
  }
}

// Which blocks of each space a request on its way may be changing.
std::vector<std::vector<bool>> WitnessedSubject::Unsettled(const SeenAtInstant& seen) const {
  std::vector<std::vector<bool>> unsettled;
  for (const std::vector<BlockHash>& hashes : seen.spaces) {
    unsettled.emplace_back(hashes.size());
  }
  const auto mark = [](std::vector<bool>& blocks, uint64_t start, uint64_t size_bytes) {
    for (uint64_t at = start / kWitnessedBlockBytes;
         size_bytes > 0 && at <= (start + size_bytes - 1) / kWitnessedBlockBytes; ++at) {
      blocks.at(at) = true;
    }
  };
  for (const RecordedRequest& request : seen.requests) {
    for (const RecordedRequest::Bytes& bytes : request.on_disk) {
      if (request.changes_disk) {
        mark(unsettled[1 + request.disk], bytes.offset_bytes, bytes.size_bytes);
      }
    }
    for (const GuestRange& range : request.device_writes) {
      const std::optional<BlockIndex> first = machine_.memory().BlockOf(range.start);
      mark(unsettled[0],
           first->raw() * kWitnessedBlockBytes + range.start.raw() % kWitnessedBlockBytes,
           range.size_bytes);
    }
  }
  return unsettled;
}

Differences WitnessedSubject::Compare(SnapshotReader& snapshot, const SeenAtInstant& seen) const {
  Differences differences;
  const std::vector<std::vector<bool>> unsettled = Unsettled(seen);
  for (uint32_t space = 0; space < seen.spaces.size(); ++space) {
    const std::vector<BlockHash>& hashes = seen.spaces[space];
    for (uint64_t first = 0; first < hashes.size(); first += kBlocksCompared) {
      const uint64_t count = std::min<uint64_t>(kBlocksCompared, hashes.size() - first);
      std::vector<uint8_t> bytes(count * kWitnessedBlockBytes);
      const Status read = snapshot.Read(space, BlockIndex(first), bytes);
      EXPECT_TRUE(read.ok()) << read.error().message();
      for (uint64_t i = 0; i < count; ++i) {
        const XXH128_hash_t hash =
            XXH3_128bits(&bytes[i * kWitnessedBlockBytes], kWitnessedBlockBytes);
        if (unsettled[space][first + i]) {
          ++differences.left_out;
        } else if (BlockHash(hash.low64, hash.high64) != hashes[first + i]) {
          ++(space == 0 ? differences.memory_pages : differences.disk_blocks);
        }
      }
    }
  }
  return differences;
}

}  // namespace pacsvisor
