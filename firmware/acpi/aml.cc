#include "firmware/acpi/aml.h"

#include <array>
#include <string>

#include "vmm/base/byte_order.h"
#include "vmm/base/check.h"

namespace pacsvisor::aml {
namespace {

// ACPI 6.4, 20.3: "AML Byte Stream Byte Values".
enum Opcode : uint8_t {
  kZeroOp = 0x00,
  kOneOp = 0x01,
  kNameOp = 0x08,
  kBytePrefix = 0x0a,
  kWordPrefix = 0x0b,
  kDwordPrefix = 0x0c,
  kStringPrefix = 0x0d,
  kQwordPrefix = 0x0e,
  kScopeOp = 0x10,
  kBufferOp = 0x11,
  kPackageOp = 0x12,
  kMethodOp = 0x14,
  kDualNamePrefix = 0x2e,
  kMultiNamePrefix = 0x2f,
  kExtendedPrefix = 0x5b,
  kLocal0Op = 0x60,
  kArgument0Op = 0x68,
  kStoreOp = 0x70,
  kAndOp = 0x7b,
  kOrOp = 0x7d,
  kNotifyOp = 0x86,
  kCreateDwordFieldOp = 0x8a,
  kNotOp = 0x92,
  kEqualOp = 0x93,
  kIfOp = 0xa0,
  kElseOp = 0xa1,
  kReturnOp = 0xa4,
};
enum ExtendedOpcode : uint8_t {  // after kExtendedPrefix
  kRegionOp = 0x80,
  kFieldOp = 0x81,
  kDeviceOp = 0x82,
};
constexpr uint8_t kSystemIoSpace = 1;
constexpr uint8_t kFieldDwordAccess = 3;  // no lock, preserve

void Append(Bytes& to, const Bytes& from) { to.insert(to.end(), from.begin(), from.end()); }

template <typename Terms>
Bytes Concatenate(const Terms& terms) {
  Bytes all;
  for (const Bytes& term : terms) {
    Append(all, term);
  }
  return all;
}

Bytes LittleEndian(uint64_t value, size_t size_bytes) {
  Bytes bytes(size_bytes);
  StoreLeBytes(bytes, value);
  return bytes;
}

// ACPI 6.4, 20.2.4: one byte up to 63, else a lead byte with the low four bits and the number of
// bytes that follow.
Bytes EncodeLength(size_t length, size_t encoded_bytes) {
  if (encoded_bytes == 1) {
    return {static_cast<uint8_t>(length)};
  }
  Bytes encoded{static_cast<uint8_t>(((encoded_bytes - 1) << 6) | (length & 0xf))};
  for (size_t rest = length >> 4, i = 1; i < encoded_bytes; ++i, rest >>= 8) {
    encoded.push_back(static_cast<uint8_t>(rest));
  }
  return encoded;
}

size_t LengthCapacity(size_t encoded_bytes) {
  return encoded_bytes == 1 ? 0x40 : size_t{1} << (4 + 8 * (encoded_bytes - 1));
}

// A package length counts its own bytes too.
Bytes WithLength(const Bytes& body) {
  size_t encoded_bytes = 1;
  while (body.size() + encoded_bytes >= LengthCapacity(encoded_bytes)) {
    ++encoded_bytes;
  }
  CHECK(encoded_bytes <= 4, "AML package of {} bytes", body.size());
  Bytes bytes = EncodeLength(body.size() + encoded_bytes, encoded_bytes);
  Append(bytes, body);
  return bytes;
}

// The length of a field element in bits: the same encoding, not counting itself.
Bytes FieldLength(size_t bits) { return EncodeLength(bits, bits < 0x40 ? 1 : 2); }

Bytes Segment(std::string_view name) {
  CHECK(!name.empty() && name.size() <= 4, "AML name segment '{}'", name);
  Bytes segment(4, '_');
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    const bool digit = c >= '0' && c <= '9';
    CHECK((c >= 'A' && c <= 'Z') || c == '_' || (digit && i > 0), "AML name segment '{}'", name);
    segment[i] = static_cast<uint8_t>(c);
  }
  return segment;
}

uint8_t HexDigit(char c) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const size_t value = kDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c);
  CHECK(value != std::string_view::npos, "'{}' is no hexadecimal digit", c);
  return static_cast<uint8_t>(value);
}

Bytes Binary(uint8_t opcode, const Bytes& left, const Bytes& right, const Bytes& target) {
  return Join({{opcode}, left, right, target});
}

}  // namespace

Bytes Join(std::initializer_list<Bytes> terms) { return Concatenate(terms); }

Bytes Path(std::string_view path) {
  Bytes bytes;
  if (path.starts_with('\\')) {
    bytes.push_back('\\');
    path.remove_prefix(1);
  }
  std::vector<Bytes> segments;
  while (!path.empty()) {
    const size_t dot = path.find('.');
    segments.push_back(Segment(path.substr(0, dot)));
    path.remove_prefix(dot == std::string_view::npos ? path.size() : dot + 1);
  }
  CHECK(segments.size() <= 255, "{} AML name segments", segments.size());
  if (segments.empty()) {
    bytes.push_back(0);  // the null name: the root itself
  } else if (segments.size() == 2) {
    bytes.push_back(kDualNamePrefix);
  } else if (segments.size() > 2) {
    Append(bytes, {kMultiNamePrefix, static_cast<uint8_t>(segments.size())});
  }
  Append(bytes, Concatenate(segments));
  return bytes;
}

Bytes Integer(uint64_t value) {
  if (value <= 1) {
    return {value == 0 ? kZeroOp : kOneOp};
  }
  if (value <= 0xff) {
    return Join({{kBytePrefix}, LittleEndian(value, 1)});
  }
  if (value <= 0xffff) {
    return Join({{kWordPrefix}, LittleEndian(value, 2)});
  }
  if (value <= 0xffff'ffff) {
    return Join({{kDwordPrefix}, LittleEndian(value, 4)});
  }
  return Join({{kQwordPrefix}, LittleEndian(value, 8)});
}

Bytes String(std::string_view text) {
  Bytes bytes{kStringPrefix};
  for (const char c : text) {
    CHECK(c >= 0x20 && c < 0x7f, "AML string '{}'", text);
    bytes.push_back(static_cast<uint8_t>(c));
  }
  bytes.push_back(0);
  return bytes;
}

Bytes Buffer(const Bytes& content) {
  return Join({{kBufferOp}, WithLength(Join({Integer(content.size()), content}))});
}

Bytes Package(std::initializer_list<Bytes> elements) {
  CHECK(elements.size() <= 255, "AML package of {} elements", elements.size());
  return Join({{kPackageOp},
               WithLength(Join({{static_cast<uint8_t>(elements.size())}, Concatenate(elements)}))});
}

Bytes EisaId(std::string_view id) {
  CHECK(id.size() == 7, "EISA identifier '{}'", id);
  uint32_t packed = 0;
  for (size_t i = 0; i < 3; ++i) {
    CHECK(id[i] >= 'A' && id[i] <= 'Z', "EISA identifier '{}'", id);
    packed = (packed << 5) | static_cast<uint32_t>(id[i] - 'A' + 1);
  }
  for (size_t i = 3; i < 7; ++i) {
    packed = (packed << 4) | HexDigit(id[i]);
  }
  // The identifier is big-endian inside AML's little-endian number.
  return Join({{kDwordPrefix}, LittleEndian(__builtin_bswap32(packed), 4)});
}

Bytes Uuid(std::string_view uuid) {
  std::string digits;
  for (const char c : uuid) {
    if (c != '-') {
      digits.push_back(c);
    }
  }
  CHECK(digits.size() == 32, "UUID '{}'", uuid);
  // The first three groups are little-endian numbers, the rest are bytes in order.
  constexpr std::array<size_t, 16> kOrder = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
  Bytes bytes;
  for (const size_t index : kOrder) {
    bytes.push_back(
        static_cast<uint8_t>(HexDigit(digits[2 * index]) << 4 | HexDigit(digits[2 * index + 1])));
  }
  return Buffer(bytes);
}

Bytes Name(std::string_view path, const Bytes& value) {
  return Join({{kNameOp}, Path(path), value});
}

Bytes Scope(std::string_view path, std::initializer_list<Bytes> terms) {
  return Scope(path, std::vector<Bytes>(terms));
}

Bytes Scope(std::string_view path, const std::vector<Bytes>& terms) {
  return Join({{kScopeOp}, WithLength(Join({Path(path), Concatenate(terms)}))});
}

Bytes Device(std::string_view path, std::initializer_list<Bytes> terms) {
  return Join({{kExtendedPrefix, kDeviceOp}, WithLength(Join({Path(path), Concatenate(terms)}))});
}

Bytes Method(std::string_view path, uint8_t argument_count, Serialization serialization,
             std::initializer_list<Bytes> terms) {
  CHECK(argument_count <= 7, "AML method with {} arguments", argument_count);
  const auto flags =
      static_cast<uint8_t>(argument_count | (static_cast<uint8_t>(serialization) << 3));
  return Join({{kMethodOp}, WithLength(Join({Path(path), {flags}, Concatenate(terms)}))});
}

Bytes SystemIoRegion(std::string_view path, uint16_t port, uint8_t size_bytes) {
  return Join({{kExtendedPrefix, kRegionOp},
               Path(path),
               {kSystemIoSpace},
               Integer(port),
               Integer(size_bytes)});
}

Bytes DwordField(std::string_view region, std::string_view field) {
  return Join(
      {{kExtendedPrefix, kFieldOp},
       WithLength(Join({Path(region), {kFieldDwordAccess}, Segment(field), FieldLength(32)}))});
}

Bytes Local(uint8_t index) {
  CHECK(index <= 7, "Local{}", index);
  return {static_cast<uint8_t>(kLocal0Op + index)};
}

Bytes Argument(uint8_t index) {
  CHECK(index <= 6, "Arg{}", index);
  return {static_cast<uint8_t>(kArgument0Op + index)};
}

Bytes Store(const Bytes& source, const Bytes& target) { return Join({{kStoreOp}, source, target}); }

Bytes And(const Bytes& left, const Bytes& right, const Bytes& target) {
  return Binary(kAndOp, left, right, target);
}

Bytes And(const Bytes& left, const Bytes& right) {
  return Binary(kAndOp, left, right, {kZeroOp});  // no target
}

Bytes Or(const Bytes& left, const Bytes& right, const Bytes& target) {
  return Binary(kOrOp, left, right, target);
}

Bytes Equal(const Bytes& left, const Bytes& right) { return Join({{kEqualOp}, left, right}); }

Bytes NotEqual(const Bytes& left, const Bytes& right) {
  return Join({{kNotOp}, Equal(left, right)});
}

Bytes If(const Bytes& condition, std::initializer_list<Bytes> terms) {
  return Join({{kIfOp}, WithLength(Join({condition, Concatenate(terms)}))});
}

Bytes Else(std::initializer_list<Bytes> terms) {
  return Join({{kElseOp}, WithLength(Concatenate(terms))});
}

Bytes Return(const Bytes& value) { return Join({{kReturnOp}, value}); }

Bytes Notify(std::string_view object, uint8_t value) {
  return Join({{kNotifyOp}, Path(object), Integer(value)});
}

Bytes CreateDwordField(const Bytes& buffer, uint8_t offset_bytes, std::string_view field) {
  return Join({{kCreateDwordFieldOp}, buffer, Integer(offset_bytes), Path(field)});
}

}  // namespace pacsvisor::aml
