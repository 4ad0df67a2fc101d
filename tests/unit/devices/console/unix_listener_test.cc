#include "devices/console/unix_listener.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temporary_directory.h"
#include "tests/unit/devices/console/socket_client.h"

namespace pacsvisor::console_test {
namespace {

using testing::HasSubstr;

class UnixListenerTest : public testing::Test {
 protected:
  const TemporaryDirectory folder_;
  const std::string path_ = folder_.path() / "socket";
};

TEST_F(UnixListenerTest, AcceptsClients) {
  const auto listener = UnixListener::Open(path_);
  ASSERT_TRUE(listener.ok()) << listener.error().message();
  EXPECT_FALSE(listener->Accept().valid());
  const SocketClient client(path_);
  ASSERT_TRUE(client.connected());
  EXPECT_TRUE(listener->Accept().valid());
}

TEST_F(UnixListenerTest, IsItsOwnersAloneWhateverTheUmask) {
  const mode_t before = ::umask(0);
  const auto listener = UnixListener::Open(path_);
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777u, 0600u);
}

TEST_F(UnixListenerTest, RemovesItsPathAtItsEnd) {
  { ASSERT_TRUE(UnixListener::Open(path_).ok()); }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(UnixListenerTest, ReplacesASocketWhoseOwnerIsGone) {
  {
    const auto listener = UnixListener::Open(path_);
    // As a killed process leaves it.
    std::filesystem::create_hard_link(path_, folder_.path() / "kept");
  }
  std::filesystem::rename(folder_.path() / "kept", path_);
  ASSERT_TRUE(std::filesystem::exists(path_));
  const auto listener = UnixListener::Open(path_);
  ASSERT_TRUE(listener.ok()) << listener.error().message();
  EXPECT_TRUE(SocketClient(path_).connected());
}

TEST_F(UnixListenerTest, LeavesASocketThatAnswersAlone) {
  const auto first = UnixListener::Open(path_);
  const auto second = UnixListener::Open(path_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(second.error().message(), HasSubstr(path_));
  EXPECT_TRUE(SocketClient(path_).connected());
}

TEST_F(UnixListenerTest, LeavesAnythingElseAlone) {
  std::ofstream(path_) << "precious";
  const auto listener = UnixListener::Open(path_);
  ASSERT_FALSE(listener.ok());
  EXPECT_EQ(listener.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(std::filesystem::file_size(path_), 8u);
}

TEST_F(UnixListenerTest, RefusesPathsThatCannotBe) {
  EXPECT_FALSE(UnixListener::Open("").ok());
  const auto longest = UnixListener::Open(folder_.path() / std::string(200, 'x'));
  ASSERT_FALSE(longest.ok());
  EXPECT_THAT(longest.error().message(), HasSubstr("shorter"));
  const auto nowhere = UnixListener::Open(folder_.path() / "missing/socket");
  ASSERT_FALSE(nowhere.ok());
  EXPECT_EQ(nowhere.error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace pacsvisor::console_test
