// Decode on a GPU: microseconds per layer and step, replayed from a CUDA graph.
//
//   cuda_decode_bench --benchmark_filter='infinite_hip/.*1x1048576' --benchmark_out=decode.json
//
// Names are decode/type/preset/state/BATCHxCONTEXT/qHQkHKdD/pPAGE, with "hnd" behind PAGE where a
// page holds its keys by head, not by token, rROWS where a request has more query rows than one,
// and "append" where every call stands behind an append_kv of a token for each request, whose time
// is counted too. The states are the first stage that runs: "from0" refreshes everything, "reused"
// nothing, "cycle" is the mean over one refresh schedule. A graph holds kLayers calls with a cache
// each, so that no call finds its keys in L2.
//
// "floor" reads as many bytes as a call gathers, with a kernel that does nothing else: "stream_MB"
// all of a buffer, "rows_MB" every eighth row of 256 bytes, as one of eight KV heads lies in a
// page, "blocks_MB" blocks of eight such rows from anywhere, as a selection does.
//
// Where all bytes of a call are known, MB and gathered (bytes per second) say how many there are,
// keys_scored and keys_attended of how many keys (the latter with their values), floor_us how long
// they take at kMemoryRate, and of_floor that over the time.
#include <benchmark/benchmark.h>
#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "cuda_bench_support.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/hip_attn.hpp"

namespace {

using namespace hip_attn;
using namespace hip_attn::bench;

constexpr int kLayers = 8;
constexpr int kCycle = 32;
constexpr std::int32_t kReuse = 7;      // steps between two refreshes of the last stage
constexpr double kMemoryRate = 4.3e12;  // bytes per second that an H200 reads from its memory

struct Shape {
  std::int64_t batch = 1;
  std::int64_t context = 32768;
  std::int64_t q_heads = 32;
  std::int64_t kv_heads = 8;
  std::int64_t head_dim = 128;
  std::int64_t page_size = 16;
  bool by_head = false;   // HND pages
  std::int64_t rows = 1;  // query rows of a request
  bool appends = false;   // append_kv in front of every call

  std::string name() const {
    return fmt::format("{}x{}/q{}k{}d{}/p{}{}{}{}", batch, context, q_heads, kv_heads, head_dim,
                       page_size, by_head ? "hnd" : "", rows > 1 ? fmt::format("r{}", rows) : "",
                       appends ? "append" : "");
  }
};

std::int64_t free_bytes() {
  std::size_t free = 0;
  std::size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<std::int64_t>(free);
}

// The keys and values of kLayers layers (fewer where memory is short), pages in shuffled order.
template <typename T>
struct Cache {
  explicit Cache(const Shape& s)
      : shape(s),
        pages(s.batch * s.context / s.page_size),
        layer_elements(pages * s.page_size * s.kv_heads * s.head_dim),
        layers(static_cast<int>(std::clamp<std::int64_t>(
            (free_bytes() - (std::int64_t{4} << 30)) / (2 * layer_elements * sizeof(T)), 1,
            kLayers))),
        keys(layers * layer_elements),
        values(layers * layer_elements),
        table(shuffled(pages)) {
    fill(keys.get(), keys.size(), 1);
    fill(values.get(), values.size(), 2);
  }

  Shape shape;
  std::int64_t pages;
  std::int64_t layer_elements;
  int layers;
  Buffer<T> keys;
  Buffer<T> values;
  Buffer<std::int32_t> table;
};

// Benchmarks that follow one another share a cache of the same shape.
template <typename T>
Cache<T>& cache_for(const Shape& shape) {
  static std::unique_ptr<Cache<T>> cache;
  if (!cache || cache->shape.name() != shape.name()) {
    cache.reset();
    cache = std::make_unique<Cache<T>>(shape);
  }
  return *cache;
}

// One graph that decodes one row of every request through all layers.
template <typename T>
class DecodeGraph {
 public:
  DecodeGraph(const HipConfig& config, const Shape& s)
      : cache_(cache_for<T>(s)),
        q_(cache_.layers * s.batch * s.rows * s.q_heads * s.head_dim),
        out_(q_.size()),
        cu_seqlens_(multiples(s.rows, s.batch + 1)),
        step_(std::vector<std::int32_t>(2 * s.batch, 0)),
        counters_(std::vector<std::int64_t>(config.num_stages() + 2, 0)),
        appended_(s.batch * s.kv_heads * s.head_dim),
        slots_(last_slots(s)) {
    fill(q_.get(), q_.size(), 3);
    fill(appended_.get(), appended_.size(), 4);
    const AttentionShape shape{.device = cuda_device(),
                               .batch = s.batch,
                               .total_q = s.batch * s.rows,
                               .max_seq_len = s.context,
                               .num_q_heads = s.q_heads,
                               .num_kv_heads = s.kv_heads,
                               .head_dim = s.head_dim};
    check(plan_decode<T>(config, shape, plan_));
    workspace_ = std::make_unique<Buffer<std::byte>>(plan_.workspace_bytes);
    const std::int64_t cache_bytes = plan_.selection_cache_slot_bytes * s.batch;
    selections_ = std::make_unique<Buffer<std::byte>>(cache_.layers * cache_bytes);
    check(cudaMemset(selections_->get(), 0, selections_->size()), "cudaMemset");
    check(cudaStreamCreate(&stream_), "cudaStreamCreate");

    set_step(0, 0);
    check(call(0, true));  // counts what a refreshed call reads
    check(cudaStreamSynchronize(stream_), "decode");
    read_counters(keys_scored_, keys_attended_);

    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    for (int layer = 0; layer < cache_.layers; ++layer) {
      if (s.appends) check(append(layer));
      check(call(layer, false));
    }
    cudaGraph_t graph;
    check(cudaStreamEndCapture(stream_, &graph), "capture");
    check(cudaGraphInstantiate(&graph_, graph, 0), "cudaGraphInstantiate");
    cudaGraphDestroy(graph);
  }

  ~DecodeGraph() {
    cudaGraphExecDestroy(graph_);
    cudaStreamDestroy(stream_);
  }

  // Every request has `step` tokens more than at step 0, kCycle - 1 at most.
  void set_step(std::int32_t step, std::int32_t refresh_from) {
    const Shape& s = cache_.shape;
    std::vector<std::int32_t> values(s.batch, refresh_from);
    values.resize(2 * s.batch, static_cast<std::int32_t>(s.context) - kCycle + 1 + step);
    check(cudaMemcpyAsync(step_.get(), values.data(), values.size() * sizeof(std::int32_t),
                          cudaMemcpyHostToDevice, stream_),
          "step");
  }

  void launch() { check(cudaGraphLaunch(graph_, stream_), "cudaGraphLaunch"); }

  cudaStream_t stream() const { return stream_; }
  int layers() const { return cache_.layers; }
  const AttentionPlan& plan() const { return plan_; }
  double keys_scored() const { return keys_scored_; }
  double keys_attended() const { return keys_attended_; }

 private:
  static std::vector<std::int32_t> multiples(std::int64_t of, std::int64_t n) {
    std::vector<std::int32_t> values(n);
    for (std::int64_t i = 0; i < n; ++i) values[i] = static_cast<std::int32_t>(i * of);
    return values;
  }

  // One slot of the pool for each request; which one does not matter.
  static std::vector<std::int64_t> last_slots(const Shape& s) {
    std::vector<std::int64_t> slots(s.batch);
    for (std::int64_t b = 0; b < s.batch; ++b) slots[b] = (b + 1) * s.context - 1;
    return slots;
  }

  Status append(int layer) {
    const Shape& s = cache_.shape;
    const auto kv_pages = s.by_head ? kv_pages_hnd<T> : kv_pages_nhd<T>;
    AppendKvArgs<T> args;
    args.k = {appended_.get(), {s.batch, s.kv_heads, s.head_dim}};
    args.v = args.k;
    args.pages = kv_pages(cache_.keys.get() + layer * cache_.layer_elements,
                          cache_.values.get() + layer * cache_.layer_elements, cache_.pages,
                          s.page_size, s.kv_heads, s.head_dim);
    args.slot_mapping = {slots_.get(), {s.batch}};
    return append_kv(cuda_device(), args, stream_);
  }

  Status call(int layer, bool count) {
    const Shape& s = cache_.shape;
    const std::int64_t rows = s.batch * s.rows;
    const std::int64_t first = layer * rows * s.q_heads * s.head_dim;
    AttentionArgs<T> args;
    args.q = {q_.get() + first, {rows, s.q_heads, s.head_dim}};
    args.out = {out_.get() + first, {rows, s.q_heads, s.head_dim}};
    const auto kv_pages = s.by_head ? kv_pages_hnd<const T> : kv_pages_nhd<const T>;
    args.kv.pages = kv_pages(cache_.keys.get() + layer * cache_.layer_elements,
                             cache_.values.get() + layer * cache_.layer_elements, cache_.pages,
                             s.page_size, s.kv_heads, s.head_dim);
    args.kv.block_table =
        TensorView<const std::int32_t, 2>(cache_.table.get(), {s.batch, s.context / s.page_size});
    args.seq_lens = {step_.get() + s.batch, {s.batch}};
    args.cu_seqlens_q = {cu_seqlens_.get(), {s.batch + 1}};
    if (count) args.counters = {counters_.get(), {counters_.size()}};
    if (!plan_.config.is_dense()) {
      const std::int64_t cache_bytes = plan_.selection_cache_slot_bytes * s.batch;
      args.cache = SelectionCache{
          selections_->get() + layer * cache_bytes, s.batch, {step_.get(), {s.batch}}, {}};
    }
    const auto bytes = static_cast<std::size_t>(workspace_->size());
    return run_decode(plan_, args, {workspace_->get(), bytes}, stream_);
  }

  void read_counters(double& scored, double& attended) {
    std::vector<std::int64_t> values(counters_.size());
    check(cudaMemcpy(values.data(), counters_.get(), values.size() * sizeof(std::int64_t),
                     cudaMemcpyDeviceToHost),
          "counters");
    const int stages = plan_.config.num_stages();
    scored = static_cast<double>(
        std::accumulate(values.begin(), values.begin() + stages, std::int64_t{0}));
    attended = static_cast<double>(values[stages]);
  }

  Cache<T>& cache_;
  Buffer<T> q_;
  Buffer<T> out_;
  Buffer<std::int32_t> cu_seqlens_;
  Buffer<std::int32_t> step_;  // refresh_from [B], lengths [B]
  Buffer<std::int64_t> counters_;
  Buffer<T> appended_;
  Buffer<std::int64_t> slots_;
  std::unique_ptr<Buffer<std::byte>> workspace_;
  std::unique_ptr<Buffer<std::byte>> selections_;
  AttentionPlan plan_;
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  double keys_scored_ = 0;
  double keys_attended_ = 0;
};

// Time of `work` on the stream, in seconds.
template <typename Work>
double seconds_of(cudaStream_t stream, Work&& work) {
  static const std::array<cudaEvent_t, 2> events = [] {
    std::array<cudaEvent_t, 2> made{};
    for (cudaEvent_t& event : made) check(cudaEventCreate(&event), "cudaEventCreate");
    return made;
  }();
  check(cudaEventRecord(events[0], stream), "cudaEventRecord");
  work();
  check(cudaEventRecord(events[1], stream), "cudaEventRecord");
  check(cudaEventSynchronize(events[1]), "benchmark");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, events[0], events[1]), "cudaEventElapsedTime");
  return milliseconds * 1e-3;
}

// first_stage: what runs; kCycle replays a whole refresh schedule. Requests grow by a token from
// step to step, and all stages run again after kReuse steps, so that no step attends to what the
// one before it has attended to.
template <typename T>
void decode(benchmark::State& state, const HipConfig& config, const Shape& shape, int first_stage) {
  DecodeGraph<T> graph(config, shape);
  const bool cycle = first_stage == kCycle;
  double total_seconds = 0;
  std::int32_t reused = kReuse;
  for (auto _ : state) {
    double seconds = 0;
    if (cycle) {
      seconds = seconds_of(graph.stream(), [&] {
        for (int step = 0; step < kCycle; ++step) {
          graph.set_step(step, refresh_from_at(config, step));
          graph.launch();
        }
      });
      seconds /= kCycle;
    } else {
      if (reused == kReuse) {
        graph.set_step(0, 0);
        graph.launch();
        reused = 0;
      }
      graph.set_step(++reused, first_stage);
      seconds = seconds_of(graph.stream(), [&] { graph.launch(); });
    }
    state.SetIterationTime(seconds / graph.layers());
    total_seconds += seconds / graph.layers();
  }
  const double row = static_cast<double>(shape.head_dim * sizeof(T));
  const double keys_scored = first_stage == 0 ? graph.keys_scored() : 0;
  const double bytes = (keys_scored + 2 * graph.keys_attended()) * row;
  if (first_stage == 0 || first_stage == config.num_stages()) {
    state.counters["gathered"] = benchmark::Counter(
        bytes, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
    state.counters["MB"] = bytes * 1e-6;
    state.counters["keys_scored"] = keys_scored;
    state.counters["keys_attended"] = graph.keys_attended();
    state.counters["floor_us"] = bytes / kMemoryRate * 1e6;
    state.counters["of_floor"] =
        bytes / kMemoryRate * static_cast<double>(state.iterations()) / total_seconds;
  }
  state.counters["team"] = cuda::decode_schedule(graph.plan()).team_size;
}

// Reads megabytes from memory, of eight different buffers in turn.
void memory_floor(benchmark::State& state, Rows which) {
  const auto row_bytes = static_cast<std::int64_t>(kRowWords * sizeof(uint4));
  const std::int64_t rows = state.range(0) * 1000000 / row_bytes;
  const std::int64_t words = buffer_rows(which, rows) * kRowWords;
  const Buffer<uint4> data(kLayers * words);
  const Buffer<uint4> sink(1);
  fill(reinterpret_cast<bfloat16*>(data.get()), data.size() * 8, 5);
  cudaStream_t stream;
  check(cudaStreamCreate(&stream), "cudaStreamCreate");
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (int i = 0; i < kLayers; ++i) {
    check(read_rows(data.get() + i * words, which, rows, sink.get(), stream), "read_rows");
  }
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
  for (auto _ : state) {
    state.SetIterationTime(seconds_of(stream, [&] { cudaGraphLaunch(exec, stream); }) / kLayers);
  }
  state.counters["gathered"] = benchmark::Counter(static_cast<double>(rows * row_bytes),
                                                  benchmark::Counter::kIsIterationInvariantRate,
                                                  benchmark::Counter::kIs1000);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

template <typename T>
void add(const char* type, const char* preset, const HipConfig& config, const Shape& shape) {
  std::vector<std::pair<std::string, int>> states;
  for (int s = 0; s < config.num_stages(); ++s) states.emplace_back(fmt::format("from{}", s), s);
  states.emplace_back(config.is_dense() ? "all" : "reused", config.num_stages());
  if (!config.refresh_interval.empty()) states.emplace_back("cycle", kCycle);
  for (const auto& [state_name, first_stage] : states) {
    benchmark::RegisterBenchmark(
        fmt::format("decode/{}/{}/{}/{}", type, preset, state_name, shape.name()).c_str(),
        [config, shape, first_stage = first_stage](benchmark::State& state) {
          decode<T>(state, config, shape, first_stage);
        })
        ->Unit(benchmark::kMicrosecond)
        ->UseManualTime()
        ->MinTime(0.02);
  }
}

void register_benchmarks() {
  for (const auto& [name, which] : {std::pair("floor/stream_MB", Rows::kInOrder),
                                    std::pair("floor/rows_MB", Rows::kEveryEighth),
                                    std::pair("floor/blocks_MB", Rows::kScattered)}) {
    for (const std::int64_t megabytes : {14, 64, 109}) {
      benchmark::RegisterBenchmark(
          name, [which = which](benchmark::State& state) { memory_floor(state, which); })
          ->Arg(megabytes)
          ->Unit(benchmark::kMicrosecond)
          ->UseManualTime()
          ->MinTime(0.02);
    }
  }
  const HipConfig hip = presets::infinite_hip();
  const std::array<Shape, 5> main_shapes{{{.context = 32768},
                                          {.context = 131072},
                                          {.context = 524288},
                                          {.context = 1048576},
                                          {.batch = 8, .context = 131072}}};
  for (const Shape& shape : main_shapes) {
    add<bfloat16>("bfloat16", "infinite_hip", hip, shape);
    add<bfloat16>("bfloat16", "dense", presets::dense(), shape);
  }
  const std::array<Shape, 13> more_shapes{{
      {.context = 131072, .head_dim = 64},
      {.context = 131072, .head_dim = 256},
      {.context = 131072, .kv_heads = 32},
      {.context = 131072, .kv_heads = 2},
      {.context = 131072, .page_size = 1},
      {.context = 131072, .page_size = 256},
      {.context = 131072, .by_head = true},
      {.batch = 8, .context = 131072, .by_head = true},
      {.context = 131072, .rows = 4},
      {.context = 131072, .rows = 8},
      {.context = 131072, .appends = true},
      {.batch = 64, .context = 8192},
      {.context = 4194304},
  }};
  for (const Shape& shape : more_shapes) add<bfloat16>("bfloat16", "infinite_hip", hip, shape);
  add<float16>("float16", "infinite_hip", hip, {.context = 131072});
  add<bfloat16>("bfloat16", "infinite_hip_5k", presets::infinite_hip_5k(), {.context = 131072});
  add<bfloat16>("bfloat16", "hip_classic", presets::hip_classic(131072, 2048, 32),
                {.context = 131072});
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  check(check_device(cuda_device()));
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  benchmark::AddCustomContext("hip_attn", version());
  benchmark::AddCustomContext("gpu", properties.name);
  register_benchmarks();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
