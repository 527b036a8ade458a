// append_kv, update_landmarks, merge_states and add_sink_logits of the C interface.
#include "hip_attn/kv.hpp"

#include <cstdint>

#include "c_api/element_types.hpp"
#include "c_api/stores.hpp"
#include "c_api/views.hpp"
#include "hip_attn/merge.hpp"
#include "hip_attn/sink_logits.hpp"

namespace hip_attn::c_api {
namespace {

// visit<T>(known, device) with the element type of the tensor that `leading` finds in the struct.
template <typename Args, typename Leading, typename Visit>
HipAttnStatus run_on_data(DLDevice given_device, const Args* args, const char* leading_name,
                          const Leading& leading, MessageBuffer buffer,
                          const Visit& visit) noexcept {
  return guarded(buffer, [&]() -> Status {
    Device device;
    HIP_ATTN_RETURN_IF_ERROR(device_of("device", given_device, device));
    Args known;
    HIP_ATTN_RETURN_IF_ERROR(read_struct("args", args, known));
    const DLTensor* tensor = nullptr;
    HIP_ATTN_RETURN_IF_ERROR(leading(known, tensor));
    HIP_ATTN_RETURN_IF_ERROR(check_given(leading_name, tensor, "a DLTensor"));
    ElementType type{};
    HIP_ATTN_RETURN_IF_ERROR(element_type_of({leading_name, ".dtype"}, tensor->dtype, type));
    return visit_type(type,
                      [&]<Element T>() { return visit.template operator()<T>(known, device); });
  });
}

template <Element T>
Status append_landmarks_of(const HipAttnAppendLandmarks* given, Device device,
                           AppendLandmarks<T>& upkeep) {
  HipAttnAppendLandmarks known;
  HIP_ATTN_RETURN_IF_ERROR(read_struct("landmarks", given, known));
  HIP_ATTN_RETURN_IF_ERROR(landmarks_of(known.landmarks, device, upkeep.landmarks));
  HIP_ATTN_RETURN_IF_ERROR(
      view_of("landmarks.block_table", known.block_table, device, upkeep.block_table));
  HIP_ATTN_RETURN_IF_ERROR(view_of("landmarks.seq_lens", known.seq_lens, device, upkeep.seq_lens));
  return view_of("landmarks.cu_seqlens", known.cu_seqlens, device, upkeep.cu_seqlens);
}

Status append_store_of(const HipAttnAppendStore* given, Device device, AppendStore& upkeep) {
  HipAttnAppendStore known;
  HIP_ATTN_RETURN_IF_ERROR(read_struct("store", given, known));
  HIP_ATTN_RETURN_IF_ERROR(store_of("store.store", known.store, upkeep.store));
  HIP_ATTN_RETURN_IF_ERROR(
      view_of("store.block_table", known.block_table, device, upkeep.block_table));
  HIP_ATTN_RETURN_IF_ERROR(view_of("store.seq_lens", known.seq_lens, device, upkeep.seq_lens));
  HIP_ATTN_RETURN_IF_ERROR(
      view_of("store.cu_seqlens", known.cu_seqlens, device, upkeep.cu_seqlens));
  if (known.cache == nullptr) return {};
  return cache_memory_of({"store.cache", "store.cache.data", "store.cache.slots"}, known.cache,
                         slot_bytes_of(*upkeep.store.plan), device, upkeep.cache.emplace());
}

template <Element T>
Status append_kv_args_of(const HipAttnAppendKvArgs& known, Device device, AppendKvArgs<T>& args) {
  HIP_ATTN_RETURN_IF_ERROR(view_of("k", known.k, device, args.k));
  HIP_ATTN_RETURN_IF_ERROR(view_of("v", known.v, device, args.v));
  HIP_ATTN_RETURN_IF_ERROR(view_of("slot_mapping", known.slot_mapping, device, args.slot_mapping));
  HIP_ATTN_RETURN_IF_ERROR(
      pages_of({"pages", "pages.k", "pages.v"}, known.pages, device, args.pages));
  if (known.landmarks != nullptr) {
    HIP_ATTN_RETURN_IF_ERROR(
        append_landmarks_of(known.landmarks, device, args.landmarks.emplace()));
  }
  if (known.store == nullptr) return {};
  return append_store_of(known.store, device, args.store.emplace());
}

// Of args whose store is known already.
template <Element T>
Status admit_kv_store_args_of(const HipAttnAdmitKvStoreArgs& known, AdmitKvStoreArgs<T>& args) {
  const KvStorePlan& plan = *args.store.plan;
  const Device device = plan.shape.device;
  HIP_ATTN_RETURN_IF_ERROR(
      pages_of({"pages", "pages.k", "pages.v"}, known.pages, device, args.pages));
  HIP_ATTN_RETURN_IF_ERROR(view_of("block_table", known.block_table, device, args.block_table));
  HIP_ATTN_RETURN_IF_ERROR(view_of("seq_lens", known.seq_lens, device, args.seq_lens));
  return cache_memory_of({"cache", "cache.data", "cache.slots"}, known.cache, slot_bytes_of(plan),
                         device, args.cache);
}

template <Element T>
Status update_landmarks_args_of(const HipAttnUpdateLandmarksArgs& known, Device device,
                                UpdateLandmarksArgs<T>& args) {
  HIP_ATTN_RETURN_IF_ERROR(paged_kv_of(known.kv, device, args.kv));
  HIP_ATTN_RETURN_IF_ERROR(view_of("from", known.from, device, args.from));
  HIP_ATTN_RETURN_IF_ERROR(view_of("to", known.to, device, args.to));
  HIP_ATTN_RETURN_IF_ERROR(landmarks_of(known.landmarks, device, args.landmarks));
  args.max_tokens = known.max_tokens;
  return {};
}

template <Element T>
Status merge_states_args_of(const HipAttnMergeStatesArgs& known, Device device,
                            MergeStatesArgs<T>& args) {
  HIP_ATTN_RETURN_IF_ERROR(view_of("partial_out", known.partial_out, device, args.partial_out));
  HIP_ATTN_RETURN_IF_ERROR(view_of("partial_lse", known.partial_lse, device, args.partial_lse));
  HIP_ATTN_RETURN_IF_ERROR(view_of("out", known.out, device, args.out));
  return view_of("lse", known.lse, device, args.lse);
}

template <Element T>
Status sink_logits_args_of(const HipAttnAddSinkLogitsArgs& known, Device device,
                           AddSinkLogitsArgs<T>& args) {
  HIP_ATTN_RETURN_IF_ERROR(view_of("sink_logits", known.sink_logits, device, args.sink_logits));
  HIP_ATTN_RETURN_IF_ERROR(view_of("out", known.out, device, args.out));
  return view_of("lse", known.lse, device, args.lse);
}

}  // namespace
}  // namespace hip_attn::c_api

using namespace hip_attn;
using namespace hip_attn::c_api;

HipAttnStatus hip_attn_append_kv(DLDevice device, const HipAttnAppendKvArgs* args,
                                 HipAttnStream stream, char* message, size_t message_capacity) {
  const auto leading = [](const HipAttnAppendKvArgs& known, const DLTensor*& tensor) -> Status {
    tensor = known.k;
    return {};
  };
  return run_on_data(device, args, "k", leading, {message, message_capacity},
                     [&]<Element T>(const HipAttnAppendKvArgs& known, Device on) -> Status {
                       AppendKvArgs<T> converted;
                       HIP_ATTN_RETURN_IF_ERROR(append_kv_args_of(known, on, converted));
                       return append_kv(on, converted, stream);
                     });
}

HipAttnStatus hip_attn_admit_kv_store(const HipAttnAdmitKvStoreArgs* args, HipAttnStream stream,
                                      char* message, size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    HipAttnAdmitKvStoreArgs known;
    HIP_ATTN_RETURN_IF_ERROR(read_struct("args", args, known));
    KvStore store;
    HIP_ATTN_RETURN_IF_ERROR(store_of("store", known.store, store));
    return visit_type(store.plan->shape.type, [&]<Element T>() -> Status {
      AdmitKvStoreArgs<T> converted;
      converted.store = store;
      HIP_ATTN_RETURN_IF_ERROR(admit_kv_store_args_of(known, converted));
      return admit_kv_store(converted, stream);
    });
  });
}

HipAttnStatus hip_attn_update_landmarks(DLDevice device, const HipAttnUpdateLandmarksArgs* args,
                                        HipAttnStream stream, char* message,
                                        size_t message_capacity) {
  const auto leading = [](const HipAttnUpdateLandmarksArgs& known,
                          const DLTensor*& tensor) -> Status {
    HipAttnPagedKv kv;
    HIP_ATTN_RETURN_IF_ERROR(read_struct("kv", known.kv, kv));
    HipAttnKvPages pages;
    HIP_ATTN_RETURN_IF_ERROR(read_struct("kv.pages", kv.pages, pages));
    tensor = pages.k;
    return {};
  };
  return run_on_data(device, args, "kv.pages.k", leading, {message, message_capacity},
                     [&]<Element T>(const HipAttnUpdateLandmarksArgs& known, Device on) -> Status {
                       UpdateLandmarksArgs<T> converted;
                       HIP_ATTN_RETURN_IF_ERROR(update_landmarks_args_of(known, on, converted));
                       return update_landmarks(on, converted, stream);
                     });
}

HipAttnStatus hip_attn_merge_states(DLDevice device, const HipAttnMergeStatesArgs* args,
                                    HipAttnStream stream, char* message, size_t message_capacity) {
  const auto leading = [](const HipAttnMergeStatesArgs& known, const DLTensor*& tensor) -> Status {
    tensor = known.partial_out;
    return {};
  };
  return run_on_data(device, args, "partial_out", leading, {message, message_capacity},
                     [&]<Element T>(const HipAttnMergeStatesArgs& known, Device on) -> Status {
                       MergeStatesArgs<T> converted;
                       HIP_ATTN_RETURN_IF_ERROR(merge_states_args_of(known, on, converted));
                       return merge_states(on, converted, stream);
                     });
}

HipAttnStatus hip_attn_add_sink_logits(DLDevice device, const HipAttnAddSinkLogitsArgs* args,
                                       HipAttnStream stream, char* message,
                                       size_t message_capacity) {
  const auto leading = [](const HipAttnAddSinkLogitsArgs& known,
                          const DLTensor*& tensor) -> Status {
    tensor = known.out;
    return {};
  };
  return run_on_data(device, args, "out", leading, {message, message_capacity},
                     [&]<Element T>(const HipAttnAddSinkLogitsArgs& known, Device on) -> Status {
                       AddSinkLogitsArgs<T> converted;
                       HIP_ATTN_RETURN_IF_ERROR(sink_logits_args_of(known, on, converted));
                       return add_sink_logits(on, converted, stream);
                     });
}
