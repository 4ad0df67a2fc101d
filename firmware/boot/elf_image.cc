#include "firmware/boot/elf_image.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "firmware/boot/file_kind.h"
#include "firmware/boot/placement.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

constexpr size_t kMaximumProgramHeaders = 256;
constexpr uint64_t kMaximumNotesBytes = 64 * kKiB;
// Xen, xen/include/public/elfnote.h; the name is "Xen" with its closing zero.
constexpr uint32_t kXenPhys32Entry = 18;
constexpr std::string_view kXenNoteName{"Xen\0", 4};

static_assert(sizeof(Elf64_Ehdr) == 64 && sizeof(Elf64_Phdr) == 56 && sizeof(Elf64_Nhdr) == 12);

Error Damaged(const ImageSource& source, std::string_view what) {
  return Error::Make(ErrorCode::kCorrupt, "{} is a damaged ELF: {}", source.name(), what);
}

// An ABI structure at `offset_bytes` of the source.
template <typename T>
Result<T> ReadStruct(const ImageSource& source, uint64_t offset_bytes) {
  std::array<uint8_t, sizeof(T)> bytes;
  TRY(source.Read(offset_bytes, bytes));
  T object;
  std::memcpy(&object, bytes.data(), sizeof(object));
  return object;
}

Result<Elf64_Ehdr> ReadElfHeader(const ImageSource& source) {
  const std::vector<uint8_t> head = TRY(source.Head());
  if (KindOfFile(head) != FileKind::kElf) {
    return Error::Make(ErrorCode::kInvalidArgument, "{} is {}, not an ELF", source.name(),
                       DescribeFile(head));
  }
  const auto header = TRY(ReadStruct<Elf64_Ehdr>(source, 0));
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != EM_X86_64) {
    return Error::Make(ErrorCode::kUnsupported,
                       "{} is {}: use a kernel for x86-64 (amd64), as a 64-bit ELF", source.name(),
                       DescribeFile(head));
  }
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "{} is an object file or a core dump: use a linked kernel", source.name());
  }
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum > kMaximumProgramHeaders) {
    return Damaged(source, "its program headers have an impossible size or number");
  }
  return header;
}

uint64_t AlignNote(uint64_t size) { return AlignUp<uint64_t>(size, 4); }

// One PT_NOTE segment (System V ABI, "Note Section"): name and value padded to 4 bytes.
std::optional<GuestAddress> FindPvhEntry(std::span<const uint8_t> notes) {
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;
    std::memcpy(&note, notes.data(), sizeof(note));
    const uint64_t value_offset = sizeof(note) + AlignNote(note.n_namesz);
    if (value_offset > notes.size() || note.n_descsz > notes.size() - value_offset) {
      return std::nullopt;
    }
    const std::span<const uint8_t> value = notes.subspan(value_offset, note.n_descsz);
    if (note.n_type == kXenPhys32Entry && note.n_namesz == kXenNoteName.size() &&
        std::memcmp(notes.data() + sizeof(note), kXenNoteName.data(), kXenNoteName.size()) == 0 &&
        (value.size() == 4 || value.size() == 8)) {
      return GuestAddress(LoadLeBytes(value));
    }
    notes =
        notes.subspan(std::min<uint64_t>(value_offset + AlignNote(note.n_descsz), notes.size()));
  }
  return std::nullopt;
}

Result<std::optional<GuestAddress>> ReadPvhEntry(const ImageSource& source,
                                                 const Elf64_Phdr& header) {
  std::vector<uint8_t> notes(std::min(header.p_filesz, kMaximumNotesBytes));
  TRY(source.Read(header.p_offset, notes));
  return FindPvhEntry(notes);
}

Result<ElfSegment> CheckSegment(const ImageSource& source, const Elf64_Phdr& header) {
  if (header.p_memsz < header.p_filesz) {
    return Damaged(source, "a segment is larger in the file than in memory");
  }
  TRY(source.RequireSize(CheckedAdd(header.p_offset, header.p_filesz).value_or(UINT64_MAX)));
  return ElfSegment{.offset_bytes = header.p_offset,
                    .file_bytes = header.p_filesz,
                    .physical = GuestAddress(header.p_paddr),
                    .memory_bytes = header.p_memsz};
}

bool Holds(const ElfImage& image, GuestAddress address) {
  return std::any_of(image.segments.begin(), image.segments.end(), [&](const ElfSegment& segment) {
    return address >= segment.physical &&
           address.raw() - segment.physical.raw() < segment.file_bytes;
  });
}

Status LoadSegment(GuestMemory& memory, const ImageSource& source, const ElfSegment& segment) {
  TRY(source.ReadIntoGuest(segment.offset_bytes, memory, {segment.physical, segment.file_bytes}));
  const GuestRange rest{GuestAddress(segment.physical.raw() + segment.file_bytes),
                        segment.memory_bytes - segment.file_bytes};
  CHECK(memory.Fill(rest, 0), "{}+{}", rest.start, rest.size_bytes);
  return {};
}

}  // namespace

Result<ElfImage> ParseElf(const ImageSource& source) {
  const Elf64_Ehdr header = TRY(ReadElfHeader(source));
  ElfImage image;
  image.entry = GuestAddress(header.e_entry);
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    const std::optional<uint64_t> offset = CheckedAdd(header.e_phoff, i * sizeof(Elf64_Phdr));
    const auto program = TRY(ReadStruct<Elf64_Phdr>(source, offset.value_or(UINT64_MAX)));
    if (program.p_type == PT_LOAD && program.p_memsz != 0) {
      image.segments.push_back(TRY(CheckSegment(source, program)));
    } else if (program.p_type == PT_NOTE && !image.pvh_entry.has_value()) {
      image.pvh_entry = TRY(ReadPvhEntry(source, program));
    }
  }
  if (image.segments.empty()) {
    return Damaged(source, "it has nothing to load");
  }
  const GuestAddress entry = image.pvh_entry.value_or(image.entry);
  if (!Holds(image, entry)) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "{} is no kernel: its entry {} lies in none of its segments' physical "
                       "addresses (is it an ordinary program?)",
                       source.name(), entry);
  }
  return image;
}

Result<LoadedKernel> LoadElf(GuestMemory& memory, const MemoryLayout& layout,
                             const ImageSource& source, const ElfImage& image) {
  uint64_t start = UINT64_MAX;
  uint64_t end = 0;
  for (const ElfSegment& segment : image.segments) {
    TRY(RequireKernelFits(layout, source.name(), {segment.physical, segment.memory_bytes}));
    start = std::min(start, segment.physical.raw());
    end = std::max(end, segment.physical.raw() + segment.memory_bytes);
  }
  for (const ElfSegment& segment : image.segments) {
    TRY(LoadSegment(memory, source, segment));
  }
  LoadedKernel kernel;
  kernel.range = {GuestAddress(start), end - start};
  if (image.pvh_entry.has_value()) {
    kernel.description = "ELF, entered by PVH";
    kernel.protocol = BootProtocol::kPvh;
    kernel.entry = *image.pvh_entry;
  } else {
    kernel.description = "ELF, entered in long mode";
    kernel.entry = image.entry;
  }
  return kernel;
}

}  // namespace pacsvisor
