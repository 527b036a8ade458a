#include "hip_attn/index_selection.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "hip_attn/build_info.hpp"
#include "hip_attn/checks/call.hpp"
#include "hip_attn/core/indexed_row.hpp"
#include "hip_attn_instantiations.hpp"

#if HIP_ATTN_HAS_CUDA
#include "cuda_backend.hpp"
#endif

namespace hip_attn {
namespace {

using detail::check_array;
using detail::check_size;
using detail::message;

struct Row {
  IndexedRow rule;
  std::int64_t query;      // row of the indices
  std::int64_t selection;  // row of the selection
};

Status check_overlaps(const IndexSelectionArgs& args) {
  const detail::Extent outputs[] = {
      detail::extent_of("selection.blocks", args.selection.blocks),
      detail::extent_of("selection.counts", args.selection.counts),
      detail::extent_of("selection.window_start", args.selection.window_start)};
  const detail::Extent inputs[] = {detail::extent_of("indices", args.indices),
                                   detail::extent_of("seq_lens", args.seq_lens),
                                   detail::extent_of("cu_seqlens_q", args.cu_seqlens_q)};
  for (const detail::Extent& output : outputs) {
    for (const detail::Extent& input : inputs) {
      HIP_ATTN_RETURN_IF_ERROR(detail::check_disjoint(output, input));
    }
  }
  HIP_ATTN_RETURN_IF_ERROR(detail::check_disjoint(outputs[0], outputs[1]));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_disjoint(outputs[0], outputs[2]));
  return detail::check_disjoint(outputs[1], outputs[2]);
}

Status check_args(const AttentionPlan& plan, const IndexSelectionArgs& args) {
  if (plan.op == Operator::kPrefill && plan.config.block_q != 1) {
    return {StatusCode::kUnsupported,
            message("config.block_q is ", plan.config.block_q,
                    "; rows with indices of their own take a plan of prefill with 1")};
  }
  HIP_ATTN_RETURN_IF_ERROR(check_array("indices", args.indices));
  HIP_ATTN_RETURN_IF_ERROR(check_array("seq_lens", args.seq_lens));
  HIP_ATTN_RETURN_IF_ERROR(check_array("cu_seqlens_q", args.cu_seqlens_q));
  const std::int64_t batch = args.seq_lens.sizes[0];
  HIP_ATTN_RETURN_IF_ERROR(
      check_size("cu_seqlens_q.sizes[0]", args.cu_seqlens_q.sizes[0], "requests + 1", batch + 1));
  if (args.indices.sizes[1] != 1) {
    HIP_ATTN_RETURN_IF_ERROR(check_size("indices.sizes[1]", args.indices.sizes[1],
                                        "num_kv_heads of the plan, or 1", plan.shape.num_kv_heads));
  }
  if (args.indices.sizes[2] > std::numeric_limits<std::int32_t>::max()) {
    return {StatusCode::kInvalidShape, message("indices.sizes[2] is ", args.indices.sizes[2],
                                               "; a row can have 2^31 - 1 indices")};
  }
  const std::int64_t rows =
      plan.op == Operator::kDecode ? batch : selection_row(args.indices.sizes[0], batch, 0, 1);
  HIP_ATTN_RETURN_IF_ERROR(detail::check_selection("selection", plan, args.selection, rows, 0));
  if (args.selection.blocks.sizes[2] < args.indices.sizes[2]) {
    return {StatusCode::kInvalidShape,
            message("selection.blocks.sizes[2] is ", args.selection.blocks.sizes[2],
                    "; it must be at least indices.sizes[2] (", args.indices.sizes[2], ")")};
  }
  return check_overlaps(args);
}

Status check_request(const AttentionPlan& plan, const IndexSelectionArgs& args, std::int64_t b) {
  const std::int64_t begin = args.cu_seqlens_q(b);
  const std::int64_t end = args.cu_seqlens_q(b + 1);
  const std::int64_t seq_len = args.seq_lens(b);
  if ((b == 0 && begin != 0) || end < begin || end > args.indices.sizes[0]) {
    return {StatusCode::kInvalidLength,
            message("request ", b, " has rows ", begin, " to ", end, " of cu_seqlens_q; they must ",
                    "ascend from 0 to the rows of indices (", args.indices.sizes[0], ")")};
  }
  if (seq_len < 0) {
    return {StatusCode::kInvalidLength,
            message("seq_lens[", b, "] is ", seq_len, "; it must not be negative")};
  }
  if (seq_len > 0 && end - begin > seq_len) {
    return {StatusCode::kQueryLongerThanSequence,
            message("request ", b, " has ", end - begin, " rows; it must have at most seq_lens[", b,
                    "] (", seq_len, ")")};
  }
  if (plan.op == Operator::kDecode && end - begin > 1) {
    return {StatusCode::kTooManyDecodeRows,
            message("request ", b, " has ", end - begin,
                    " rows; a decode call has one selection for all of them, and indices are for "
                    "one row")};
  }
  return {};
}

Status write_row(const IndexSelectionArgs& args, const Row& row, std::int64_t head) {
  const std::int64_t own = row.rule.own_block();
  const std::int64_t index_head = args.indices.sizes[1] == 1 ? 0 : head;
  std::int32_t* const blocks = &args.selection.blocks(row.selection, head, 0);
  std::int32_t* end = blocks;
  bool has_own_block = false;
  for (std::int64_t i = 0; i < args.indices.sizes[2]; ++i) {
    const std::int32_t block = args.indices(row.query, index_head, i);
    if (block < 0) continue;
    if (block > own) {
      return {StatusCode::kInvalidSelection,
              message("indices[", row.query, "][", index_head, "][", i, "] is ", block,
                      "; the row at position ", row.rule.position, " sees blocks 0 to ", own)};
    }
    has_own_block |= block == own;
    if (row.rule.lists(block)) *end++ = block;
  }
  std::sort(blocks, end);
  end = std::unique(blocks, end);
  args.selection.counts(row.selection, head) = static_cast<std::int32_t>(end - blocks);
  args.selection.window_start(row.selection, head) =
      static_cast<std::int32_t>(row.rule.window_start(has_own_block));
  return {};
}

Status write_rows(const AttentionPlan& plan, const IndexSelectionArgs& args) {
  const int shift = std::countr_zero(static_cast<std::uint64_t>(plan.config.block_k()));
  for (std::int64_t b = 0; b < args.seq_lens.sizes[0]; ++b) {
    HIP_ATTN_RETURN_IF_ERROR(check_request(plan, args, b));
    const std::int64_t begin = args.cu_seqlens_q(b);
    const std::int64_t end = args.cu_seqlens_q(b + 1);
    if (args.seq_lens(b) == 0) continue;  // padding
    for (std::int64_t query = begin; query < end; ++query) {
      const IndexedRow rule{args.seq_lens(b) - (end - query), plan.config.sink, shift};
      const Row row{rule, query,
                    plan.op == Operator::kDecode ? b : selection_row(begin, b, query - begin, 1)};
      for (std::int64_t head = 0; head < plan.shape.num_kv_heads; ++head) {
        HIP_ATTN_RETURN_IF_ERROR(write_row(args, row, head));
      }
    }
  }
  return {};
}

}  // namespace

Status make_index_selection(const AttentionPlan& plan, const IndexSelectionArgs& args,
                            [[maybe_unused]] Stream stream) {
  HIP_ATTN_RETURN_IF_ERROR(check_args(plan, args));
  const Device device = plan.shape.device;
  if (device.type == DeviceType::kCpu) return write_rows(plan, args);
  HIP_ATTN_RETURN_IF_ERROR(check_device(device));
#if HIP_ATTN_HAS_CUDA
  return cuda::make_index_selection(plan, args, stream);
#else
  return {};
#endif
}

}  // namespace hip_attn
