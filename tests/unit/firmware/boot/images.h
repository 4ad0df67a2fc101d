// Kernels and initrds made for tests, byte by byte; each field can be spoilt.
#pragma once

#include <asm/bootparam.h>
#include <elf.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/align.h"

namespace pacsvisor {

using ImageBytes = std::vector<uint8_t>;

inline void Put(ImageBytes& image, size_t at, const void* from, size_t size) {
  if (image.size() < at + size) {
    image.resize(at + size);
  }
  std::memcpy(image.data() + at, from, size);
}

template <typename T>
void PutObject(ImageBytes& image, size_t at, const T& object) {
  Put(image, at, &object, sizeof(object));
}

inline ImageBytes TextBytes(std::string_view text) { return {text.begin(), text.end()}; }

// A bzImage of two setup sectors whose code is a recognisable pattern around `payload`.
struct BzImageSpec {
  setup_header header = [] {
    setup_header made{};
    made.setup_sects = 1;
    made.boot_flag = 0xaa55;
    made.header = 0x5372'6448;
    made.version = 0x020f;
    made.loadflags = LOADED_HIGH;
    made.jump = 0x6aeb;  // a short jump over the header: its length
    made.initrd_addr_max = 0x7fff'ffff;
    made.kernel_alignment = 0x20'0000;
    made.relocatable_kernel = 1;
    made.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
    made.cmdline_size = 2047;
    made.pref_address = 0x100'0000;
    made.init_size = 0x40'0000;
    return made;
  }();
  ImageBytes payload = TextBytes("not compressed at all");
  static constexpr size_t kPayloadOffset = 0x300;  // in the code
};

inline constexpr size_t kBzCodeOffset = 1024;

inline ImageBytes MakeBzImage(BzImageSpec spec) {
  const size_t code_bytes =
      AlignUp<size_t>(BzImageSpec::kPayloadOffset + spec.payload.size() + 16, 16);
  ImageBytes image(kBzCodeOffset + code_bytes);
  for (size_t i = kBzCodeOffset; i < image.size(); ++i) {
    image[i] = static_cast<uint8_t>(i * 7);
  }
  if (spec.header.syssize == 0) {
    spec.header.syssize = static_cast<uint32_t>(code_bytes / 16);
  }
  if (spec.header.payload_length == 0) {
    spec.header.payload_offset = BzImageSpec::kPayloadOffset;
    spec.header.payload_length = static_cast<uint32_t>(spec.payload.size());
  }
  PutObject(image, offsetof(boot_params, hdr), spec.header);
  Put(image, kBzCodeOffset + BzImageSpec::kPayloadOffset, spec.payload.data(), spec.payload.size());
  return image;
}

struct ElfSegmentSpec {
  uint64_t physical;
  ImageBytes content;
  uint64_t memory_bytes;
};

struct ElfSpec {
  Elf64_Ehdr header = [] {
    Elf64_Ehdr made{};
    std::memcpy(made.e_ident, ELFMAG, SELFMAG);
    made.e_ident[EI_CLASS] = ELFCLASS64;
    made.e_ident[EI_DATA] = ELFDATA2LSB;
    made.e_ident[EI_VERSION] = EV_CURRENT;
    made.e_type = ET_EXEC;
    made.e_machine = EM_X86_64;
    made.e_version = EV_CURRENT;
    made.e_entry = 0x20'0010;
    made.e_phoff = sizeof(Elf64_Ehdr);
    made.e_ehsize = sizeof(Elf64_Ehdr);
    made.e_phentsize = sizeof(Elf64_Phdr);
    return made;
  }();
  std::vector<ElfSegmentSpec> segments = {
      {0x20'0000, ImageBytes(5000, 0xc3), 5000},
      {0x30'0000, ImageBytes(100, 0xd4), 20'000},
  };
  ImageBytes notes;  // a PT_NOTE segment when not empty
};

inline ImageBytes MakeNote(std::string_view name, uint32_t type, const ImageBytes& value) {
  ImageBytes note;
  PutObject(
      note, 0,
      Elf64_Nhdr{static_cast<uint32_t>(name.size()), static_cast<uint32_t>(value.size()), type});
  Put(note, note.size(), name.data(), name.size());
  note.resize(AlignUp<size_t>(note.size(), 4));
  Put(note, note.size(), value.data(), value.size());
  note.resize(AlignUp<size_t>(note.size(), 4));
  return note;
}

// Xen's PHYS32_ENTRY with a 32-bit address, behind a note that is to be passed over.
inline ImageBytes MakePvhNotes(uint32_t entry) {
  ImageBytes value(sizeof(entry));
  std::memcpy(value.data(), &entry, sizeof(entry));
  ImageBytes notes = MakeNote(std::string_view("GNU\0", 4), 3, ImageBytes(20, 0xee));
  const ImageBytes xen = MakeNote(std::string_view("Xen\0", 4), 18, value);
  notes.insert(notes.end(), xen.begin(), xen.end());
  return notes;
}

inline ImageBytes MakeElf(ElfSpec spec) {
  const size_t count = spec.segments.size() + (spec.notes.empty() ? 0 : 1);
  spec.header.e_phnum = static_cast<uint16_t>(count);
  ImageBytes image;
  PutObject(image, 0, spec.header);
  image.resize(sizeof(Elf64_Ehdr) + count * sizeof(Elf64_Phdr));
  size_t at = sizeof(Elf64_Ehdr);
  const auto add = [&](uint32_t type, uint64_t physical, const ImageBytes& content,
                       uint64_t memory_bytes) {
    Elf64_Phdr program{};
    program.p_type = type;
    program.p_offset = image.size();
    program.p_paddr = physical;
    program.p_filesz = content.size();
    program.p_memsz = memory_bytes;
    PutObject(image, at, program);
    at += sizeof(program);
    image.insert(image.end(), content.begin(), content.end());
  };
  for (const ElfSegmentSpec& segment : spec.segments) {
    add(PT_LOAD, segment.physical, segment.content, segment.memory_bytes);
  }
  if (!spec.notes.empty()) {
    add(PT_NOTE, 0, spec.notes, spec.notes.size());
  }
  return image;
}

// One "newc" entry; sizes in the header may be spoilt afterwards.
inline ImageBytes MakeCpioEntry(std::string_view name, std::string_view content) {
  char header[111];
  std::snprintf(header, sizeof(header),
                "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X%08X%08zX%08X", 1u, 0100644u, 0u,
                0u, 1u, 0u, content.size(), 0u, 0u, 0u, 0u, name.size() + 1, 0u);
  ImageBytes entry = TextBytes(std::string_view(header, 110));
  Put(entry, entry.size(), name.data(), name.size());
  entry.push_back(0);
  entry.resize(AlignUp<size_t>(entry.size(), 4));
  Put(entry, entry.size(), content.data(), content.size());
  entry.resize(AlignUp<size_t>(entry.size(), 4));
  return entry;
}

inline ImageBytes MakeCpio() {
  ImageBytes archive = MakeCpioEntry("init", "#!/bin/sh\n");
  for (const auto& entry :
       {MakeCpioEntry("etc/name", std::string(1000, 'x')), MakeCpioEntry("TRAILER!!!", "")}) {
    archive.insert(archive.end(), entry.begin(), entry.end());
  }
  return archive;
}

}  // namespace pacsvisor
