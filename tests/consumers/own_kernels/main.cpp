// Runs kernels of its own on the GPU and compares them with float64. Says "skipped: " where there
// is none; what needs none is checked all the same.
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "attention_check.hpp"
#include "hip_attn/hip_attn.hpp"
#include "kernels.hpp"
#include "report.hpp"

namespace {

using namespace own;
using hip_attn::AttentionPlan;
using hip_attn::HipConfig;
using hip_attn::ScanRule;
using hip_attn::StatusCode;

/// Two stages by this project's rule, the first with pooled queries.
HipConfig own_rule_config(std::int64_t keep_first, std::int64_t keep_last) {
  HipConfig config;
  config.sink = 32;
  config.window = 64;
  config.stages = {
      {.chunk_size = 32, .keep = keep_first, .query_stride = 2, .rule = ScanRule::kCustom},
      {.chunk_size = 8, .keep = keep_last, .query_stride = 1, .rule = ScanRule::kCustom}};
  return config;
}

/// Nothing here needs a GPU: configurations and shapes are looked at first.
bool bad_use_is_refused() {
  const hip_attn::AttentionShape shape{
      .device = hip_attn::cuda_device(), .max_seq_len = 1000, .head_dim = kHeadDim};
  hip_attn::AttentionShape on_cpu = shape;
  on_cpu.device = hip_attn::kCpu;
  hip_attn::AttentionShape built = shape;
  built.head_dim = hip_attn::built_head_dims().front();
  const HipConfig own_rule = own_rule_config(512, 128);
  constexpr int kOwnRule = static_cast<int>(ScanRule::kCustom);
  const std::string own_head_dim = std::to_string(kHeadDim);
  const std::string own_number = std::to_string(kOwnRule);
  const std::string next_number = std::to_string(kOwnRule + 1);
  HipConfig next_rule = own_rule;
  next_rule.stages[1].rule = static_cast<ScanRule>(kOwnRule + 1);

  AttentionPlan plan;
  bool ok = true;
  ok &= is_refused("the library plans decode with a rule of its user's",
                   hip_attn::plan_decode<Element>(own_rule, built, plan),
                   StatusCode::kInvalidConfig, "config.stages[0].rule is " + own_number);
  ok &= is_refused("the library plans prefill with a rule of its user's",
                   hip_attn::plan_prefill<Element>(own_rule, built, plan),
                   StatusCode::kInvalidConfig, "config.stages[0].rule is " + own_number);
  ok &= is_refused("the library plans decode for a head dim of its user's",
                   hip_attn::plan_decode<Element>({}, shape, plan), StatusCode::kUnsupported,
                   "head_dim is " + own_head_dim + "; this build has ");
  const struct {
    const char* name;
    hip_attn::Status (*plan)(const HipConfig&, const hip_attn::AttentionShape&, AttentionPlan&);
  } planners[] = {{"decode", own::plan_decode}, {"prefill", own::plan_prefill}};
  for (const auto& [name, make_plan] : planners) {
    ok &= is_refused(name, make_plan(own_rule, built, plan), StatusCode::kInvalidShape,
                     "the kernels are for " + own_head_dim);
    ok &= is_refused(
        name, make_plan(next_rule, shape, plan), StatusCode::kInvalidConfig,
        "config.stages[1].rule is " + next_number + "; the kernels have rules 0 to " + own_number);
    ok &= is_refused(name, make_plan(own_rule, on_cpu, plan), StatusCode::kUnsupported,
                     "shape.device is the CPU");
  }
  ok &= is_refused("decode with an empty plan", own::run_decode({}, {}, {}, nullptr),
                   StatusCode::kInvalidShape, "plan is one of plan_prefill");
  ok &= is_refused("prefill with an empty plan", own::run_prefill({}, {}, {}, nullptr),
                   StatusCode::kInvalidShape, "plan is for q of element type float");
  return ok;
}

bool attention_is_right() {
  // Requests that are searched and one whose candidates all fit; positions that do not begin a
  // query block, and a last chunk that is cut.
  const Problem decode = make_problem({{1000, 1}, {150, 1}, {777, 3}});
  const Problem prefill = make_problem({{900, 200}, {90, 90}, {431, 37}});
  bool ok = true;
  for (const bool portable : {false, true}) {
    for (const auto& [op, problem] : {std::pair(hip_attn::Operator::kDecode, &decode),
                                      std::pair(hip_attn::Operator::kPrefill, &prefill)}) {
      const AttentionCheck check(*problem, op, portable);
      ok &= check.run("dense", {}, Attends::kEveryKey);
      ok &= check.run("a budget for every key", own_rule_config(1024, 1024), Attends::kEveryKey);
      ok &= check.run("a rule of its own", own_rule_config(256, 64), Attends::kSelection);
    }
  }
  return ok;
}

/// Two parts of known rows and log-sum-exps, and one that counts for nothing.
bool merge_is_right() {
  constexpr std::int64_t kRows = 3;
  constexpr std::int64_t kElements = kRows * kQueryHeads * kHeadDim;
  const float nothing = -std::numeric_limits<float>::infinity();
  std::vector<Element> parts;
  std::vector<float> lses;
  for (const auto& [value, lse] :
       {std::pair(1.f, 0.f), std::pair(5.f, std::log(3.f)), std::pair(100.f, nothing)}) {
    parts.insert(parts.end(), kElements, hip_attn::from_float<Element>(value));
    lses.insert(lses.end(), kRows * kQueryHeads, lse);
  }
  const DeviceArray<Element> partial_out(parts);
  const DeviceArray<float> partial_lse(lses);
  const DeviceArray<Element> out(kElements, hip_attn::from_float<Element>(NAN));
  const hip_attn::MergeStatesArgs<Element> args{
      .partial_out = {partial_out.data(), {3, kRows, kQueryHeads, kHeadDim}},
      .partial_lse = {partial_lse.data(), {3, kRows, kQueryHeads}},
      .out = {out.data(), {kRows, kQueryHeads, kHeadDim}},
      .lse = {},
  };
  if (!succeeds("merge_states", own::merge_states(hip_attn::cuda_device(), args, nullptr))) {
    return false;
  }
  for (const Element element : out.read()) {
    if (hip_attn::to_float(element) != 4.f) {
      std::printf("merge_states: out is %g; it must be 4\n", double{hip_attn::to_float(element)});
      return false;
    }
  }
  return true;
}

}  // namespace

int main() {
  if (!bad_use_is_refused()) return 1;
  int num_devices = 0;
  if (cudaGetDeviceCount(&num_devices) != cudaSuccess || num_devices == 0) {
    std::printf("skipped: there is no GPU\n");
    return 0;
  }
  const bool attends = attention_is_right();
  return merge_is_right() && attends ? 0 : 1;
}
