// The control API: a byte for the route, then a body. Any body is answered with JSON.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "vmm/base/check.h"
#include "vmm/control/control_api.h"
#include "vmm/control/machine_json.h"

namespace {

class Machine : public pacsvisor::MachineControl {
 public:
  pacsvisor::MachineDescription Describe() override { return {.name = "m", .pid = 1, .cpus = 1}; }
  pacsvisor::Status Pause() override { return {}; }
  pacsvisor::Status Resume() override { return {}; }
  pacsvisor::Status RequestStop(const pacsvisor::StopRequest& request) override {
    CHECK(request.grace_seconds <= pacsvisor::StopRequest::kMaxGraceSeconds);
    return {};
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pacsvisor;
  if (size == 0) {
    return 0;
  }
  Machine machine;
  ControlApi api(machine);
  // Bytes as characters.
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto routes = ControlApi::Routes();
  const ControlApi::Route& route = routes[data[0] % routes.size()];
  const ApiResponse answer = api.Handle(route.method, route.path, body);
  CHECK(nlohmann::json::accept(answer.body), "{}", answer.body);
  // The client reads the server's answers with as little trust.
  (void)DescriptionFromJson(body);
  (void)ErrorFromJson(500, body);
  return 0;
}
