#include "plans.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "asked.hpp"
#include "hip_attn/build_info.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/decode.hpp"
#include "hip_attn/operator_checks.hpp"
#include "hip_attn/prefill.hpp"

namespace hip_attn::info {

Json terms_report(const CostWork& work) {
  Json terms = Json::object();
  for (int i = 0; i < kNumCostTerms; ++i) {
    const double quantity = work[static_cast<CostTerm>(i)];
    if (quantity != 0.) terms[kCostTerms[static_cast<std::size_t>(i)].name] = quantity;
  }
  return terms;
}

Json reads_report(const std::array<double, kMaxStages>& reads, int num_stages) {
  return Json(std::vector<double>(reads.begin(), reads.begin() + num_stages));
}

std::string times_as_long(double longer, double shorter) {
  return fmt::format("{:.3g} times", shorter > 0. ? longer / shorter : 1.);
}

namespace {

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

void refuse_unless_ok(const Status& status) {
  if (status.ok()) return;
  throw UsageError(fmt::format("no plan can be made: {}", status.message()));
}

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
