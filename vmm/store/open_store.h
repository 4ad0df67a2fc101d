// Store::Open with the writer's choices, which tests make small. Threads: any.
#pragma once

#include <memory>

#include "vmm/store/store.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

Result<std::unique_ptr<Store>> OpenStore(std::shared_ptr<StoreFiles> files,
                                         const StoreTuning& tuning);

}  // namespace pacsvisor
