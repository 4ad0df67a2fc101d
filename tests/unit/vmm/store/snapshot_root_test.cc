#include "vmm/store/snapshot_root.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/byte_order.h"
#include "vmm/store/store_format.h"

namespace pacsvisor {
namespace {

using testing::HasSubstr;

SnapshotRoot FullRoot() {
  SnapshotRoot root;
  root.info.parent = SnapshotId(Sha256({}));
  root.info.draft = {.machine = "pacs",
                     .message = "before the upgrade",
                     .instant_ns = 42,
                     .consistency = "quiesced",
                     .texts = {{"config", "cpus = 2\n"}, {"host", "linux"}},
                     .figures = {{"pause_ns", 900000}, {"rounds", 3}}};
  root.info.spaces = {{.name = "memory", .size_bytes = kGiB},
                      {.name = "disk0", .size_bytes = 5000}};
  root.space_numbers = {5, 0};
  root.info.counts = {1, 2, 3, 4, 5, 6, 7};
  root.state = {.name = Sha256({}), .file_bytes = 100, .plain_bytes = 200};
  root.info.state_bytes = 200;
  root.tables = {{.name = Sha256({}), .file_bytes = 300, .entries = 4}, {.file_bytes = 9}};
  root.last_pack = 17;
  return root;
}

// A field at the end of a root.
std::vector<uint8_t> WithField(uint16_t tag, uint16_t flags, uint32_t length) {
  std::vector<uint8_t> bytes = EncodeRoot(FullRoot());
  const size_t at = bytes.size();
  bytes.resize(at + 8 + length);
  StoreLe(bytes.data() + at, tag);
  StoreLe(bytes.data() + at + 2, flags);
  StoreLe(bytes.data() + at + 4, length);
  return bytes;
}

TEST(SnapshotRootTest, EveryFieldComesBack) {
  const SnapshotRoot root = FullRoot();
  const std::vector<uint8_t> bytes = EncodeRoot(root);
  const SnapshotRoot read = DecodeRoot(bytes).value();
  EXPECT_EQ(read.info.id, SnapshotId(Sha256(bytes)));
  EXPECT_EQ(read.info.parent, root.info.parent);
  EXPECT_EQ(read.info.draft.machine, root.info.draft.machine);
  EXPECT_EQ(read.info.draft.message, root.info.draft.message);
  EXPECT_EQ(read.info.draft.instant_ns, root.info.draft.instant_ns);
  EXPECT_EQ(read.info.draft.consistency, root.info.draft.consistency);
  EXPECT_EQ(read.info.draft.texts, root.info.draft.texts);
  EXPECT_EQ(read.info.draft.figures, root.info.draft.figures);
  EXPECT_EQ(read.info.spaces, root.info.spaces);
  EXPECT_EQ(read.space_numbers, root.space_numbers);
  EXPECT_EQ(read.info.counts.stored_bytes, 7u);
  EXPECT_EQ(read.state.name, root.state.name);
  EXPECT_EQ(read.info.state_bytes, 200u);
  EXPECT_EQ(read.tables, root.tables);
  EXPECT_EQ(read.last_pack, 17u);
}

TEST(SnapshotRootTest, AnUnknownFieldIsSkippedUnlessItIsMandatory) {
  EXPECT_TRUE(DecodeRoot(WithField(99, 0, 5)).ok());
  const auto refused = DecodeRoot(WithField(99, 1, 5));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kUnsupported);
  EXPECT_THAT(refused.error().message(), HasSubstr("field 99"));
}

TEST(SnapshotRootTest, FieldsThatBreakTheFormatAreRefused) {
  EXPECT_FALSE(DecodeRoot(WithField(99, 2, 0)).ok());  // a flag that means nothing
  EXPECT_FALSE(DecodeRoot(WithField(2, 1, 0)).ok());   // out of order
  EXPECT_FALSE(DecodeRoot(WithField(12, 1, 4)).ok());  // for the second time
  EXPECT_FALSE(DecodeRoot(WithField(12, 0, 4)).ok());  // mandatory, and not marked so
}

TEST(SnapshotRootTest, EveryTruncationIsRefused) {
  const std::vector<uint8_t> bytes = EncodeRoot(FullRoot());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeRoot(std::span(bytes).first(size)).ok()) << size;
  }
}

TEST(SnapshotRootTest, ALaterVersionIsUnsupported) {
  std::vector<uint8_t> bytes = EncodeRoot(FullRoot());
  bytes[8] = 2;
  EXPECT_EQ(DecodeRoot(bytes).error().code(), ErrorCode::kUnsupported);
}

TEST(SnapshotRootTest, DraftsPastTheLimitsAreRefusedInWords) {
  SnapshotDraft draft;
  draft.message.assign(kMaxMessageBytes, 'x');
  EXPECT_TRUE(CheckDraft(draft).ok());
  draft.message += 'x';
  EXPECT_THAT(CheckDraft(draft).error().message(), HasSubstr("message"));
  draft = {.machine = std::string(256, 'm')};
  EXPECT_THAT(CheckDraft(draft).error().message(), HasSubstr("machine"));
  draft = {.machine = std::string("a\0b", 3)};
  EXPECT_FALSE(CheckDraft(draft).ok());
  draft = {};
  draft.texts[""] = "no key";
  EXPECT_FALSE(CheckDraft(draft).ok());
  draft = {};
  for (int i = 0; i < 4; ++i) {
    draft.texts["t" + std::to_string(i)].assign(kMaxTextBytes, 't');
  }
  EXPECT_THAT(CheckDraft(draft).error().message(), HasSubstr("together"));
  draft = {};
  for (uint32_t i = 0; i <= kMaxFigures; ++i) {
    draft.figures[std::to_string(i)] = i;
  }
  EXPECT_FALSE(CheckDraft(draft).ok());
}

TEST(SnapshotRootTest, SpacesPastTheLimitsAreRefusedInWords) {
  EXPECT_FALSE(CheckSpaces({}).ok());
  EXPECT_FALSE(CheckSpaces({{.name = "", .size_bytes = 1}}).ok());
  EXPECT_FALSE(CheckSpaces({{.name = "a", .size_bytes = 0}}).ok());
  EXPECT_FALSE(CheckSpaces({{.name = "a", .block_bytes = 512, .size_bytes = 1}}).ok());
  EXPECT_FALSE(CheckSpaces({{.name = "a", .size_bytes = kMaxSpaceBytes + 1}}).ok());
  EXPECT_FALSE(CheckSpaces({{.name = "a", .size_bytes = 1}, {.name = "a", .size_bytes = 1}}).ok());
  EXPECT_TRUE(CheckSpaces({{.name = "a", .size_bytes = kMaxSpaceBytes}}).ok());
}

TEST(SnapshotIdTest, HexIsReadBackAndNothingElseIs) {
  const SnapshotId id(Sha256({}));
  EXPECT_EQ(id.Hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(id.Short(), "e3b0c44298fc");
  EXPECT_EQ(SnapshotId::FromHex(id.Hex()), id);
  EXPECT_FALSE(SnapshotId::FromHex(id.Short()).has_value());
  EXPECT_FALSE(SnapshotId::FromHex("E" + id.Hex().substr(1)).has_value());
  EXPECT_FALSE(SnapshotId::FromHex(id.Hex() + "0").has_value());
}

}  // namespace
}  // namespace pacsvisor
