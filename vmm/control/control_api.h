// The control API apart from HTTP's syntax: which method on which path does what to the machine.
// Threads: any, as MachineControl.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/control/machine_control.h"

namespace pacsvisor {

struct ApiResponse {
  int status = 200;
  std::string body;   // JSON
  std::string allow;  // the methods of a path, with status 405
};

class ControlApi {
 public:
  struct Route {
    std::string_view method;  // "GET" serves HEAD too
    std::string_view path;    // "{number}" in it stands for decimal digits
  };

  explicit ControlApi(MachineControl& machine) : machine_(machine) {}

  static std::span<const Route> Routes();
  // vmm/control/openapi.json, also served at /v1/openapi.json.
  static std::string_view OpenApi();

  // 404 or 405 where no route is; nothing where Handle is to be called.
  static std::optional<ApiResponse> Refuse(std::string_view method, std::string_view path);
  ApiResponse Handle(std::string_view method, std::string_view path, std::string_view body);

 private:
  ApiResponse PutPause();
  ApiResponse PutResume();
  ApiResponse PutStop(std::string_view body);
  ApiResponse PostSnapshot(std::string_view body);
  ApiResponse GetSnapshot(uint64_t number);
  ApiResponse DeleteSnapshot(uint64_t number);

  MachineControl& machine_;
};

}  // namespace pacsvisor
