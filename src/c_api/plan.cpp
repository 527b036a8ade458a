// Plans of the C interface.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "c_api/element_types.hpp"
#include "c_api/handles.hpp"
#include "c_api/structs.hpp"
#include "c_api/tensors.hpp"
#include "hip_attn/decode.hpp"
#include "hip_attn/prefill.hpp"

namespace hip_attn::c_api {
namespace {

Status shape_of(const HipAttnShape& given, AttentionShape& shape) {
  HIP_ATTN_RETURN_IF_ERROR(device_of("shape.device", given.device, shape.device));
  shape.batch = given.batch;
  shape.total_q = given.total_q;
  shape.max_seq_len = given.max_seq_len;
  shape.num_q_heads = given.num_q_heads;
  shape.num_kv_heads = given.num_kv_heads;
  shape.head_dim = given.head_dim;
  // A number that is no int is refused as the int next to it.
  using Limits = std::numeric_limits<int>;
  shape.num_threads =
      static_cast<int>(std::clamp<std::int64_t>(given.num_threads, Limits::min(), Limits::max()));
  shape.staging_bytes = given.staging_bytes;
  return {};
}

HipAttnStatus make_plan(Operator op, const HipAttnConfig* config, const HipAttnShape* shape,
                        HipAttnPlan** plan, MessageBuffer buffer) noexcept {
  return guarded(buffer, [&] {
    return make_handle("plan", plan, [&](HipAttnPlan& made) -> Status {
      HIP_ATTN_RETURN_IF_ERROR(check_given("config", config, "a config"));
      HipAttnShape given;
      HIP_ATTN_RETURN_IF_ERROR(read_struct("shape", shape, given));
      AttentionShape known;
      HIP_ATTN_RETURN_IF_ERROR(shape_of(given, known));
      ElementType type{};
      HIP_ATTN_RETURN_IF_ERROR(element_type_of("shape.dtype", given.dtype, type));
      ElementType cache_type = type;
      if (!is_same(given.cache_dtype, {0, 0, 0})) {
        HIP_ATTN_RETURN_IF_ERROR(
            element_type_of("shape.cache_dtype", given.cache_dtype, cache_type));
      }
      return visit_pair(type, cache_type, [&]<Element T, StoredFor<T> C>() {
        return op == Operator::kPrefill ? plan_prefill<T, C>(config->config, known, made.plan)
                                        : plan_decode<T, C>(config->config, known, made.plan);
      });
    });
  });
}

}  // namespace
}  // namespace hip_attn::c_api

using namespace hip_attn;
using namespace hip_attn::c_api;

HipAttnStatus hip_attn_plan_prefill(const HipAttnConfig* config, const HipAttnShape* shape,
                                    HipAttnPlan** plan, char* message, size_t message_capacity) {
  return make_plan(Operator::kPrefill, config, shape, plan, {message, message_capacity});
}

HipAttnStatus hip_attn_plan_decode(const HipAttnConfig* config, const HipAttnShape* shape,
                                   HipAttnPlan** plan, char* message, size_t message_capacity) {
  return make_plan(Operator::kDecode, config, shape, plan, {message, message_capacity});
}

HipAttnStatus hip_attn_plan_info(const HipAttnPlan* plan, HipAttnPlanInfo* info, char* message,
                                 size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    HIP_ATTN_RETURN_IF_ERROR(check_given("plan", plan, "a plan"));
    const AttentionPlan& made = plan->plan;
    HipAttnPlanInfo known{};
    known.workspace_bytes = made.workspace_bytes;
    known.selection_cache_slot_bytes = made.selection_cache_slot_bytes;
    known.selection_rows = made.selection_rows;
    known.max_selected_blocks = made.max_selected_blocks;
    known.dense_until = made.dense_until;
    known.num_threads = made.num_threads;
    return write_struct("info", known, info);
  });
}

HipAttnStatus hip_attn_plan_set_dense_until(HipAttnPlan* plan, int64_t dense_until, char* message,
                                            size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    HIP_ATTN_RETURN_IF_ERROR(check_given("plan", plan, "a plan"));
    plan->plan.dense_until = dense_until;
    return {};
  });
}

HipAttnStatus hip_attn_plan_set_num_threads(HipAttnPlan* plan, int64_t num_threads, char* message,
                                            size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    HIP_ATTN_RETURN_IF_ERROR(check_given("plan", plan, "a plan"));
    if (num_threads < 1 || num_threads > plan->plan.num_threads) {
      return {
          StatusCode::kInvalidArgument,
          c_api::message("num_threads is ", num_threads,
                         "; it must be from 1 to that of the plan (", plan->plan.num_threads, ")")};
    }
    plan->plan.num_threads = static_cast<int>(num_threads);
    return {};
  });
}

void hip_attn_plan_destroy(HipAttnPlan* plan) { delete plan; }

int64_t hip_attn_selection_row(int64_t cu_seqlens_q_b, int64_t b, int64_t n, int64_t block_q) {
  return block_q > 0 ? selection_row(cu_seqlens_q_b, b, n, block_q) : 0;
}
