// Something tried in a process of its own, for the sake of what it leaves behind there: nobody
// waits for that process to end, once it has told how it went. Threads: the caller's is the only
// one of its process.
#pragma once

#include <functional>
#include <string_view>

#include "vmm/base/result.h"

namespace pacsvisor {

// `trial` runs in the new process and calls `tell` once; what it still holds then is taken down
// behind the caller's back. It has standard error and what it opens itself: no other descriptor of
// the caller's, so that no lock lives longer by it. The error that it tells keeps code and message.
// `what` ("the trial of the processor") names it where it ends without a word: kUnsupported.
using TellHowItWent = std::function<void(const Status&)>;
Status RunTrialProcess(std::string_view what,
                       const std::function<void(const TellHowItWent& tell)>& trial);

}  // namespace pacsvisor
