// Cells of the C interface.
#include "hip_attn/cells.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "c_api/handles.hpp"
#include "c_api/structs.hpp"
#include "c_api/tensors.hpp"

namespace hip_attn::c_api {
namespace {

template <typename T>
Status span_of(Name name, const T* data, std::int64_t size, std::span<const T>& span) {
  if (size > 0) HIP_ATTN_RETURN_IF_ERROR(check_given(name, data, "as many numbers"));
  span = {data, static_cast<std::size_t>(size)};
  return {};
}

Status check_number(Name name, std::int64_t number) {
  if (number >= 0) return {};
  return {StatusCode::kInvalidShape,
          message(name.str(), " is ", number, "; it must not be negative")};
}

Status batch_of(const HipAttnCellBatch& given, CellBatch& batch) {
  HIP_ATTN_RETURN_IF_ERROR(check_number("num_keys", given.num_keys));
  HIP_ATTN_RETURN_IF_ERROR(check_number("num_rows", given.num_rows));
  HIP_ATTN_RETURN_IF_ERROR(
      span_of("key_sequences", given.key_sequences, given.num_keys, batch.key_sequences));
  HIP_ATTN_RETURN_IF_ERROR(
      span_of("key_positions", given.key_positions, given.num_keys, batch.key_positions));
  HIP_ATTN_RETURN_IF_ERROR(span_of("key_pages", given.key_pages, given.num_keys, batch.key_pages));
  HIP_ATTN_RETURN_IF_ERROR(
      span_of("row_sequences", given.row_sequences, given.num_rows, batch.row_sequences));
  HIP_ATTN_RETURN_IF_ERROR(
      span_of("row_positions", given.row_positions, given.num_rows, batch.row_positions));
  if (given.row_first != nullptr) {
    HIP_ATTN_RETURN_IF_ERROR(
        span_of("row_first", given.row_first, given.num_rows, batch.row_first));
  }
  batch.window = given.window;
  batch.keep_order = given.keep_order != 0;
  batch.config = given.config != nullptr ? &given.config->config : nullptr;
  return {};
}

// Its sizes are in the handle as well.
DLTensor tensor_of(std::vector<std::int32_t>& data, std::int64_t* sizes, int rank) {
  DLTensor tensor{};
  tensor.data = data.data();
  tensor.device = {kDLCPU, 0};
  tensor.ndim = rank;
  tensor.dtype = dtype_of<std::int32_t>();
  tensor.shape = sizes;
  return tensor;
}

HipAttnCellRequests requests_of(HipAttnCells& cells) {
  CellRequests& made = cells.requests;
  const std::int64_t requests = std::ssize(made.seq_lens);
  cells.sizes = {requests, made.max_seq_len, requests + 1, std::ssize(made.rows)};
  std::int64_t* const sizes = cells.sizes.data();
  cells.tensors = {
      tensor_of(made.seq_lens, sizes, 1),    tensor_of(made.cu_seqlens_q, sizes + 2, 1),
      tensor_of(made.block_table, sizes, 2), tensor_of(made.rows, sizes + 3, 1),
      tensor_of(made.sequences, sizes, 1),   tensor_of(made.refresh_from, sizes, 1)};
  const auto& tensors = cells.tensors;
  const bool has_refresh = std::ssize(made.refresh_from) == requests && requests > 0;
  return {sizeof(HipAttnCellRequests),
          &tensors[0],
          &tensors[1],
          &tensors[2],
          &tensors[3],
          &tensors[4],
          has_refresh ? &tensors[5] : nullptr,
          made.in_order,
          made.decode};
}

}  // namespace
}  // namespace hip_attn::c_api

using namespace hip_attn;
using namespace hip_attn::c_api;

HipAttnStatus hip_attn_cells_create(HipAttnCells** cells, char* message, size_t message_capacity) {
  return guarded({message, message_capacity}, [&] {
    return make_handle("cells", cells, [](HipAttnCells&) { return Status{}; });
  });
}

void hip_attn_cells_destroy(HipAttnCells* cells) { delete cells; }

HipAttnStatus hip_attn_cells_requests(HipAttnCells* cells, const HipAttnCellBatch* batch,
                                      HipAttnCellRequests* requests, char* message,
                                      size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    HIP_ATTN_RETURN_IF_ERROR(check_given("cells", cells, "cells"));
    HipAttnCellBatch given;
    HIP_ATTN_RETURN_IF_ERROR(read_struct("batch", batch, given));
    HIP_ATTN_RETURN_IF_ERROR(check_given("requests", requests, "a struct"));
    CellBatch known;
    HIP_ATTN_RETURN_IF_ERROR(batch_of(given, known));
    HIP_ATTN_RETURN_IF_ERROR(make_cell_requests(known, cells->requests));
    return write_struct("requests", requests_of(*cells), requests);
  });
}

void hip_attn_cells_forget(HipAttnCells* cells, int32_t sequence) {
  if (cells != nullptr) cells->requests.steps.erase(sequence);
}
