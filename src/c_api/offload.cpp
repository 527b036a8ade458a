// Host memory and stores of the C interface.
#include "hip_attn/offload.hpp"

#include <cstddef>

#include "c_api/handles.hpp"
#include "c_api/stores.hpp"

namespace hip_attn::c_api {
namespace {

Status shape_of(const HipAttnKvStoreShape& given, KvStoreShape& shape) {
  HIP_ATTN_RETURN_IF_ERROR(device_of("shape.device", given.device, shape.device));
  HIP_ATTN_RETURN_IF_ERROR(element_type_of("shape.dtype", given.dtype, shape.type));
  shape.max_requests = given.max_requests;
  shape.max_seq_len = given.max_seq_len;
  shape.num_kv_heads = given.num_kv_heads;
  shape.head_dim = given.head_dim;
  return {};
}

}  // namespace
}  // namespace hip_attn::c_api

using namespace hip_attn;
using namespace hip_attn::c_api;

static_assert(HIP_ATTN_KV_BLOCK_TOKENS == kKvBlockTokens);

HipAttnStatus hip_attn_host_memory_allocate(DLDevice device, size_t bytes,
                                            HipAttnHostMemory** memory, char* message,
                                            size_t message_capacity) {
  return guarded({message, message_capacity}, [&] {
    return make_handle("memory", memory, [&](HipAttnHostMemory& made) -> Status {
      Device known;
      HIP_ATTN_RETURN_IF_ERROR(device_of("device", device, known));
      return HostMemory::allocate(known, bytes, made.memory);
    });
  });
}

void* hip_attn_host_memory_data(const HipAttnHostMemory* memory) {
  return memory != nullptr ? memory->memory.data() : nullptr;
}

size_t hip_attn_host_memory_size(const HipAttnHostMemory* memory) {
  return memory != nullptr ? memory->memory.size() : 0;
}

size_t hip_attn_host_memory_release(HipAttnHostMemory* memory, size_t bytes) {
  return memory != nullptr ? memory->memory.release(bytes) : 0;
}

void hip_attn_host_memory_destroy(HipAttnHostMemory* memory) { delete memory; }

HipAttnStatus hip_attn_plan_kv_store(const HipAttnConfig* config, const HipAttnKvStoreShape* shape,
                                     size_t budget_bytes, HipAttnKvStorePlan** plan, char* message,
                                     size_t message_capacity) {
  return guarded({message, message_capacity}, [&] {
    return make_handle("plan", plan, [&](HipAttnKvStorePlan& made) -> Status {
      HIP_ATTN_RETURN_IF_ERROR(check_given("config", config, "a config"));
      HipAttnKvStoreShape given;
      HIP_ATTN_RETURN_IF_ERROR(read_struct("shape", shape, given));
      KvStoreShape known;
      HIP_ATTN_RETURN_IF_ERROR(shape_of(given, known));
      return plan_kv_store(config->config, known, budget_bytes, made.plan);
    });
  });
}

HipAttnStatus hip_attn_kv_store_plan_info(const HipAttnKvStorePlan* plan,
                                          HipAttnKvStorePlanInfo* info, char* message,
                                          size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    HIP_ATTN_RETURN_IF_ERROR(check_given("plan", plan, "a plan"));
    HipAttnKvStorePlanInfo known{};
    known.memory_bytes = plan->plan.memory_bytes;
    known.least_budget = plan->plan.least_budget;
    known.slots = plan->plan.slots;
    return write_struct("info", known, info);
  });
}

void hip_attn_kv_store_plan_destroy(HipAttnKvStorePlan* plan) { delete plan; }

HipAttnStatus hip_attn_clear_kv_store(const HipAttnKvStore* store, HipAttnStream stream,
                                      char* message, size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    KvStore known;
    HIP_ATTN_RETURN_IF_ERROR(store_of("store", store, known));
    return clear_kv_store(known, stream);
  });
}

HipAttnStatus hip_attn_bind_kv_store(const HipAttnBindKvStoreArgs* args, HipAttnStream stream,
                                     char* message, size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    HipAttnBindKvStoreArgs given;
    HIP_ATTN_RETURN_IF_ERROR(read_struct("args", args, given));
    BindKvStoreArgs known;
    HIP_ATTN_RETURN_IF_ERROR(store_of("store", given.store, known.store));
    const Device device = known.store.plan->shape.device;
    known.num_home_blocks = given.num_home_blocks;
    HIP_ATTN_RETURN_IF_ERROR(view_of("block_table", given.block_table, device, known.block_table));
    HIP_ATTN_RETURN_IF_ERROR(view_of("seq_lens", given.seq_lens, device, known.seq_lens));
    return bind_kv_store(known, stream);
  });
}

HipAttnStatus hip_attn_read_kv_store_counters(const HipAttnKvStore* store,
                                              HipAttnKvStoreCounters* counters,
                                              HipAttnStream stream, char* message,
                                              size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    KvStore known;
    HIP_ATTN_RETURN_IF_ERROR(store_of("store", store, known));
    KvStoreCounters read;
    HIP_ATTN_RETURN_IF_ERROR(read_kv_store_counters(known, read, stream));
    HipAttnKvStoreCounters result{};
    result.hits = read.hits;
    result.misses = read.misses;
    result.evictions = read.evictions;
    return write_struct("counters", result, counters);
  });
}
