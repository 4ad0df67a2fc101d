// Listening on a Unix socket that only its owner may open.
#pragma once

#include <string>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

// Binds a new socket of mode 0600 at `path`, where nothing may be. Non-blocking.
Result<UniqueFd> ListenOnUnixSocket(const std::string& path, int backlog);

// unix(7) takes paths of at most 107 bytes; an error says what to shorten.
Status CheckUnixSocketPath(const std::string& path);

}  // namespace pacsvisor
