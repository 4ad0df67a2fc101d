#include "vmm/base/local_line.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kLongNs = 20'000'000'000;

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};  // characters as bytes
}
std::string TakeAll(LocalLine& line) {
  std::vector<uint8_t> bytes(LocalLine::kRoomBytes);
  const size_t size = line.Take(bytes);
  return {bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size)};
}
std::string ReadNow(LocalLine& line) {
  return line.Read(0, [] { return false; });
}

TEST(LocalLine, CarriesBothWaysAndWakesTheFarEnd) {
  LocalLine line;
  int news = 0;
  line.OnNews([&news] { ++news; });
  line.Open();
  ASSERT_TRUE(line.Write("there"));
  EXPECT_EQ(news, 2);
  EXPECT_EQ(TakeAll(line), "there");
  EXPECT_EQ(line.Give(Bytes("and back")), 8u);
  EXPECT_EQ(line.Read(MonotonicNs() + kLongNs, [] { return false; }), "and back");
}

TEST(LocalLine, NothingIsLeftToTheNextConversation) {
  LocalLine line;
  line.Open();
  ASSERT_TRUE(line.Write("x"));
  line.Give(Bytes("y"));
  line.Close();
  EXPECT_FALSE(line.Write("x"));
  EXPECT_EQ(TakeAll(line), "");
  EXPECT_EQ(line.Give(Bytes("dropped")), 7u);
  line.Open();
  EXPECT_EQ(TakeAll(line), "");
  EXPECT_EQ(ReadNow(line), "");
}

TEST(LocalLine, WhoFindsNoRoomIsWokenWhenThereIs) {
  LocalLine line;
  int news = 0;
  line.OnNews([&news] { ++news; });
  line.Open();
  const std::string much(LocalLine::kRoomBytes + 1, 'x');
  EXPECT_FALSE(line.Write(much));
  EXPECT_EQ(line.Give(Bytes(much)), LocalLine::kRoomBytes);
  EXPECT_EQ(line.Give(Bytes("x")), 0u);
  const int before = news;
  EXPECT_EQ(ReadNow(line).size(), LocalLine::kRoomBytes);
  EXPECT_EQ(news, before + 1);
  EXPECT_EQ(line.Give(Bytes("x")), 1u);
}

TEST(LocalLine, ReaderWaitsForBytesForItsLimitAndForWhoCallsItOff) {
  LocalLine line;
  line.Open();
  EXPECT_EQ(line.Read(MonotonicNs() + 1, [] { return false; }), "");
  EXPECT_EQ(line.Read(MonotonicNs() + kLongNs, [] { return true; }), "");
  std::thread far([&line] { line.Give(Bytes("late")); });
  EXPECT_EQ(line.Read(MonotonicNs() + kLongNs, [] { return false; }), "late");
  far.join();
}

TEST(LocalLine, KnowsWhetherSomebodyListens) {
  LocalLine line;
  EXPECT_FALSE(line.listened());
  line.SetListened(true);
  EXPECT_TRUE(line.listened());
}

}  // namespace
}  // namespace pacsvisor
