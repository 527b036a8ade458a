/// The checks of a prefill or decode call: what the host knows, and what the CPU backend can read.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "hip_attn/attention.hpp"
#include "hip_attn/checks/message.hpp"
#include "hip_attn/checks/store.hpp"
#include "hip_attn/checks/views.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/landmarks.hpp"
#include "hip_attn/status.hpp"

namespace hip_attn::detail {

inline Status check_at_most(const char* name, std::int64_t value, const char* field,
                            std::int64_t most) {
  if (value <= most) return {};
  return {StatusCode::kExceedsPlan,
          message(name, " is ", value, "; the plan was made for shape.", field, " = ", most)};
}

inline Status check_plan(const AttentionPlan& plan, Operator op, ElementType type,
                         ElementType cache_type) {
  const auto name = [](Operator each) {
    return each == Operator::kPrefill ? "plan_prefill" : "plan_decode";
  };
  if (plan.op != op) {
    return {StatusCode::kInvalidShape,
            message("plan is one of ", name(plan.op), "; it must be one of ", name(op))};
  }
  if (plan.type != type || plan.cache_type != cache_type) {
    return {StatusCode::kInvalidShape,
            message("plan is for q of element type ", to_string(plan.type), " over a cache of ",
                    to_string(plan.cache_type), "; the arguments are q of ", to_string(type),
                    " over a cache of ", to_string(cache_type))};
  }
  if (plan.workspace_bytes == 0) {
    return {StatusCode::kInvalidShape, message("plan is empty; it must come from ", name(op))};
  }
  if (plan.num_threads < 1) {
    return {StatusCode::kInvalidShape,
            message("plan.num_threads is ", plan.num_threads, "; it must be at least 1")};
  }
  return {};
}

inline Status check_workspace(Workspace workspace, std::size_t needed) {
  if (workspace.size() < needed) {
    return {StatusCode::kWorkspaceTooSmall,
            message("workspace has ", workspace.size(), " bytes; the plan needs ", needed)};
  }
  const TensorView<std::byte, 1> bytes(workspace.data(),
                                       {static_cast<std::int64_t>(workspace.size())});
  return check_tensor("workspace", bytes);
}

/// Pages and their table by themselves. `batch_meaning` says where the number of requests is from.
template <Element C>
Status check_paged_kv(const PagedKv<C>& kv, std::int64_t batch, const char* batch_meaning) {
  const KvPages<const C>& pages = kv.pages;
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("kv.pages.k", pages.k));
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("kv.pages.v", pages.v));
  HIP_ATTN_RETURN_IF_ERROR(
      check_sizes("kv.pages.v.sizes", pages.v.sizes, "as kv.pages.k", pages.k.sizes));
  if (pages.page_size() < 1) {
    return {StatusCode::kInvalidShape,
            "kv.pages.k.sizes[1] (page size) is 0; it must be at least 1"};
  }
  if (!kv.block_table) return {};
  HIP_ATTN_RETURN_IF_ERROR(check_array("kv.block_table", *kv.block_table));
  return check_size("kv.block_table.sizes[0]", kv.block_table->sizes[0], batch_meaning, batch);
}

template <Element C>
Status check_kv(const AttentionPlan& plan, const PagedKv<C>& kv, std::int64_t batch) {
  HIP_ATTN_RETURN_IF_ERROR(check_paged_kv(kv, batch, "size of seq_lens"));
  HIP_ATTN_RETURN_IF_ERROR(check_size("kv.pages.k.sizes[2]", kv.pages.num_kv_heads(),
                                      "num_kv_heads of the plan", plan.shape.num_kv_heads));
  return check_size("kv.pages.k.sizes[3]", kv.pages.head_dim(), "head_dim of the plan",
                    plan.shape.head_dim);
}

/// A level of landmarks for keys of so many heads and such a head dim, behind chunks of `before`
/// tokens. Messages name its members alone.
template <typename T>
Status check_landmark_level(const LandmarkLevel<T>& level, std::int64_t before, std::int64_t heads,
                            std::int64_t head_dim, std::int64_t batch) {
  constexpr std::int64_t kMostTokens = std::int64_t{1} << 30;
  const std::int64_t chunk_size = level.chunk_size;
  if (chunk_size < 1 || chunk_size > kMostTokens ||
      !std::has_single_bit(static_cast<std::uint64_t>(chunk_size))) {
    return {StatusCode::kInvalidShape,
            message("chunk_size is ", chunk_size, "; it must be a power of two up to 2^30")};
  }
  if (chunk_size <= before) {
    return {StatusCode::kInvalidShape,
            message("chunk_size is ", chunk_size,
                    "; it must be above that of the level before it (", before, ")")};
  }
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("rows", level.rows));
  HIP_ATTN_RETURN_IF_ERROR(
      check_size("rows.sizes[2]", level.num_kv_heads(), "KV heads of the keys", heads));
  HIP_ATTN_RETURN_IF_ERROR(check_size("rows.sizes[3]", level.rows.sizes[3], "hi and lo", 2));
  HIP_ATTN_RETURN_IF_ERROR(
      check_size("rows.sizes[4]", level.head_dim(), "head dim of the keys", head_dim));
  if (level.landmarks_per_page() < 1) {
    return {StatusCode::kInvalidShape,
            "rows.sizes[1] (landmarks per page) is 0; it must be at least 1"};
  }
  if (!level.block_table) return {};
  HIP_ATTN_RETURN_IF_ERROR(check_array("block_table", *level.block_table));
  return check_size("block_table.sizes[0]", level.block_table->sizes[0], "requests of the call",
                    batch);
}

/// Landmarks by themselves: levels, views, sizes, tables.
template <typename T>
Status check_landmarks(const Landmarks<T>& landmarks, std::int64_t heads, std::int64_t head_dim,
                       std::int64_t batch) {
  if (landmarks.num_levels < 0 || landmarks.num_levels > kMaxLandmarkLevels) {
    return {StatusCode::kInvalidShape, message("landmarks.num_levels is ", landmarks.num_levels,
                                               "; it must be from 0 to ", kMaxLandmarkLevels)};
  }
  if (!(landmarks.spread >= 0.f && landmarks.spread <= 1.f)) {
    return {StatusCode::kInvalidScalar,
            message("landmarks.spread is ", landmarks.spread, "; it must be from 0 to 1")};
  }
  std::int64_t before = 0;
  for (int i = 0; i < landmarks.num_levels; ++i) {
    const LandmarkLevel<T>& level = landmarks.levels[static_cast<std::size_t>(i)];
    if (Status status = check_landmark_level(level, before, heads, head_dim, batch); !status.ok()) {
      return {status.code(), message("landmarks.levels[", i, "].", status.message())};
    }
    before = level.chunk_size;
  }
  return {};
}

/// Those that a call needs.
template <Element C>
Status check_call_landmarks(const AttentionPlan& plan,
                            const std::optional<Landmarks<const C>>& landmarks,
                            std::int64_t batch) {
  if (!plan.config.uses_landmarks()) return {};
  if (!landmarks) {
    return {StatusCode::kInvalidShape,
            "landmarks is absent; the plan's config has stages of rule kLandmark, which read them"};
  }
  HIP_ATTN_RETURN_IF_ERROR(
      check_landmarks(*landmarks, plan.shape.num_kv_heads, plan.shape.head_dim, batch));
  for (const ScanStage& stage : plan.config.stages) {
    if (stage.rule != ScanRule::kLandmark || landmarks->find(stage.chunk_size)) continue;
    std::string sizes;
    for (int i = 0; i < landmarks->num_levels; ++i) {
      sizes +=
          message(i == 0 ? "" : ", ", landmarks->levels[static_cast<std::size_t>(i)].chunk_size);
    }
    return {StatusCode::kInvalidShape,
            message("landmarks has levels of chunk_size {", sizes,
                    "}; the plan's config needs one of ", stage.chunk_size)};
  }
  return {};
}

template <typename I>
Status check_selection(const char* name, const AttentionPlan& plan,
                       const SelectionView<I>& selection, std::int64_t rows,
                       std::int64_t min_blocks) {
  HIP_ATTN_RETURN_IF_ERROR(check_array(Name(name, ".blocks"), selection.blocks));
  HIP_ATTN_RETURN_IF_ERROR(check_array(Name(name, ".counts"), selection.counts));
  HIP_ATTN_RETURN_IF_ERROR(check_array(Name(name, ".window_start"), selection.window_start));
  const auto at_least = [&](const char* field, std::int64_t size, std::int64_t least,
                            const char* meaning) -> Status {
    if (size >= least) return {};
    return {StatusCode::kInvalidShape,
            message(name, ".", field, " is ", size, "; it must be at least ", least, " (", meaning,
                    ")")};
  };
  const char* row_rule = "selection rows of the call";
  HIP_ATTN_RETURN_IF_ERROR(at_least("blocks.sizes[0]", selection.blocks.sizes[0], rows, row_rule));
  HIP_ATTN_RETURN_IF_ERROR(at_least("counts.sizes[0]", selection.counts.sizes[0], rows, row_rule));
  HIP_ATTN_RETURN_IF_ERROR(
      at_least("window_start.sizes[0]", selection.window_start.sizes[0], rows, row_rule));
  HIP_ATTN_RETURN_IF_ERROR(at_least("blocks.sizes[2]", selection.blocks.sizes[2], min_blocks,
                                    "max_selected_blocks of the plan"));
  for (const std::int64_t heads :
       {selection.blocks.sizes[1], selection.counts.sizes[1], selection.window_start.sizes[1]}) {
    HIP_ATTN_RETURN_IF_ERROR(check_size(Name(name, "'s second size"), heads,
                                        "num_kv_heads of the plan", plan.shape.num_kv_heads));
  }
  return {};
}

inline Status check_cache(const AttentionPlan& plan, const SelectionCache& cache,
                          std::int64_t batch) {
  if (plan.op != Operator::kDecode) {
    return {StatusCode::kUnsupported, "cache is set; a SelectionCache belongs to decode"};
  }
  if (cache.num_slots < 0) {
    return {StatusCode::kInvalidShape,
            message("cache.num_slots is ", cache.num_slots, "; it must not be negative")};
  }
  const TensorView<std::byte, 2> data(
      static_cast<std::byte*>(cache.data),
      {cache.num_slots, static_cast<std::int64_t>(plan.selection_cache_slot_bytes)});
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("cache", data));
  HIP_ATTN_RETURN_IF_ERROR(check_array("cache.refresh_from", cache.refresh_from));
  HIP_ATTN_RETURN_IF_ERROR(check_size("cache.refresh_from.sizes[0]", cache.refresh_from.sizes[0],
                                      "size of seq_lens", batch));
  if (cache.slots) {
    HIP_ATTN_RETURN_IF_ERROR(check_array("cache.slots", *cache.slots));
    HIP_ATTN_RETURN_IF_ERROR(
        check_size("cache.slots.sizes[0]", cache.slots->sizes[0], "size of seq_lens", batch));
  } else if (cache.num_slots < batch) {
    return {
        StatusCode::kInvalidSlot,
        message("cache.num_slots is ", cache.num_slots,
                "; without cache.slots it must be at least the size of seq_lens (", batch, ")")};
  }
  return {};
}

/// Requests that do not follow one another in q.
template <Element T, StoredFor<T> C>
Status check_request_stride(const AttentionArgs<T, C>& args) {
  if (!args.q_request_stride) return {};
  constexpr auto kElements = static_cast<std::int64_t>(kAlignment / sizeof(T));
  if (*args.q_request_stride <= 0 || *args.q_request_stride % kElements != 0) {
    return {StatusCode::kInvalidStride, message("q_request_stride is ", *args.q_request_stride,
                                                "; it must be above 0 and a multiple of ",
                                                kElements, " elements (16 bytes), or absent")};
  }
  if (args.q.sizes[0] > 0 || args.out.sizes[0] == 0) return {};
  return {
      StatusCode::kInvalidShape,
      message("q.sizes[0] is 0; with q_request_stride it is the most rows of a request, and out "
              "has ",
              args.out.sizes[0])};
}

/// What can be said of a call without reading device memory.
template <Element T, StoredFor<T> C>
Status check_args(const AttentionPlan& plan, const AttentionArgs<T, C>& args) {
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("q", args.q));
  HIP_ATTN_RETURN_IF_ERROR(check_tensor("out", args.out));
  HIP_ATTN_RETURN_IF_ERROR(check_array("seq_lens", args.seq_lens));
  HIP_ATTN_RETURN_IF_ERROR(check_array("cu_seqlens_q", args.cu_seqlens_q));
  const std::int64_t total_q = args.q_request_stride ? args.out.sizes[0] : args.q.sizes[0];
  const std::int64_t batch = args.seq_lens.sizes[0];
  HIP_ATTN_RETURN_IF_ERROR(check_size("cu_seqlens_q.sizes[0]", args.cu_seqlens_q.sizes[0],
                                      "size of seq_lens + 1", batch + 1));
  HIP_ATTN_RETURN_IF_ERROR(check_at_most("seq_lens.sizes[0]", batch, "batch", plan.shape.batch));
  HIP_ATTN_RETURN_IF_ERROR(check_at_most(args.q_request_stride ? "out.sizes[0]" : "q.sizes[0]",
                                         total_q, "total_q", plan.shape.total_q));
  HIP_ATTN_RETURN_IF_ERROR(
      check_size("q.sizes[1]", args.q.sizes[1], "num_q_heads of the plan", plan.shape.num_q_heads));
  HIP_ATTN_RETURN_IF_ERROR(
      check_size("q.sizes[2]", args.q.sizes[2], "head_dim of the plan", plan.shape.head_dim));
  HIP_ATTN_RETURN_IF_ERROR(check_request_stride(args));
  HIP_ATTN_RETURN_IF_ERROR(check_sizes("out.sizes", args.out.sizes, "as q",
                                       {total_q, args.q.sizes[1], args.q.sizes[2]}));
  HIP_ATTN_RETURN_IF_ERROR(check_kv(plan, args.kv, batch));
  if (args.store) {
    HIP_ATTN_RETURN_IF_ERROR(check_store(*args.store, plan.shape.device, batch));
    HIP_ATTN_RETURN_IF_ERROR(check_home(*args.store, "kv.pages", args.kv.pages));
  }
  if (!args.selection) {
    HIP_ATTN_RETURN_IF_ERROR(check_call_landmarks<C>(plan, args.landmarks, batch));
  }
  if (args.lse) {
    HIP_ATTN_RETURN_IF_ERROR(check_array("lse", *args.lse));
    HIP_ATTN_RETURN_IF_ERROR(
        check_size("lse.sizes[0]", args.lse->sizes[0], "rows of out", total_q));
    HIP_ATTN_RETURN_IF_ERROR(
        check_size("lse.sizes[1]", args.lse->sizes[1], "heads of q", args.q.sizes[1]));
  }
  if (args.scale && !std::isfinite(*args.scale)) {
    return {StatusCode::kInvalidScalar,
            message("scale is ", *args.scale, "; it must be finite, or absent")};
  }
  if (args.logit_softcap && !(*args.logit_softcap > 0.f && std::isfinite(*args.logit_softcap))) {
    return {StatusCode::kInvalidScalar, message("logit_softcap is ", *args.logit_softcap,
                                                "; it must be finite and above 0, or absent")};
  }
  if (args.counters) {
    HIP_ATTN_RETURN_IF_ERROR(check_array("counters", *args.counters));
    HIP_ATTN_RETURN_IF_ERROR(check_size("counters.sizes[0]", args.counters->sizes[0],
                                        "stages of the plan + 2", plan.config.num_stages() + 2));
  }
  const std::int64_t rows =
      plan.op == Operator::kDecode ? batch : selection_row(total_q, batch, 0, plan.config.block_q);
  if (args.selection) {
    if (args.cache) {
      return {StatusCode::kInvalidSelection,
              "selection and cache are both set; a call takes its blocks from one of them"};
    }
    HIP_ATTN_RETURN_IF_ERROR(check_selection("selection", plan, *args.selection, rows, 0));
  }
  if (args.selection_out) {
    // A selection that is given is copied out as it is, so its own width counts.
    const std::int64_t width =
        args.selection ? args.selection->blocks.sizes[2] : plan.max_selected_blocks;
    HIP_ATTN_RETURN_IF_ERROR(
        check_selection("selection_out", plan, *args.selection_out, rows, width));
  }
  return args.cache ? check_cache(plan, *args.cache, batch) : Status{};
}

/// Outputs have memory of their own. Of landmarks those count that the search reads.
template <Element T, StoredFor<T> C>
Status check_overlaps(const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                      Workspace workspace) {
  const TensorView<std::byte, 1> scratch(workspace.data(),
                                         {static_cast<std::int64_t>(workspace.size())});
  const std::int64_t batch = args.q_request_stride ? args.seq_lens.sizes[0] : 1;
  const TensorView<const T, 4> q(
      args.q.data, {batch, args.q.sizes[0], args.q.sizes[1], args.q.sizes[2]},
      {args.q_request_stride.value_or(0), args.q.strides[0], args.q.strides[1], args.q.strides[2]});
  const Extent queries = args.q_request_stride ? extent_of("q", q) : extent_of("q", args.q);
  const auto check_output = [&](const Extent& output) -> Status {
    for (const Extent& input :
         {queries, extent_of("kv.pages.k", args.kv.pages.k),
          extent_of("kv.pages.v", args.kv.pages.v), extent_of("workspace", scratch)}) {
      HIP_ATTN_RETURN_IF_ERROR(check_disjoint(output, input));
    }
    if (args.selection || !plan.config.uses_landmarks()) return {};
    for (const ScanStage& stage : plan.config.stages) {
      if (stage.rule != ScanRule::kLandmark) break;
      const LandmarkLevel<const C>& level = *args.landmarks->find(stage.chunk_size);
      const Name name("landmarks.levels", &level - args.landmarks->levels.data(), ".rows");
      HIP_ATTN_RETURN_IF_ERROR(check_disjoint(output, extent_of(name, level.rows)));
    }
    return {};
  };
  HIP_ATTN_RETURN_IF_ERROR(check_output(extent_of("out", args.out)));
  if (!args.lse) return {};
  HIP_ATTN_RETURN_IF_ERROR(check_output(extent_of("lse", *args.lse)));
  return check_disjoint(extent_of("lse", *args.lse), extent_of("out", args.out));
}

/// Pages for the landmarks of a request of so many keys that its search may read.
template <Element C>
Status check_landmark_capacity(const AttentionPlan& plan, const Landmarks<const C>& landmarks,
                               std::int64_t request, std::int64_t seq_len) {
  for (const ScanStage& stage : plan.config.stages) {
    if (stage.rule != ScanRule::kLandmark) break;
    const LandmarkLevel<const C>& level = *landmarks.find(stage.chunk_size);
    const std::int64_t needed =
        ceil_div(max_candidates(plan.config, seq_len) + plan.config.sink, stage.chunk_size);
    if (needed <= plan.config.sink / stage.chunk_size) continue;  // no candidate
    const bool has_page = level.block_table || request < level.num_pages();
    if (has_page && needed <= level.capacity()) continue;
    return {StatusCode::kSeqLenBeyondBlockTable,
            message("seq_lens[", request, "] is ", seq_len, "; the search reads landmarks 0 to ",
                    needed - 1, " of chunk_size ", stage.chunk_size, ", and the pages of request ",
                    request, " hold ", has_page ? level.capacity() : 0)};
  }
  return {};
}

/// What the CPU backend can also see: lengths and slots. Messages are made only when a check fails.
template <Element T, StoredFor<T> C>
Status check_lengths(const AttentionPlan& plan, const AttentionArgs<T, C>& args) {
  const std::int64_t total_q = args.out.sizes[0];
  const std::int64_t batch = args.seq_lens.sizes[0];
  const bool has_table = args.kv.block_table.has_value();
  const std::int64_t capacity =
      args.kv.pages.page_size() * (has_table ? args.kv.block_table->sizes[1] : 1);
  if (args.cu_seqlens_q(0) != 0) {
    return {StatusCode::kInvalidLength,
            message("cu_seqlens_q[0] is ", args.cu_seqlens_q(0), "; it must be 0")};
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t seq_len = args.seq_lens(b);
    const std::int64_t q_begin = args.cu_seqlens_q(b);
    const std::int64_t q_end = args.cu_seqlens_q(b + 1);
    const std::int64_t q_len = q_end - q_begin;
    if (q_len < 0 || q_end > total_q) {
      return {StatusCode::kInvalidLength,
              message("cu_seqlens_q[", b + 1, "] is ", q_end, "; it must be from cu_seqlens_q[", b,
                      "] (", q_begin, ") to the rows of out (", total_q, ")")};
    }
    if (args.q_request_stride && q_len > args.q.sizes[0]) {
      return {StatusCode::kInvalidLength, message("cu_seqlens_q gives request ", b, " ", q_len,
                                                  " rows; with q_request_stride q has ",
                                                  args.q.sizes[0], " rows of each request")};
    }
    if (seq_len < 0) {
      return {StatusCode::kInvalidLength,
              message("seq_lens[", b, "] is ", seq_len, "; it must not be negative")};
    }
    if (seq_len > plan.shape.max_seq_len) {
      return {StatusCode::kExceedsPlan,
              message("seq_lens[", b, "] is ", seq_len,
                      "; the plan was made for shape.max_seq_len = ", plan.shape.max_seq_len)};
    }
    if (seq_len > capacity) {
      return {StatusCode::kSeqLenBeyondBlockTable,
              message("seq_lens[", b, "] is ", seq_len, "; ",
                      has_table ? "the block table's pages" : "a page", " of ",
                      args.kv.pages.page_size(), " tokens hold ", capacity)};
    }
    if (plan.config.uses_landmarks() && !args.selection && q_len > 0) {
      HIP_ATTN_RETURN_IF_ERROR(check_landmark_capacity(plan, *args.landmarks, b, seq_len));
    }
    if (seq_len > 0 && !has_table && b >= args.kv.pages.num_pages()) {
      return {StatusCode::kInvalidPage,
              message("kv.pages has ", args.kv.pages.num_pages(), " pages, none for request ", b,
                      "; without a block table it needs one page per request")};
    }
    if (seq_len > 0 && q_len > seq_len) {
      return {StatusCode::kQueryLongerThanSequence,
              message("request ", b, " has q_len ", q_len, "; it must be at most seq_lens[", b,
                      "] (", seq_len, ")")};
    }
    if (plan.op == Operator::kDecode && q_len > kMaxDecodeRows) {
      return {StatusCode::kTooManyDecodeRows,
              message("request ", b, " has q_len ", q_len, "; decode takes at most ",
                      kMaxDecodeRows, " rows of a request")};
    }
    const auto is_absent = [&](std::int64_t request) {
      return args.seq_lens(request) == 0 ||
             args.cu_seqlens_q(request) == args.cu_seqlens_q(request + 1);
    };
    if (args.cache && args.cache->slots && !is_absent(b)) {
      const std::int64_t slot = (*args.cache->slots)(b);
      if (slot < 0 || slot >= args.cache->num_slots) {
        return {StatusCode::kInvalidSlot, message("cache.slots[", b, "] is ", slot,
                                                  "; slots are 0 to ", args.cache->num_slots - 1)};
      }
      for (std::int64_t other = 0; other < b; ++other) {
        if ((*args.cache->slots)(other) != slot || is_absent(other)) continue;
        return {StatusCode::kInvalidSlot,
                message("cache.slots[", b, "] is ", slot, ", as is cache.slots[", other,
                        "]; each request needs a slot of its own")};
      }
    }
  }
  if (args.cu_seqlens_q(batch) != total_q) {
    return {StatusCode::kInvalidLength,
            message("cu_seqlens_q[", batch, "] is ", args.cu_seqlens_q(batch),
                    "; it must be the rows of q (", total_q, ")")};
  }
  return {};
}

}  // namespace hip_attn::detail
