/// Arguments of the operators as the kernels' parameters.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "hip_attn/attention.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/cuda/offload/params.hpp"

namespace hip_attn::cuda {

/// Chunks of a list of survivors at most, blocks included.
inline std::int32_t list_length(const SearchPlan& search) {
  std::int32_t length = search.max_selected_blocks;
  for (int s = 0; s < search.num_stages; ++s) {
    length = std::max(length, search.stages[s].max_survivors);
  }
  return length;
}

/// page_size and num_pages: of pages of keys and values, or of landmarks.
inline PageMap page_map(std::int64_t page_size, std::int64_t num_pages,
                        const std::optional<TensorView<const std::int32_t, 2>>& block_table) {
  PageMap map{};
  map.page_size = saturated(page_size);
  map.num_pages = saturated(num_pages);
  const auto size = static_cast<std::uint32_t>(map.page_size);
  map.column_shift = std::bit_width(size - 1);  // ceil(log2(size))
  map.column_factor =
      static_cast<std::uint32_t>(((std::uint64_t{1} << (31 + map.column_shift)) + size - 1) / size);
  map.table_columns = 1;
  if (block_table) {
    map.block_table = block_table->data;
    map.table_row_stride = block_table->strides[0];
    map.table_columns = block_table->sizes[1];
  }
  return map;
}

/// A level of landmarks, whose T may be const.
template <typename T>
LandmarkTensor<std::remove_const_t<T>> landmark_tensor(const LandmarkLevel<T>& level) {
  const auto& strides = level.rows.strides;
  return {{level.rows.data, strides[0], strides[1], strides[2]},
          strides[3],
          page_map(level.landmarks_per_page(), level.num_pages(), level.block_table)};
}

/// landmarks[s]: what landmark stage s of the plan reads.
template <Element T, StoredFor<T> C>
void set_landmarks(const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                   LandmarkTensor<C> (&landmarks)[kMaxLandmarkLevels]) {
  if (!plan.config.uses_landmarks() || args.selection) return;
  for (int s = 0; s < plan.config.num_stages(); ++s) {
    const ScanStage& stage = plan.config.stage(s);
    if (stage.rule != ScanRule::kLandmark) break;
    landmarks[s] = landmark_tensor(*args.landmarks->find(stage.chunk_size));
  }
}

template <typename T>
KvTensors<T> kv_tensors(const PagedKv<T>& kv) {
  const auto tensor = [](const TensorView<const T, 4>& pages) {
    return PagedTensor<T>{pages.data, pages.strides[0], pages.strides[1], pages.strides[2]};
  };
  return {tensor(kv.pages.k), tensor(kv.pages.v),
          page_map(kv.pages.page_size(), kv.pages.num_pages(), kv.block_table)};
}

/// What the kernels of a store are told of it. `home` are its pages.
template <typename T>
KvStoreParams store_params(const KvStore& store, const KvPages<T>& home) {
  const KvStoreShape& shape = store.plan->shape;
  KvStoreParams params{};
  params.layout = kv_store_layout(*store.plan, static_cast<std::byte*>(store.memory));
  params.home = reinterpret_cast<const std::byte*>(home.k.data);
  params.rows = store.rows ? store.rows->data : nullptr;
  params.num_rows = static_cast<std::int32_t>(shape.max_requests);
  params.num_kv_heads = static_cast<std::int32_t>(shape.num_kv_heads);
  params.near_pages = static_cast<std::int32_t>(params.layout.num_pages());
  params.num_home_blocks = static_cast<std::int32_t>(home.num_pages());
  return params;
}

/// Rows of blocks of a store: `near_pages` of them lie at `near`, the others at `far`, both given
/// for page 0 of their own.
template <typename T>
PagedTensor<T> near_and_far(const T* near, const T* far, std::int32_t near_pages,
                            std::int64_t head_dim) {
  const std::int64_t block = 2 * kKvBlockTokens * head_dim;
  PagedTensor<T> of{near, block, head_dim, 0};
  // As a number: no such element exists.
  of.far_data =
      reinterpret_cast<const T*>(reinterpret_cast<std::uintptr_t>(far) -
                                 static_cast<std::uintptr_t>(near_pages * block) * sizeof(T));
  of.near_pages = near_pages;
  return of;
}

/// A page is a block of one KV head, and each head has a table of its own.
template <typename T>
KvTensors<T> kv_tensors(const KvStore& store, const KvPages<const T>& home) {
  const KvStoreParams params = store_params(store, home);
  const std::int64_t head_dim = home.head_dim();
  const auto tensor = [&](std::int64_t offset) {
    return near_and_far(reinterpret_cast<const T*>(params.layout.blocks) + offset,
                        home.k.data + offset, params.near_pages, head_dim);
  };
  const std::int64_t heads = params.num_kv_heads;
  const std::int64_t columns = params.layout.columns;
  const TensorView<const std::int32_t, 2> table(params.layout.table, {params.num_rows + 1, columns},
                                                {heads * columns, 1});
  PageMap map = page_map(kKvBlockTokens, params.near_pages + home.num_pages() * heads, table);
  map.table_head_stride = columns;
  map.table_rows = params.rows;
  map.num_table_rows = params.num_rows;
  return {tensor(0), tensor(kKvBlockTokens * head_dim), map};
}

template <Element T, StoredFor<T> C>
AttentionTensors<C> attention_tensors(const AttentionArgs<T, C>& args) {
  constexpr bool kFloat = std::same_as<T, float> && !std::same_as<C, float>;
  return {{args.q.data, args.q.strides[0], args.q.strides[1], args.q_request_stride.value_or(0),
           args.q_request_stride ? saturated(args.q.sizes[0]) : INT32_MAX, kFloat},
          {args.out.data, args.out.strides[0], args.out.strides[1], kFloat},
          args.lse ? args.lse->data : nullptr,
          args.lse ? args.lse->strides[0] : 0,
          args.store ? kv_tensors(*args.store, args.kv.pages) : kv_tensors(args.kv),
          args.seq_lens.data,
          args.cu_seqlens_q.data,
          saturated(args.out.sizes[0]),
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
