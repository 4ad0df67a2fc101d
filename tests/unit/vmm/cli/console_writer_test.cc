#include "vmm/cli/console_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace pacsvisor {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

class ConsoleWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    std::signal(SIGPIPE, SIG_IGN);
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    read_end_.Reset(ends[0]);
    Result<std::unique_ptr<ConsoleWriter>> writer =
        ConsoleWriter::Start(ends[1], UniqueFd(ends[1]));
    ASSERT_TRUE(writer.ok());
    writer_ = *std::move(writer);
  }
  void Write(const std::string& text) {
    // Characters as bytes.
    writer_->Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  std::string ReadToEnd() {
    std::string all;
    char buffer[4096];
    ssize_t count;
    while ((count = read(read_end_.get(), buffer, sizeof(buffer))) > 0) {
      all.append(buffer, static_cast<size_t>(count));
    }
    return all;
  }

  UniqueFd read_end_;
  std::unique_ptr<ConsoleWriter> writer_;
};

TEST_F(ConsoleWriterTest, WritesAllInOrderBeforeItEnds) {
  std::string all;
  for (int i = 0; i < 1000; ++i) {
    Write(std::to_string(i) + "\n");
    all += std::to_string(i) + "\n";
  }
  writer_.reset();
  EXPECT_EQ(ReadToEnd(), all);
}

TEST_F(ConsoleWriterTest, AReaderThatSleepsHoldsNobodyUpAndTheLossIsTold) {
  const std::string block(4096, 'x');
  for (size_t written = 0; written < 3 * ConsoleWriter::kBufferBytes; written += block.size()) {
    Write(block);  // would never return, if it waited
  }
  std::string seen;
  std::thread reader([&] { seen = ReadToEnd(); });
  writer_.reset();
  reader.join();
  EXPECT_THAT(seen, StartsWith(block));
  EXPECT_THAT(seen, HasSubstr(" bytes of console output were lost]"));
}

TEST_F(ConsoleWriterTest, AReaderThatNeverReadsDoesNotKeepItFromEnding) {
  Write(std::string(ConsoleWriter::kBufferBytes, 'x'));
  writer_.reset();
}

TEST_F(ConsoleWriterTest, AReaderThatIsGoneIsNoHarm) {
  read_end_.Reset();
  Write("x");
  Write("y");
  writer_.reset();
}

}  // namespace
}  // namespace pacsvisor
