// The registers of a virtio PCI function (virtio 1.2, section 4.1.4). Little endian.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pacsvisor {

inline constexpr uint16_t kVirtioPciVendor = 0x1af4;
inline constexpr uint16_t kVirtioPciModernDeviceBase = 0x1040;  // + device type (4.1.2)

// 4.1.4: cfg_type.
enum class VirtioPciCapabilityType : uint8_t {
  kCommonConfig = 1,
  kNotify = 2,
  kIsr = 3,
  kDeviceConfig = 4,
  kPciConfigAccess = 5,
};

// 4.1.4: struct virtio_pci_cap; the notify capability has the multiplier behind it (4.1.4.4), the
// configuration access one four bytes of data (4.1.4.9).
struct VirtioPciCapability {
  uint8_t vendor = 0;
  uint8_t next = 0;
  uint8_t length = 0;
  uint8_t type = 0;
  uint8_t bar = 0;
  uint8_t id = 0;
  uint8_t padding[2] = {};
  uint32_t offset = 0;
  uint32_t length_bytes = 0;
};
static_assert(sizeof(VirtioPciCapability) == 16);
static_assert(offsetof(VirtioPciCapability, bar) == 4);
static_assert(offsetof(VirtioPciCapability, offset) == 8);
static_assert(offsetof(VirtioPciCapability, length_bytes) == 12);

inline constexpr uint32_t kVirtioPciCapabilityExtra = sizeof(VirtioPciCapability);

// 4.1.4.3: the common configuration, without the fields of features that are not offered.
struct VirtioPciCommonConfig {
  uint32_t device_feature_select = 0;
  uint32_t device_feature = 0;
  uint32_t driver_feature_select = 0;
  uint32_t driver_feature = 0;
  uint16_t config_msix_vector = 0;
  uint16_t num_queues = 0;
  uint8_t device_status = 0;
  uint8_t config_generation = 0;
  uint16_t queue_select = 0;
  uint16_t queue_size = 0;
  uint16_t queue_msix_vector = 0;
  uint16_t queue_enable = 0;
  uint16_t queue_notify_off = 0;
  uint64_t queue_desc = 0;
  uint64_t queue_driver = 0;
  uint64_t queue_device = 0;
};
static_assert(sizeof(VirtioPciCommonConfig) == 0x38);
static_assert(offsetof(VirtioPciCommonConfig, config_msix_vector) == 0x10);
static_assert(offsetof(VirtioPciCommonConfig, device_status) == 0x14);
static_assert(offsetof(VirtioPciCommonConfig, queue_select) == 0x16);
static_assert(offsetof(VirtioPciCommonConfig, queue_enable) == 0x1c);
static_assert(offsetof(VirtioPciCommonConfig, queue_desc) == 0x20);
static_assert(offsetof(VirtioPciCommonConfig, queue_device) == 0x30);

// 2.1: device status.
inline constexpr uint8_t kVirtioStatusAcknowledge = 1;
inline constexpr uint8_t kVirtioStatusDriver = 2;
inline constexpr uint8_t kVirtioStatusDriverOk = 4;
inline constexpr uint8_t kVirtioStatusFeaturesOk = 8;
inline constexpr uint8_t kVirtioStatusNeedsReset = 64;
inline constexpr uint8_t kVirtioStatusFailed = 128;
inline constexpr uint8_t kVirtioStatusDriverBits = kVirtioStatusAcknowledge | kVirtioStatusDriver |
                                                   kVirtioStatusDriverOk | kVirtioStatusFeaturesOk |
                                                   kVirtioStatusFailed;

inline constexpr uint16_t kVirtioNoVector = 0xffff;  // 4.1.4.3: VIRTIO_MSI_NO_VECTOR

// 4.1.4.5: ISR status.
inline constexpr uint8_t kVirtioIsrQueue = 1;
inline constexpr uint8_t kVirtioIsrConfigChange = 2;

}  // namespace pacsvisor
