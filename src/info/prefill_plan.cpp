// Prefill's part of the report.
#include <fmt/format.h>

#include <algorithm>

#include "asked.hpp"
#include "hip_attn/cuda/launch/dense_until.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "workspace.hpp"

namespace hip_attn::info {
namespace {

const char* name_of(PrefillSearch search) {
  switch (search) {
    case PrefillSearch::kNone:
      return "none";
    case PrefillSearch::kHopper:
      return "search_sm90_kernel";
    case PrefillSearch::kDense:
      return "search_dense_kernel";
    case PrefillSearch::kPortable:
      return "search_kernel";
    case PrefillSearch::kWorkspace:
      return "search_in_workspace_kernel";
    case PrefillSearch::kRows:
      return "search_rows_kernel";
  }
  return "none";
}

/// The kernels of a plan that was made on a device; `assumed` are those of the model.
PrefillKernels kernels_of_plan(const AttentionPlan& plan, PrefillKernels assumed) {
  const cuda::PrefillSchedule schedule = cuda::prefill_schedule(plan);
  PrefillKernels kernels = assumed;
  kernels.hopper_attend = schedule.sm90_attend;
  if (assumed.search == PrefillSearch::kNone) return kernels;
  if (schedule.dense_search_blocks > 0) {
    kernels.search = PrefillSearch::kDense;
  } else if (schedule.search_blocks > 0) {
    const SearchPlan search = make_search_plan(plan.config, plan.shape.max_seq_len);
    const bool rows =
        std::any_of(search.stages, search.stages + search.num_stages, [](const StagePlan& stage) {
          return stage.needs_row_logits() || stage.rule == ScanRule::kEveryKey;
        });
    kernels.search = rows ? PrefillSearch::kRows : PrefillSearch::kWorkspace;
  } else {
    kernels.search = schedule.sm90_search ? PrefillSearch::kHopper : PrefillSearch::kPortable;
  }
  return kernels;
}

}  // namespace

Json prefill_report(const Asked& asked) {
  const Options& o = asked.options;
  const Gpu& gpu = *asked.target.gpu;
  PrefillCall call{.batch = o.batch,
                   .context = o.context,
                   .rows = asked.rows(),
                   .num_q_heads = o.q_heads,
                   .num_kv_heads = o.kv_heads,
                   .head_dim = o.head_dim,
                   .element_bytes = asked.element_bytes()};
  const HipConfig& config = asked.named.config;
  PrefillKernels kernels =
      assumed_prefill_kernels(config, call, gpu.properties, o.kernels == "portable");
  if (asked.on_device()) kernels = kernels_of_plan(asked.plan, kernels);
  const std::int64_t chosen = asked.on_device()
                                  ? asked.plan.dense_until
                                  : cuda::dense_until(config, o.q_heads, o.kv_heads, o.context);
  const std::int64_t dense_until = o.dense_until >= 0 ? o.dense_until : chosen;
  Json report;
  report["kernels"] = {
      {"search", name_of(kernels.search)},
      {"attention", kernels.hopper_attend ? "sm90::attend_kernel" : "sm80::attend_kernel"},
      {"from", asked.on_device() ? "the plan" : "the cost model"}};
  report["dense_until"] = dense_until;
  report["workspace_bytes"] = asked.on_device()
                                  ? asked.plan.workspace_bytes
                                  : assumed_prefill_workspace(asked.plan, kernels, gpu.properties);

  const auto work_of = [&](const HipConfig& of, std::int64_t until) {
    call.dense_until = until;
    return prefill_work(of, call, kernels, gpu.properties);
  };
  const PrefillWork work = work_of(config, dense_until);
  const PrefillWork searched = work_of(config, 0);
  const PrefillTimes times = predict_prefill(work, gpu.rates);
  const PrefillTimes all_searched = predict_prefill(searched, gpu.rates);
  PrefillKernels dense_kernels = kernels;
  dense_kernels.search = PrefillSearch::kNone;
  const PrefillTimes dense = predict_prefill(
      prefill_work(presets::dense(), call, dense_kernels, gpu.properties), gpu.rates);
  Json stages = Json::array();
  for (int s = 0; s < work.num_stages; ++s)
    stages.push_back(times.stages[static_cast<std::size_t>(s)] * kMilli);
  report["predicted"] = {{"total_ms", times.total * kMilli},
                         {"search_ms", times.search * kMilli},
                         {"stages_ms", stages},
                         {"attend_ms", times.attend * kMilli},
                         {"all_searched_ms", all_searched.total * kMilli},
                         {"dense_ms", dense.total * kMilli}};
  report["reads"] = {{"stages", reads_report(work.reads, work.num_stages)},
                     {"attended", work.attended}};
  if (o.terms) {
    CostWork total = work.search();
    CostWork all = searched.search();
    report["terms"] = {{"total", terms_report(total.add(work.attend))},
                       {"all_searched", terms_report(all.add(searched.attend))},
                       {"attend", terms_report(work.attend)}};
  }
  const bool nothing = config.is_dense() || config.is_window_only();
  const bool sparse = !nothing && work.searching_units > 0.;
  report["choice"] = config.is_dense()         ? "dense"
                     : config.is_window_only() ? "window"
                     : sparse                  ? "sparse"
                                               : "dense";
  if (nothing) {
    report["why"] = config.is_dense() ? "the configuration has no stages"
                                      : "the last stage keeps nothing: sink and window alone";
  } else if (!sparse) {
    report["why"] = fmt::format(
        "all query blocks begin before position {}, up to which a search costs more than it saves",
        dense_until);
  } else {
    report["why"] = fmt::format(
        "from position {} on a search costs less than attention to what it drops; all dense would "
        "take {} as long",
        dense_until, times_as_long(dense.total, times.total));
  }
  return report;
}

}  // namespace hip_attn::info
