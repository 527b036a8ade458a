/// Views of a KV cache, and the operators that write into one and into its landmarks.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "hip_attn/export.hpp"
#include "hip_attn/landmarks.hpp"
#include "hip_attn/offload.hpp"
#include "hip_attn/selection.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn {

/// The pages of one layer's cache, logically [num_pages, page_size, Hk, D] whatever the memory
/// order: NHD and HND differ in strides alone. K and V have independent strides (they may be halves
/// of one tensor) and equal sizes. Strides of pages, tokens and heads are multiples of 16 bytes.
template <typename T>
struct KvPages {
  TensorView<T, 4> k;
  TensorView<T, 4> v;

  [[nodiscard]] constexpr std::int64_t num_pages() const noexcept { return k.sizes[0]; }
  [[nodiscard]] constexpr std::int64_t page_size() const noexcept { return k.sizes[1]; }
  [[nodiscard]] constexpr std::int64_t num_kv_heads() const noexcept { return k.sizes[2]; }
  [[nodiscard]] constexpr std::int64_t head_dim() const noexcept { return k.sizes[3]; }

  template <std::same_as<const T> ConstT>
  requires(!std::is_const_v<T>) constexpr operator KvPages<ConstT>() const { return {k, v}; }
};

/// Pages stored [num_pages, page_size, Hk, D].
template <typename T>
constexpr KvPages<T> kv_pages_nhd(T* k, T* v, std::int64_t num_pages, std::int64_t page_size,
                                  std::int64_t num_kv_heads, std::int64_t head_dim) {
  return {TensorView<T, 4>(k, {num_pages, page_size, num_kv_heads, head_dim}),
          TensorView<T, 4>(v, {num_pages, page_size, num_kv_heads, head_dim})};
}

/// Pages stored [num_pages, Hk, page_size, D].
template <typename T>
constexpr KvPages<T> kv_pages_hnd(T* k, T* v, std::int64_t num_pages, std::int64_t page_size,
                                  std::int64_t num_kv_heads, std::int64_t head_dim) {
  const std::array<std::int64_t, 4> sizes{num_pages, page_size, num_kv_heads, head_dim};
  const std::array<std::int64_t, 4> strides{num_kv_heads * page_size * head_dim, head_dim,
                                            page_size * head_dim, 1};
  return {TensorView<T, 4>(k, sizes, strides), TensorView<T, 4>(v, sizes, strides)};
}

/// The cache of a layer in host memory, [num_blocks, Hk, {K, V}, 8, D]: a block of one KV head lies
/// in a run. As pages of kKvBlockTokens tokens it is a cache like any other: on CUDA operators also
/// read it without a store, over the link.
template <typename T>
constexpr KvPages<T> kv_home_pages(T* home, std::int64_t num_blocks, std::int64_t num_kv_heads,
                                   std::int64_t head_dim) {
  const std::array<std::int64_t, 4> sizes{num_blocks, kKvBlockTokens, num_kv_heads, head_dim};
  const std::int64_t half = kKvBlockTokens * head_dim;
  const std::array<std::int64_t, 4> strides{2 * half * num_kv_heads, head_dim, 2 * half, 1};
  return {TensorView<T, 4>(home, sizes, strides), TensorView<T, 4>(home + half, sizes, strides)};
}

/// What an operator reads: pages and the table that gives each request its own.
template <typename T>
struct PagedKv {
  KvPages<const T> pages;
  /// int32 [B, max_pages], any row stride: token t of request b is in page
  /// block_table(b, t / page_size) at offset t % page_size. Entries past a request's last page are
  /// not read. Absent: request b owns page b (contiguous KV, page_size = its capacity).
  std::optional<TensorView<const std::int32_t, 2>> block_table;
};

/// Contiguous KV, [B, capacity, Hk, D]: one page per request.
template <typename T>
constexpr PagedKv<T> contiguous_kv(const T* k, const T* v, std::int64_t batch,
                                   std::int64_t capacity, std::int64_t num_kv_heads,
                                   std::int64_t head_dim) {
  return {kv_pages_nhd(k, v, batch, capacity, num_kv_heads, head_dim), std::nullopt};
}

/// The landmarks that an append completes, and what says where its rows belong.
template <Element T>
struct AppendLandmarks {
  Landmarks<T> landmarks;  ///< written
  /// Of the keys' pages, as in PagedKv.
  std::optional<TensorView<const std::int32_t, 2>> block_table;
  /// [B] keys of each request, those of this call included.
  TensorView<const std::int32_t, 1> seq_lens;
  /// [B + 1] ascending from 0 to num_tokens: rows cu_seqlens(b) to cu_seqlens(b + 1) - 1 of k and v
  /// are the last keys of request b.
  TensorView<const std::int32_t, 1> cu_seqlens;
};

/// A store whose blocks an append keeps hot, and what says which.
struct AppendStore {
  KvStore store;
  /// [B, columns] home blocks, as in PagedKv.
  TensorView<const std::int32_t, 2> block_table;
  /// [B] keys of each request, those of this call included.
  TensorView<const std::int32_t, 1> seq_lens;
  /// [B + 1] ascending from 0 to num_tokens: as in AppendLandmarks.
  TensorView<const std::int32_t, 1> cu_seqlens;
  /// That of decode; refresh_from is not looked at. Where its last search has begun anew since the
  /// call before, or was one ahead, the blocks that its last stage looks at become hot. Absent:
  /// only sink and window do.
  std::optional<SelectionCache> cache = std::nullopt;
};

template <Element T>
struct AppendKvArgs {
  TensorView<const T, 3> k;  ///< [num_tokens, Hk, D] new keys
  TensorView<const T, 3> v;  ///< [num_tokens, Hk, D] new values
  TensorView<const std::int64_t, 1>
      slot_mapping;  ///< [num_tokens] page * page_size + offset; negative: skip
  KvPages<T> pages;  ///< written
  /// Absent: none are kept.
  std::optional<AppendLandmarks<T>> landmarks = std::nullopt;
  /// `pages` are kv_home_pages, written in any case, and the store's device copies too. Absent: no
  /// store, or one on the CPU.
  std::optional<AppendStore> store = std::nullopt;
};

/// What a store is to make hot, apart from an append.
template <Element T>
struct AdmitKvStoreArgs {
  KvStore store;
  KvPages<const T> pages;                         ///< kv_home_pages
  TensorView<const std::int32_t, 2> block_table;  ///< as in AppendStore
  TensorView<const std::int32_t, 1> seq_lens;     ///< [B] keys that each request has
  SelectionCache cache;                           ///< as in AppendStore
};

/// Does what append_kv with a store and a cache does besides writing rows. For a stream beside that
/// of the model: between a decode of the layer and its next append, which has no cache then, blocks
/// come over the link while other layers run. Errors: those of append_kv with a store.
template <Element T>
HIP_ATTN_API Status admit_kv_store(const AdmitKvStoreArgs<T>& args, Stream stream = nullptr);

/// Writes row t of k and v to slot slot_mapping(t) of the cache, which k and v are no part of.
/// Where rows share a slot, which is not checked, one of them is left in it. With landmarks also
/// does what update_landmarks does for the new rows, in the same launch. Cost: 4 * num_tokens * Hk
/// * D elements moved, and the keys of every chunk that is completed. Errors: kNullPointer,
/// kMisalignedPointer, kInvalidStride, kInvalidShape, kInvalidScalar, kUnsupported, kCudaError,
/// kOverlap; on the CPU also kInvalidSlot, kInvalidLength, kInvalidPage and
/// kSeqLenBeyondBlockTable, found before anything is written (on CUDA a slot past the last page is
/// skipped like a negative one, and a landmark whose keys or place have no page is left as it is).
/// With compute capability 9.0 and newer the kernel may start before its upstream kernel has ended
/// (programmatic dependent launch). Until then it reads lengths, rows and records of a store for
/// hints alone: what it does follows from what memory holds afterwards.
template <Element T>
HIP_ATTN_API Status append_kv(Device device, const AppendKvArgs<T>& args, Stream stream = nullptr);

template <Element T>
struct UpdateLandmarksArgs {
  PagedKv<T> kv;  ///< whose keys are summarised
  /// [B] each: landmarks of the complete chunks that meet positions [from(b), to(b)) of request b
  /// are made; to(b) is the number of its keys, from(b) the number before they were appended.
  TensorView<const std::int32_t, 1> from;
  TensorView<const std::int32_t, 1> to;
  Landmarks<T> landmarks;  ///< written
  /// The largest to - from of a request, as far as the caller knows. It sizes the launch alone: a
  /// wrong one costs time, not landmarks. 0: unknown, as many as the pages hold.
  std::int64_t max_tokens = 0;
};

/// Makes landmarks from what the cache holds (docs/guide/algorithm.md, "Landmarks" and "Upkeep"). A
/// level is made of the one below it, whose landmarks before `from` must exist. It can be captured:
/// lengths are read on the device. Cost: the keys of the chunks are read once, and their landmarks
/// written and, where a level lies above, read once. Errors: those of append_kv but kInvalidSlot; a
/// `from` outside 0 to `to` is kInvalidLength on the CPU, while on CUDA a negative one counts as 0
/// and one above `to` makes nothing.
template <Element T>
HIP_ATTN_API Status update_landmarks(Device device, const UpdateLandmarksArgs<T>& args,
                                     Stream stream = nullptr);

#define HIP_ATTN_EXTERN_(T)                                                                   \
  extern template HIP_ATTN_API Status append_kv(Device, const AppendKvArgs<T>&, Stream);      \
  extern template HIP_ATTN_API Status admit_kv_store(const AdmitKvStoreArgs<T>&, Stream);     \
  extern template HIP_ATTN_API Status update_landmarks(Device, const UpdateLandmarksArgs<T>&, \
                                                       Stream);
HIP_ATTN_EXTERN_(float)
HIP_ATTN_EXTERN_(float16)
HIP_ATTN_EXTERN_(bfloat16)
#undef HIP_ATTN_EXTERN_

}  // namespace hip_attn
