// Decode's part of the report.
#include <fmt/format.h>

#include <algorithm>

#include "asked.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "workspace.hpp"

namespace hip_attn::info {

Json decode_report(const Asked& asked, Json& offload) {
  const Options& o = asked.options;
  const Gpu& gpu = *asked.target.gpu;
  const HipConfig& config = asked.named.config;
  const DecodeCall call{.batch = o.batch,
                        .context = o.context,
                        .rows = asked.rows(),
                        .num_q_heads = o.q_heads,
                        .num_kv_heads = o.kv_heads,
                        .head_dim = o.head_dim,
                        .element_bytes = asked.element_bytes(),
                        .appends = o.behind_append};
  DecodeTeams teams = assumed_decode_teams(call, gpu.properties);
  bool clusters = gpu.properties.has_clusters() && o.kernels != "portable";
  if (asked.on_device()) {
    const cuda::DecodeSchedule schedule = cuda::decode_schedule(asked.plan);
    teams.size = schedule.team_size;
    teams.at_once =
        schedule.clusters ? resident_clusters(gpu.properties, teams.size) : schedule.num_teams;
    teams.at_once = std::max<std::int64_t>(1, teams.at_once);
    clusters = schedule.clusters;
  }
  Json report;
  report["kernels"] = {
      {"decode", clusters ? "decode_kernel, clusters" : "decode_kernel, cooperative"},
      {"team_size", teams.size},
      {"units", call.units()},
      {"units_at_once", std::min(teams.at_once, call.units())},
      {"from", asked.on_device() ? "the plan" : "the cost model"}};
  report["workspace_bytes"] =
      asked.on_device() ? asked.plan.workspace_bytes : assumed_decode_workspace(asked.plan, teams);
  report["selection_cache_bytes"] =
      asked.plan.selection_cache_slot_bytes * static_cast<std::size_t>(o.batch);

  Json from = Json::array();
  Json terms;
  for (int s = 0; s <= config.num_stages(); ++s) {
    const DecodeWork work = decode_work(config, call, teams, gpu.properties, s);
    from.push_back(predict_decode(work, gpu.rates).total * kMicro);
    const bool last = s == config.num_stages();
    terms[config.is_dense() ? "all"
          : last            ? "reused"
                            : fmt::format("from{}", s)] = terms_report(work.all());
  }
  const DecodeTimes refreshed =
      predict_decode(decode_work(config, call, teams, gpu.properties, 0), gpu.rates);
  const DecodeWork mean = mean_decode_work(config, call, teams, gpu.properties);
  const double mean_seconds = predict_decode(mean, gpu.rates).total;
  terms["cycle"] = terms_report(mean.all());
  const double dense =
      predict_decode(decode_work(presets::dense(), call, teams, gpu.properties, 0), gpu.rates)
          .total;
  Json stages = Json::array();
  for (int s = 0; s < config.num_stages(); ++s)
    stages.push_back(refreshed.stages[static_cast<std::size_t>(s)] * kMicro);
  report["predicted"] = {{"refreshed_us", refreshed.total * kMicro},
                         {"stages_us", stages},
                         {"reused_us", refreshed.attend * kMicro},
                         {"from_us", from},
                         {"mean_us", mean_seconds * kMicro},
                         {"refresh_cycle", refresh_cycle(config)},
                         {"dense_us", dense * kMicro}};
  const DecodeWork whole = decode_work(config, call, teams, gpu.properties, 0);
  report["reads"] = {{"stages", reads_report(whole.reads, whole.num_stages)},
                     {"attended", whole.attended}};
  if (o.terms) report["terms"] = terms;
  const bool nothing = config.is_dense() || config.is_window_only();
  if (nothing) {
    report["choice"] = config.is_dense() ? "dense" : "window";
    report["why"] = config.is_dense() ? "the configuration has no stages"
                                      : "the last stage keeps nothing: sink and window alone";
  } else {
    const std::int64_t until = decode_dense_until(config, call, gpu, std::int64_t{1} << 20);
    report["dense_until"] = until;
    const bool sparse = mean_seconds < dense;
    report["choice"] = sparse ? "sparse" : "dense";
    report["why"] =
        sparse ? fmt::format(
                     "the mean step over the refresh cycle is shorter: dense takes {} as "
                     "long. Up to {} tokens dense is shorter",
                     times_as_long(dense, mean_seconds), until)
               : fmt::format(
                     "the mean step over the refresh cycle takes {} as long as one of dense "
                     "attention. A plan with presets::dense() is advised up to {} tokens",
                     times_as_long(mean_seconds, dense), until);
  }
  offload = offload_report(asked, mean, mean_seconds);
  return report;
}

}  // namespace hip_attn::info
