// prefill and decode of the C interface.
#include <cstddef>
#include <cstdint>

#include "c_api/attention_args.hpp"
#include "c_api/element_types.hpp"
#include "c_api/handles.hpp"
#include "hip_attn/checks/config.hpp"
#include "hip_attn/decode.hpp"
#include "hip_attn/index_selection.hpp"
#include "hip_attn/prefill.hpp"

namespace hip_attn::c_api {

Status cache_of(const AttentionPlan& plan, const HipAttnSelectionCache* given,
                std::optional<SelectionCache>& cache) {
  if (given == nullptr) return {};
  const Device device = plan.shape.device;
  HIP_ATTN_RETURN_IF_ERROR(cache_memory_of({"cache", "cache.data", "cache.slots"}, given,
                                           plan.selection_cache_slot_bytes, device,
                                           cache.emplace()));
  HipAttnSelectionCache known;
  HIP_ATTN_RETURN_IF_ERROR(read_struct("cache", given, known));
  return view_of("cache.refresh_from", known.refresh_from, device, cache->refresh_from);
}

namespace {

Workspace workspace_of(void* workspace, std::size_t bytes) {
  return {static_cast<std::byte*>(workspace), bytes};
}

// run(args) with the arguments of C++.
template <typename Run>
HipAttnStatus run_attention(const HipAttnPlan* plan, const HipAttnAttentionArgs* args,
                            MessageBuffer buffer, const Run& run) noexcept {
  return guarded(buffer, [&]() -> Status {
    HIP_ATTN_RETURN_IF_ERROR(check_given("plan", plan, "a plan"));
    return visit_pair(plan->plan.type, plan->plan.cache_type, [&]<Element T, StoredFor<T> C>() {
      AttentionArgs<T, C> known;
      HIP_ATTN_RETURN_IF_ERROR(args_of(plan->plan, args, known));
      return run(known);
    });
  });
}

}  // namespace
}  // namespace hip_attn::c_api

static_assert(HIP_ATTN_MAX_DECODE_ROWS == hip_attn::kMaxDecodeRows);

using namespace hip_attn;
using namespace hip_attn::c_api;

HipAttnStatus hip_attn_prefill(const HipAttnPlan* plan, const HipAttnAttentionArgs* args,
                               void* workspace, size_t workspace_bytes, HipAttnStream stream,
                               char* message, size_t message_capacity) {
  return run_attention(plan, args, {message, message_capacity}, [&](const auto& known) {
    return run_prefill(plan->plan, known, workspace_of(workspace, workspace_bytes), stream);
  });
}

HipAttnStatus hip_attn_decode(const HipAttnPlan* plan, const HipAttnAttentionArgs* args,
                              void* workspace, size_t workspace_bytes, HipAttnStream stream,
                              char* message, size_t message_capacity) {
  return run_attention(plan, args, {message, message_capacity}, [&](const auto& known) {
    return run_decode(plan->plan, known, workspace_of(workspace, workspace_bytes), stream);
  });
}

HipAttnStatus hip_attn_make_index_selection(const HipAttnPlan* plan,
                                            const HipAttnIndexSelectionArgs* args,
                                            HipAttnStream stream, char* message,
                                            size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    HIP_ATTN_RETURN_IF_ERROR(check_given("plan", plan, "a plan"));
    const Device device = plan->plan.shape.device;
    HipAttnIndexSelectionArgs given;
    HIP_ATTN_RETURN_IF_ERROR(read_struct("args", args, given));
    IndexSelectionArgs known;
    HIP_ATTN_RETURN_IF_ERROR(view_of("indices", given.indices, device, known.indices));
    HIP_ATTN_RETURN_IF_ERROR(view_of("seq_lens", given.seq_lens, device, known.seq_lens));
    HIP_ATTN_RETURN_IF_ERROR(
        view_of("cu_seqlens_q", given.cu_seqlens_q, device, known.cu_seqlens_q));
    HIP_ATTN_RETURN_IF_ERROR(check_given("selection", given.selection, "a struct"));
    std::optional<BlockSelection> selection;
    HIP_ATTN_RETURN_IF_ERROR(selection_of(
        {"selection", "selection.blocks", "selection.counts", "selection.window_start"},
        given.selection, device, selection));
    known.selection = *selection;
    return make_index_selection(plan->plan, known, stream);
  });
}

HipAttnStatus hip_attn_thread_team_create(int32_t size, HipAttnThreadTeam** team, char* message,
                                          size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    HIP_ATTN_RETURN_IF_ERROR(check_given("team", team, "where the handle goes"));
    if (size < 1 || size > detail::kMaxThreads) {
      return {StatusCode::kInvalidArgument,
              c_api::message("size is ", size, "; it must be from 1 to ", detail::kMaxThreads)};
    }
    *team = new HipAttnThreadTeam(size);
    return {};
  });
}

void hip_attn_thread_team_destroy(HipAttnThreadTeam* team) { delete team; }

HipAttnStatus hip_attn_prefill_part(const HipAttnPlan* plan, const HipAttnAttentionArgs* args,
                                    void* workspace, size_t workspace_bytes,
                                    HipAttnThreadTeam* team, int32_t part, char* message,
                                    size_t message_capacity) {
  return run_attention(plan, args, {message, message_capacity}, [&](const auto& known) -> Status {
    HIP_ATTN_RETURN_IF_ERROR(check_given("team", team, "a thread team"));
    return run_prefill(plan->plan, known, workspace_of(workspace, workspace_bytes), team->team,
                       part);
  });
}

HipAttnStatus hip_attn_decode_part(const HipAttnPlan* plan, const HipAttnAttentionArgs* args,
                                   void* workspace, size_t workspace_bytes, HipAttnThreadTeam* team,
                                   int32_t part, char* message, size_t message_capacity) {
  return run_attention(plan, args, {message, message_capacity}, [&](const auto& known) -> Status {
    HIP_ATTN_RETURN_IF_ERROR(check_given("team", team, "a thread team"));
    return run_decode(plan->plan, known, workspace_of(workspace, workspace_bytes), team->team,
                      part);
  });
}
