// A builder of ACPI Machine Language (ACPI 6.4, chapter 20): each function returns the bytes of one
// term, and terms nest. The caller describes our own platform: names and sizes are CHECKed.
// Threads: any; nothing is shared.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace pacsvisor::aml {

using Bytes = std::vector<uint8_t>;

Bytes Join(std::initializer_list<Bytes> terms);

// A path as in ASL: "_HID", "PCI0._CRS", "\\_SB.PCI0"; segments are padded to four characters.
Bytes Path(std::string_view path);
Bytes Integer(uint64_t value);
Bytes String(std::string_view text);  // printable ASCII
Bytes Buffer(const Bytes& content);
Bytes Package(std::initializer_list<Bytes> elements);
// "PNP0A08" as the compressed number of an EISA identifier (19.3.4).
Bytes EisaId(std::string_view id);
// "33db4d5b-1ff7-401c-9657-7441c03dd766" as ToUUID's buffer (19.6.142).
Bytes Uuid(std::string_view uuid);

// Objects.
Bytes Name(std::string_view path, const Bytes& value);
Bytes Scope(std::string_view path, std::initializer_list<Bytes> terms);
Bytes Scope(std::string_view path, const std::vector<Bytes>& terms);
Bytes Device(std::string_view path, std::initializer_list<Bytes> terms);
enum class Serialization : uint8_t { kNotSerialized = 0, kSerialized = 1 };
Bytes Method(std::string_view path, uint8_t argument_count, Serialization serialization,
             std::initializer_list<Bytes> terms);
Bytes SystemIoRegion(std::string_view path, uint16_t port, uint8_t size_bytes);
// A field over the first 32 bits of a region, accessed as one double word, never locked.
Bytes DwordField(std::string_view region, std::string_view field);

// Statements and expressions.
Bytes Local(uint8_t index);     // 0 to 7
Bytes Argument(uint8_t index);  // 0 to 6
Bytes Store(const Bytes& source, const Bytes& target);
Bytes And(const Bytes& left, const Bytes& right, const Bytes& target);
Bytes And(const Bytes& left, const Bytes& right);
Bytes Or(const Bytes& left, const Bytes& right, const Bytes& target);
Bytes Equal(const Bytes& left, const Bytes& right);
Bytes NotEqual(const Bytes& left, const Bytes& right);
Bytes If(const Bytes& condition, std::initializer_list<Bytes> terms);
Bytes Else(std::initializer_list<Bytes> terms);
Bytes Return(const Bytes& value);
Bytes Notify(std::string_view object, uint8_t value);
// `field` names the double word at `offset_bytes` of `buffer`.
Bytes CreateDwordField(const Bytes& buffer, uint8_t offset_bytes, std::string_view field);

}  // namespace pacsvisor::aml
