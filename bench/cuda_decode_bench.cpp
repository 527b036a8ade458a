// Decode on a GPU: microseconds per layer and step, replayed from a CUDA graph.
//
//   cuda_decode_bench --benchmark_filter='infinite_hip/.*1x1048576' --benchmark_out=decode.json
//
// Names are decode/type/preset/state/BATCHxCONTEXT/qHQkHKdD/pPAGE, with "hnd" behind PAGE where a
// page holds its keys by head, not by token, rROWS where a request has more query rows than one,
// and "append" where every call stands behind an append_kv of a token for each request, whose time
// is counted too, and which keeps the landmarks that the preset has: of its 32 steps "cycle"
// completes a chunk of every level in the last, the other states in none. The states are the first
// stage that runs: "from0" refreshes everything, "reused" nothing, "cycle" is the mean over one
// refresh schedule. A graph holds kLayers calls with a cache each, so that no call finds its keys
// in L2.
//
// "floor" reads as many bytes as a call gathers, with a kernel that does nothing else: "stream_MB"
// all of a buffer, "rows_MB" every eighth row of 256 bytes, as one of eight KV heads lies in a
// page, "blocks_MB" blocks of eight such rows from anywhere, as a selection does.
//
// Where all bytes of a call are known, MB and gathered (bytes per second) say how many there are,
// landmarks_scored (two rows each), keys_scored and keys_attended (with their values) of what,
// floor_us how long they take at kMemoryRate, and of_floor that over the time. Memory of a layer:
// cache_MB of keys and values, landmarks_MB, selection_MB of the selection cache; workspace_MB
// serves all layers.
//
// Presets with _keepN or _blockN keep N tokens, or select blocks of N, in their last stage.
#include <benchmark/benchmark.h>
#include <cuda_runtime.h>
#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda_bench_configs.hpp"
#include "cuda_bench_support.hpp"
#include "cuda_benchmark_main.hpp"
#include "cuda_decode_graph.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/hip_attn.hpp"

namespace {

using namespace hip_attn;
using namespace hip_attn::bench;

constexpr std::int64_t kCycles = 40;    // refresh schedules that a mean is over
constexpr std::int32_t kReuse = 7;      // steps between two refreshes of the last stage
constexpr double kMemoryRate = 4.3e12;  // bytes per second that an H200 reads from its memory

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
  Reads reads = graph.reads();
  if (first_stage > 0) reads.landmarks_scored = reads.keys_scored = 0;
  const double bytes = reads.rows() * row;
  if (first_stage == 0 || first_stage == config.num_stages()) {
    state.counters["gathered"] = benchmark::Counter(
        bytes, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
    state.counters["MB"] = bytes * 1e-6;
    if (config.uses_landmarks()) state.counters["landmarks_scored"] = reads.landmarks_scored;
    state.counters["keys_scored"] = reads.keys_scored;
    state.counters["keys_attended"] = reads.keys_attended;
    state.counters["floor_us"] = bytes / kMemoryRate * 1e6;
    state.counters["of_floor"] =
        bytes / kMemoryRate * static_cast<double>(state.iterations()) / total_seconds;
  }
  state.counters["workspace_MB"] = static_cast<double>(graph.plan().workspace_bytes) * 1e-6;
  state.counters["selection_MB"] =
      static_cast<double>(graph.plan().selection_cache_slot_bytes * shape.batch) * 1e-6;
  state.counters["cache_MB"] = static_cast<double>(graph.cache().kv_bytes()) * 1e-6;
  state.counters["landmarks_MB"] = static_cast<double>(graph.cache().landmark_bytes()) * 1e-6;
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
  const std::string group = fmt::format("decode/{}/{}", type, preset);
  AttentionPlan plan;
  if (!can_run(fmt::format("{}/{}", group, shape.name()), bytes_of_layer<T>(shape) + kOtherBytes,
               plan_decode<T>(config, attention_shape(shape), plan))) {
    return;
  }
  for (const auto& [state_name, first_stage] : states) {
    auto* const registered = benchmark::RegisterBenchmark(
        fmt::format("{}/{}/{}", group, state_name, shape.name()).c_str(),
        [config, shape, first_stage = first_stage](benchmark::State& state) {
          decode<T>(state, config, shape, first_stage);
        });
    registered->Unit(benchmark::kMicrosecond)->UseManualTime();
    // An iteration is the mean over all layers and 32 steps: as many as 0.02 s would ask for take
    // seconds.
    if (first_stage == kCycle) {
      registered->Iterations(kCycles);
    } else {
      registered->MinTime(0.02);
    }
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
  // One after the other, because they share a cache.
  const auto add_both = [&](const Shape& shape) {
    add<bfloat16>("bfloat16", "infinite_hip", hip, shape);
    add<bfloat16>("bfloat16", "landmark", presets::landmark(shape.context), shape);
  };
  const auto add_all = [&](const Shape& shape) {
    add_both(shape);
    add<bfloat16>("bfloat16", "landmark_1k", presets::landmark_1k(shape.context), shape);
    add<bfloat16>("bfloat16", "dense", presets::dense(), shape);
  };
  for (const std::int64_t context : kLengths) add_all({.context = context});
  for (const auto& [name, config] : varied_configs(131072)) {
    add<bfloat16>("bfloat16", name.c_str(), config, {.context = 131072});
  }
  for (const std::int64_t kv_heads : kKvHeads) {
    if (kv_heads != Shape{}.kv_heads) add_all({.context = 131072, .kv_heads = kv_heads});
  }
  add_all({.batch = 8, .context = 131072});
  const std::array<Shape, 10> more_shapes{{
      {.context = 131072, .head_dim = 64},
      {.context = 131072, .head_dim = 256},
      {.context = 131072, .page_size = 1},
      {.context = 131072, .page_size = 256},
      {.context = 131072, .by_head = true},
      {.batch = 8, .context = 131072, .by_head = true},
      {.context = 131072, .rows = 4},
      {.context = 131072, .rows = 8},
      {.context = 131072, .appends = true},
      {.batch = 64, .context = 8192},
  }};
  for (const Shape& shape : more_shapes) add_both(shape);
  add<float16>("float16", "infinite_hip", hip, {.context = 131072});
  add<float16>("float16", "landmark", presets::landmark(131072), {.context = 131072});
  add<bfloat16>("bfloat16", "infinite_hip_5k", presets::infinite_hip_5k(), {.context = 131072});
  add<bfloat16>("bfloat16", "hip_classic", presets::hip_classic(131072, 2048, 32),
                {.context = 131072});
}

}  // namespace

int main(int argc, char** argv) { return run_benchmarks(argc, argv, register_benchmarks); }
