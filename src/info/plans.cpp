#include "plans.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "hip_attn/build_info.hpp"
#include "hip_attn/cuda/launch/dense_until.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/decode.hpp"
#include "hip_attn/landmarks.hpp"
#include "hip_attn/operator_checks.hpp"
#include "hip_attn/prefill.hpp"
#include "workspace.hpp"

namespace hip_attn::info {
namespace {

constexpr double kMilli = 1e3;
constexpr double kMicro = 1e6;

const char* name_of(ScanRule rule) {
  switch (rule) {
    case ScanRule::kCentre:
      return "centre";
    case ScanRule::kLandmark:
      return "landmark";
    case ScanRule::kEveryKey:
      return "every_key";
    default:
      return "descent";
  }
}

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

Json config_report(const HipConfig& config) {
  Json stages = Json::array();
  for (const ScanStage& stage : config.stages) {
    stages.push_back(
        {{"chunk_size", stage.chunk_size},
         {"keep", stage.keep},
         {"query_stride", stage.query_stride},
         {"rule", name_of(stage.rule)},
         {"reduction", stage.reduction == Reduction::kMaximum ? "maximum" : "softmax_sum"}});
  }
  return {{"sink", config.sink},
          {"window", config.window},
          {"block_q", config.block_q},
          {"stages", stages},
          {"refresh_interval", config.refresh_interval}};
}

Json terms_report(const CostWork& work) {
  Json terms = Json::object();
  for (int i = 0; i < kNumCostTerms; ++i) {
    const double quantity = work[static_cast<CostTerm>(i)];
    if (quantity != 0.) terms[kCostTerms[static_cast<std::size_t>(i)].name] = quantity;
  }
  return terms;
}

/// Keys or landmarks that each stage reads, over all units.
Json reads_of(const std::array<double, kMaxStages>& reads, int num_stages) {
  return Json(std::vector<double>(reads.begin(), reads.begin() + num_stages));
}

void refuse_unless_ok(const Status& status) {
  if (status.ok()) return;
  throw UsageError(fmt::format("no plan can be made: {}", status.message()));
}

/// Everything about one operator's call.
struct Asked {
  const Options& options;
  const Target& target;
  Operator op;
  NamedConfig named;
  AttentionPlan plan;

  std::int64_t rows() const {
    return options.rows > 0 ? options.rows : op == Operator::kPrefill ? options.context : 1;
  }
  std::int64_t element_bytes() const { return plan.cache_type == ElementType::kFloat32 ? 4 : 2; }
  std::int64_t key_bytes() const { return options.kv_heads * options.head_dim * element_bytes(); }
  double kv_bytes() const {
    return 2. * static_cast<double>(options.batch) * static_cast<double>(options.context) *
           static_cast<double>(key_bytes());
  }
  /// Two rows for every complete chunk of every level.
  double landmark_bytes() const {
    double bytes = 0.;
    for (const std::int64_t size : landmark_chunk_sizes(named.config)) {
      bytes += 2. * static_cast<double>(options.batch) *
               static_cast<double>(options.context / size * key_bytes());
    }
    return bytes;
  }
  bool on_device() const { return target.device && target.gpu; }
};

template <typename Plan>
Status plan_by_type(ElementType type, Plan&& plan) {
  switch (type) {
    case ElementType::kFloat32:
      return plan(float{});
    case ElementType::kFloat16:
      return plan(float16{});
    default:
      return plan(bfloat16{});
  }
}

/// On the device where there is one. Otherwise what does not depend on a backend, and the workspace
/// of the CPU where no GPU is asked for and the build has the head dim.
void make_plan(Asked& asked) {
  const Options& o = asked.options;
  const ElementType type = element_type(o);
  AttentionShape shape{.device = asked.target.device.value_or(kCpu),
                       .batch = o.batch,
                       .total_q = o.batch * asked.rows(),
                       .max_seq_len = o.context,
                       .num_q_heads = o.q_heads,
                       .num_kv_heads = o.kv_heads,
                       .head_dim = o.head_dim};
  const HipConfig& config = asked.named.config;
  if (asked.target.gpu && !asked.target.device) {
    if (type == ElementType::kFloat32) {
      throw UsageError(
          "--type is float32; on a GPU it takes float16 or bfloat16 (float32 is the CPU's)");
    }
    if (o.head_dim % 32 != 0 || o.head_dim < 64 || o.head_dim > 256) {
      throw UsageError(fmt::format(
          "--head-dim is {}; on a GPU it takes a multiple of 32 from 64 to 256", o.head_dim));
    }
    refuse_unless_ok(detail::begin_plan({.op = asked.op, .type = type, .cache_type = type}, config,
                                        shape, asked.plan));
    return;
  }
  refuse_unless_ok(plan_by_type(type, [&](auto element) {
    using T = decltype(element);
    return asked.op == Operator::kPrefill ? plan_prefill<T>(config, shape, asked.plan)
                                          : plan_decode<T>(config, shape, asked.plan);
  }));
  if (o.kernels == "portable" && asked.on_device()) cuda::use_portable_kernels(asked.plan);
}

Json shared_report(const Asked& asked) {
  const UnitReads unit =
      unit_reads(asked.named.config, asked.options.q_heads / asked.options.kv_heads,
                 asked.op == Operator::kPrefill
                     ? std::min<std::int64_t>(asked.named.config.block_q, asked.rows())
                     : asked.rows(),
                 std::max<std::int64_t>(
                     0, asked.options.context -
                            (asked.op == Operator::kPrefill
                                 ? std::min<std::int64_t>(asked.named.config.block_q, asked.rows())
                                 : asked.rows())));
  Json reads = Json::array();
  for (int s = 0; s < unit.num_stages; ++s) {
    const StageReads& stage = unit.stages[static_cast<std::size_t>(s)];
    reads.push_back({{"reads", stage.rule == ScanRule::kLandmark ? "landmarks" : "keys"},
                     {"count", stage.reads},
                     {"chunks", stage.chunks},
                     {"kept", stage.kept}});
  }
  Json report{{"op", asked.op == Operator::kPrefill ? "prefill" : "decode"},
              {"preset", asked.named.name},
              {"rows", asked.rows()},
              {"config", config_report(asked.named.config)},
              {"last_unit", {{"stages", reads}, {"attended_keys", unit.attended}}}};
  if (!asked.named.notes.empty()) report["notes"] = asked.named.notes;
  report["kv_cache_bytes"] = asked.kv_bytes();
  report["landmark_bytes"] = asked.landmark_bytes();
  report["selection_rows"] = asked.plan.selection_rows;
  report["max_selected_blocks"] = asked.plan.max_selected_blocks;
  return report;
}

std::string times_as_long(double longer, double shorter) {
  return fmt::format("{:.3g} times", shorter > 0. ? longer / shorter : 1.);
}

Json prefill_report(Asked& asked) {
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
  if (asked.on_device()) {
    const cuda::PrefillSchedule schedule = cuda::prefill_schedule(asked.plan);
    kernels.hopper_attend = schedule.sm90_attend;
  }
  const std::int64_t chosen = cuda::dense_until(config, o.q_heads, o.kv_heads, o.context);
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
  report["reads"] = {{"stages", reads_of(work.reads, work.num_stages)},
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

/// What KV offload would do to a decode step.
Json offload_report(const Asked& asked, const DecodeWork& mean, double mean_seconds) {
  const Options& o = asked.options;
  const GpuProperties& gpu = asked.target.gpu->properties;
  const double layers = static_cast<double>(o.layers);
  const double kv = asked.kv_bytes() * layers;
  const double landmarks = asked.landmark_bytes() * layers;
  const double room = (gpu.memory_gb - o.weights_gb) * 1e9;
  Json report{{"layers", o.layers},
              {"kv_cache_gb", kv * 1e-9},
              {"landmarks_gb", landmarks * 1e-9},
              {"gpu_room_gb", room * 1e-9},
              {"fits", kv + landmarks <= room}};
  if (kv + landmarks <= room) {
    report["helps"] = false;
    report["why"] = fmt::format(
        "the cache of {} layers takes {:.3g} GB, landmarks included, and the GPU has {:.3g}",
        o.layers, (kv + landmarks) * 1e-9, room * 1e-9);
    return report;
  }
  if (landmarks >= room) {
    report["helps"] = false;
    report["why"] =
        fmt::format("landmarks stay on the GPU, and alone they take {:.3g} GB where it has {:.3g}",
                    landmarks * 1e-9, room * 1e-9);
    return report;
  }
  // Keys that the search reads, and keys and values that are attended to, in a mean step.
  const double row = static_cast<double>(o.head_dim * asked.element_bytes());
  double searched = 0.;
  for (int s = 0; s < mean.num_stages; ++s) {
    const auto at = static_cast<std::size_t>(s);
    if (asked.named.config.stages[at].rule != ScanRule::kLandmark) searched += mean.reads[at] * row;
  }
  const HipConfig& config = asked.named.config;
  const double refreshes = config.is_dense() || config.refresh_interval.empty()
                               ? 1.
                               : 1. / static_cast<double>(config.refresh_interval.back());
  const double asked_for = searched + mean.attended * 2. * row * refreshes;
  const double link = gpu.link_gb_per_s * 1e9;
  const double share = (room - landmarks) / kv;
  if (config.is_dense()) {
    // Dense attention reads all of it in every step.
    const double seconds = mean.attended * 2. * row * (1. - share) / link;
    report["helps"] = false;
    report["why"] = fmt::format(
        "dense attention reads the whole cache in every step: {:.3g} ms of a layer over the link, "
        "{:.3g} µs on the GPU",
        seconds * kMilli, mean_seconds * kMicro);
    report["link_us"] = seconds * kMicro;
    return report;
  }
  report["helps"] = true;
  report["share_on_gpu"] = share;
  report["miss"] = o.miss;
  report["link_us"] = asked_for * o.miss / link * kMicro;
  report["nothing_hot_us"] = (searched / refreshes + mean.attended * 2. * row) / link * kMicro;
  report["why"] = fmt::format(
      "the cache of {} layers takes {:.3g} GB and the GPU has room for {:.3g}: a store keeps "
      "{:.0f} % "
      "of it there. With {:.3g} % of what a search asks for not there, a step takes {:.3g} µs more "
      "in the mean, {:.3g} in all",
      o.layers, kv * 1e-9, (room - landmarks) * 1e-9, share * 100., o.miss * 100.,
      asked_for * o.miss / link * kMicro,
      mean_seconds * kMicro + asked_for * o.miss / link * kMicro);
  return report;
}

Json decode_report(Asked& asked, Json& offload) {
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
  report["reads"] = {{"stages", reads_of(whole.reads, whole.num_stages)},
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

}  // namespace

void add_plans(const Options& options, const Target& target, Json& report) {
  report["shape"] = {{"batch", options.batch},        {"context", options.context},
                     {"q_heads", options.q_heads},    {"kv_heads", options.kv_heads},
                     {"head_dim", options.head_dim},  {"type", options.type},
                     {"page_size", options.page_size}};
  const auto built = built_head_dims();
  report["shape"]["head_dim_is_built"] =
      std::find(built.begin(), built.end(), options.head_dim) != built.end();
  report["plans"] = Json::array();
  for (const Operator op : {Operator::kPrefill, Operator::kDecode}) {
    const char* name = op == Operator::kPrefill ? "prefill" : "decode";
    if (options.op != "both" && options.op != name) continue;
    Asked asked{options, target, op, named_config(options, op), {}};
    make_plan(asked);
    Json plan = shared_report(asked);
    if (target.gpu) {
      Json offload;
      plan.update(op == Operator::kPrefill ? prefill_report(asked) : decode_report(asked, offload));
      if (!offload.is_null()) report["offload"] = offload;
    } else {
      plan["workspace_bytes"] = asked.plan.workspace_bytes;
      plan["workspace_of"] = fmt::format("the CPU, {} threads", asked.plan.num_threads);
      if (op == Operator::kDecode) {
        plan["selection_cache_bytes"] =
            asked.plan.selection_cache_slot_bytes * static_cast<std::size_t>(options.batch);
      }
      plan["why"] = "no time is predicted: there is no GPU here and --gpu names none";
    }
    report["plans"].push_back(plan);
  }
}

}  // namespace hip_attn::info
