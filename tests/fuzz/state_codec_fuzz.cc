// Any bytes as saved state: refused in words, or decoded to a tree that survives another round.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "vmm/state/state_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pacsvisor;
  const Result<StateNode> node = DecodeState({data, size});
  if (!node.ok()) {
    CHECK(!node.error().message().empty());
    return 0;
  }
  const std::vector<uint8_t> encoded = EncodeState(*node);
  const Result<StateNode> again = DecodeState(encoded);
  CHECK(again.ok(), "{}", again.error().message());
  CHECK(EncodeState(*again) == encoded);
  return 0;
}
