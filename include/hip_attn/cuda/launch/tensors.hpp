/// Arguments of the operators as the kernels' parameters.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>

#include "hip_attn/attention.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/attention_params.hpp"

namespace hip_attn::cuda {

/// Chunks of a list of survivors at most, blocks included.
inline std::int32_t list_length(const SearchPlan& search) {
  std::int32_t length = search.max_selected_blocks;
  for (int s = 0; s < search.num_stages; ++s) {
    length = std::max(length, search.stages[s].max_survivors);
  }
  return length;
}

template <typename T>
PageMap page_map(const PagedKv<T>& kv) {
  PageMap map{};
  map.page_size = saturated(kv.pages.page_size());
  map.num_pages = saturated(kv.pages.num_pages());
  const auto page_size = static_cast<std::uint32_t>(map.page_size);
  map.column_shift = std::bit_width(page_size - 1);  // ceil(log2(page_size))
  map.column_factor = static_cast<std::uint32_t>(
      ((std::uint64_t{1} << (31 + map.column_shift)) + page_size - 1) / page_size);
  map.table_columns = 1;
  if (kv.block_table) {
    map.block_table = kv.block_table->data;
    map.table_row_stride = kv.block_table->strides[0];
    map.table_columns = kv.block_table->sizes[1];
  }
  return map;
}

template <typename T>
KvTensors<T> kv_tensors(const PagedKv<T>& kv) {
  const auto tensor = [](const TensorView<const T, 4>& pages) {
    return PagedTensor<T>{pages.data, pages.strides[0], pages.strides[1], pages.strides[2]};
  };
  return {tensor(kv.pages.k), tensor(kv.pages.v), page_map(kv)};
}

template <Element T, StoredFor<T> C>
AttentionTensors<C> attention_tensors(const AttentionArgs<T, C>& args) {
  constexpr bool kFloat = std::same_as<T, float> && !std::same_as<C, float>;
  return {{args.q.data, args.q.strides[0], args.q.strides[1], kFloat},
          {args.out.data, args.out.strides[0], args.out.strides[1], kFloat},
          args.lse ? args.lse->data : nullptr,
          args.lse ? args.lse->strides[0] : 0,
          kv_tensors(args.kv),
          args.seq_lens.data,
          args.cu_seqlens_q.data,
          saturated(args.q.sizes[0]),
          static_cast<std::int32_t>(args.seq_lens.sizes[0])};
}

template <typename I>
SelectionParams<I> selection_params(const SelectionView<I>& view) {
  return {view.blocks.data,       view.blocks.strides[0],
          view.blocks.strides[1], view.blocks.sizes[2],
          view.counts.data,       view.counts.strides[0],
          view.window_start.data, view.window_start.strides[0]};
}

/// Counters of attention come behind those of all stages, also where none runs.
inline unsigned long long* counters_of(const TensorView<std::int64_t, 1>& counters,
                                       const HipConfig& config, const SearchPlan& search) {
  static_assert(sizeof(unsigned long long) == sizeof(std::int64_t));
  return reinterpret_cast<unsigned long long*>(counters.data) + config.num_stages() -
         search.num_stages;
}

template <Element T, StoredFor<T> C>
LogitScale logit_scale(const AttentionPlan& plan, const AttentionArgs<T, C>& args) {
  constexpr float kLog2e = 1.44269504f;
  const float scale = args.scale.value_or(1.f / std::sqrt(static_cast<float>(plan.shape.head_dim)));
  if (args.logit_softcap) return {scale / *args.logit_softcap, *args.logit_softcap * kLog2e};
  return {scale * kLog2e, 0.f};
}

}  // namespace hip_attn::cuda
