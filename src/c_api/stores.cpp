#include "c_api/stores.hpp"

#include <cstdint>

#include "c_api/handles.hpp"

namespace hip_attn::c_api {
namespace {

// Bytes that lie in a run.
Status bytes_of(Name name, const DLTensor* tensor, Device device, TensorView<std::byte, 1>& bytes) {
  HIP_ATTN_RETURN_IF_ERROR(view_of(name, tensor, device, bytes));
  if (bytes.sizes[0] <= 1 || bytes.strides[0] == 1) return {};
  return {StatusCode::kInvalidStride,
          message(name.str(), ".strides[0] is ", bytes.strides[0], "; it must be 1")};
}

}  // namespace

Status store_of(Name name, const HipAttnKvStore* given, KvStore& store) {
  HipAttnKvStore known;
  HIP_ATTN_RETURN_IF_ERROR(read_struct(name, given, known));
  HIP_ATTN_RETURN_IF_ERROR(
      check_given("store.plan", known.plan, "a plan of hip_attn_plan_kv_store"));
  store.plan = &known.plan->plan;
  const Device device = store.plan->shape.device;
  if (known.memory != nullptr) {
    TensorView<std::byte, 1> memory;
    HIP_ATTN_RETURN_IF_ERROR(bytes_of("store.memory", known.memory, device, memory));
    if (memory.sizes[0] < static_cast<std::int64_t>(store.plan->memory_bytes)) {
      return {StatusCode::kInvalidShape, message("store.memory.sizes[0] is ", memory.sizes[0],
                                                 "; it must be at least memory_bytes of the plan (",
                                                 store.plan->memory_bytes, ")")};
    }
    store.memory = memory.data;
  }
  return view_of("store.rows", known.rows, device, store.rows);
}

Status cache_memory_of(const char* const (&names)[3], const HipAttnSelectionCache* given,
                       std::size_t slot_bytes, Device device, SelectionCache& cache) {
  HipAttnSelectionCache known;
  HIP_ATTN_RETURN_IF_ERROR(read_struct(names[0], given, known));
  TensorView<std::byte, 1> data;
  HIP_ATTN_RETURN_IF_ERROR(bytes_of(names[1], known.data, device, data));
  // Divided, so that no number of slots overflows.
  const auto bytes = static_cast<std::int64_t>(slot_bytes);
  if (bytes > 0 && known.num_slots > data.sizes[0] / bytes) {
    return {
        StatusCode::kInvalidShape,
        message(names[1], ".sizes[0] is ", data.sizes[0], "; it must be at least num_slots (",
                known.num_slots, ") times selection_cache_slot_bytes of the plan (", bytes, ")")};
  }
  cache.data = data.data;
  cache.num_slots = known.num_slots;
  return view_of(names[2], known.slots, device, cache.slots);
}

std::size_t slot_bytes_of(const KvStorePlan& plan) {
  return static_cast<std::size_t>(plan.search.cache_entry_words * plan.shape.num_kv_heads) *
         sizeof(std::int32_t);
}

}  // namespace hip_attn::c_api
