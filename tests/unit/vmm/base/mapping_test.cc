#include "vmm/base/mapping.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <future>
#include <string>
#include <utility>

#include "vmm/base/align.h"
#include "vmm/base/thread.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {
namespace {

constexpr size_t kAlignmentBytes = 2 * kMiB;

// Whether the kernel can write there for us: it says EFAULT where a program would be killed.
bool IsMapped(uint8_t* address) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const uint8_t byte = 0x5a;
  EXPECT_EQ(::write(ends[1], &byte, 1), 1);
  const bool mapped = ::read(ends[0], address, 1) == 1;
  ::close(ends[0]);
  ::close(ends[1]);
  return mapped;
}

TEST(MappingTest, GuardedMemoryIsAlignedZeroedAndWritable) {
  const Mapping mapping = Mapping::MapGuarded(3 * kMiB, kAlignmentBytes, -1, 0).value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(mapping.data()) % kAlignmentBytes, 0u);
  EXPECT_EQ(mapping.size_bytes(), 3 * kMiB);
  EXPECT_EQ(mapping.data()[0], 0);
  mapping.data()[3 * kMiB - 1] = 7;
  EXPECT_EQ(mapping.bytes().back(), 7);
}

TEST(MappingTest, GuardSpaceLiesOnBothSides) {
  const Mapping mapping = Mapping::MapGuarded(3 * kMiB, kAlignmentBytes, -1, 0).value();
  uint8_t* begin = mapping.data();
  uint8_t* end = begin + mapping.size_bytes();
  EXPECT_TRUE(IsMapped(begin));
  EXPECT_TRUE(IsMapped(end - 1));
  for (const size_t distance : {size_t{1}, size_t{4096}, kAlignmentBytes}) {
    EXPECT_FALSE(IsMapped(begin - distance)) << distance;
    EXPECT_FALSE(IsMapped(end + distance - 1)) << distance;
  }
}

TEST(MappingTest, GuardedMemoryOfAFileIsSharedFromItsOffsetOn) {
  const UniqueFd fd(::memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(fd.get(), static_cast<off_t>(4 * kMiB)), 0);
  const Mapping all = Mapping::MapShared(fd.get(), 4 * kMiB, PROT_READ | PROT_WRITE).value();
  const Mapping part = Mapping::MapGuarded(kMiB, kAlignmentBytes, fd.get(), kMiB).value();
  part.data()[5] = 9;
  EXPECT_EQ(all.data()[kMiB + 5], 9);
}

TEST(MappingTest, AFileIsMappedReadable) {
  const UniqueFd fd(::memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(::write(fd.get(), "abc", 3), 3);
  const Mapping mapping = Mapping::MapFile(fd.get(), 3).value();
  EXPECT_EQ(std::string(mapping.bytes().begin(), mapping.bytes().end()), "abc");
}

TEST(MappingTest, MovingHandsOnWhatIsMapped) {
  Mapping first = Mapping::MapGuarded(4096, 4096, -1, 0).value();
  uint8_t* address = first.data();
  Mapping second = std::move(first);
  EXPECT_EQ(first.data(), nullptr);
  EXPECT_EQ(second.data(), address);
  Mapping third;
  third = std::move(second);
  EXPECT_EQ(third.data(), address);
  EXPECT_TRUE(IsMapped(address));
}

TEST(MappingTest, ADestroyedOneIsGone) {
  uint8_t* address = nullptr;
  {
    const Mapping mapping = Mapping::MapGuarded(4096, 4096, -1, 0).value();
    address = mapping.data();
    ASSERT_TRUE(IsMapped(address));
  }
  EXPECT_FALSE(IsMapped(address));
}

TEST(MappingTest, WhatTheHostRefusesIsAnError) {
  EXPECT_FALSE(Mapping::MapShared(-1, 4096, PROT_READ).ok());
  EXPECT_FALSE(Mapping::MapFile(-1, 4096).ok());
  EXPECT_FALSE(Mapping::MapGuarded(size_t{1} << 50, kAlignmentBytes, -1, 0).ok());
}

TEST(UniqueFdTest, ClosesOnceAndHandsOver) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  UniqueFd reader(ends[0]);
  {
    UniqueFd writer(ends[1]);
    UniqueFd moved = std::move(writer);
    EXPECT_FALSE(writer.valid());
    EXPECT_EQ(moved.get(), ends[1]);
  }
  char byte;
  EXPECT_EQ(::read(reader.get(), &byte, 1), 0);  // end of file: the writer is closed
  const int released = reader.Release();
  EXPECT_FALSE(reader.valid());
  EXPECT_EQ(::close(released), 0);
}

TEST(ThreadTest, StartsWithItsNameAndAllSignalsBlocked) {
  std::promise<std::pair<std::string, bool>> seen;
  std::promise<void> named;
  std::thread thread = StartThread(ThreadKind::kDevice, "a-name-too-long-for-it", [&] {
                         named.get_future().wait();
                         char name[16] = {};
                         ::pthread_getname_np(::pthread_self(), name, sizeof(name));
                         sigset_t blocked;
                         ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
                         seen.set_value({name, ::sigismember(&blocked, SIGTERM) == 1 &&
                                                   ::sigismember(&blocked, SIGUSR1) == 1});
                       }).value();
  named.set_value();
  const auto [name, blocked] = seen.get_future().get();
  thread.join();
  EXPECT_EQ(name, "a-name-too-long");
  EXPECT_TRUE(blocked);
  sigset_t mine;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mine);
  EXPECT_EQ(::sigismember(&mine, SIGTERM), 0);
}

}  // namespace
}  // namespace pacsvisor
