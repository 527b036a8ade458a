// Decode with the cache in host memory: microseconds per layer and step, replayed from a CUDA graph
// of append_kv and decode for every layer and every step of a refresh cycle, with
// presets::landmark.
//
//   cuda_offload_bench --benchmark_filter='1x131072' --benchmark_out=offload.json
//
// Names are offload/BATCHxCONTEXT/qHQkHKdD/CACHE/driftPERCENT: CACHE is "device" for a cache on the
// device with the same pages, "1of8" for a store with an eighth of its bytes, landmarks included
// ("1of1": with room for all, of which all is hot because it was appended). "1of8beside" is one of
// 32 layers, as a model of 8B parameters has, whose blocks become hot on a stream beside that of
// the layers, eight layers together; their next step waits for it. "1of8staggered" is that with
// layers whose searches begin anew in different steps, as many in each as can be. "1of8ahead" is
// that with searches ahead (refresh_ahead_at), as is "deviceahead", all of whose layers search in
// the same step.
//
// All layers with a store have one home, with slots and selections of their own.
//
// Keys are random. Queries drift: each step a query becomes sqrt(1 - p^2) of itself and p of a
// random one, p being PERCENT. Steps run through the refresh cycle; the first two cycles are not
// measured. "mean_us" is over whole cycles, "reused_us" over steps in which no stage of the first
// layer is due, "refreshed_us" over those in which all are, "after_us" over those behind them,
// which make blocks hot, and "p99_us" over all. "miss" is the share of blocks that were asked for
// and not hot. "cold_us" is a step of every stage with nothing hot, "warm_us" the same again two
// steps later, each a graph by itself.
#include <benchmark/benchmark.h>
#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
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
constexpr std::int64_t kMostSteps = 1024;  // that a request grows by
constexpr int kLayersBeside = 32;
constexpr int kTogether = 8;  // layers whose blocks become hot together

// Where the cache lies, and how it is kept.
struct Way {
  const char* name;  // after what a store holds
  bool has_store = false;
  bool admits_beside = false;
  bool staggers = false;
  bool searches_ahead = false;
};
constexpr Way kDevice{"device"};
constexpr Way kDeviceAhead{.name = "deviceahead", .searches_ahead = true};
constexpr Way kStore{.name = "", .has_store = true};
constexpr Way kStoreBeside{.name = "beside", .has_store = true, .admits_beside = true};
constexpr Way kStoreStaggered{
    .name = "staggered", .has_store = true, .admits_beside = true, .staggers = true};
constexpr Way kStoreAhead{.name = "ahead",
                          .has_store = true,
                          .admits_beside = true,
                          .staggers = true,
                          .searches_ahead = true};

// Decode steps of all layers, one at a time or a refresh cycle in one graph.
class Steps {
 public:
  Steps(const Shape& s, const Way& way, std::int64_t share, double drift)
      : shape_(s),
        way_(way),
        share_(share),
        drift_(drift),
        config_(presets::landmark(s.context)),
        table_(shuffled(s.batch * s.context / kKvBlockTokens)),
        table_on_device_(table_),
        layers_count_(layers_of(s, way)),
        cycle_(config_.refresh_interval.front()),
        refresh_(cycle_ * layers_count_ * s.batch),
        lengths_(cycle_ * s.batch),
        slots_(cycle_ * s.batch),
        cu_(multiples(s.batch + 1)),
        appended_(2 * s.batch * s.kv_heads * s.head_dim),
        out_(layers_count_ * s.batch * s.q_heads * s.head_dim),
        q_(cycle_ * out_.size()),
        queries_(static_cast<std::size_t>(out_.size())) {
    check(plan_decode<T>(
        config_, {cuda_device(), s.batch, s.batch, s.context, s.q_heads, s.kv_heads, s.head_dim},
        plan_));
    if (way.has_store) {
      check(plan_kv_store(
          config_, {cuda_device(), kElementType<T>, s.batch, s.context, s.kv_heads, s.head_dim},
          share_of_cache(share, s.batch, s.context, s.kv_heads, s.head_dim, config_), store_plan_));
    }
    for (int layer = 0; layer < layers_count_; ++layer) {
      layers_.push_back(
          std::make_unique<OffloadLayer>(s.batch, s.context, s.kv_heads, s.head_dim, config_,
                                         way.has_store ? &store_plan_ : nullptr,
                                         way.has_store && layer > 0 ? layers_[0].get() : nullptr));
      layers_.back()->landmarks.make({layers_.back()->pages, block_table()});
    }
    workspace_.emplace(static_cast<std::int64_t>(plan_.workspace_bytes));
    const auto cache_bytes = static_cast<std::int64_t>(plan_.selection_cache_slot_bytes) * s.batch;
    caches_.emplace(layers_count_ * cache_bytes);
    check(cudaMemset(caches_->get(), 0, caches_->size()), "cudaMemset");
    fill(appended_.get(), appended_.size(), 4);
    for (float& x : queries_) x = normal_(random_);
    check(cudaStreamCreate(&stream_), "cudaStreamCreate");
    check(cudaStreamCreate(&beside_), "cudaStreamCreate");
    check(cudaEventCreateWithFlags(&decoded_, cudaEventDisableTiming), "cudaEventCreate");
    for (cudaEvent_t& event : admitted_) {
      check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
    }
    ends_.resize(static_cast<std::size_t>(cycle_ + 1));
    for (cudaEvent_t& event : ends_) check(cudaEventCreate(&event), "cudaEventCreate");
    forget();
    one_ = capture(1);
    whole_cycle_ = capture(cycle_);
  }
  ~Steps() {
    for (cudaGraphExec_t graph : {one_, whole_cycle_}) cudaGraphExecDestroy(graph);
    for (cudaStream_t stream : {stream_, beside_}) cudaStreamDestroy(stream);
    cudaEventDestroy(decoded_);
    for (cudaEvent_t event : admitted_) cudaEventDestroy(event);
    for (cudaEvent_t event : ends_) cudaEventDestroy(event);
  }

  // So many that the keys of one are not in L2 when it comes again.
  static int layers_of(const Shape& s, const Way& way) {
    if (way.admits_beside) return kLayersBeside;
    return way.has_store ? kLayers : layers_that_fit<T>(s);
  }

  // Nothing is hot.
  void forget() {
    if (!layers_.front()->memory) return;
    const std::vector<std::int32_t> lengths(static_cast<std::size_t>(shape_.batch),
                                            static_cast<std::int32_t>(shape_.context - kMostSteps));
    check(cudaMemcpy(lengths_.get(), lengths.data(), lengths.size() * sizeof(std::int32_t),
                     cudaMemcpyHostToDevice),
          "lengths");
    for (const auto& layer : layers_) {
      check(clear_kv_store(store(*layer), stream_));
      check(bind_kv_store({store(*layer), layer->blocks, block_table(), lengths_view()}, stream_));
    }
    check(cudaStreamSynchronize(stream_), "bind");
    if (share_ == 1) append_all();
  }

  // What an append leaves hot where the budget holds it: all keys that the first step finds.
  void append_all() {
    const Shape& s = shape_;
    constexpr std::int64_t kPiece = 4096;
    const std::int64_t keys = s.context - kMostSteps;
    Buffer<T> rows(2 * kPiece * s.kv_heads * s.head_dim);
    fill(rows.get(), rows.size(), 6);
    for (std::int64_t first = 0; first < keys; first += kPiece) {
      const std::int64_t tokens = std::min(kPiece, keys - first);
      std::vector<std::int64_t> slots;
      for (std::int64_t i = first; i < first + tokens; ++i) {
        slots.push_back(table_[static_cast<std::size_t>(i / kKvBlockTokens)] * kKvBlockTokens +
                        i % kKvBlockTokens);
      }
      const Buffer<std::int64_t> slots_of_piece(slots);
      const Buffer<std::int32_t> length(
          std::vector<std::int32_t>{static_cast<std::int32_t>(first + tokens)});
      const Buffer<std::int32_t> cu(
          std::vector<std::int32_t>{0, static_cast<std::int32_t>(tokens)});
      for (const auto& layer : layers_) {
        AppendKvArgs<T> append;
        append.k = {rows.get(), {tokens, s.kv_heads, s.head_dim}};
        append.v = {rows.get() + rows.size() / 2, {tokens, s.kv_heads, s.head_dim}};
        append.slot_mapping = {slots_of_piece.get(), {tokens}};
        append.pages = layer->pages;
        append.store = AppendStore{
            store(*layer), block_table(), {length.get(), {1}}, {cu.get(), {2}}, std::nullopt};
        check(append_kv(cuda_device(), append, stream_));
      }
      check(cudaStreamSynchronize(stream_), "append_all");
    }
  }

  // Seconds of a layer in step `step`, counted from the first.
  double run_one(std::int64_t step, std::int32_t refresh_from) {
    prepare(step, 1, refresh_from);
    run(one_);
    return seconds_of_step(0);
  }

  // The same of each step of the cycle that begins with `first`.
  std::vector<double> run_cycle(std::int64_t first) {
    prepare(first, cycle_, {});
    run(whole_cycle_);
    std::vector<double> seconds;
    for (std::int64_t i = 0; i < cycle_; ++i) seconds.push_back(seconds_of_step(i));
    return seconds;
  }

  double miss() const {
    KvStoreCounters all;
    for (const auto& layer : layers_) {
      KvStoreCounters counters;
      check(read_kv_store_counters(store(*layer), counters, stream_));
      all.hits += counters.hits;
      all.misses += counters.misses;
    }
    return static_cast<double>(all.misses - misses_before_) /
           static_cast<double>(
               std::max<std::int64_t>(1, all.hits - hits_before_ + all.misses - misses_before_));
  }
  void count_from_here() {
    hits_before_ = misses_before_ = 0;
    for (const auto& layer : layers_) {
      KvStoreCounters counters;
      check(read_kv_store_counters(store(*layer), counters, stream_));
      hits_before_ += counters.hits;
      misses_before_ += counters.misses;
    }
  }
  const HipConfig& config() const { return config_; }
  std::int32_t stages_at(std::int64_t step) const {
    return way_.searches_ahead ? refresh_ahead_at(config_, step) : refresh_from_at(config_, step);
  }
  std::int64_t cycle() const { return cycle_; }
  const KvStorePlan& store_plan() const { return store_plan_; }

 private:
  static std::vector<std::int32_t> multiples(std::int64_t n) {
    std::vector<std::int32_t> values(static_cast<std::size_t>(n));
    std::iota(values.begin(), values.end(), 0);
    return values;
  }
  TensorView<const std::int32_t, 2> block_table() const {
    return {table_on_device_.get(), {shape_.batch, shape_.context / kKvBlockTokens}};
  }
  TensorView<const std::int32_t, 1> lengths_view() const {
    return {lengths_.get(), {shape_.batch}};
  }
  TensorView<const std::int32_t, 1> cu() const { return {cu_.get(), {shape_.batch + 1}}; }
  KvStore store(const OffloadLayer& layer) const { return {&store_plan_, layer.memory->get(), {}}; }

  cudaGraphExec_t capture(std::int64_t steps) {
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    record_end(0);
    for (std::int64_t step = 0; step < steps; ++step) {
      for (int layer = 0; layer < layers_count_; ++layer) {
        // The append of a layer's next step writes its store.
        const bool waits = way_.admits_beside && step > 0 && layer % kTogether == 0;
        if (waits) wait(stream_, admitted_[static_cast<std::size_t>(layer / kTogether)]);
        call(step, layer);
        if (way_.admits_beside && (layer + 1) % kTogether == 0) admit(step, layer / kTogether);
      }
      if (way_.admits_beside && step + 1 == steps) wait(stream_, admitted_.back());
      record_end(step + 1);
    }
    cudaGraph_t graph;
    cudaGraphExec_t made;
    check(cudaStreamEndCapture(stream_, &graph), "capture");
    check(cudaGraphInstantiate(&made, graph, 0), "cudaGraphInstantiate");
    cudaGraphDestroy(graph);
    return made;
  }
  static void record(cudaEvent_t event, cudaStream_t stream) {
    check(cudaEventRecord(event, stream), "cudaEventRecord");
  }
  static void wait(cudaStream_t stream, cudaEvent_t event) {
    check(cudaStreamWaitEvent(stream, event), "cudaStreamWaitEvent");
  }
  // By an event that can be asked for its time once the graph has run.
  void record_end(std::int64_t steps) {
    check(cudaEventRecordWithFlags(ends_[static_cast<std::size_t>(steps)], stream_,
                                   cudaEventRecordExternal),
          "cudaEventRecordWithFlags");
  }

  void run(cudaGraphExec_t graph) {
    check(cudaGraphLaunch(graph, stream_), "launch");
    check(cudaStreamSynchronize(stream_), "benchmark");
  }
  double seconds_of_step(std::int64_t number) const {
    const auto i = static_cast<std::size_t>(number);
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, ends_[i], ends_[i + 1]), "cudaEventElapsedTime");
    return milliseconds * 1e-3 / layers_count_;
  }

  // What `steps` steps read, from step `first` on. Absent: they refresh as the cycle says.
  void prepare(std::int64_t first, std::int64_t steps, std::optional<std::int32_t> refresh_from) {
    const Shape& s = shape_;
    const std::int64_t stagger = way_.staggers ? cycle_ : 0;
    std::vector<std::int32_t> refresh;
    std::vector<std::int32_t> lengths;
    std::vector<std::int64_t> slots;
    std::vector<T> q;
    for (std::int64_t step = first; step < first + steps; ++step) {
      const std::int64_t position = s.context - kMostSteps + step % kMostSteps;
      for (std::int64_t layer = 0; layer < layers_count_; ++layer) {
        refresh.insert(refresh.end(), static_cast<std::size_t>(s.batch),
                       refresh_from.value_or(stages_at(step + layer * stagger / layers_count_)));
      }
      for (std::int64_t b = 0; b < s.batch; ++b) {
        lengths.push_back(static_cast<std::int32_t>(position + 1));
        const std::int64_t column = (b * s.context + position) / kKvBlockTokens;
        slots.push_back(std::int64_t{table_[static_cast<std::size_t>(column)]} * kKvBlockTokens +
                        position % kKvBlockTokens);
      }
      const float stay = std::sqrt(static_cast<float>(1 - drift_ * drift_));
      for (float& x : queries_) {
        x = stay * x + static_cast<float>(drift_) * normal_(random_);
        q.push_back(from_float<T>(x));
      }
    }
    const auto copy = [&](auto* to, const auto& from) {
      check(cudaMemcpyAsync(to, from.data(), from.size() * sizeof(from[0]), cudaMemcpyHostToDevice,
                            stream_),
            "step");
    };
    copy(refresh_.get(), refresh);
    copy(lengths_.get(), lengths);
    copy(slots_.get(), slots);
    copy(q_.get(), q);
    check(cudaStreamSynchronize(stream_), "step");
  }

  void call(std::int64_t step, int number) {
    const Shape& s = shape_;
    const TensorView<const std::int32_t, 1> lengths = lengths_of(step);
    const OffloadLayer& layer = *layers_[static_cast<std::size_t>(number)];
    const SelectionCache cache = selection_cache(step, number);
    AppendKvArgs<T> append;
    append.k = {appended_.get(), {s.batch, s.kv_heads, s.head_dim}};
    append.v = {appended_.get() + appended_.size() / 2, {s.batch, s.kv_heads, s.head_dim}};
    append.slot_mapping = {slots_.get() + step * s.batch, {s.batch}};
    append.pages = layer.pages;
    append.landmarks = AppendLandmarks<T>{layer.landmarks.view(), block_table(), lengths, cu()};
    if (layer.memory) {
      append.store = AppendStore{store(layer), block_table(), lengths, cu(), cache};
      if (way_.admits_beside) append.store->cache.reset();
    }
    check(append_kv(cuda_device(), append, stream_));

    const std::int64_t first = number * s.batch * s.q_heads * s.head_dim;
    AttentionArgs<T> args;
    args.q = {q_.get() + step * out_.size() + first, {s.batch, s.q_heads, s.head_dim}};
    args.out = {out_.get() + first, {s.batch, s.q_heads, s.head_dim}};
    args.kv = {layer.pages, block_table()};
    args.landmarks = layer.landmarks.view();
    args.seq_lens = lengths;
    args.cu_seqlens_q = cu();
    args.cache = cache;
    if (layer.memory) args.store = store(layer);
    check(run_decode(plan_, args, {workspace_->get(), static_cast<std::size_t>(workspace_->size())},
                     stream_));
  }

  // Of layers that have all been called in this step, beside those that follow.
  void admit(std::int64_t step, int group) {
    record(decoded_, stream_);
    wait(beside_, decoded_);
    for (int number = group * kTogether; number < (group + 1) * kTogether; ++number) {
      const OffloadLayer& layer = *layers_[static_cast<std::size_t>(number)];
      check(admit_kv_store<T>({store(layer), layer.pages, block_table(), lengths_of(step),
                               selection_cache(step, number)},
                              beside_));
    }
    record(admitted_[static_cast<std::size_t>(group)], beside_);
  }

  TensorView<const std::int32_t, 1> lengths_of(std::int64_t step) const {
    return {lengths_.get() + step * shape_.batch, {shape_.batch}};
  }
  SelectionCache selection_cache(std::int64_t step, int layer) const {
    const auto bytes = static_cast<std::int64_t>(plan_.selection_cache_slot_bytes) * shape_.batch;
    return {caches_->get() + layer * bytes,
            shape_.batch,
            {refresh_.get() + (step * layers_count_ + layer) * shape_.batch, {shape_.batch}},
            {}};
  }

  Shape shape_;
  Way way_;
  std::int64_t share_;
  double drift_;
  HipConfig config_;
  std::vector<std::int32_t> table_;
  Buffer<std::int32_t> table_on_device_;
  int layers_count_;
  std::int64_t cycle_;
  // Of each step of a cycle
  Buffer<std::int32_t> refresh_;
  Buffer<std::int32_t> lengths_;
  Buffer<std::int64_t> slots_;
  Buffer<std::int32_t> cu_;
  Buffer<T> appended_;
  Buffer<T> out_;
  Buffer<T> q_;                 ///< of each step of a cycle
  std::vector<float> queries_;  ///< of the last step that was prepared
  std::mt19937 random_{5};
  std::normal_distribution<float> normal_;
  AttentionPlan plan_;
  KvStorePlan store_plan_;
  std::vector<std::unique_ptr<OffloadLayer>> layers_;
  std::optional<Buffer<std::byte>> workspace_;
  std::optional<Buffer<std::byte>> caches_;
  cudaStream_t stream_ = nullptr;
  cudaStream_t beside_ = nullptr;
  cudaEvent_t decoded_ = nullptr;
  std::array<cudaEvent_t, kLayersBeside / kTogether> admitted_{};
  std::vector<cudaEvent_t> ends_;  ///< of steps; the first: their beginning
  cudaGraphExec_t one_ = nullptr;
  cudaGraphExec_t whole_cycle_ = nullptr;
  std::int64_t hits_before_ = 0;
  std::int64_t misses_before_ = 0;
};

void offload(benchmark::State& state, const Shape& shape, const Way& way, std::int64_t share,
             double drift) {
  Steps steps(shape, way, share, drift);
  const HipConfig& config = steps.config();
  const std::int32_t stages = config.num_stages();
  const double cold = steps.run_one(0, 0);
  static_cast<void>(steps.run_one(1, stages));
  const double warm = steps.run_one(2, 0);
  std::int64_t step = 3;
  for (; step % steps.cycle() != 0; ++step)
    static_cast<void>(steps.run_one(step, steps.stages_at(step)));
  for (; step < 2 * steps.cycle(); step += steps.cycle()) static_cast<void>(steps.run_cycle(step));
  if (way.has_store) steps.count_from_here();
  std::vector<double> times;
  std::vector<double> of_kind[3];  // reused, refreshed whole, the step behind
  for (auto _ : state) {
    double sum = 0;
    std::int64_t i = 0;
    for (const double seconds : steps.run_cycle(step)) {
      const std::int32_t from = refresh_from_at(config, step++);
      times.push_back(seconds);
      sum += seconds;
      if (i == 1) of_kind[2].push_back(seconds);
      if (i != 1 && from == stages) of_kind[0].push_back(seconds);
      if (from == 0) of_kind[1].push_back(seconds);
      ++i;
    }
    state.SetIterationTime(sum / static_cast<double>(steps.cycle()));
  }
  const auto mean = [](const std::vector<double>& all) {
    return 1e6 * std::accumulate(all.begin(), all.end(), 0.) / static_cast<double>(all.size());
  };
  state.counters["mean_us"] = mean(times);
  state.counters["reused_us"] = mean(of_kind[0]);
  state.counters["refreshed_us"] = mean(of_kind[1]);
  state.counters["after_us"] = mean(of_kind[2]);
  std::sort(times.begin(), times.end());
  state.counters["p99_us"] = 1e6 * times[times.size() * 99 / 100];
  state.counters["cold_us"] = 1e6 * cold;
  state.counters["warm_us"] = 1e6 * warm;
  if (!way.has_store) return;
  state.counters["miss"] = steps.miss();
  state.counters["slots"] = static_cast<double>(steps.store_plan().slots);
  state.counters["device_MB"] = static_cast<double>(steps.store_plan().memory_bytes) * 1e-6;
}

void register_benchmarks() {
  std::vector<Shape> shapes;
  for (const std::int64_t context : {131072, 524288, 1048576}) {
    shapes.push_back({.context = context});
  }
  shapes.push_back({.batch = 8, .context = 131072});
  shapes.push_back({.context = 4194304, .q_heads = 8, .kv_heads = 2});
  const auto add = [](const Shape& shape, const Way& way, std::int64_t share, int percent) {
    const std::string name =
        fmt::format("offload/{}x{}/q{}k{}d{}/{}{}/drift{}", shape.batch, shape.context,
                    shape.q_heads, shape.kv_heads, shape.head_dim,
                    way.has_store ? fmt::format("1of{}", share) : "", way.name, percent);
    benchmark::RegisterBenchmark(
        name.c_str(),
        [=](benchmark::State& state) { offload(state, shape, way, share, percent * 0.01); })
        ->UseManualTime()
        ->Iterations(12)
        ->Unit(benchmark::kMicrosecond);
  };
  for (const Shape& shape : shapes) {
    for (const int percent : {2, 5, 10}) {
      for (const Way& way :
           {kDevice, kDeviceAhead, kStore, kStoreBeside, kStoreStaggered, kStoreAhead}) {
        add(shape, way, 8, percent);
      }
      for (const std::int64_t share : {4, 2, 1}) {
        if (share == 1 && shape.batch > 1) continue;  // append_all() appends to one request
        for (const Way& way : {kStore, kStoreAhead}) add(shape, way, share, percent);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) { return run_benchmarks(argc, argv, register_benchmarks); }
