// A machine's memory with its tables, and kernels loaded into it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "firmware/acpi/acpi_tables.h"
#include "firmware/boot/e820.h"
#include "firmware/boot/load_kernel.h"
#include "tests/unit/firmware/boot/images.h"

namespace pacsvisor {

class BootFixture : public testing::Test {
 protected:
  explicit BootFixture(uint64_t memory_bytes = 64 * kMiB) { Resize(memory_bytes); }

  void Resize(uint64_t memory_bytes) {
    platform_.apic_ids = {0};
    platform_.memory = MemoryLayout::Create(memory_bytes, 40).value();
    memory_ = GuestMemory::Create(platform_.memory, MemoryBacking::kAnonymous).value();
    acpi_ = WriteAcpiTables(*memory_, platform_).value();
  }

  Result<BootState> Load(const ImageBytes& kernel, const ImageBytes* initrd = nullptr) {
    const MemoryImage kernel_image("kernel", kernel);
    if (initrd == nullptr) {
      return LoadKernelFrom(*memory_, platform_.memory, kernel_image, nullptr, source_, acpi_);
    }
    const MemoryImage initrd_image("initrd", *initrd);
    return LoadKernelFrom(*memory_, platform_.memory, kernel_image, &initrd_image, source_, acpi_);
  }

  ImageBytes Read(GuestAddress from, size_t size) const {
    ImageBytes bytes(size);
    EXPECT_TRUE(memory_->Read(from, bytes)) << from.raw();
    return bytes;
  }
  boot_params Params() const {
    boot_params params;
    const ImageBytes bytes = Read(GuestAddress(0x8000), sizeof(params));
    std::memcpy(&params, bytes.data(), sizeof(params));
    return params;
  }
  std::string TextAt(GuestAddress from) const {
    std::string text;
    for (uint64_t at = from.raw();; ++at) {
      const auto byte = Read(GuestAddress(at), 1)[0];
      if (byte == 0) {
        return text;
      }
      text.push_back(static_cast<char>(byte));
    }
  }

  PlatformDescription platform_;
  std::unique_ptr<GuestMemory> memory_;
  AcpiPlacement acpi_;
  BootSource source_;
};

inline void ExpectError(const Result<BootState>& result, ErrorCode code, std::string_view part) {
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), code) << result.error().message();
  EXPECT_NE(result.error().message().find(part), std::string::npos) << result.error().message();
}

}  // namespace pacsvisor
