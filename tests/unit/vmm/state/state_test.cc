#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "vmm/state/state_codec.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {
namespace {

using Bytes = std::vector<uint8_t>;

StateNode MakeComponent() {
  StateNode node;
  node.SetVersion(3);
  node.SetU64("largest", std::numeric_limits<uint64_t>::max());
  node.SetBool("enabled", true);
  node.SetString("name", std::string("disk\0 \xff", 7));
  node.SetString("no_text", "");
  node.SetBytes("ring", Bytes{0, 1, 2, 0xff});
  node.SetBytes("no_bytes", Bytes{});
  node.AddChild("queue").SetU64("size", 256);
  node.AddChild("empty_child");
  for (uint64_t i = 0; i < 3; ++i) {
    StateNode& vcpu = node.AppendTo("vcpus");
    vcpu.SetU64("id", i);
    vcpu.AppendTo("msrs").SetU64("index", 0x10 + i);
  }
  return node;
}

// n lists, each but the last holding a map with the next.
StateNode MakeNested(size_t levels) {
  StateNode root;
  StateNode* node = &root;
  for (size_t i = 1; i < levels; ++i) {
    node = &node->AddChild("next");
  }
  return root;
}

TEST(StateCodecTest, AComponentSurvivesTheRound) {
  const Bytes encoded = EncodeState(MakeComponent());
  const StateNode node = DecodeState(encoded).value();
  EXPECT_EQ(*node.Version(3), 3u);
  EXPECT_EQ(*node.U64("largest"), std::numeric_limits<uint64_t>::max());
  EXPECT_TRUE(*node.Bool("enabled"));
  EXPECT_EQ(*node.String("name"), std::string("disk\0 \xff", 7));
  EXPECT_EQ(*node.String("no_text"), "");
  const auto ring = *node.BytesOf("ring", 4);
  EXPECT_EQ(Bytes(ring.begin(), ring.end()), (Bytes{0, 1, 2, 0xff}));
  EXPECT_EQ(node.BytesOf("no_bytes")->size(), 0u);
  EXPECT_EQ(*(*node.Child("queue"))->U64("size"), 256u);
  EXPECT_TRUE((*node.Child("empty_child"))->fields().empty());
  ASSERT_EQ(node.Children("vcpus")->size(), 3u);
  EXPECT_EQ(*(*(*node.Children("vcpus"))[2].Children("msrs"))[0].U64("index"), 0x12u);
  EXPECT_EQ(EncodeState(node), encoded);
}

TEST(StateCodecTest, CutAtEveryByteIsRefused) {
  const Bytes encoded = EncodeState(MakeComponent());
  for (size_t size = 0; size < encoded.size(); ++size) {
    const Result<StateNode> result = DecodeState(std::span(encoded).first(size));
    ASSERT_FALSE(result.ok()) << size;
    EXPECT_EQ(result.error().code(), ErrorCode::kCorrupt);
  }
}

TEST(StateCodecTest, MoreBehindTheEndIsRefused) {
  Bytes encoded = EncodeState(MakeComponent());
  encoded.push_back(0xa0);
  EXPECT_FALSE(DecodeState(encoded).ok());
}

TEST(StateCodecTest, EveryFlippedByteIsRefusedOrReadsAsATreeOfItsOwn) {
  const Bytes encoded = EncodeState(MakeComponent());
  for (size_t i = 0; i < encoded.size(); ++i) {
    for (const uint8_t flip : Bytes{0x01, 0x20, 0x80, 0xff}) {
      Bytes damaged = encoded;
      damaged[i] ^= flip;
      const Result<StateNode> result = DecodeState(damaged);
      if (result.ok()) {
        EXPECT_TRUE(DecodeState(EncodeState(*result)).ok()) << i;
      }
    }
  }
}

TEST(StateCodecTest, NestingUpToTheLimitIsReadAndNoDeeper) {
  EXPECT_TRUE(DecodeState(EncodeState(MakeNested(kStateDepthLimit))).ok());
  EXPECT_FALSE(DecodeState(EncodeState(MakeNested(kStateDepthLimit + 1))).ok());
}

// Each would recurse in the library once a byte.
class HostileNestingTest : public testing::TestWithParam<int> {};

TEST_P(HostileNestingTest, OfTwoHundredThousandLevelsIsRefused) {
  const auto opener = static_cast<uint8_t>(GetParam());
  EXPECT_FALSE(DecodeState(Bytes(200'000, opener)).ok());
  Bytes inside = {0xa1, 0x61, 'a'};
  inside.insert(inside.end(), 200'000, opener);
  EXPECT_FALSE(DecodeState(inside).ok());
}

// A list of one; a list, a map, a text and a byte string without end; a tag.
INSTANTIATE_TEST_SUITE_P(Openers, HostileNestingTest,
                         testing::Values(0x81, 0x9f, 0xbf, 0x7f, 0x5f, 0xc1));

TEST(StateCodecTest, NestedMapsOfTwoHundredThousandLevelsAreRefused) {
  Bytes encoded;
  for (int i = 0; i < 200'000; ++i) {
    encoded.insert(encoded.end(), {0xa1, 0x61, 'a'});
  }
  EXPECT_FALSE(DecodeState(encoded).ok());
}

TEST(StateCodecTest, ANameTwiceIsRefusedByName) {
  const Result<StateNode> result = DecodeState(Bytes{0xa2, 0x61, 'x', 1, 0x61, 'x', 2});
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("'x' twice"), std::string::npos)
      << result.error().message();
}

TEST(StateCodecTest, ValuesThatAreNeverWrittenAreRefused) {
  const std::pair<const char*, Bytes> cases[] = {{"negative", {0x20}},
                                                 {"false", {0xf4}},
                                                 {"null", {0xf6}},
                                                 {"undefined", {0xf7}},
                                                 {"float", {0xfa, 0, 0, 0, 0}},
                                                 {"tagged", {0xc0, 0x61, 'x'}},
                                                 {"list of numbers", {0x82, 1, 2}},
                                                 {"list of lists", {0x81, 0x80}},
                                                 {"map with a number for a name", {0xa1, 1, 1}}};
  for (const auto& [what, value] : cases) {
    Bytes encoded = {0xa1, 0x61, 'a'};
    encoded.insert(encoded.end(), value.begin(), value.end());
    EXPECT_FALSE(DecodeState(encoded).ok()) << what;
    EXPECT_FALSE(DecodeState(value).ok()) << what << " as the root";
  }
}

TEST(StateCodecTest, SizesThatAreNotThereAreRefused) {
  for (const uint8_t head : Bytes{0x5b, 0x7b, 0x9b, 0xbb}) {
    Bytes encoded = {0xa1, 0x61, 'a', head};
    encoded.insert(encoded.end(), 8, 0xff);
    EXPECT_FALSE(DecodeState(encoded).ok()) << static_cast<int>(head);
  }
}

TEST(StateCodecTest, TooManyFieldsAreRefusedBeforeTheyFillTheHost) {
  // {"a": [{}, {}, ...]}: a byte an element.
  Bytes encoded = {0xa1, 0x61, 'a', 0x9a, 0x00, 0x20, 0x00, 0x00};
  encoded.insert(encoded.end(), 0x20'0000, 0xa0);
  EXPECT_FALSE(DecodeState(encoded).ok());
}

TEST(StateCodecTest, MoreThanTheSizeLimitIsRefused) {
  EXPECT_FALSE(DecodeState(Bytes(kStateSizeLimitBytes + 1)).ok());
}

TEST(StateNodeTest, WhatIsMissingIsNamed) {
  const StateNode node;
  const Result<uint64_t> result = node.U64("cr3");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("'cr3' is missing"), std::string::npos);
  EXPECT_FALSE(node.Child("queue").ok());
  EXPECT_TRUE(node.Children("vcpus")->empty());
}

TEST(StateNodeTest, WrongKindsAreRefused) {
  const StateNode node = MakeComponent();
  EXPECT_FALSE(node.U64("name").ok());
  EXPECT_FALSE(node.String("ring").ok());
  EXPECT_FALSE(node.BytesOf("name").ok());
  EXPECT_FALSE(node.Child("vcpus").ok());
  EXPECT_FALSE(node.Children("queue").ok());
  EXPECT_FALSE(node.BytesOf("ring", 5).ok());
}

TEST(StateNodeTest, NumbersOutOfRangeAreRefused) {
  StateNode node;
  node.SetU64("value", 256);
  EXPECT_FALSE(node.Get<uint8_t>("value").ok());
  EXPECT_EQ(*node.Get<uint16_t>("value"), 256);
  EXPECT_FALSE(node.Bool("value").ok());
  EXPECT_FALSE(node.U64("value", 255).ok());
  EXPECT_TRUE(node.U64("value", 256).ok());
}

TEST(StateNodeTest, VersionsOutsideTheKnownAreRefused) {
  StateNode newer;
  newer.SetVersion(4);
  const Result<uint32_t> result = newer.Version(3);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), ErrorCode::kUnsupported);
  StateNode zero;
  zero.SetVersion(0);
  EXPECT_FALSE(zero.Version(3).ok());
  EXPECT_FALSE(StateNode().Version(3).ok());
}

TEST(StateNodeDeathTest, ANameSetTwiceIsABug) {
  StateNode node;
  node.SetU64("a", 1);
  EXPECT_DEATH(node.SetU64("a", 2), "'a' set twice");
  EXPECT_DEATH(node.AppendTo("a"), "not a list");
}

}  // namespace
}  // namespace pacsvisor
