// Arguments of prefill and decode in the C interface as those of C++.
#pragma once

#include "c_api/stores.hpp"
#include "c_api/views.hpp"
#include "hip_attn/attention.hpp"
#include "hip_attn/c/attention.h"

namespace hip_attn::c_api {

// `names` are those of the struct and its members.
template <typename I>
Status selection_of(const char* const (&names)[4], const HipAttnSelection* given, Device device,
                    std::optional<SelectionView<I>>& selection) {
  if (given == nullptr) return {};
  HipAttnSelection known;
  HIP_ATTN_RETURN_IF_ERROR(read_struct(names[0], given, known));
  SelectionView<I>& view = selection.emplace();
  HIP_ATTN_RETURN_IF_ERROR(view_of(names[1], known.blocks, device, view.blocks));
  HIP_ATTN_RETURN_IF_ERROR(view_of(names[2], known.counts, device, view.counts));
  return view_of(names[3], known.window_start, device, view.window_start);
}

Status cache_of(const AttentionPlan& plan, const HipAttnSelectionCache* given,
                std::optional<SelectionCache>& cache);

// q of three dimensions, or of four, a batch [B, R, Hq, D] with strides of its own.
template <Element T, StoredFor<T> C>
Status queries_of(const DLTensor* given, Device device, AttentionArgs<T, C>& args) {
  if (given == nullptr || given->ndim == 3) return view_of("q", given, device, args.q);
  if (given->ndim != 4) {
    return {StatusCode::kInvalidArgument,
            message("q.ndim is ", given->ndim, "; it must be 3, or 4 for a batch [B, R, Hq, D]")};
  }
  TensorView<const T, 4> q;
  HIP_ATTN_RETURN_IF_ERROR(view_of("q", given, device, q));
  const std::int64_t rows = q.sizes[0] == 0 ? 0 : q.sizes[1];
  args.q = {q.data, {rows, q.sizes[2], q.sizes[3]}, {q.strides[1], q.strides[2], q.strides[3]}};
  // Of one request there is no next one, and frameworks write what they like.
  constexpr auto kAny = static_cast<std::int64_t>(detail::kAlignment / sizeof(T));
  args.q_request_stride = q.sizes[0] > 1 ? q.strides[0] : kAny;
  return {};
}

template <Element T, StoredFor<T> C>
Status args_of(const AttentionPlan& plan, const HipAttnAttentionArgs* given,
               AttentionArgs<T, C>& args) {
  const Device device = plan.shape.device;
  HipAttnAttentionArgs known;
  HIP_ATTN_RETURN_IF_ERROR(read_struct("args", given, known));
  HIP_ATTN_RETURN_IF_ERROR(queries_of(known.q, device, args));
  HIP_ATTN_RETURN_IF_ERROR(paged_kv_of(known.kv, device, args.kv));
  HIP_ATTN_RETURN_IF_ERROR(view_of("seq_lens", known.seq_lens, device, args.seq_lens));
  if (args.q_request_stride) {
    HIP_ATTN_RETURN_IF_ERROR(detail::check_size("q.shape[0]", known.q->shape[0], "size of seq_lens",
                                                args.seq_lens.sizes[0]));
  }
  HIP_ATTN_RETURN_IF_ERROR(view_of("cu_seqlens_q", known.cu_seqlens_q, device, args.cu_seqlens_q));
  HIP_ATTN_RETURN_IF_ERROR(view_of("out", known.out, device, args.out));
  HIP_ATTN_RETURN_IF_ERROR(view_of("lse", known.lse, device, args.lse));
  if (known.scale != nullptr) args.scale = *known.scale;
  if (known.logit_softcap != nullptr) args.logit_softcap = *known.logit_softcap;
  HIP_ATTN_RETURN_IF_ERROR(selection_of({"selection_out", "selection_out.blocks",
                                         "selection_out.counts", "selection_out.window_start"},
                                        known.selection_out, device, args.selection_out));
  HIP_ATTN_RETURN_IF_ERROR(
      selection_of({"selection", "selection.blocks", "selection.counts", "selection.window_start"},
                   known.selection, device, args.selection));
  HIP_ATTN_RETURN_IF_ERROR(cache_of(plan, known.cache, args.cache));
  if (known.landmarks != nullptr) {
    HIP_ATTN_RETURN_IF_ERROR(landmarks_of(known.landmarks, device, args.landmarks.emplace()));
  }
  if (known.store != nullptr) {
    HIP_ATTN_RETURN_IF_ERROR(store_of("store", known.store, args.store.emplace()));
  }
  return view_of("counters", known.counters, device, args.counters);
}

}  // namespace hip_attn::c_api
