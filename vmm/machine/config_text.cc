#include "vmm/machine/config_text.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <vector>

namespace pacsvisor {
namespace {

struct Unit {
  char letter;
  unsigned shift;
};
constexpr Unit kUnits[] = {{'T', 40}, {'G', 30}, {'M', 20}, {'K', 10}};

template <typename Number>
std::optional<Number> ParseNumber(std::string_view text, int base = 10) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return number;
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(at + 1);
  }
}

uint64_t Fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  }
  return hash;
}

}  // namespace

std::optional<uint64_t> ParseSize(std::string_view text) {
  for (const std::string_view suffix : {"iB", "i"}) {
    // The suffix needs its letter: "2iB" is nothing.
    if (text.ends_with(suffix) && text.size() > suffix.size() &&
        std::string_view("KMGT").find(text[text.size() - suffix.size() - 1]) !=
            std::string_view::npos) {
      text.remove_suffix(suffix.size());
    }
  }
  unsigned shift = 0;
  for (const Unit& unit : kUnits) {
    if (text.ends_with(unit.letter)) {
      text.remove_suffix(1);
      shift = unit.shift;
      break;
    }
  }
  const std::optional<uint64_t> number = ParseNumber<uint64_t>(text);
  if (!number || *number > (std::numeric_limits<uint64_t>::max() >> shift)) {
    return std::nullopt;
  }
  return *number << shift;
}

std::string FormatSize(uint64_t size_bytes) {
  for (const Unit& unit : kUnits) {
    if (size_bytes != 0 && size_bytes % (1ul << unit.shift) == 0) {
      return fmt::format("{}{}", size_bytes >> unit.shift, unit.letter);
    }
  }
  return fmt::format("{} bytes", size_bytes);
}

std::optional<MacBytes> ParseMac(std::string_view text) {
  MacBytes mac;
  const std::vector<std::string_view> parts = Split(text, ':');
  if (parts.size() != mac.size()) {
    return std::nullopt;
  }
  for (size_t i = 0; i < mac.size(); ++i) {
    const std::optional<uint8_t> byte = ParseNumber<uint8_t>(parts[i], 16);
    if (parts[i].size() != 2 || !byte) {
      return std::nullopt;
    }
    mac[i] = *byte;
  }
  return mac;
}

std::string FormatMac(const MacBytes& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3],
                     mac[4], mac[5]);
}

MacBytes DefaultMac(std::string_view name, size_t index) {
  const uint64_t hash = Fnv1a(fmt::format("{}/{}", name, index));
  // 0x52: individual, locally administered (IEEE 802, the two low bits of the first octet).
  return {0x52,
          0x54,
          0x00,
          static_cast<uint8_t>(hash >> 16),
          static_cast<uint8_t>(hash >> 8),
          static_cast<uint8_t>(hash)};
}

Result<PortForward> ParseForward(std::string_view text) {
  constexpr std::string_view kForm =
      "write \"[tcp:|udp:]HOST_ADDRESS:HOST_PORT:GUEST_PORT\", such as \"127.0.0.1:4242:4242\"";
  PortForward forward;
  std::vector<std::string_view> parts = Split(text, ':');
  if (!parts.empty() && (parts[0] == "tcp" || parts[0] == "udp")) {
    forward.protocol = parts[0] == "udp" ? ForwardProtocol::kUdp : ForwardProtocol::kTcp;
    parts.erase(parts.begin());
  }
  if (parts.size() != 3) {
    return Error::Make(ErrorCode::kInvalidArgument, "\"{}\" has not the parts of a forward: {}",
                       Printable(text), kForm);
  }
  in_addr address;
  forward.host_address = std::string(parts[0]);
  if (inet_pton(AF_INET, forward.host_address.c_str(), &address) != 1) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "\"{}\" is no IPv4 address of this host: use \"127.0.0.1\" for this host "
                       "alone, \"0.0.0.0\" for all its networks",
                       Printable(parts[0]));
  }
  const auto host_port = ParseNumber<uint16_t>(parts[1]);
  const auto guest_port = ParseNumber<uint16_t>(parts[2]);
  if (host_port.value_or(0) == 0 || guest_port.value_or(0) == 0) {
    return Error::Make(ErrorCode::kInvalidArgument, "\"{}\" is no port (1 to 65535) in \"{}\": {}",
                       Printable(host_port.value_or(0) == 0 ? parts[1] : parts[2]), Printable(text),
                       kForm);
  }
  forward.host_port = *host_port;
  forward.guest_port = *guest_port;
  return forward;
}

std::string FormatForward(const PortForward& forward) {
  return fmt::format("{}{}:{}:{}", forward.protocol == ForwardProtocol::kUdp ? "udp:" : "",
                     forward.host_address, forward.host_port, forward.guest_port);
}

std::string_view NetBackendName(NetBackend backend) {
  switch (backend) {
    case NetBackend::kUser:
      return "user";
    case NetBackend::kTap:
      return "tap";
    case NetBackend::kNone:
      return "none";
  }
  CHECK(false, "backend {}", static_cast<int>(backend));
}

std::string Printable(std::string_view text) {
  constexpr size_t kMaxLength = 64;
  size_t length = std::min(text.size(), kMaxLength);
  while (length < text.size() && length > 0 &&
         (static_cast<uint8_t>(text[length]) & 0xc0) == 0x80) {
    --length;  // not in the middle of a UTF-8 sequence
  }
  std::string out;
  for (const char c : text.substr(0, length)) {
    const auto byte = static_cast<uint8_t>(c);
    out += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  if (length < text.size()) {
    out += "…";
  }
  return out;
}

}  // namespace pacsvisor
