// Stores and selection caches of the C interface as those of C++.
#pragma once

#include <cstddef>
#include <string_view>

#include "c_api/structs.hpp"
#include "c_api/tensors.hpp"
#include "hip_attn/c/offload.h"
#include "hip_attn/c/selection.h"
#include "hip_attn/decode.hpp"
#include "hip_attn/offload.hpp"

namespace hip_attn::c_api {

Status store_of(Name name, const HipAttnKvStore* given, KvStore& store);

// Of slots that have `slot_bytes` each, without refresh_from. `names` are those of the struct, its
// data and its slots.
Status cache_memory_of(const char* const (&names)[3], const HipAttnSelectionCache* given,
                       std::size_t slot_bytes, Device device, SelectionCache& cache);

// Bytes of a slot of the caches that a store of the plan looks at: selection_cache_slot_bytes of
// decode's plan.
std::size_t slot_bytes_of(const KvStorePlan& plan);

}  // namespace hip_attn::c_api
