#include "firmware/boot/initrd.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "firmware/boot/file_kind.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

// Reads through an initrd in guest memory; every step is checked against its end.
class Cursor {
 public:
  Cursor(const GuestMemory& memory, GuestRange range) : memory_(memory), range_(range) {}

  uint64_t left() const { return range_.size_bytes - position_; }
  uint64_t position() const { return position_; }
  void Skip(uint64_t bytes) { position_ += std::min(bytes, left()); }
  // False, and at the end, when there is less.
  bool Advance(uint64_t bytes) {
    const bool enough = bytes <= left();
    Skip(bytes);
    return enough;
  }
  bool Peek(std::span<uint8_t> to) const {
    return to.size() <= left() && memory_.Read(GuestAddress(range_.start.raw() + position_), to);
  }

 private:
  const GuestMemory& memory_;
  const GuestRange range_;
  uint64_t position_ = 0;
};

// buffer-format.rst: "newc" headers of 110 characters; sizes are 8 hexadecimal digits.
constexpr size_t kCpioHeaderBytes = 110;
constexpr size_t kCpioFileSize = 54;
constexpr size_t kCpioNameSize = 94;
constexpr std::string_view kCpioTrailer = "TRAILER!!!";

std::optional<uint64_t> HexField(std::span<const uint8_t> header, size_t offset) {
  std::array<char, 8> digits;
  std::copy_n(header.begin() + static_cast<ptrdiff_t>(offset), digits.size(), digits.begin());
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  return error == std::errc() && end == digits.data() + digits.size() ? std::optional(value)
                                                                      : std::nullopt;
}

// Names and contents are padded to 4 bytes, counted from the archive's beginning, itself aligned.
bool AdvancePadded(Cursor& cursor, uint64_t bytes) {
  if (!cursor.Advance(bytes)) {
    return false;
  }
  cursor.Skip(AlignUp<uint64_t>(cursor.position(), 4) - cursor.position());
  return true;
}

// One archive up to and with its trailer.
bool WalkCpio(Cursor& cursor) {
  while (true) {
    std::array<uint8_t, kCpioHeaderBytes> header;
    if (!cursor.Peek(header) || KindOfFile(header) != FileKind::kCpio) {
      return false;
    }
    const auto file_bytes = HexField(header, kCpioFileSize);
    const auto name_bytes = HexField(header, kCpioNameSize);
    if (!file_bytes.has_value() || !name_bytes.has_value() || !cursor.Advance(header.size())) {
      return false;
    }
    std::array<uint8_t, kCpioTrailer.size()> name{};
    const bool named = *name_bytes == kCpioTrailer.size() + 1 && cursor.Peek(name);
    if (named && std::equal(name.begin(), name.end(), kCpioTrailer.begin())) {
      return AdvancePadded(cursor, *name_bytes);
    }
    if (!AdvancePadded(cursor, *name_bytes) || !AdvancePadded(cursor, *file_bytes)) {
      return false;
    }
  }
}

// RFC 8878, 3.1.1: frame header, blocks behind 3-byte headers, optional checksum.
bool WalkZstd(Cursor& cursor) {
  constexpr std::array<uint64_t, 4> kDictionaryBytes = {0, 1, 2, 4};
  constexpr std::array<uint64_t, 4> kContentSizeBytes = {0, 2, 4, 8};
  std::array<uint8_t, 5> head;
  if (!cursor.Peek(head)) {
    return false;
  }
  const uint8_t descriptor = head[4];
  const bool single_segment = (descriptor & 0x20) != 0;
  uint64_t content_size_bytes = kContentSizeBytes[descriptor >> 6];
  if (single_segment && content_size_bytes == 0) {
    content_size_bytes = 1;
  }
  if (!cursor.Advance(head.size() + (single_segment ? 0 : 1) + kDictionaryBytes[descriptor & 3] +
                      content_size_bytes)) {
    return false;
  }
  bool last = false;
  while (!last) {
    std::array<uint8_t, 3> block;
    if (!cursor.Peek(block) || !cursor.Advance(block.size())) {
      return false;
    }
    const uint64_t bits = LoadLeBytes(block);
    constexpr uint64_t kRunLengthBlock = 1;
    last = (bits & 1) != 0;
    const bool run_length = (bits >> 1 & 3) == kRunLengthBlock;
    if (!cursor.Advance(run_length ? 1 : bits >> 3)) {
      return false;
    }
  }
  const bool has_checksum = (descriptor & 0x04) != 0;
  return cursor.Advance(has_checksum ? 4 : 0);
}

// The legacy lz4 format: blocks behind their sizes, up to the end or to a next magic number. The
// last block has no mark: an end between two blocks passes.
bool WalkLz4(Cursor& cursor) {
  std::array<uint8_t, 4> word;
  if (!cursor.Advance(word.size())) {
    return false;
  }
  while (cursor.Peek(word)) {
    const auto size = LoadLe<uint32_t>(word.data());
    if (size == 0 || KindOfFile(word) != FileKind::kOther) {
      return true;
    }
    if (!cursor.Advance(word.size() + uint64_t{size})) {
      return false;
    }
  }
  return cursor.left() == 0;
}

// Padding between archives.
void SkipZeroes(Cursor& cursor) {
  std::array<uint8_t, 512> bytes;
  while (cursor.left() > 0) {
    const std::span<uint8_t> chunk =
        std::span(bytes).first(std::min<uint64_t>(bytes.size(), cursor.left()));
    CHECK(cursor.Peek(chunk));
    const auto other = std::find_if(chunk.begin(), chunk.end(), [](uint8_t b) { return b != 0; });
    cursor.Skip(static_cast<uint64_t>(other - chunk.begin()));
    if (other != chunk.end()) {
      return;
    }
  }
}

}  // namespace

Status CheckInitrdKind(const ImageSource& source) {
  const std::vector<uint8_t> head = TRY(source.Head());
  switch (KindOfFile(head)) {
    case FileKind::kGzip:
    case FileKind::kBzip2:
    case FileKind::kLzma:
    case FileKind::kXz:
    case FileKind::kLzo:
    case FileKind::kLz4:
    case FileKind::kZstd:
    case FileKind::kCpio:
      return {};
    case FileKind::kEmpty:
    case FileKind::kBzImage:
    case FileKind::kElf:
    case FileKind::kOther:
      break;
  }
  return Error::Make(ErrorCode::kInvalidArgument,
                     "{} is {}: give a cpio archive, plain or compressed as Linux knows it",
                     source.name(), DescribeFile(head));
}

Status CheckInitrdWhole(const GuestMemory& memory, GuestRange range, std::string_view name) {
  Cursor cursor(memory, range);
  while (cursor.left() > 0) {
    std::array<uint8_t, 8> magic{};
    const size_t magic_bytes = std::min<uint64_t>(magic.size(), cursor.left());
    CHECK(cursor.Peek(std::span(magic).first(magic_bytes)));
    bool whole = true;
    switch (KindOfFile(std::span(magic).first(magic_bytes))) {
      case FileKind::kCpio:
        whole = WalkCpio(cursor);
        break;
      case FileKind::kZstd:
        whole = WalkZstd(cursor);
        break;
      case FileKind::kLz4:
        whole = WalkLz4(cursor);
        break;
      default:
        return {};
    }
    if (!whole) {
      return Error::Make(ErrorCode::kCorrupt,
                         "{} is cut short or damaged: its {} bytes end inside an archive; copy or "
                         "build it again",
                         name, range.size_bytes);
    }
    SkipZeroes(cursor);
  }
  return {};
}

}  // namespace pacsvisor
