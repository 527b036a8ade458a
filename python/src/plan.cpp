#include "handles.hpp"

namespace hip_attn::python {
namespace {

Plan make_plan(bool is_decode, const ConfigObject& config, std::int64_t num_q_heads,
               std::int64_t num_kv_heads, std::int64_t head_dim, std::int64_t max_seq_len,
               std::int64_t batch, std::int64_t total_q, nb::handle dtype, nb::handle cache_dtype,
               nb::handle device, std::int64_t num_threads, std::size_t staging_bytes) {
  auto shape = zeroed<HipAttnShape>();
  shape.device = device_of(device);
  shape.dtype = dtype_of("dtype", dtype);
  shape.cache_dtype = dtype_of("cache_dtype", cache_dtype);
  shape.batch = batch;
  shape.total_q = total_q;
  shape.max_seq_len = max_seq_len;
  shape.num_q_heads = num_q_heads;
  shape.num_kv_heads = num_kv_heads;
  shape.head_dim = head_dim;
  shape.num_threads = num_threads;
  shape.staging_bytes = staging_bytes;
  HipAttnPlan* plan = nullptr;
  check([&](char* message, std::size_t capacity) {
    const auto function = is_decode ? hip_attn_plan_decode : hip_attn_plan_prefill;
    return function(config.handle.get(), &shape, &plan, message, capacity);
  });
  return {PlanHandle(plan), is_decode, shape.device};
}

template <auto member>
auto info_member(const Plan& plan) {
  return plan.info().*member;
}

template <auto set>
void set_member(Plan& plan, std::int64_t value) {
  check([&](char* message, std::size_t capacity) {
    return set(plan.handle.get(), value, message, capacity);
  });
}

std::string repr(const Plan& plan) {
  return std::string("<hip_attn.Plan of ") + (plan.is_decode ? "decode" : "prefill") + " on " +
         device_text(plan.device) + ", workspace_bytes " +
         std::to_string(plan.info().workspace_bytes) + ">";
}

}  // namespace

void bind_plan(nb::module_& module) {
  nb::class_<Plan>(module, "Plan", R"(For as many calls as fit its shape, of any layer.

plan_prefill and plan_decode make it. Any number of threads may use a plan while none changes it.)")
      .def_prop_ro("workspace_bytes", info_member<&HipAttnPlanInfo::workspace_bytes>,
                   "Bytes that a Workspace for this plan has at least.")
      .def_prop_ro("selection_cache_slot_bytes",
                   info_member<&HipAttnPlanInfo::selection_cache_slot_bytes>,
                   "decode: bytes of a SelectionCache for each slot.")
      .def_prop_ro("selection_rows", info_member<&HipAttnPlanInfo::selection_rows>,
                   "Rows of a Selection for the largest call.")
      .def_prop_ro("max_selected_blocks", info_member<&HipAttnPlanInfo::max_selected_blocks>,
                   "Blocks that one row and KV head of a Selection has at most.")
      .def_prop_rw("dense_until", info_member<&HipAttnPlanInfo::dense_until>,
                   set_member<hip_attn_plan_set_dense_until>,
                   "prefill: query blocks that begin before this position attend to every key.")
      .def_prop_rw("num_threads", info_member<&HipAttnPlanInfo::num_threads>,
                   set_member<hip_attn_plan_set_num_threads>,
                   "CPU: threads that a call has room for. It can be lowered.")
      .def_prop_ro(
          "device", [](const Plan& plan) { return device_text(plan.device); },
          "\"cpu\" or \"cuda:N\".")
      .def_ro("is_decode", &Plan::is_decode, "Of plan_decode; otherwise of plan_prefill.")
      .def("__repr__", repr);
  module.def("make_plan", make_plan, nb::arg("is_decode"), nb::arg("config"),
             nb::arg("num_q_heads"), nb::arg("num_kv_heads"), nb::arg("head_dim"),
             nb::arg("max_seq_len"), nb::arg("batch"), nb::arg("total_q"), nb::arg("dtype"),
             nb::arg("cache_dtype"), nb::arg("device"), nb::arg("num_threads"),
             nb::arg("staging_bytes"));
}

}  // namespace hip_attn::python
