/// Requests for a cache whose cells know positions and sequences instead of lengths, as llama.cpp's
/// (hip_attn/cells.hpp says more). Everything here is in the host's memory.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hip_attn/c/config.h"
#include "hip_attn/c/export.h"
#include "hip_attn/c/status.h"
#include "hip_attn/c/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/// What stands in the cells, and the rows that a call is to attend: hip_attn::CellBatch.
typedef struct HipAttnCellBatch {
  size_t struct_size;
  int64_t num_keys;
  const int32_t* key_sequences;  ///< [num_keys]
  const int64_t* key_positions;  ///< [num_keys]
  const int32_t* key_pages;      ///< [num_keys] cells, pages of one token
  int64_t num_rows;
  const int32_t* row_sequences;  ///< [num_rows]
  const int64_t* row_positions;  ///< [num_rows]
  const int64_t* row_first;      ///< [num_rows] the first position that a row sees; absent: any
  int64_t window;                ///< of a sliding window that begins at row_first; 0: none
  int32_t keep_order;            ///< not 0: rows stay in the order that they have
  const HipAttnConfig* config;   ///< that of decode, for refresh_from; absent: there is none
} HipAttnCellBatch;

/// The arguments of a call: hip_attn::CellRequests. The tensors and what they point at are the
/// handle's, until it is used again.
typedef struct HipAttnCellRequests {
  size_t struct_size;
  const DLTensor* seq_lens;      ///< int32 [B]
  const DLTensor* cu_seqlens_q;  ///< int32 [B + 1]
  const DLTensor* block_table;   ///< int32 [B, keys of the longest request], pages of one token
  const DLTensor* rows;       ///< int32 [num_rows]: row i of the call is row rows[i] of the batch
  const DLTensor* sequences;  ///< int32 [B], for HipAttnSelectionCache.slots
  const DLTensor* refresh_from;  ///< int32 [B]; null without a config
  int32_t in_order;              ///< 1: rows are 0, 1, ...: q and out can be the batch's own
  int32_t decode;                ///< 1: a decode call takes them
} HipAttnCellRequests;

/// The memory of the requests of one cache, and what the last call over it was.
typedef struct HipAttnCells HipAttnCells;

/// Errors: NULL_POINTER, OUT_OF_MEMORY.
HIP_ATTN_API HipAttnStatus hip_attn_cells_create(HipAttnCells** cells, char* message,
                                                 size_t message_capacity);
HIP_ATTN_API void hip_attn_cells_destroy(HipAttnCells* cells);

/// hip_attn::make_cell_requests, with its errors, NULL_POINTER and INVALID_ARGUMENT.
HIP_ATTN_API HipAttnStatus hip_attn_cells_requests(HipAttnCells* cells,
                                                   const HipAttnCellBatch* batch,
                                                   HipAttnCellRequests* requests, char* message,
                                                   size_t message_capacity);

/// The sequence's cells were filled from elsewhere: its next decode call refreshes everything.
HIP_ATTN_API void hip_attn_cells_forget(HipAttnCells* cells, int32_t sequence);

#ifdef __cplusplus
}
#endif
