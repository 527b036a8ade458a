/// What the kernels of a KvStore are told.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/core/host_device.hpp"
#include "hip_attn/core/kv_store_layout.hpp"

namespace hip_attn::cuda {

/// A store and the cache behind it. A page is a block of one KV head: those below near_pages are
/// slots of the device, page near_pages + block * num_kv_heads + head lies at home.
struct KvStoreParams {
  KvStoreLayout layout;
  const std::byte* home;
  const std::int32_t* rows;  ///< [B], null: row b
  std::int32_t num_rows;
  std::int32_t num_kv_heads;
  std::int32_t near_pages;
  std::int32_t num_home_blocks;

  HIP_ATTN_HOST_DEVICE std::int32_t far_page(std::int32_t block, int kv_head) const {
    return static_cast<std::uint32_t>(block) < static_cast<std::uint32_t>(num_home_blocks)
               ? near_pages + block * num_kv_heads + kv_head
               : -1;
  }
};

struct BindParams {
  KvStoreParams store;
  const std::int32_t* block_table;
  std::int64_t table_row_stride;
  std::int64_t table_columns;
  const std::int32_t* seq_lens;
  std::int32_t batch;
};

/// Rows of k or v that an append adds, whose strides count vectors of 16 bytes.
struct AddedRows {
  const void* data;
  std::int64_t token_stride;
  std::int64_t head_stride;
};

struct AdmitParams {
  KvStoreParams store;
  AddedRows k;
  AddedRows v;
  const std::int32_t* block_table;
  std::int64_t table_row_stride;
  std::int64_t table_columns;
  const std::int32_t* seq_lens;
  const std::int32_t* cu_seqlens;
  std::int32_t num_tokens;
  std::int32_t batch;
  std::int32_t copying_warps;  ///< of a thread block, at most
  // Who is asked for
  std::int32_t sink;
  std::int32_t window;
  const std::int32_t* cache;  ///< words of the selection cache, null: there is none
  const std::int32_t* cache_slots;
  std::int64_t cache_slot_words;
  std::int64_t cache_head_words;
  std::uint32_t num_cache_slots;
  std::int32_t candidates_word;   ///< where the count stands of the chunks that the last stage cuts
  std::int32_t most_candidates;   ///< of them
  std::int32_t chunk_shift;       ///< log2 of their tokens
  std::int32_t max_first_chunks;  ///< 0 unless they are of the first stage, whose chunks may double
};

/// Memory of the workspace through which a prefill reads a store, and the table that it reads by:
/// pages below num_pages lie in `blocks`, page num_pages + block * num_kv_heads + head at home.
struct StagingParams {
  KvStoreParams store;
  std::byte* blocks;      ///< [num_pages]
  std::int32_t* sources;  ///< [num_pages] the page of the store that is copied there, -1: none
  std::int32_t* table;    ///< [B, Hk, columns]
  std::uint32_t* marks;   ///< [B, Hk, mark_words], a bit for each column
  std::int32_t* wanted;   ///< [Hk] pages of the heads that are copied together, by their first
  std::int64_t columns;
  std::int32_t mark_words;
  std::int32_t num_pages;
  std::int32_t batch;
  std::int32_t vectors_shift;  ///< log2 of a block's vectors of 16 bytes
};

/// A share of a copy, in this many parts of all its pages.
inline constexpr std::int32_t kStagedParts = 64;
struct StagedPart {
  std::int32_t first;
  std::int32_t count;
};

/// Copies of KV heads [first_head, first_head + num_heads), to num_pages pages from first_page on.
struct StageParams {
  StagingParams staging;
  std::int32_t first_head;
  std::int32_t num_heads;
  std::int32_t first_page;
  std::int32_t num_pages;
  StagedPart part;
};

}  // namespace hip_attn::cuda
