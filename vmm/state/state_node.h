// The state of a component as a tree of named fields, with a version at each component. Saved as
// CBOR (state_codec.h). Names are stable; a loader accepts versions it knows and says by name what
// is missing or out of range. Loaded state comes from outside: every getter checks, and so does
// whoever uses the value. Threads: one at a time.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "vmm/base/result.h"

namespace pacsvisor {

class StateNode {
 public:
  using Bytes = std::vector<uint8_t>;
  using List = std::vector<StateNode>;

  struct Field {
    // Lists hold the elements of AppendTo; a child is a list marked single.
    struct Sub {
      bool single = false;
      List nodes;
    };
    std::variant<uint64_t, std::string, Bytes, Sub> value;
  };

  // Saving. A name is set once (CHECKed).
  void SetVersion(uint32_t version) { SetU64("version", version); }
  void SetU64(std::string_view name, uint64_t value);
  void SetBool(std::string_view name, bool value) { SetU64(name, value ? 1 : 0); }
  void SetString(std::string_view name, std::string value);
  void SetBytes(std::string_view name, std::span<const uint8_t> bytes);
  StateNode& AddChild(std::string_view name);  // a named sub-tree
  StateNode& AppendTo(std::string_view name);  // one more element of a list of sub-trees

  // Loading.
  // The version of this component, at most `newest`.
  Result<uint32_t> Version(uint32_t newest) const;
  Result<uint64_t> U64(std::string_view name,
                       uint64_t maximum = std::numeric_limits<uint64_t>::max()) const;
  // U64 that fits T.
  template <typename T>
  Result<T> Get(std::string_view name) const {
    return static_cast<T>(TRY(U64(name, std::numeric_limits<T>::max())));
  }
  Result<bool> Bool(std::string_view name) const { return TRY(U64(name, 1)) != 0; }
  Result<std::string> String(std::string_view name) const;
  Result<std::span<const uint8_t>> BytesOf(std::string_view name) const;
  // Bytes of exactly `size_bytes`.
  Result<std::span<const uint8_t>> BytesOf(std::string_view name, size_t size_bytes) const;
  Result<const StateNode*> Child(std::string_view name) const;
  // A list of sub-trees; an absent name is an empty list.
  Result<std::span<const StateNode>> Children(std::string_view name) const;
  bool Has(std::string_view name) const { return fields_.contains(name); }

  const std::map<std::string, Field, std::less<>>& fields() const { return fields_; }
  std::map<std::string, Field, std::less<>>& mutable_fields() { return fields_; }

 private:
  Field& NewField(std::string_view name);
  Result<const Field*> Find(std::string_view name) const;

  std::map<std::string, Field, std::less<>> fields_;
};

// A component whose state goes into a snapshot. Save runs in the pause, on the control thread,
// while no vCPU and no worker touches the component; it must not block. Load runs before the
// machine starts; a component that refuses leaves the machine unusable, and the error says why.
class Stateful {
 public:
  virtual ~Stateful() = default;
  virtual void Save(StateNode& node) const = 0;
  virtual Status Load(const StateNode& node) = 0;
};

}  // namespace pacsvisor
