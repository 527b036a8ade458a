#include "hip_attn/index_selection.hpp"

#include <algorithm>
#include <bit>

#include "hip_attn/checks/call.hpp"

namespace hip_attn {
namespace {

using detail::check_array;
using detail::check_size;
using detail::message;

// What the row at position p of a request attends to.
struct Row {
  std::int64_t p;
  std::int64_t query;      // row of the indices
  std::int64_t selection;  // row of the selection
};

Status check_args(const AttentionPlan& plan, const IndexSelectionArgs& args) {
  if (plan.shape.device.type != DeviceType::kCpu) {
    return {StatusCode::kUnsupported,
            "the plan is for CUDA; indices become a selection on the CPU alone"};
  }
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
  const std::int64_t rows =
      plan.op == Operator::kDecode ? batch : selection_row(args.indices.sizes[0], batch, 0, 1);
  HIP_ATTN_RETURN_IF_ERROR(detail::check_selection("selection", plan, args.selection, rows, 0));
  if (args.selection.blocks.sizes[2] < args.indices.sizes[2]) {
    return {StatusCode::kInvalidShape,
            message("selection.blocks.sizes[2] is ", args.selection.blocks.sizes[2],
                    "; it must be at least indices.sizes[2] (", args.indices.sizes[2], ")")};
  }
  return {};
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

// The blocks in front of the row's own are a list. The keys of its own, which it sees in part, are
// the window that every selection ends with; without that block the window is empty.
Status write_row(const AttentionPlan& plan, const IndexSelectionArgs& args, const Row& row,
                 std::int64_t head) {
  const int shift = std::countr_zero(static_cast<std::uint64_t>(plan.config.block_k()));
  const std::int64_t sink = plan.config.sink;
  const std::int64_t own = row.p >> shift;
  const std::int64_t index_head = args.indices.sizes[1] == 1 ? 0 : head;
  std::int32_t* const blocks = &args.selection.blocks(row.selection, head, 0);
  std::int32_t* end = blocks;
  std::int64_t window = row.p + 1;
  for (std::int64_t i = 0; i < args.indices.sizes[2]; ++i) {
    const std::int32_t block = args.indices(row.query, index_head, i);
    if (block < 0) continue;
    if (block > own) {
      return {StatusCode::kInvalidSelection,
              message("indices[", row.query, "][", index_head, "][", i, "] is ", block,
                      "; the row at position ", row.p, " sees blocks 0 to ", own)};
    }
    if (block == own) {
      window = own << shift;
    } else if (std::int64_t{block} << shift >= sink) {  // the sink is attended anyway
      *end++ = block;
    }
  }
  std::sort(blocks, end);
  end = std::unique(blocks, end);
  args.selection.counts(row.selection, head) = static_cast<std::int32_t>(end - blocks);
  args.selection.window_start(row.selection, head) =
      static_cast<std::int32_t>(std::max(window, sink));
  return {};
}

}  // namespace

Status make_index_selection(const AttentionPlan& plan, const IndexSelectionArgs& args) {
  HIP_ATTN_RETURN_IF_ERROR(check_args(plan, args));
  for (std::int64_t b = 0; b < args.seq_lens.sizes[0]; ++b) {
    HIP_ATTN_RETURN_IF_ERROR(check_request(plan, args, b));
    const std::int64_t begin = args.cu_seqlens_q(b);
    const std::int64_t end = args.cu_seqlens_q(b + 1);
    if (args.seq_lens(b) == 0) continue;  // padding
    for (std::int64_t query = begin; query < end; ++query) {
      const Row row{args.seq_lens(b) - (end - query), query,
                    plan.op == Operator::kDecode ? b : selection_row(begin, b, query - begin, 1)};
      for (std::int64_t head = 0; head < plan.shape.num_kv_heads; ++head) {
        HIP_ATTN_RETURN_IF_ERROR(write_row(plan, args, row, head));
      }
    }
  }
  return {};
}

}  // namespace hip_attn
