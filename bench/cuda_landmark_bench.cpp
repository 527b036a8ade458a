// Keeping landmarks on a GPU: 8 KV heads, head dim 128, bfloat16, pages of 16 tokens in shuffled
// order, landmarks by head.
//
//   cuda_landmark_bench --benchmark_out=landmarks.json
//
// "update_landmarks/LEVELS/CONTEXT" makes all landmarks of one request. "append_kv/LEVELS/STATE" is
// a step of decode, as microseconds per layer, replayed from a CUDA graph of kLayers appends of one
// token with a cache each: without landmarks ("none"), or where the token completes no chunk
// ("within") or one of every level ("completes"). Graphs are warm: the keys of a chunk are in L2.
#include <benchmark/benchmark.h>
#include <cuda_runtime.h>
#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda_bench_support.hpp"
#include "cuda_benchmark_main.hpp"
#include "hip_attn/hip_attn.hpp"

namespace {

using namespace hip_attn;
using namespace hip_attn::bench;

constexpr std::int64_t kHeads = 8;
constexpr std::int64_t kHeadDim = 128;
constexpr std::int64_t kPageSize = 16;
constexpr std::int64_t kStepContext = 4096;
constexpr int kLayers = 32;

using Sizes = std::vector<std::int64_t>;

std::string name_of(const Sizes& chunk_sizes) {
  return chunk_sizes.empty() ? "none" : fmt::format("{}", fmt::join(chunk_sizes, "_"));
}

// One layer's keys, values and landmarks of one request.
class Layer {
 public:
  Layer(std::int64_t context, const Sizes& chunk_sizes)
      : pages_(context / kPageSize),
        keys_(context * kHeads * kHeadDim),
        values_(keys_.size()),
        table_(shuffled(pages_)),
        landmarks_(chunk_sizes, 1, context, kHeads, kHeadDim) {
    fill(keys_.get(), keys_.size(), 1);
  }

  [[nodiscard]] KvPages<bfloat16> pages() const {
    return kv_pages_nhd(keys_.get(), values_.get(), pages_, kPageSize, kHeads, kHeadDim);
  }
  [[nodiscard]] TensorView<const std::int32_t, 2> table() const {
    return {table_.get(), {1, pages_}};
  }
  [[nodiscard]] const Landmarks<bfloat16>& landmarks() const { return landmarks_.view(); }

 private:
  std::int64_t pages_;
  Buffer<bfloat16> keys_;
  Buffer<bfloat16> values_;
  Buffer<std::int32_t> table_;
  LandmarkLayer<bfloat16> landmarks_;
};

// What `calls` launch on a stream, replayed and timed.
class Graph {
 public:
  template <typename Calls>
  explicit Graph(Calls&& calls) {
    check(cudaStreamCreate(&stream_), "cudaStreamCreate");
    for (cudaEvent_t& event : events_) check(cudaEventCreate(&event), "cudaEventCreate");
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    calls(stream_);
    cudaGraph_t graph;
    check(cudaStreamEndCapture(stream_, &graph), "capture");
    check(cudaGraphInstantiate(&graph_, graph, 0), "cudaGraphInstantiate");
    cudaGraphDestroy(graph);
  }
  ~Graph() {
    cudaGraphExecDestroy(graph_);
    for (const cudaEvent_t event : events_) cudaEventDestroy(event);
    cudaStreamDestroy(stream_);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  double seconds() {
    check(cudaEventRecord(events_[0], stream_), "cudaEventRecord");
    check(cudaGraphLaunch(graph_, stream_), "cudaGraphLaunch");
    check(cudaEventRecord(events_[1], stream_), "cudaEventRecord");
    check(cudaEventSynchronize(events_[1]), "benchmark");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, events_[0], events_[1]), "cudaEventElapsedTime");
    return milliseconds * 1e-3;
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  std::array<cudaEvent_t, 2> events_{};
};

void update(benchmark::State& state, const Sizes& chunk_sizes, std::int64_t context) {
  constexpr int kCalls = 4;
  const Layer layer(context, chunk_sizes);
  const Buffer<std::int32_t> lengths(std::vector<std::int32_t>{0, static_cast<int>(context)});
  UpdateLandmarksArgs<bfloat16> args;
  args.kv = {layer.pages(), layer.table()};
  args.from = {lengths.get(), {1}};
  args.to = {lengths.get() + 1, {1}};
  args.landmarks = layer.landmarks();
  args.max_tokens = context;
  Graph graph([&](cudaStream_t stream) {
    for (int i = 0; i < kCalls; ++i) check(update_landmarks(cuda_device(), args, stream));
  });
  graph.seconds();
  for (auto _ : state) state.SetIterationTime(graph.seconds() / kCalls);
  state.counters["key_bytes"] =
      benchmark::Counter(static_cast<double>(context * kHeads * kHeadDim * sizeof(bfloat16)),
                         benchmark::Counter::kIsIterationInvariantRate);
}

void append(benchmark::State& state, const Sizes& chunk_sizes, std::int32_t seq_len) {
  std::vector<std::unique_ptr<Layer>> layers;
  for (int i = 0; i < kLayers; ++i) {
    layers.push_back(std::make_unique<Layer>(kStepContext, chunk_sizes));
  }
  Buffer<bfloat16> rows(2 * kHeads * kHeadDim);
  fill(rows.get(), rows.size(), 2);
  const Buffer<std::int32_t> lengths(std::vector<std::int32_t>{seq_len, 0, 1});
  const std::int64_t position = seq_len - 1;
  const std::int64_t page = shuffled(kStepContext / kPageSize)[position / kPageSize];
  const Buffer<std::int64_t> slot(
      std::vector<std::int64_t>{page * kPageSize + position % kPageSize});
  Graph graph([&](cudaStream_t stream) {
    for (const auto& layer : layers) {
      AppendKvArgs<bfloat16> args;
      args.k = {rows.get(), {1, kHeads, kHeadDim}};
      args.v = {rows.get() + kHeads * kHeadDim, {1, kHeads, kHeadDim}};
      args.slot_mapping = {slot.get(), {1}};
      args.pages = layer->pages();
      if (!chunk_sizes.empty()) {
        args.landmarks = AppendLandmarks<bfloat16>{
            layer->landmarks(), layer->table(), {lengths.get(), {1}}, {lengths.get() + 1, {2}}};
      }
      check(append_kv(cuda_device(), args, stream));
    }
  });
  graph.seconds();
  for (auto _ : state) state.SetIterationTime(graph.seconds() / kLayers);
}

template <typename Run>
void add(const std::string& name, Run run) {
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->Unit(benchmark::kMicrosecond)
      ->UseManualTime()
      ->MinTime(0.02);
}

void register_benchmarks() {
  for (const Sizes& sizes : {Sizes{64}, Sizes{64, 256}}) {
    for (const std::int64_t context : {std::int64_t{8192}, std::int64_t{131072}}) {
      add(fmt::format("update_landmarks/{}/{}", name_of(sizes), context),
          [=](benchmark::State& state) { update(state, sizes, context); });
    }
  }
  for (const Sizes& sizes : {Sizes{}, Sizes{64}, Sizes{64, 256}}) {
    add(fmt::format("append_kv/{}/within", name_of(sizes)),
        [=](benchmark::State& state) { append(state, sizes, 3000); });
    add(fmt::format("append_kv/{}/completes", name_of(sizes)),
        [=](benchmark::State& state) { append(state, sizes, 3072); });
  }
}

}  // namespace

int main(int argc, char** argv) { return run_benchmarks(argc, argv, register_benchmarks); }
