// Registers and bits of the 16550 UART (National Semiconductor PC16550D data sheet, 8.0).
#pragma once

#include <cstdint>

namespace pacsvisor {

// Offsets. With the divisor latch open, the first two are the divisor's bytes.
enum class UartRegister : uint8_t {
  kData = 0,  // read: receive buffer; write: transmit holding register
  kInterruptEnable = 1,
  kInterruptIdentity = 2,  // write: FIFO control
  kLineControl = 3,
  kModemControl = 4,
  kLineStatus = 5,
  kModemStatus = 6,
  kScratch = 7,
};

inline constexpr uint8_t kUartEnableReceived = 1u << 0;
inline constexpr uint8_t kUartEnableTransmitEmpty = 1u << 1;
inline constexpr uint8_t kUartEnableLineStatus = 1u << 2;
inline constexpr uint8_t kUartEnableModemStatus = 1u << 3;
inline constexpr uint8_t kUartEnableMask = 0x0f;

inline constexpr uint8_t kUartIdentityNone = 0x01;
inline constexpr uint8_t kUartIdentityModemStatus = 0x00;
inline constexpr uint8_t kUartIdentityTransmitEmpty = 0x02;
inline constexpr uint8_t kUartIdentityReceived = 0x04;
inline constexpr uint8_t kUartIdentityLineStatus = 0x06;
inline constexpr uint8_t kUartIdentityTimeout = 0x0c;
inline constexpr uint8_t kUartIdentityFifos = 0xc0;

inline constexpr uint8_t kUartFifoEnable = 1u << 0;
inline constexpr uint8_t kUartFifoClearReceive = 1u << 1;
inline constexpr uint8_t kUartFifoKept = 0xc1;  // enable, and the receive trigger in bits 6 and 7

inline constexpr uint8_t kUartDivisorLatch = 1u << 7;  // of line control

inline constexpr uint8_t kUartModemDtr = 1u << 0;
inline constexpr uint8_t kUartModemRts = 1u << 1;
inline constexpr uint8_t kUartModemOut1 = 1u << 2;
inline constexpr uint8_t kUartModemOut2 = 1u << 3;
inline constexpr uint8_t kUartModemLoop = 1u << 4;
inline constexpr uint8_t kUartModemMask = 0x1f;

inline constexpr uint8_t kUartLineDataReady = 1u << 0;
inline constexpr uint8_t kUartLineOverrun = 1u << 1;
inline constexpr uint8_t kUartLineHoldingEmpty = 1u << 5;
inline constexpr uint8_t kUartLineTransmitterEmpty = 1u << 6;

inline constexpr uint8_t kUartStatusCts = 1u << 4;
inline constexpr uint8_t kUartStatusDsr = 1u << 5;
inline constexpr uint8_t kUartStatusRing = 1u << 6;
inline constexpr uint8_t kUartStatusCarrier = 1u << 7;

}  // namespace pacsvisor
