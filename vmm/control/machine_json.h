// MachineDescription and StopRequest as JSON, both ways; vmm/control/openapi.json is the contract.
#pragma once

#include <string>
#include <string_view>

#include "vmm/base/result.h"
#include "vmm/control/machine_control.h"

namespace pacsvisor {

inline constexpr size_t kRequestBodyLimitBytes = 64ul << 10;
inline constexpr size_t kResponseBodyLimitBytes = 1ul << 20;

std::string DescriptionToJson(const MachineDescription& description);
Result<MachineDescription> DescriptionFromJson(std::string_view text);

std::string StopRequestToJson(const StopRequest& request);
Result<StopRequest> StopRequestFromJson(std::string_view text);  // an empty text means the defaults

std::string StateToJson(MachineState state);  // {"state":"paused"}

// {"code":"busy","message":"…"}; the code is ErrorCodeName with underscores, or one of HTTP's own.
std::string ErrorToJson(std::string_view code, std::string_view message);
std::string ErrorToJson(const Error& error);
// The server's error as the client's; `status` decides when the text is none.
Error ErrorFromJson(int status, std::string_view text);

}  // namespace pacsvisor
