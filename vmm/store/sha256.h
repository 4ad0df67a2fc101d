// SHA-256 (OpenSSL's libcrypto, which knows the processor's instructions for it), and hashes in
// hex. Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace pacsvisor {

using Hash = std::array<uint8_t, 32>;

Hash Sha256(std::span<const uint8_t> bytes);

// Of bytes that come in parts. Threads: one at a time.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(const Sha256Stream&) = delete;
  Sha256Stream& operator=(const Sha256Stream&) = delete;

  void Add(std::span<const uint8_t> bytes);
  Hash Value();  // of all so far; nothing is added after that

 private:
  evp_md_ctx_st* const context_;
};

std::string HexText(std::span<const uint8_t> bytes);
// Of 64 lower-case digits; nothing else.
std::optional<Hash> HashFromHex(std::string_view digits);

}  // namespace pacsvisor
