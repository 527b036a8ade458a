/// Checks of a KvStore and of the cache behind it.
#pragma once

#include <cstdint>
#include <limits>

#include "hip_attn/checks/message.hpp"
#include "hip_attn/checks/views.hpp"
#include "hip_attn/kv.hpp"
#include "hip_attn/offload.hpp"

namespace hip_attn::detail {

/// Of a call for `batch` requests on `device`.
inline Status check_store(const KvStore& store, Device device, std::int64_t batch) {
  if (store.plan == nullptr) {
    return {StatusCode::kNullPointer,
            "store.plan is null; it must point at a plan of plan_kv_store"};
  }
  const KvStorePlan& plan = *store.plan;
  if (plan.least_budget == 0) {
    return {StatusCode::kInvalidShape, "store.plan is empty; it must come from plan_kv_store"};
  }
  if (plan.shape.device != device) {
    return {StatusCode::kInvalidShape, "store.plan was made for another device than the call's"};
  }
  if (!store.rows && batch > plan.shape.max_requests) {
    return {StatusCode::kExceedsPlan, message("the call has ", batch,
                                              " requests; without store.rows, request b uses row b "
                                              "of the store, which has ",
                                              plan.shape.max_requests)};
  }
  if (store.rows) {
    HIP_ATTN_RETURN_IF_ERROR(check_array("store.rows", *store.rows));
    HIP_ATTN_RETURN_IF_ERROR(
        check_size("store.rows.sizes[0]", store.rows->sizes[0], "requests of the call", batch));
    if (store.rows->sizes[0] > 1 && store.rows->strides[0] != 1) {
      return {StatusCode::kInvalidStride,
              message("store.rows.strides[0] is ", store.rows->strides[0], "; it must be 1")};
    }
  }
  if (device.type == DeviceType::kCpu) return {};
  return check_tensor("store.memory",
                      TensorView<std::byte, 1>(static_cast<std::byte*>(store.memory),
                                               {static_cast<std::int64_t>(plan.memory_bytes)}));
}

/// The blocks of a store are copied as they lie at home.
template <typename T>
Status check_home(const KvStore& store, Name name, const KvPages<T>& pages) {
  const KvStoreShape& shape = store.plan->shape;
  if (kElementType<std::remove_const_t<T>> != shape.type) {
    return {StatusCode::kInvalidShape,
            message("store.plan was made for elements of ", to_string(shape.type), "; ", name.str(),
                    " has ", to_string(kElementType<std::remove_const_t<T>>))};
  }
  HIP_ATTN_RETURN_IF_ERROR(check_size(Name(name.prefix, ".k.sizes[2]"), pages.num_kv_heads(),
                                      "num_kv_heads of store.plan", shape.num_kv_heads));
  HIP_ATTN_RETURN_IF_ERROR(check_size(Name(name.prefix, ".k.sizes[3]"), pages.head_dim(),
                                      "head_dim of store.plan", shape.head_dim));
  const KvPages<T> home =
      kv_home_pages(pages.k.data, pages.num_pages(), shape.num_kv_heads, shape.head_dim);
  if (pages.k.sizes != home.k.sizes || pages.k.strides != home.k.strides ||
      pages.v.data != home.v.data || pages.v.strides != home.v.strides) {
    return {StatusCode::kInvalidStride,
            message(name.str(), " are not laid out as kv_home_pages, as a store needs them")};
  }
  const std::int64_t most = std::numeric_limits<std::int32_t>::max();
  const std::int64_t hot = shape.max_requests * shape.num_kv_heads * store.plan->slots;
  if (pages.num_pages() > (most - hot) / shape.num_kv_heads) {
    return {StatusCode::kInvalidShape,
            message(name.str(), " have ", pages.num_pages(), " blocks; beside ", hot,
                    " slots a store takes ", (most - hot) / shape.num_kv_heads)};
  }
  return {};
}

/// What says which blocks of a store become hot, but for cu_seqlens. `prefix` stands before the
/// names of its members: "" or "store.".
template <Element T>
Status check_hot_set(const char* prefix, Device device, const AppendStore& of,
                     const KvPages<const T>& pages) {
  const std::int64_t batch = of.seq_lens.sizes[0];
  HIP_ATTN_RETURN_IF_ERROR(check_array(Name(prefix, "seq_lens"), of.seq_lens));
  HIP_ATTN_RETURN_IF_ERROR(check_array(Name(prefix, "block_table"), of.block_table));
  HIP_ATTN_RETURN_IF_ERROR(check_size(Name(prefix, "block_table.sizes[0]"), of.block_table.sizes[0],
                                      "size of seq_lens", batch));
  HIP_ATTN_RETURN_IF_ERROR(check_store(of.store, device, batch));
  HIP_ATTN_RETURN_IF_ERROR(check_home(of.store, "pages", pages));
  if (!of.cache) return {};
  const std::int64_t words = of.store.plan->search.cache_entry_words * pages.num_kv_heads();
  HIP_ATTN_RETURN_IF_ERROR(check_tensor(
      Name(prefix, "cache"), TensorView<std::int32_t, 2>(static_cast<std::int32_t*>(of.cache->data),
                                                         {of.cache->num_slots, words})));
  if (!of.cache->slots) return {};
  HIP_ATTN_RETURN_IF_ERROR(check_array(Name(prefix, "cache.slots"), *of.cache->slots));
  return check_size(Name(prefix, "cache.slots.sizes[0]"), of.cache->slots->sizes[0],
                    "size of seq_lens", batch);
}

}  // namespace hip_attn::detail
