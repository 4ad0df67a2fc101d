#include "guests/freestanding/power.h"

#include "guests/freestanding/cpu.h"
#include "guests/freestanding/ring0.h"
#include "guests/freestanding/text.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kDeviceSpaceEnd = uint64_t{4} << 30;
constexpr uint64_t kPortSpaceEnd = 0x10000;

bool IsUsable(const PowerOffMethod& method) {
  if (method.bytes != 1 && method.bytes != 2 && method.bytes != 4) return false;
  const uint64_t end = method.kind == PowerOffMethod::Kind::kPort ? kPortSpaceEnd : kDeviceSpaceEnd;
  return method.address <= end - method.bytes;
}

}  // namespace

std::optional<PowerOffMethod> ParsePowerOff(std::string_view text) {
  const std::string_view kind = TakeWord(text, ":");
  if (kind == "triple-fault" && text.empty()) {
    return PowerOffMethod{PowerOffMethod::Kind::kTripleFault, 0, 0, 0};
  }
  if (kind != "port" && kind != "mmio") return std::nullopt;
  const auto address = ParseNumber(TakeWord(text, ":"));
  const auto value = ParseNumber(TakeWord(text, ":"));
  const std::string_view width = TakeWord(text, ":");
  const auto bytes = width.empty() ? std::optional<uint64_t>(1) : ParseNumber(width);
  if (!address || !value || *value > 0xffffffff || !bytes || !text.empty()) return std::nullopt;
  const PowerOffMethod method{
      kind == "port" ? PowerOffMethod::Kind::kPort : PowerOffMethod::Kind::kMmio, *address,
      static_cast<uint32_t>(*value), *bytes};
  if (!IsUsable(method)) return std::nullopt;
  return method;
}

void PowerOff(const PowerOffMethod& method) {
  const auto port = static_cast<uint16_t>(method.address);
  switch (method.kind) {
    case PowerOffMethod::Kind::kTripleFault:
      TripleFault();
    case PowerOffMethod::Kind::kPort:
      AllowPorts(port, static_cast<uint16_t>(method.bytes));
      if (method.bytes == 1) WritePort8(port, static_cast<uint8_t>(method.value));
      if (method.bytes == 2) WritePort16(port, static_cast<uint16_t>(method.value));
      if (method.bytes == 4) WritePort32(port, method.value);
      return;
    case PowerOffMethod::Kind::kMmio:
      if (method.bytes == 1) WriteDevice8(method.address, static_cast<uint8_t>(method.value));
      if (method.bytes == 2) WriteDevice16(method.address, static_cast<uint16_t>(method.value));
      if (method.bytes == 4) WriteDevice32(method.address, method.value);
      return;
  }
}

}  // namespace pacsvisor
