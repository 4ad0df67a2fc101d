#include "vmm/store/verify_basis.h"

#include "vmm/store/hold.h"
#include "vmm/store/store_format.h"
#include "vmm/store/store_header.h"
#include "vmm/store/store_reader.h"

namespace pacsvisor {
namespace {

template <typename T>
Status Drop(const Result<T>& result) {
  return result.ok() ? Status() : Status(result.error());
}

}  // namespace

Status VerifyBasis::CheckFrame() {
  const std::string header(kHeaderPath);
  const Result<std::vector<uint8_t>> bytes = ReadWholeFile(core_.files(), header, 16 * kKiB);
  const Status good = bytes.ok() ? Drop(DecodeStoreHeader(*bytes)) : Status(bytes.error());
  if (!good.ok()) {
    AddDamage(header, good.error().message(), {ids_.begin(), ids_.end()});
  }
  if (core_.secret() != nullptr) {
    const std::string keys(kStoreKeyPath);
    const Result<std::vector<uint8_t>> file =
        ReadWholeFile(core_.files(), keys, kStoreKeyFileBytes);
    if (!file.ok() || !IsStoreKeyFileWhole(*file)) {
      AddDamage(keys, "damaged; bring it back from a copy of the store",
                {ids_.begin(), ids_.end()});
    }
  }
  const Status floor = Drop(core_.ReadFloor());
  if (!floor.ok()) {
    AddDamage(std::string(kFloorPath), floor.error().message(), {});
  }
  for (const Hold& hold : TRY(ReadHolds(core_.files()))) {
    if (hold.damaged) {
      AddDamage(HoldPath(hold.snapshot, hold.word), "the hold is not as written", {hold.snapshot});
    }
  }
  return {};
}

void VerifyBasis::CheckRoots() {
  for (const SnapshotId& id : ids_) {
    const Result<SnapshotRoot> root = core_.ReadRoot(id);
    if (!root.ok()) {
      const std::string key_path = SnapshotKeyPath(id);
      const bool key_damaged = root.error().message().starts_with(key_path);
      AddDamage(key_damaged ? key_path : SnapshotPath(id), root.error().message(), {id});
      continue;
    }
    for (const TableRef& table : root->tables) {
      auto& use = tables_[table.name];
      done_.bytes_total += use.second.empty() ? table.file_bytes : 0;
      use.first = table;
      use.second.insert(id);
    }
    if (root->state.plain_bytes > 0) {
      auto& use = states_[root->state.name];
      done_.bytes_total += use.second.empty() ? root->state.file_bytes : 0;
      use.first = root->state;
      use.second.insert(id);
    }
  }
}

void VerifyBasis::CheckState(const StateRef& ref, const Users& users) {
  const Result<std::vector<uint8_t>> read = ReadStateObject(core_.files(), ref);
  if (!read.ok()) {
    AddDamage(ObjectPath(ref.name), read.error().message(), users);
  }
  Done(ref.file_bytes);
}

void VerifyBasis::AddDamage(const std::string& file, std::string what, const Users& users) {
  if (what.starts_with(file + ": ")) {
    what.erase(0, file.size() + 2);  // it is said beside
  }
  report_.damages.push_back({file, std::move(what), {users.begin(), users.end()}});
}

void VerifyBasis::Done(uint64_t bytes, uint64_t passed_over) {
  done_.bytes_done += bytes + passed_over;
  report_.bytes += bytes;
  if (progress_) {
    progress_(done_);
  }
}

}  // namespace pacsvisor
