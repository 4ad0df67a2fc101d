#include "vmm/disk/uring_restrictions.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "tests/support/temporary_directory.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {
namespace {

class UringRestrictions : public testing::Test {
 protected:
  void SetUp() override {
    io_uring_params parameters = {};
    parameters.flags = IORING_SETUP_R_DISABLED;
    const int made = io_uring_queue_init_params(8, &ring_, &parameters);
    if (made < 0 && std::getenv("PACSVISOR_REQUIRE_KVM") == nullptr) {
      GTEST_SKIP() << "this host refuses io_uring";
    }
    ASSERT_EQ(made, 0);
    file_.Reset(open((folder_.path() / "f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_TRUE(file_.valid());
    const int fd = file_.get();
    ASSERT_EQ(io_uring_register_files(&ring_, &fd, 1), 0);
    ASSERT_EQ(RestrictToDiskIo(ring_), 0);
  }
  void TearDown() override { io_uring_queue_exit(&ring_); }

  // The result of one operation.
  template <typename Prepare>
  int Do(Prepare prepare) {
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
    prepare(sqe);
    EXPECT_EQ(io_uring_submit(&ring_), 1);
    io_uring_cqe* cqe = nullptr;
    EXPECT_EQ(io_uring_wait_cqe(&ring_, &cqe), 0);
    const int result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    return result;
  }

  const TemporaryDirectory folder_;
  UniqueFd file_;
  io_uring ring_{};
  std::array<char, 16> bytes_{"0123456789"};
  iovec vector_{.iov_base = bytes_.data(), .iov_len = bytes_.size()};
};

TEST_F(UringRestrictions, LetReadAndWriteRegisteredFiles) {
  EXPECT_EQ(Do([&](io_uring_sqe* sqe) {
              io_uring_prep_writev(sqe, 0, &vector_, 1, 0);
              io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
            }),
            16);
  EXPECT_EQ(Do([&](io_uring_sqe* sqe) {
              io_uring_prep_readv(sqe, 0, &vector_, 1, 0);
              io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
            }),
            16);
  EXPECT_EQ(Do([&](io_uring_sqe* sqe) {
              io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
              io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
            }),
            0);
}

TEST_F(UringRestrictions, RefuseDescriptorsByNumber) {
  EXPECT_EQ(Do([&](io_uring_sqe* sqe) { io_uring_prep_readv(sqe, file_.get(), &vector_, 1, 0); }),
            -EACCES);
}

TEST_F(UringRestrictions, RefuseEveryOtherOperation) {
  EXPECT_EQ(Do([&](io_uring_sqe* sqe) {
              io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
            }),
            -EACCES);
  EXPECT_EQ(Do([&](io_uring_sqe* sqe) {
              io_uring_prep_socket(sqe, AF_INET, SOCK_STREAM, 0, 0);
              io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
            }),
            -EACCES);
  EXPECT_EQ(Do([&](io_uring_sqe* sqe) {
              io_uring_prep_nop(sqe);
              io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
            }),
            -EACCES);
}

TEST_F(UringRestrictions, RefuseToRegisterAnythingButOtherFiles) {
  EXPECT_EQ(io_uring_register_buffers(&ring_, &vector_, 1), -EACCES);
  EXPECT_EQ(io_uring_register_eventfd(&ring_, file_.get()), -EACCES);
  const int none = -1;
  EXPECT_EQ(io_uring_register_files_update(&ring_, 0, &none, 1), 1);
}

TEST_F(UringRestrictions, CannotBeLiftedAgain) {
  io_uring_restriction restriction = {};
  restriction.opcode = IORING_RESTRICTION_SQE_OP;
  restriction.sqe_op = IORING_OP_OPENAT;
  EXPECT_EQ(
      syscall(SYS_io_uring_register, ring_.ring_fd, IORING_REGISTER_RESTRICTIONS, &restriction, 1),
      -1);
}

}  // namespace
}  // namespace pacsvisor
