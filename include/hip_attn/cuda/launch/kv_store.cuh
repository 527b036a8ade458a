/// The launches of a KvStore.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/launch/launch.hpp"
#include "hip_attn/cuda/launch/tensors.hpp"
#include "hip_attn/cuda/offload/admit.cuh"
#include "hip_attn/cuda/offload/bind.cuh"
#include "hip_attn/kv.hpp"

namespace hip_attn::cuda {

inline Status enqueue_clear(const KvStore& store, Stream stream) {
  const DeviceGuard guard(store.plan->shape.device);
  if (guard.error() != cudaSuccess) return to_status(guard.error(), "clear_kv_store");
  const KvStoreLayout layout = kv_store_layout(*store.plan, static_cast<std::byte*>(store.memory));
  const std::int64_t rows = store.plan->shape.max_requests;
  const auto fill = [&](void* data, int value, std::int64_t bytes) {
    return cudaMemsetAsync(data, value, static_cast<std::size_t>(bytes), stream);
  };
  constexpr auto kWord = static_cast<std::int64_t>(sizeof(std::int32_t));
  constexpr auto kOwner = static_cast<std::int64_t>(sizeof(KvStoreOwner));
  constexpr auto kUnit = static_cast<std::int64_t>(sizeof(KvStoreUnit));
  constexpr auto kCount = static_cast<std::int64_t>(sizeof(std::uint64_t));
  const std::int64_t entries = (rows + 1) * store.plan->shape.num_kv_heads * layout.columns;
  cudaError_t error = fill(layout.table, 0xff, entries * kWord);  // -1: no page, a free slot
  if (error == cudaSuccess) error = fill(layout.owners, 0xff, layout.num_pages() * kOwner);
  if (error == cudaSuccess) error = fill(layout.unit, 0, layout.units * kUnit);
  if (error == cudaSuccess) error = fill(layout.counts, 0, kKvCounts * kCount);
  return to_status(error, "clear_kv_store");
}

inline Status enqueue_bind(const BindKvStoreArgs& args, Stream stream) {
  const KvStoreShape& shape = args.store.plan->shape;
  const std::int64_t batch = args.seq_lens.sizes[0];
  if (batch == 0) return {};
  BindParams params{};
  params.store = store_params(args.store, kv_home_pages(static_cast<const std::byte*>(nullptr),
                                                        args.num_home_blocks, 0, 0));
  params.block_table = args.block_table.data;
  params.table_row_stride = args.block_table.strides[0];
  params.table_columns = args.block_table.sizes[1];
  params.seq_lens = args.seq_lens.data;
  params.batch = static_cast<std::int32_t>(batch);
  const dim3 grid(static_cast<unsigned>(shape.num_kv_heads),
                  static_cast<unsigned>(std::min(batch, kMostGridYz)));
  return launch("bind_kv_store", bind_kernel<kBindThreads>, grid, dim3(kBindThreads), shape.device,
                stream, params);
}

/// The survivors that the last stage of a search cuts, as they lie in a selection cache.
inline void set_candidates(const KvStorePlan& plan, const SelectionCache& cache,
                           AdmitParams& params) {
  const SearchPlan& search = plan.search;
  if (search.num_stages == 0) return;
  const int s = std::max(search.num_stages - 2, 0);
  params.cache = static_cast<const std::int32_t*>(cache.data);
  params.cache_slots = cache.slots ? cache.slots->data : nullptr;
  params.cache_head_words = search.cache_entry_words;
  params.cache_slot_words = search.cache_entry_words * plan.shape.num_kv_heads;
  params.num_cache_slots = static_cast<std::uint32_t>(saturated(cache.num_slots));
  params.candidates_word = static_cast<std::int32_t>(search.stages[s].cache_word);
  params.most_candidates = search.stages[s].max_survivors;
  params.chunk_shift = search.stages[s].chunk_shift;
  params.max_first_chunks = s == 0 ? search.max_first_chunks : 0;
}

/// What admission is told, with rows that an append adds or without.
template <typename T>
AdmitParams admit_params(const AppendStore& of, const KvPages<const T>& pages,
                         const TensorView<const T, 3>& k, const TensorView<const T, 3>& v) {
  constexpr int kElements = 16 / static_cast<int>(sizeof(T));
  const auto added = [](const TensorView<const T, 3>& rows) {
    return AddedRows{rows.data, rows.strides[0] / kElements, rows.strides[1] / kElements};
  };
  const SearchPlan& search = of.store.plan->search;
  AdmitParams params{};
  params.store = store_params(of.store, pages);
  params.k = added(k);
  params.v = added(v);
  params.block_table = of.block_table.data;
  params.table_row_stride = of.block_table.strides[0];
  params.table_columns = of.block_table.sizes[1];
  params.seq_lens = of.seq_lens.data;
  params.cu_seqlens = of.cu_seqlens.data;
  params.num_tokens = saturated(k.sizes[0]);
  params.batch = saturated(of.seq_lens.sizes[0]);
  params.copying_warps = INT32_MAX;
  params.sink = search.sink;
  params.window = search.window;
  if (of.cache) set_candidates(*of.store.plan, *of.cache, params);
  return params;
}

/// Of blocks that become hot beside a step. It is enough for the link's rate; behind more of them
/// what the step itself reads over the link waits: with 4 MB on their way a step of 8 x 128k takes
/// 71.7 us, with 1024, 512, 256 and 128 KB 62.7, 62.0, 62.6 and 62.5 (H200).
inline constexpr std::int64_t kAdmittedBytesOnTheirWay = std::int64_t{1} << 18;

/// Without rows.
template <int kHeadDim, Element T>
Status enqueue_admission(Device device, const AppendStore& of, const KvPages<const T>& pages,
                         Stream stream) {
  const std::int64_t batch = of.seq_lens.sizes[0];
  if (batch == 0) return {};
  const dim3 grid(static_cast<unsigned>(of.store.plan->shape.num_kv_heads),
                  static_cast<unsigned>(std::min(batch, kMostGridYz)));
  constexpr int kRowVectors = kHeadDim * static_cast<int>(sizeof(T)) / 16;
  AdmitParams params = admit_params<T>(of, pages, {}, {});
  constexpr std::int64_t kBlockBytes = 2 * kKvBlockTokens * kRowVectors * 16;
  params.copying_warps = static_cast<std::int32_t>(std::max<std::int64_t>(
      1, kAdmittedBytesOnTheirWay / (kBlockBytes * std::int64_t{grid.x} * grid.y)));
  return launch("admit_kv_store", admit_kernel<kAdmitThreads, kRowVectors>, grid,
                dim3(kAdmitThreads), device, stream, params);
}

}  // namespace hip_attn::cuda
