// The functions that a compiler may call in freestanding code (GCC manual, "Language Standards
// Supported by GCC"), and those that std::string_view is made of.
#include <cstddef>
#include <cstdint>

extern "C" {

void* memcpy(void* to, const void* from, size_t count) {
  void* const result = to;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
  return result;
}

void* memset(void* to, int value, size_t count) {
  void* const result = to;
  asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
  return result;
}

void* memmove(void* to, const void* from, size_t count) {
  auto* const target = static_cast<volatile uint8_t*>(to);
  const auto* const source = static_cast<const volatile uint8_t*>(from);
  if (target <= source) return memcpy(to, from, count);
  for (size_t i = count; i > 0; --i) target[i - 1] = source[i - 1];
  return to;
}

int memcmp(const void* left, const void* right, size_t count) {
  const auto* const a = static_cast<const volatile uint8_t*>(left);
  const auto* const b = static_cast<const volatile uint8_t*>(right);
  for (size_t i = 0; i < count; ++i) {
    const int difference = a[i] - b[i];
    if (difference != 0) return difference;
  }
  return 0;
}

size_t strlen(const char* text) {
  const auto* const bytes = static_cast<const volatile char*>(text);
  size_t length = 0;
  while (bytes[length] != '\0') ++length;
  return length;
}

void* memchr(const void* where, int value, size_t count) {
  const auto* const bytes = static_cast<const volatile uint8_t*>(where);
  for (size_t i = 0; i < count; ++i) {
    if (bytes[i] == static_cast<uint8_t>(value)) return const_cast<uint8_t*>(bytes + i);
  }
  return nullptr;
}
}
