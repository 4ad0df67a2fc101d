// An encrypted store's keys: how they are made and told apart, what a change of the key leaves, and
// what an erased snapshot takes along.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <set>

#include "tests/unit/vmm/store/random_history.h"
#include "vmm/store/snapshot_root.h"
#include "vmm/store/store_core.h"
#include "vmm/store/table_walk.h"

namespace pacsvisor {
namespace {

using store_test::BlockOf;
using store_test::Commit;
using store_test::Encryption;
using store_test::ExpectReads;
using store_test::ExpectWhole;
using store_test::KeyOf;
using store_test::MessageOf;
using store_test::NameOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::RandomHistory;
using store_test::SpaceOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using Cut = MemoryStoreFiles::Cut;

Result<std::unique_ptr<Store>> OpenWith(const std::shared_ptr<MemoryStoreFiles>& files,
                                        std::shared_ptr<const StoreKey> key) {
  return OpenStore(files, {.key = std::move(key)});
}

store_test::Snapshot KeyedSnapshot(uint64_t first_value) {
  store_test::Snapshot snapshot;
  snapshot.spaces = {SpaceOf("memory", 12)};
  snapshot.values = {store_test::Values(12)};
  for (uint64_t i = 0; i < 12; ++i) {
    snapshot.values[0][i] = i == 5 ? 0 : first_value + i;
  }
  snapshot.state = {1, 2, static_cast<uint8_t>(first_value)};
  return snapshot;
}

std::array<uint8_t, 32> Numbers(uint8_t first) {
  std::array<uint8_t, 32> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(first + i);
  }
  return bytes;
}

// By libcrypto's older interface, in one piece.
Hash WholeHkdf(std::span<const uint8_t> secret, std::span<const uint8_t> info) {
  Hash key;
  size_t size = key.size();
  EVP_PKEY_CTX* const context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, nullptr);
  EXPECT_EQ(EVP_PKEY_derive_init(context), 1);
  EXPECT_EQ(EVP_PKEY_CTX_set_hkdf_md(context, EVP_sha256()), 1);
  EXPECT_EQ(EVP_PKEY_CTX_set1_hkdf_key(context, secret.data(), static_cast<int>(secret.size())), 1);
  EXPECT_EQ(EVP_PKEY_CTX_add1_hkdf_info(context, info.data(), static_cast<int>(info.size())), 1);
  EXPECT_EQ(EVP_PKEY_derive(context, key.data(), &size), 1);
  EVP_PKEY_CTX_free(context);
  return key;
}

// The numbers are FORMAT.md's.
TEST(StoreSecretTest, NamesAndKeysAreThoseOfTheFormat) {
  const auto secret = StoreSecret::Of(Numbers(0));
  const Hash contents = Sha256(BlockOf(7));
  std::vector<uint8_t> info = {'p', 'a', 'c', 's', 'v', 'i', 's', 'o',
                               'r', ' ', 'c', 'h', 'u', 'n', 'k'};
  info.insert(info.end(), contents.begin(), contents.end());
  EXPECT_EQ(secret->ChunkKey(contents), WholeHkdf(Numbers(0), info));
  const Hash known = Numbers(32);
  EXPECT_EQ(HexText(secret->ChunkName(known)),
            "62215de7bddcea7e2c4047ff6bb94f8d18262fc8b3f3648134bb7d44158ff84d");
  EXPECT_EQ(HexText(secret->ChunkKey(known)),
            "83f1e82027c8ca976863c035a28ee6f59a31a12abcf2f9ee48a230b65efdea88");
}

TEST(StoreSecretTest, TheSecretComesBackWithItsKeyOnly) {
  const auto secret = StoreSecret::Random();
  const std::vector<uint8_t> file = secret->Wrap(*KeyOf(1));
  EXPECT_EQ(file.size(), kStoreKeyFileBytes);
  const auto back = StoreSecret::Unwrap(file, *KeyOf(1));
  ASSERT_TRUE(back.ok()) << MessageOf(back);
  EXPECT_EQ((*back)->ChunkName({}), secret->ChunkName({}));
  EXPECT_TRUE((*back)->IsChecked(secret->NewKeyCheck()));
  EXPECT_FALSE(StoreSecret::Random()->IsChecked(secret->NewKeyCheck()));
  EXPECT_EQ(StoreSecret::Unwrap(file, *KeyOf(2)).error().code(), ErrorCode::kPermissionDenied);
  for (size_t byte = 0; byte < file.size(); ++byte) {
    std::vector<uint8_t> flipped = file;
    flipped[byte] ^= 4;
    EXPECT_EQ(StoreSecret::Unwrap(flipped, *KeyOf(1)).error().code(), ErrorCode::kCorrupt) << byte;
  }
}

TEST(StoreSecretTest, ASnapshotsKeyComesBackWithItsSecretOnly) {
  const auto secret = StoreSecret::Random();
  const SealKey key = RandomSealKey();
  const std::vector<uint8_t> file = secret->WrapSnapshotKey(key);
  EXPECT_EQ(secret->UnwrapSnapshotKey(file), key);
  EXPECT_FALSE(StoreSecret::Random()->UnwrapSnapshotKey(file).has_value());
}

TEST(SealTest, WhatIsSealedOpensAsItselfAndAsNothingElse) {
  const SealKey key = RandomSealKey();
  const std::vector<uint8_t> name = {1, 2, 3};
  for (const size_t size : {0u, 1u, 251u, 252u, 253u, 5000u}) {
    const std::vector<uint8_t> plain(size, 9);
    const std::vector<uint8_t> sealed = SealPadded(key, SealType::kPage, name, plain);
    EXPECT_EQ(sealed.size(), PaddedSealBytes(size));
    EXPECT_EQ((sealed.size() - kSealBytes) % kSealPadBytes, 0u);
    EXPECT_EQ(UnsealPadded(key, SealType::kPage, name, sealed), plain);
    EXPECT_NE(SealPadded(key, SealType::kPage, name, plain), sealed);  // another nonce
    EXPECT_FALSE(UnsealPadded(key, SealType::kState, name, sealed).has_value());
    EXPECT_FALSE(UnsealPadded(key, SealType::kPage, {}, sealed).has_value());
    EXPECT_FALSE(UnsealPadded(RandomSealKey(), SealType::kPage, name, sealed).has_value());
    for (size_t byte = 0; byte < sealed.size(); byte += 11) {
      std::vector<uint8_t> flipped = sealed;
      flipped[byte] ^= 1;
      EXPECT_FALSE(UnsealPadded(key, SealType::kPage, name, flipped).has_value()) << byte;
    }
  }
}

TEST(StoreKeyTest, AStoreOpensWithItsKeyAndNoOther) {
  const auto files = NewStoreFiles(Encryption::kKey);
  EXPECT_TRUE(OpenWith(files, KeyOf()).ok());
  EXPECT_TRUE(OpenWith(files, KeyOf()).value()->secret() != nullptr);
  const auto other = OpenWith(files, KeyOf(2));
  EXPECT_EQ(other.error().code(), ErrorCode::kPermissionDenied);
  EXPECT_THAT(other.error().message(), HasSubstr("not the key"));
  const auto none = OpenWith(files, nullptr);
  EXPECT_EQ(none.error().code(), ErrorCode::kPermissionDenied);
  EXPECT_THAT(none.error().message(), HasSubstr("--key"));
  const auto plain = OpenWith(NewStoreFiles(), KeyOf());
  EXPECT_EQ(plain.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(plain.error().message(), HasSubstr("not encrypted"));
}

TEST(StoreKeyTest, NothingOfASnapshotIsReadableInTheFiles) {
  const auto files = NewStoreFiles(Encryption::kKey);
  const auto store = OpenTuned(files, {.pending_entries = 2});
  store_test::Snapshot snapshot = KeyedSnapshot(100);
  snapshot.state.assign(300, 's');
  ASSERT_TRUE(Commit(*store, nullptr, snapshot, 1).ok());
  // Each block's first bytes, its hash, the machine's name, the message, the state.
  std::vector<std::vector<uint8_t>> secrets;
  for (const uint64_t value : snapshot.values[0]) {
    const std::vector<uint8_t> block = BlockOf(value);
    if (value != 0) {
      const Hash hash = Sha256(block);
      secrets.emplace_back(block.begin(), block.begin() + 8);
      secrets.emplace_back(hash.begin(), hash.begin() + 12);
    }
  }
  for (const std::string text : {"memory", "number 1", "cpus = 2", "ssssssss"}) {
    secrets.emplace_back(text.begin(), text.end());
  }
  for (const std::string& path : files->Paths()) {
    const std::vector<uint8_t> bytes = files->Bytes(path);
    for (const std::vector<uint8_t>& secret : secrets) {
      EXPECT_EQ(std::search(bytes.begin(), bytes.end(), secret.begin(), secret.end()), bytes.end())
          << path;
    }
  }
}

TEST(StoreKeyTest, AChangedKeyOpensItAndTheOldOneDoesNot) {
  const auto files = NewStoreFiles(Encryption::kKey);
  store_test::Snapshot first = KeyedSnapshot(100);
  {
    const auto store = OpenTuned(files);
    ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
    const uint64_t before = files->appended_bytes();
    ASSERT_TRUE(store->ChangeKey(*KeyOf(2)).ok());
    EXPECT_EQ(files->appended_bytes() - before, kStoreKeyFileBytes);
    // Whoever has it open goes on.
    store_test::Snapshot second = KeyedSnapshot(200);
    ASSERT_TRUE(Commit(*store, &first, second, 2).ok());
  }
  EXPECT_EQ(OpenWith(files, KeyOf(1)).error().code(), ErrorCode::kPermissionDenied);
  const auto store = OpenWith(files, KeyOf(2)).value();
  ExpectReads(*store, first);
  ExpectWhole(*store, 2);
}

TEST(StoreKeyTest, APlainStoreHasNoKeyToChangeAndNothingToErase) {
  const auto store = OpenTuned(NewStoreFiles());
  store_test::Snapshot first = KeyedSnapshot(100);
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  EXPECT_EQ(store->ChangeKey(*KeyOf(2)).error().code(), ErrorCode::kUnsupported);
  EXPECT_EQ(store->Erase(first.id, {}).error().code(), ErrorCode::kUnsupported);
  ExpectReads(*store, first);
}

TEST(StoreKeyTest, AnotherStoresKeysAreFoundOut) {
  const auto files = NewStoreFiles(Encryption::kKey);
  store_test::Snapshot snapshots[] = {KeyedSnapshot(100), KeyedSnapshot(200)};
  {
    const auto store = OpenTuned(files);
    ASSERT_TRUE(Commit(*store, nullptr, snapshots[0], 1).ok());
    ASSERT_TRUE(Commit(*store, nullptr, snapshots[1], 2).ok());
  }
  const std::string path = SnapshotKeyPath(snapshots[0].id);
  files->SetBytes(path, files->Bytes(SnapshotKeyPath(snapshots[1].id)));
  EXPECT_EQ(OpenTuned(files)->OpenSnapshot(snapshots[0].id).error().code(), ErrorCode::kCorrupt);
  files->SetBytes(std::string(kStoreKeyPath), StoreSecret::Random()->Wrap(*KeyOf()));
  const auto opened = OpenWith(files, KeyOf());
  EXPECT_EQ(opened.error().code(), ErrorCode::kCorrupt);
  EXPECT_THAT(opened.error().message(), HasSubstr("another store's"));
}

TEST(StoreKeyTest, ACopyGoesIntoAStoreWithTheSameSecretAlone) {
  const auto source = OpenTuned(NewStoreFiles(Encryption::kKey));
  store_test::Snapshot first = KeyedSnapshot(100);
  store_test::Snapshot second = KeyedSnapshot(106);
  ASSERT_TRUE(Commit(*source, nullptr, first, 1).ok());
  ASSERT_TRUE(Commit(*source, &first, second, 2).ok());
  // With a key of its own.
  const auto files = MemoryStoreFiles::Create();
  ASSERT_TRUE(Store::Create(*files, KeyOf(2).get(), source->secret()).ok());
  const auto target = OpenWith(files, KeyOf(2)).value();
  for (const store_test::Snapshot* snapshot : {&first, &second}) {
    const Result<CopyReport> copied = source->CopyTo(*target, snapshot->id);
    ASSERT_TRUE(copied.ok()) << MessageOf(copied);
    ExpectReads(*target, *snapshot);
  }
  ExpectWhole(*target, 2);
  EXPECT_FALSE(source->Diff(first.id, second.id, nullptr).value().same_state);

  EXPECT_EQ(source->CopyTo(*OpenTuned(NewStoreFiles()), first.id).error().code(),
            ErrorCode::kUnsupported);
  const auto stranger = MemoryStoreFiles::Create();
  ASSERT_TRUE(Store::Create(*stranger, KeyOf().get()).ok());
  EXPECT_EQ(source->CopyTo(*OpenTuned(stranger), first.id).error().code(),
            ErrorCode::kPermissionDenied);
}

TEST(StoreKeyTest, ASampleProvesChunksWithTheKeysFromTheTables) {
  const auto files = NewStoreFiles(Encryption::kKey);
  store_test::Snapshot first = KeyedSnapshot(100);
  ASSERT_TRUE(Commit(*OpenTuned(files), nullptr, first, 1).ok());
  const VerifyRequest request{.ids = {}, .sample = VerifyRequest::Sample{.share = 1}};
  const VerifyReport whole = OpenTuned(files)->VerifyAndRecord(request, nullptr).value();
  EXPECT_TRUE(whole.damages.empty()) << store_test::DamagesOf(whole);
  EXPECT_EQ(whole.sample->chunks, 11u);
  files->FlipBit("packs/00000001.pack", 70, 0);
  const VerifyReport damaged = OpenTuned(files)->VerifyAndRecord(request, nullptr).value();
  ASSERT_EQ(damaged.damages.size(), 1u) << store_test::DamagesOf(damaged);
  EXPECT_EQ(damaged.damages[0].file, "packs/00000001.pack");
}

class StoreKeySweepTest : public testing::TestWithParam<Cut> {};

TEST_P(StoreKeySweepTest, AnInterruptedChangeLeavesTheOneKeyOrTheOther) {
  const auto before = NewStoreFiles(Encryption::kKey);
  store_test::Snapshot first = KeyedSnapshot(100);
  ASSERT_TRUE(Commit(*OpenTuned(before), nullptr, first, 1).ok());
  for (const int failure : {0, ENOSPC, EIO}) {
    for (uint64_t n = 0;; ++n) {
      SCOPED_TRACE("call " + std::to_string(n) + ", failure " + std::to_string(failure));
      const auto files = before->After(Cut::kKilled);
      failure == 0 ? files->EndAfter(n) : files->FailAfter(n, failure);
      const auto store = OpenWith(files, KeyOf(1));
      const bool changed = store.ok() && (*store)->ChangeKey(*KeyOf(2)).ok();
      for (uint64_t seed = 0; seed < 4; ++seed) {
        const auto left = files->After(GetParam(), n * 10 + seed);
        auto old_key = OpenWith(left, KeyOf(1));
        auto new_key = OpenWith(left, KeyOf(2));
        ASSERT_NE(old_key.ok(), new_key.ok());
        ASSERT_TRUE(new_key.ok() || !changed);
        Store& opened = old_key.ok() ? **old_key : **new_key;
        ASSERT_NO_FATAL_FAILURE(ExpectReads(opened, first));
        ASSERT_NO_FATAL_FAILURE(ExpectWhole(opened, 1));
        ASSERT_TRUE(opened.ChangeKey(*KeyOf(3)).ok());
        ASSERT_NO_FATAL_FAILURE(ExpectReads(*OpenWith(left, KeyOf(3)).value(), first));
        ASSERT_FALSE(OpenWith(left, KeyOf(1)).ok() || OpenWith(left, KeyOf(2)).ok());
      }
      if (failure == 0 ? !files->ended() : !files->failed()) {
        ASSERT_TRUE(changed);
        break;
      }
    }
  }
}

TEST_P(StoreKeySweepTest, AnInterruptedEraseHasErasedItOrNot) {
  const auto before = NewStoreFiles(Encryption::kKey);
  store_test::Snapshot first = KeyedSnapshot(100);
  store_test::Snapshot second = KeyedSnapshot(106);
  {
    const auto store = OpenTuned(before);
    ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
    ASSERT_TRUE(Commit(*store, &first, second, 2).ok());
  }
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("ended after change " + std::to_string(n));
    const auto files = before->After(Cut::kKilled);
    files->EndAfter(n);
    const auto opened = OpenWith(files, KeyOf());
    const bool erased = opened.ok() && (*opened)->Erase(first.id, {}).ok();
    for (uint64_t seed = 0; seed < 4; ++seed) {
      const auto left = files->After(GetParam(), n * 10 + seed);
      const auto store = OpenTuned(left);
      const size_t count = store->List().value().size();
      ASSERT_TRUE(count == 1 || (count == 2 && !erased));
      ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, second));
      ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, count));
      if (count == 2) {
        ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, first));
        ASSERT_TRUE(store->Erase(first.id, {}).ok());
      } else {
        // The next one to write takes the key away, should it be there.
        ASSERT_TRUE(store->Begin(second.id, second.spaces).ok());
      }
      ASSERT_THAT(left->Paths(), Not(Contains(SnapshotKeyPath(first.id))));
      ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, second));
      ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, 1));
    }
    if (!files->ended()) {
      ASSERT_TRUE(erased);
      break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cuts, StoreKeySweepTest,
                         testing::Values(Cut::kKilled, Cut::kUnsynced, Cut::kTorn),
                         [](const auto& test) { return NameOf(test.param); });

// What is in reach of who has the secret and all files: decided by walking the keys from the
// snapshots that have one, not as the store does.
class Reach {
 public:
  explicit Reach(const std::shared_ptr<MemoryStoreFiles>& files)
      : core_(StoreCore::Open(files, {.key = KeyOf()}).value()) {
    for (const std::string& path : files->Paths()) {
      const auto id =
          path.starts_with("keys/") ? SnapshotId::FromHex(path.substr(5)) : std::nullopt;
      if (!id.has_value()) {
        continue;
      }
      const SealKey key = core_->secret()->UnwrapSnapshotKey(files->Bytes(path)).value();
      const SnapshotRoot root = UnsealRoot(key, files->Bytes(SnapshotPath(*id))).value();
      if (root.state.plain_bytes > 0) {
        objects_.insert(root.state.name);
      }
      for (const TableRef& ref : root.tables) {
        objects_.insert(ref.name);
        const auto table = Table::Open(*files, ObjectPath(ref.name), ref).value();
        WalkTable(
            *table,
            [&](const TablePage& page) {
              for (const TableEntry& entry : page.entries) {
                if (entry.kind == BlockKind::kChunk) {
                  chunks_.insert(entry.chunk.name);
                }
              }
            },
            [](const Error& error) { ADD_FAILURE() << error.message(); });
      }
    }
  }

  const std::set<Hash>& chunks() const { return chunks_; }
  const std::set<Hash>& objects() const { return objects_; }
  // Stored bytes of chunks, by the packs' own directories.
  uint64_t BytesOf(const std::set<Hash>& names) {
    uint64_t bytes = 0;
    const std::set<uint32_t> packs = core_->CommittedPacks().value();
    for (const uint32_t number : packs) {
      const PackContents contents = core_->packs().ReadContents(number).value();
      for (size_t i = 0; i < contents.trailer.count; ++i) {
        const uint8_t* const record = contents.records.data() + i * kPackRecordBytes;
        for (const Hash& name : names) {
          if (std::equal(record, record + kPackNameBytes, name.begin())) {
            bytes += contents.offsets[i + 1] - contents.offsets[i];
          }
        }
      }
    }
    return bytes;
  }

 private:
  std::shared_ptr<StoreCore> core_;
  std::set<Hash> chunks_;
  std::set<Hash> objects_;
};

template <typename T>
std::set<T> Without(const std::set<T>& all, const std::set<T>& some) {
  std::set<T> rest;
  std::set_difference(all.begin(), all.end(), some.begin(), some.end(),
                      std::inserter(rest, rest.end()));
  return rest;
}

TEST(StoreEraseTest, TakesExactlyWhatNoOtherSnapshotRefersTo) {
  for (const uint64_t seed : {41u, 42u}) {
    const auto files = NewStoreFiles(Encryption::kKey);
    const auto store = OpenTuned(files, {.pack_bytes = 30000, .most_tables = 3});
    RandomHistory history(seed);
    for (int i = 0; i < 24; ++i) {
      ASSERT_NO_FATAL_FAILURE(history.Step(*store));
    }
    std::mt19937_64 random(seed);
    while (history.snapshots().size() > 2) {
      Reach before(files);
      const store_test::Snapshot erased =
          history.snapshots()[random() % history.snapshots().size()];
      const EraseReport told = store->Erase(erased.id, {.dry_run = true}).value();
      ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, erased));
      const Result<EraseReport> report = store->Erase(erased.id, {});
      ASSERT_TRUE(report.ok()) << MessageOf(report);
      history.Forget(erased.id);
      Reach after(files);
      const std::set<Hash> lost = Without(before.chunks(), after.chunks());
      EXPECT_EQ(report->chunks, lost.size());
      EXPECT_EQ(report->chunk_bytes, before.BytesOf(lost));
      EXPECT_EQ(told.chunk_bytes, report->chunk_bytes);
      EXPECT_EQ(told.other_bytes, report->other_bytes);
      // Nothing else went out of reach, and nobody finds the snapshot.
      EXPECT_EQ(store->OpenSnapshot(erased.id).error().code(), ErrorCode::kNotFound);
      for (const store_test::Snapshot& snapshot : history.snapshots()) {
        ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, snapshot)) << snapshot.id.Hex();
      }
      ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, history.snapshots().size()));
    }
    ASSERT_TRUE(store->Prune({}).ok());
    ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, 2));
  }
}

// All that somebody may have kept: every file but keys/ID, as it was before.
TEST(StoreEraseTest, TheFilesOfBeforeAreOfNoUseWithoutTheKey) {
  const auto files = NewStoreFiles(Encryption::kKey);
  const auto store = OpenTuned(files);
  store_test::Snapshot first = KeyedSnapshot(100);
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  const auto kept = files->After(Cut::kKilled);
  ASSERT_TRUE(store->Erase(first.id, {}).ok());
  ASSERT_TRUE(kept->Overwrite(SnapshotKeyPath(first.id)).ok());
  EXPECT_FALSE(OpenTuned(kept)->OpenSnapshot(first.id).ok());
  ASSERT_TRUE(kept->Remove(SnapshotKeyPath(first.id)).ok());
  EXPECT_FALSE(OpenTuned(kept)->OpenSnapshot(first.id).ok());
}

TEST(StoreEraseTest, WhatIsHeldOrInUseStays) {
  const auto files = NewStoreFiles(Encryption::kKey);
  const auto store = OpenTuned(files);
  store_test::Snapshot first = KeyedSnapshot(100);
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  const Hold hold = store->AddHold(first.id, 0, "the law").value();
  const auto held = store->Erase(first.id, {});
  EXPECT_EQ(held.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(held.error().message(), HasSubstr("the law"));
  ASSERT_EQ(store->ReleaseHolds(first.id, hold.word).value(), 1u);
  {
    const auto reader = store->OpenSnapshot(first.id).value();
    const auto used = store->Erase(first.id, {});
    EXPECT_EQ(used.error().code(), ErrorCode::kBusy);
    EXPECT_THAT(used.error().message(), HasSubstr("in use"));
  }
  ExpectReads(*store, first);
  EXPECT_TRUE(store->Erase(first.id, {}).ok());
  EXPECT_EQ(store->Erase(first.id, {}).error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace pacsvisor
