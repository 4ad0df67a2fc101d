// The control API: a byte for the route, then a body, or what stands for {number} in the route's
// path. Anything is answered with JSON.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "vmm/base/check.h"
#include "vmm/control/control_api.h"
#include "vmm/control/machine_json.h"
#include "vmm/control/snapshot_json.h"

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
  pacsvisor::Result<uint64_t> StartSnapshot(const pacsvisor::SnapshotRequest& request) override {
    CHECK(pacsvisor::CheckSnapshotRequest(request).ok());
    return 1;
  }
  pacsvisor::Result<pacsvisor::SnapshotProgress> SnapshotStatus(uint64_t number) override {
    return pacsvisor::SnapshotProgress{.number = number};
  }
  pacsvisor::Status CancelSnapshot(uint64_t) override { return {}; }
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
  const size_t placeholder = route.path.find('{');
  const ApiResponse answer =
      placeholder == std::string_view::npos
          ? api.Handle(route.method, route.path, body)
          : api.Handle(route.method, std::string(route.path.substr(0, placeholder)).append(body),
                       "");
  CHECK(nlohmann::json::accept(answer.body), "{}", answer.body);
  // The client reads the server's answers with as little trust.
  (void)DescriptionFromJson(body);
  (void)ErrorFromJson(500, body);
  (void)SnapshotNumberFromJson(body);
  if (const Result<SnapshotProgress> progress = SnapshotProgressFromJson(body); progress.ok()) {
    CHECK(progress->result.has_value() == (progress->phase == SnapshotPhase::kDone));
    CHECK(progress->error.has_value() == (progress->phase == SnapshotPhase::kFailed));
    const std::string text = SnapshotProgressToJson(*progress);
    CHECK(SnapshotProgressFromJson(text).ok(), "{}", text);
  }
  return 0;
}
