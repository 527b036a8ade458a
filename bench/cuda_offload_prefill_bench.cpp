// Prefill with the cache in host memory: milliseconds of a layer, with presets::landmark.
//
//   cuda_offload_prefill_bench --benchmark_filter='8192of131072' --benchmark_out=offload.json
//
// Names are offload_prefill/ROWSofCONTEXT/qHQkHKdD: the last ROWS rows of a prompt of CONTEXT keys,
// all of which are in the cache. "device_ms" is with the cache on the device, "in_place_ms" with a
// store of an eighth of its bytes, landmarks included, whose blocks are read where they lie, and
// "staged_ms" with a workspace that stages the cache of four KV heads, "staged_2_ms" of two.
// Nothing is hot. "link_ms" is what all keys and values of the prompt take at 55 GB/s,
// "distinct_ms" what those do that the search of landmarks leaves to any query block, and
// "bound_ms" is the larger of that and "device_ms". Keys and queries are random, so that query
// blocks select with nothing in common.
#include <benchmark/benchmark.h>
#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cuda_bench_support.hpp"
#include "cuda_benchmark_main.hpp"
#include "cuda_decode_graph.hpp"
#include "cuda_offload_layer.hpp"
#include "hip_attn/hip_attn.hpp"

namespace {

using namespace hip_attn;
using namespace hip_attn::bench;

using T = OffloadLayer::T;
constexpr double kLinkBytes = 55e9;

class Prefill {
 public:
  Prefill(const Shape& s, std::int64_t rows)
      : shape_(s),
        rows_(rows),
        config_(presets::landmark(s.context)),
        table_(shuffled(s.context / kKvBlockTokens)),
        length_(std::vector<std::int32_t>{static_cast<std::int32_t>(s.context)}),
        cu_(std::vector<std::int32_t>{0, static_cast<std::int32_t>(rows)}),
        q_(rows * s.q_heads * s.head_dim),
        out_(q_.size()) {
    fill(q_.get(), q_.size(), 3);
    check(plan_kv_store(
        config_, {cuda_device(), kElementType<T>, 1, s.context, s.kv_heads, s.head_dim},
        share_of_cache(8, 1, s.context, s.kv_heads, s.head_dim, config_), store_plan_));
    device_.emplace(1, s.context, s.kv_heads, s.head_dim, config_, nullptr);
    device_->landmarks.make({device_->pages, table()});
    home_.emplace(1, s.context, s.kv_heads, s.head_dim, config_, &store_plan_);
    check(clear_kv_store(store()));
    check(bind_kv_store({store(), home_->blocks, table(), {length_.get(), {1}}}));
    AttentionShape shape{cuda_device(), 1, rows, s.context, s.q_heads, s.kv_heads, s.head_dim};
    check(plan_prefill<T>(config_, shape, plan_));
    for (auto* staged : {&staged_2_plan_, &staged_plan_}) {
      const std::int64_t heads = staged == &staged_plan_ ? 4 : 2;
      shape.staging_bytes =
          static_cast<std::size_t>(heads * 2 * s.context * s.head_dim) * sizeof(T);
      check(plan_prefill<T>(config_, shape, *staged));
    }
    workspace_.emplace(static_cast<std::int64_t>(staged_plan_.workspace_bytes));
    check(cudaStreamCreate(&stream_), "cudaStreamCreate");
  }
  ~Prefill() { cudaStreamDestroy(stream_); }

  // Milliseconds, the median of some.
  double device() const { return time(plan_, {}); }
  double in_place() const { return time(plan_, store()); }
  double staged() const { return time(staged_plan_, store()); }
  double staged_2() const { return time(staged_2_plan_, store()); }
  double link() const { return 1e3 * static_cast<double>(home_->home.size()) / kLinkBytes; }
  double distinct() const { return link() * distinct_share(); }

 private:
  // Of all chunks and KV heads: sink, window, and what the search of landmarks leaves.
  double distinct_share() const {
    const Shape& s = shape_;
    HipConfig of_landmarks = config_;
    while (of_landmarks.stages.back().rule != ScanRule::kLandmark) of_landmarks.stages.pop_back();
    of_landmarks.refresh_interval.clear();
    const std::int64_t chunk = of_landmarks.block_k();
    AttentionPlan plan;
    check(plan_prefill<T>(of_landmarks,
                          {cuda_device(), 1, rows_, s.context, s.q_heads, s.kv_heads, s.head_dim},
                          plan));
    plan.dense_until = staged_plan_.dense_until;
    const Buffer<std::int32_t> blocks(plan.selection_rows * s.kv_heads * plan.max_selected_blocks);
    const Buffer<std::int32_t> counts(plan.selection_rows * s.kv_heads);
    const Buffer<std::int32_t> windows(counts.size());
    AttentionArgs<T> args = arguments({});
    args.selection_out =
        BlockSelection{{blocks.get(), {plan.selection_rows, s.kv_heads, plan.max_selected_blocks}},
                       {counts.get(), {plan.selection_rows, s.kv_heads}},
                       {windows.get(), {plan.selection_rows, s.kv_heads}}};
    const Buffer<std::byte> workspace(static_cast<std::int64_t>(plan.workspace_bytes));
    check(run_prefill(plan, args, {workspace.get(), plan.workspace_bytes}, stream_));
    check(cudaStreamSynchronize(stream_), "run_prefill");
    const std::vector<std::int32_t> all = blocks.read();
    const std::vector<std::int32_t> count = counts.read();
    const std::vector<std::int32_t> window = windows.read();
    std::int64_t distinct = 0;
    for (std::int64_t head = 0; head < s.kv_heads; ++head) {
      std::vector<bool> marked(static_cast<std::size_t>(s.context / chunk));
      const auto mark = [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t i = first; i < std::min(last, s.context / chunk); ++i) marked[i] = true;
      };
      mark(0, config_.sink / chunk);
      const std::int64_t block_q = of_landmarks.block_q;
      for (std::int64_t n = 0; n < (rows_ + block_q - 1) / block_q; ++n) {
        const std::int64_t unit = n * s.kv_heads + head;
        for (std::int64_t i = 0; i < count[unit]; ++i) {
          const std::int64_t number = all[unit * plan.max_selected_blocks + i];
          mark(number, number + 1);
        }
        mark(window[unit] / chunk, (s.context - rows_ + (n + 1) * block_q + chunk - 1) / chunk);
      }
      distinct += std::count(marked.begin(), marked.end(), true);
    }
    return static_cast<double>(distinct) / static_cast<double>(s.kv_heads * (s.context / chunk));
  }

  TensorView<const std::int32_t, 2> table() const {
    return {table_.get(), {1, shape_.context / kKvBlockTokens}};
  }
  KvStore store() const { return {&store_plan_, home_->memory->get(), {}}; }

  AttentionArgs<T> arguments(const std::optional<KvStore>& store) const {
    const Shape& s = shape_;
    AttentionArgs<T> args;
    args.q = {q_.get(), {rows_, s.q_heads, s.head_dim}};
    args.out = {out_.get(), {rows_, s.q_heads, s.head_dim}};
    args.kv = {(store ? home_ : device_)->pages, table()};
    args.landmarks = device_->landmarks.view();  // of the same keys
    args.seq_lens = {length_.get(), {1}};
    args.cu_seqlens_q = {cu_.get(), {2}};
    args.store = store;
    return args;
  }

  double time(const AttentionPlan& plan, const std::optional<KvStore>& store) const {
    const AttentionArgs<T> args = arguments(store);
    const Workspace workspace(workspace_->get(), static_cast<std::size_t>(workspace_->size()));
    std::vector<double> times;
    for (int i = 0; i < 4; ++i) {  // the first warms up
      const double seconds =
          seconds_of(stream_, [&] { check(run_prefill(plan, args, workspace, stream_)); });
      if (i > 0) times.push_back(1e3 * seconds);
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  Shape shape_;
  std::int64_t rows_;
  HipConfig config_;
  Buffer<std::int32_t> table_;
  Buffer<std::int32_t> length_;
  Buffer<std::int32_t> cu_;
  Buffer<T> q_;
  Buffer<T> out_;
  KvStorePlan store_plan_;
  AttentionPlan plan_;
  AttentionPlan staged_plan_;
  AttentionPlan staged_2_plan_;
  std::optional<OffloadLayer> device_;
  std::optional<OffloadLayer> home_;
  std::optional<Buffer<std::byte>> workspace_;
  cudaStream_t stream_ = nullptr;
};

void offload_prefill(benchmark::State& state, const Shape& shape, std::int64_t rows) {
  const Prefill prefill(shape, rows);
  double staged = 0;
  for (auto _ : state) {
    staged = prefill.staged();
    state.SetIterationTime(1e-3 * staged);
  }
  state.counters["staged_ms"] = staged;
  state.counters["staged_2_ms"] = prefill.staged_2();
  state.counters["in_place_ms"] = prefill.in_place();
  const double device = prefill.device();
  const double distinct = prefill.distinct();
  state.counters["device_ms"] = device;
  state.counters["link_ms"] = prefill.link();
  state.counters["distinct_ms"] = distinct;
  state.counters["bound_ms"] = std::max(device, distinct);
}

void register_benchmarks() {
  for (const auto& [context, rows] : {std::pair<std::int64_t, std::int64_t>{131072, 32768},
                                      {131072, 131072},
                                      {131072, 8192},
                                      {131072, 1024},
                                      {131072, 64},
                                      {1048576, 32768},
                                      {1048576, 1024}}) {
    const Shape shape{.context = context};
    const std::string name = fmt::format("offload_prefill/{}of{}/q{}k{}d{}", rows, context,
                                         shape.q_heads, shape.kv_heads, shape.head_dim);
    benchmark::RegisterBenchmark(
        name.c_str(),
        [shape, rows = rows](benchmark::State& state) { offload_prefill(state, shape, rows); })
        ->UseManualTime()
        ->Iterations(1)
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace

int main(int argc, char** argv) { return run_benchmarks(argc, argv, register_benchmarks); }
