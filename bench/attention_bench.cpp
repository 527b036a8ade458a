// Prefill and decode on the CPU backend: time, keys read and the ratio that matters, sparse to
// dense.
//
//   attention_bench --benchmark_filter='decode.*1048576'
//
// Names are operator/element type/preset/[state/]context. Shapes are those of
// docs/guide/performance.md: 8 query heads, 2 KV heads, head dim 128, pages of 16 tokens, one
// request.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "hip_attn/hip_attn.hpp"

namespace {

using namespace hip_attn;

constexpr std::int64_t kQHeads = 8;
constexpr std::int64_t kKvHeads = 2;
constexpr std::int64_t kHeadDim = 128;
constexpr std::int64_t kPageSize = 16;
constexpr std::int64_t kPrefillRows = 1024;

// Uniform in [-1, 1): cheap enough to fill gigabytes.
template <Element T>
void fill_random(std::vector<T>& values, std::uint64_t seed) {
  std::uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (T& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = from_float<T>(static_cast<float>(static_cast<std::int32_t>(state >> 32)) * 0x1p-31f);
  }
}

// One request of `context` keys in pages that lie in shuffled order, as in a server that has run
// for a while.
template <Element T>
struct Problem {
  Problem(const HipConfig& config, std::int64_t context, std::int64_t rows, bool decode)
      : q(rows * kQHeads * kHeadDim), out(q.size()), counters(config.num_stages() + 2) {
    if (static_cast<std::int64_t>(table.size()) * kPageSize != context) make_cache(context);
    fill_random(q, 3);
    seq_len = static_cast<std::int32_t>(context);
    cu_seqlens = {0, static_cast<std::int32_t>(rows)};
    const AttentionShape shape{.batch = 1,
                               .total_q = rows,
                               .max_seq_len = context,
                               .num_q_heads = kQHeads,
                               .num_kv_heads = kKvHeads,
                               .head_dim = kHeadDim};
    status = decode ? plan_decode<T>(config, shape, plan) : plan_prefill<T>(config, shape, plan);
    workspace.resize(plan.workspace_bytes);
    selection_cache.resize(plan.selection_cache_slot_bytes);
    args.q = {q.data(), {rows, kQHeads, kHeadDim}};
    args.out = {out.data(), {rows, kQHeads, kHeadDim}};
    args.kv.pages =
        kv_pages_nhd<const T>(keys.data(), values.data(), static_cast<std::int64_t>(table.size()),
                              kPageSize, kKvHeads, kHeadDim);
    args.kv.block_table = TensorView<const std::int32_t, 2>(
        table.data(), {1, static_cast<std::int64_t>(table.size())});
    keep_landmarks(config, context);
    args.landmarks = landmarks;
    args.seq_lens = {&seq_len, {1}};
    args.cu_seqlens_q = {cu_seqlens.data(), {2}};
  }

  static void make_cache(std::int64_t context) {
    table.resize(context / kPageSize);
    std::iota(table.begin(), table.end(), 0);
    std::uint64_t state = 7;
    for (std::size_t i = table.size(); i > 1; --i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      std::swap(table[i - 1], table[(state >> 33) % i]);
    }
    keys.resize(context * kKvHeads * kHeadDim);
    values.resize(keys.size());
    fill_random(keys, 1);
    fill_random(values, 2);
  }

  // Makes those that the config needs, before anything is timed.
  void keep_landmarks(const HipConfig& config, std::int64_t context) {
    for (const std::int64_t size : landmark_chunk_sizes(config)) {
      const std::int64_t count = context / size;
      landmark_rows.emplace_back(count * kKvHeads * 2 * kHeadDim);
      landmarks.levels[static_cast<std::size_t>(landmarks.num_levels++)] =
          landmark_level_by_head(landmark_rows.back().data(), size, 1, count, kKvHeads, kHeadDim);
    }
    if (landmarks.num_levels == 0 || !status.ok()) return;
    const std::int32_t from = 0;
    UpdateLandmarksArgs<T> update;
    update.kv = args.kv;
    update.from = {&from, {1}};
    update.to = {&seq_len, {1}};
    update.landmarks = landmarks;
    status = update_landmarks(kCpu, update);
  }

  // Shared by the benchmarks of one context length, which run one after the other.
  static inline std::vector<std::int32_t> table;
  static inline std::vector<T> keys;
  static inline std::vector<T> values;

  std::vector<std::vector<T>> landmark_rows;
  Landmarks<T> landmarks;
  std::vector<T> q;
  std::vector<T> out;
  std::vector<std::int64_t> counters;
  std::int32_t seq_len = 0;
  std::array<std::int32_t, 2> cu_seqlens{};
  AttentionPlan plan;
  std::vector<std::byte> workspace;
  std::vector<std::byte> selection_cache;
  AttentionArgs<T> args;
  Status status;
};

// Reports what one call reads: landmarks and keys scored by the search and keys attended, per KV
// head, and the bytes of all (two rows of a landmark, keys of the search, keys and values of
// attention).
template <Element T>
void report(benchmark::State& state, Problem<T>& problem, const std::function<Status()>& call) {
  std::ranges::fill(problem.counters, 0);
  problem.args.counters = {problem.counters.data(),
                           {static_cast<std::int64_t>(problem.counters.size())}};
  if (const Status status = call(); !status.ok()) state.SkipWithError(status.message().c_str());
  const int stages = problem.plan.config.num_stages();
  double landmarks = 0;
  double scored = 0;
  for (int s = 0; s < stages; ++s) {
    const bool of_landmarks = problem.plan.config.stage(s).rule == ScanRule::kLandmark;
    (of_landmarks ? landmarks : scored) += static_cast<double>(problem.counters[s]);
  }
  const auto attended = static_cast<double>(problem.counters[stages]);
  const double bytes = (2 * landmarks + scored + 2 * attended) * kHeadDim * sizeof(T);
  if (problem.plan.config.uses_landmarks()) {
    state.counters["landmarks_scored"] = landmarks / kKvHeads;
  }
  state.counters["keys_scored"] = scored / kKvHeads;
  state.counters["keys_attended"] = attended / kKvHeads;
  state.counters["gathered"] = benchmark::Counter(
      bytes, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::OneK::kIs1000);
}

template <Element T>
void prefill(benchmark::State& state, const HipConfig& config, std::int64_t context) {
  Problem<T> problem(config, context, kPrefillRows, false);
  const auto call = [&] { return run_prefill(problem.plan, problem.args, problem.workspace); };
  if (!problem.status.ok()) return state.SkipWithError(problem.status.message().c_str());
  for (auto _ : state) {
    if (const Status status = call(); !status.ok()) state.SkipWithError(status.message().c_str());
  }
  report<T>(state, problem, call);
}

// refresh_from: the stage that runs first; the number of stages reuses the selection.
template <Element T>
void decode(benchmark::State& state, const HipConfig& config, std::int64_t context,
            std::int32_t refresh_from) {
  Problem<T> problem(config, context, 1, true);
  const auto call = [&] { return run_decode(problem.plan, problem.args, problem.workspace); };
  if (!problem.status.ok()) return state.SkipWithError(problem.status.message().c_str());
  std::int32_t first_stage = 0;
  problem.args.cache = SelectionCache{problem.selection_cache.data(), 1, {&first_stage, {1}}, {}};
  if (const Status status = call(); !status.ok()) state.SkipWithError(status.message().c_str());
  first_stage = refresh_from;
  for (auto _ : state) {
    if (const Status status = call(); !status.ok()) state.SkipWithError(status.message().c_str());
  }
  report<T>(state, problem, call);
}

std::vector<std::pair<const char*, HipConfig>> configs_for(std::int64_t context) {
  return {{"dense", presets::dense()},
          {"infinite_hip", presets::infinite_hip()},
          {"landmark", presets::landmark(context)},
          {"landmark_1k", presets::landmark_1k(context)}};
}

template <Element T>
void register_type(const std::string& type) {
  for (const std::int64_t context : {32768, 131072}) {
    for (const auto& [name, config] : configs_for(context)) {
      benchmark::RegisterBenchmark(fmt::format("prefill/{}/{}/{}", type, name, context).c_str(),
                                   [config = config, context](benchmark::State& state) {
                                     prefill<T>(state, config, context);
                                   })
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
    }
  }
  for (const std::int64_t context : {4096, 32768, 131072, 1048576}) {
    for (const auto& [name, config] : configs_for(context)) {
      for (const bool reused : {false, true}) {
        // Below the configuration's budget both are the same computation.
        if (config.is_dense() ? reused : context < 8192) continue;
        benchmark::RegisterBenchmark(
            fmt::format("decode/{}/{}/{}/{}", type, name, reused ? "reused" : "refreshed", context)
                .c_str(),
            [config = config, context, reused](benchmark::State& state) {
              decode<T>(state, config, context, reused ? config.num_stages() : 0);
            })
            ->Unit(benchmark::kMillisecond)
            ->UseRealTime();
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  register_type<float>("float");
  register_type<float16>("float16");
  register_type<bfloat16>("bfloat16");
  benchmark::AddCustomContext("hip_attn", version());
  benchmark::AddCustomContext("instruction_set", cpu_instruction_set());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
