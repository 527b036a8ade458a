// Prefill on a GPU: milliseconds of a layer.
//
//   cuda_prefill_bench --benchmark_filter='infinite_hip/1x131072' --benchmark_out=prefill.json
//
// Names are prefill/type/preset/BATCHxCONTEXT/ROWS/qHQkHKdD/pPAGE, ROWS being the rows of the call
// at the end of each context. The time is that of the whole call, as its plan chooses dense_until;
// all_searched_ms is the same with a dense_until of 0, attend_ms with its selection given back in,
// and search_ms the difference of these two. search_floor_ms: the keys that the search reads at
// 8.6 TB/s or its products at 773 TFLOP/s, whichever takes longer, the rates measured for gathered
// keys within L2 and for matrix products on an H200. A landmark counts as two keys. Landmarks are
// made before anything is timed (cuda_landmark_bench times that).
//
// landmarks_scored, keys_scored and keys_attended (by query blocks, with their values) are counted
// by the first call. memory_MB is what the layer's cache, landmarks, queries, output, workspace and
// selection take of the device together, as it says itself after the calls, and workspace_MB of it
// the workspace.
//
// A preset with _stage1, _stages12, ... has only those stages; _generic runs the kernels for any
// GPU; _keepN or _blockN keep N tokens, or select blocks of N, in their last stage.
//
// --selection_out=FOLDER writes the selection of every benchmark that runs, as arrays of numpy:
// PRESET-BATCHxCONTEXT-... with blocks.npy, counts.npy and window_start.npy inside, and
// config.json, which says sink, block_q and block_k.
#include <benchmark/benchmark.h>
#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cuda_bench_configs.hpp"
#include "cuda_bench_support.hpp"
#include "cuda_benchmark_main.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/hip_attn.hpp"
#include "npy_file.hpp"

namespace {

using namespace hip_attn;
using namespace hip_attn::bench;

constexpr double kGatherBytes = 8.6e12;
constexpr double kMatrixFlops = 773e12;

struct Shape {
  std::int64_t batch = 1;
  std::int64_t context = 32768;
  std::int64_t rows = 0;  // of each request; 0: the whole context
  std::int64_t q_heads = 32;
  std::int64_t kv_heads = 8;
  std::int64_t head_dim = 128;
  std::int64_t page_size = 16;

  std::int64_t q_len() const { return rows == 0 ? context : rows; }
  std::string name() const {
    return fmt::format("{}x{}/{}/q{}k{}d{}/p{}", batch, context, q_len(), q_heads, kv_heads,
                       head_dim, page_size);
  }
};

// Where selections are written to (--selection_out); empty: nowhere.
std::filesystem::path& selection_folder() {
  static std::filesystem::path folder;
  return folder;
}

AttentionShape attention_shape(const Shape& s) {
  return {.device = cuda_device(),
          .batch = s.batch,
          .total_q = s.batch * s.q_len(),
          .max_seq_len = s.context,
          .num_q_heads = s.q_heads,
          .num_kv_heads = s.kv_heads,
          .head_dim = s.head_dim};
}

// Of keys, values, queries, output, and what else a call takes.
template <typename T>
double bytes_of(const Shape& s) {
  constexpr double kOther = 4e9;
  return static_cast<double>(2 * s.batch * (s.context * s.kv_heads + s.q_len() * s.q_heads) *
                             s.head_dim) *
             sizeof(T) +
         kOther;
}

std::vector<std::int32_t> multiples(std::int64_t count, std::int64_t step) {
  std::vector<std::int32_t> values(count);
  for (std::int64_t i = 0; i < count; ++i) values[i] = static_cast<std::int32_t>(i * step);
  return values;
}

// One layer's prefill: random queries, keys and values, pages in shuffled order.
template <typename T>
class Prefill {
 public:
  Prefill(const HipConfig& config, const Shape& s)
      : shape_(s),
        pages_(s.batch * s.context / s.page_size),
        keys_(s.batch * s.context * s.kv_heads * s.head_dim),
        values_(keys_.size()),
        q_(s.batch * s.q_len() * s.q_heads * s.head_dim),
        out_(q_.size()),
        table_(shuffled(pages_)),
        seq_lens_(std::vector<std::int32_t>(s.batch, static_cast<std::int32_t>(s.context))),
        cu_seqlens_(multiples(s.batch + 1, s.q_len())),
        landmarks_(landmark_chunk_sizes(config), s.batch, s.context, s.kv_heads, s.head_dim),
        counters_(std::vector<std::int64_t>(config.num_stages() + 2, 0)) {
    fill(keys_.get(), keys_.size(), 1);
    fill(values_.get(), values_.size(), 2);
    fill(q_.get(), q_.size(), 3);
    const AttentionShape shape = attention_shape(s);
    check(plan_prefill<T>(config, shape, plan_));
    workspace_ = std::make_unique<Buffer<std::byte>>(plan_.workspace_bytes);
    const std::int64_t units = plan_.selection_rows * s.kv_heads;
    blocks_ = std::make_unique<Buffer<std::int32_t>>(units * plan_.max_selected_blocks);
    counts_ = std::make_unique<Buffer<std::int32_t>>(units);
    window_start_ = std::make_unique<Buffer<std::int32_t>>(units);

    args_.q = {q_.get(), {shape.total_q, s.q_heads, s.head_dim}};
    args_.out = {out_.get(), {shape.total_q, s.q_heads, s.head_dim}};
    args_.kv.pages = kv_pages_nhd<const T>(keys_.get(), values_.get(), pages_, s.page_size,
                                           s.kv_heads, s.head_dim);
    args_.kv.block_table =
        TensorView<const std::int32_t, 2>(table_.get(), {s.batch, s.context / s.page_size});
    landmarks_.make(args_.kv);
    args_.landmarks = landmarks_.view();
    args_.seq_lens = {seq_lens_.get(), {s.batch}};
    args_.cu_seqlens_q = {cu_seqlens_.get(), {s.batch + 1}};

    AttentionArgs<T> counted = args_;
    counted.counters = {counters_.get(), {counters_.size()}};
    counted.selection_out = selection();
    check(run_prefill(plan_, counted, workspace(), nullptr));
    check(cudaDeviceSynchronize(), "prefill");
    counts_read_ = counters_.read();
  }

  Status run(bool given) const {
    AttentionArgs<T> args = args_;
    if (given) args.selection = selection();
    return run_prefill(plan_, args, workspace(), nullptr);
  }

  AttentionPlan& plan() { return plan_; }
  Reads reads() const { return {plan_.config, counts_read_}; }

  // What every unit selects, into three files of a folder.
  void write_selection(const std::filesystem::path& folder) const {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    const auto write = [&](const char* name, const Buffer<std::int32_t>& values,
                           const std::vector<std::int64_t>& sizes) {
      if (write_npy(folder / name, sizes, values.read())) return;
      fmt::print(stderr, "cannot write {}\n", (folder / name).string());
      std::exit(1);
    };
    const std::int64_t heads = shape_.kv_heads;
    write("blocks.npy", *blocks_, {plan_.selection_rows, heads, plan_.max_selected_blocks});
    write("counts.npy", *counts_, {plan_.selection_rows, heads});
    write("window_start.npy", *window_start_, {plan_.selection_rows, heads});
    std::ofstream(folder / "config.json")
        << fmt::format(R"({{"sink": {}, "block_q": {}, "block_k": {}}})", plan_.config.sink,
                       plan_.config.block_q, plan_.config.block_k());
  }

  // Landmarks of a landmark stage.
  double keys_read(int stage) const { return static_cast<double>(counts_read_[stage]); }
  double attention_flops() const {
    return static_cast<double>(counts_read_.back()) * 4 *
           static_cast<double>(shape_.q_heads / shape_.kv_heads * shape_.head_dim);
  }
  double search_floor() const {
    double bytes = 0;
    double flops = 0;
    for (int s = 0; s < plan_.config.num_stages(); ++s) {
      const ScanStage& stage = plan_.config.stages[s];
      const std::int64_t rows =
          plan_.config.block_q / stage.query_stride * shape_.q_heads / shape_.kv_heads;
      const double read = keys_read(s) * (stage.rule == ScanRule::kLandmark ? 2 : 1);
      bytes += read * static_cast<double>(shape_.head_dim * sizeof(T));
      flops += read * static_cast<double>(2 * shape_.head_dim * rows);
    }
    return std::max(bytes / kGatherBytes, flops / kMatrixFlops);
  }

 private:
  Workspace workspace() const {
    return {workspace_->get(), static_cast<std::size_t>(workspace_->size())};
  }
  BlockSelection selection() const {
    const std::int64_t heads = shape_.kv_heads;
    return {{blocks_->get(), {plan_.selection_rows, heads, plan_.max_selected_blocks}},
            {counts_->get(), {plan_.selection_rows, heads}},
            {window_start_->get(), {plan_.selection_rows, heads}}};
  }

  Shape shape_;
  std::int64_t pages_;
  Buffer<T> keys_;
  Buffer<T> values_;
  Buffer<T> q_;
  Buffer<T> out_;
  Buffer<std::int32_t> table_;
  Buffer<std::int32_t> seq_lens_;
  Buffer<std::int32_t> cu_seqlens_;
  LandmarkLayer<T> landmarks_;
  Buffer<std::int64_t> counters_;
  std::unique_ptr<Buffer<std::byte>> workspace_;
  std::unique_ptr<Buffer<std::int32_t>> blocks_;
  std::unique_ptr<Buffer<std::int32_t>> counts_;
  std::unique_ptr<Buffer<std::int32_t>> window_start_;
  AttentionPlan plan_;
  AttentionArgs<T> args_;
  std::vector<std::int64_t> counts_read_;
};

template <typename Work>
double seconds_of(Work&& work) {
  static const std::array<cudaEvent_t, 2> events = [] {
    std::array<cudaEvent_t, 2> made{};
    for (cudaEvent_t& event : made) check(cudaEventCreate(&event), "cudaEventCreate");
    return made;
  }();
  check(cudaEventRecord(events[0]), "cudaEventRecord");
  work();
  check(cudaEventRecord(events[1]), "cudaEventRecord");
  check(cudaEventSynchronize(events[1]), "benchmark");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, events[0], events[1]), "cudaEventElapsedTime");
  return milliseconds * 1e-3;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

enum class Attend { kChosen, kGeneric };

template <typename T>
void prefill(benchmark::State& state, const std::string& preset, const HipConfig& config,
             const Shape& shape, Attend attend) {
  const std::int64_t free_before = free_bytes();
  Prefill<T> layer(config, shape);
  if (!selection_folder().empty() && !config.is_dense()) {
    std::string name = fmt::format("{}-{}", preset, shape.name());
    std::replace(name.begin(), name.end(), '/', '-');
    layer.write_selection(selection_folder() / name);
  }
  if (attend == Attend::kGeneric) cuda::use_portable_kernels(layer.plan());
  check(layer.run(false));
  const std::int64_t dense_until = layer.plan().dense_until;
  std::vector<double> whole;
  std::vector<double> given;
  std::vector<double> searched;  // also where the plan attends to everything instead
  for (auto _ : state) {
    given.push_back(seconds_of([&] { check(layer.run(true)); }));
    layer.plan().dense_until = 0;
    searched.push_back(seconds_of([&] { check(layer.run(false)); }));
    layer.plan().dense_until = dense_until;
    whole.push_back(seconds_of([&] { check(layer.run(false)); }));
    state.SetIterationTime(whole.back());
  }
  const double attend_seconds = median(given);
  const double search_seconds = median(searched) - attend_seconds;
  state.counters["ms"] = median(whole) * 1e3;
  state.counters["attend_ms"] = attend_seconds * 1e3;
  state.counters["attend_TFLOPs"] = layer.attention_flops() / attend_seconds * 1e-12;
  state.counters["workspace_MB"] = static_cast<double>(layer.plan().workspace_bytes) * 1e-6;
  state.counters["memory_MB"] = static_cast<double>(free_before - free_bytes()) * 1e-6;
  const Reads reads = layer.reads();
  state.counters["landmarks_scored"] = reads.landmarks_scored;
  state.counters["keys_scored"] = reads.keys_scored;
  state.counters["keys_attended"] = reads.keys_attended;
  if (config.is_dense()) return;
  state.counters["dense_until"] = static_cast<double>(dense_until);
  state.counters["all_searched_ms"] = median(searched) * 1e3;
  state.counters["search_ms"] = search_seconds * 1e3;
  state.counters["search_floor_ms"] = layer.search_floor() * 1e3;
  state.counters["search_of_floor"] = layer.search_floor() / search_seconds;
  for (int s = 0; s < config.num_stages(); ++s) {
    state.counters[fmt::format("Mkeys{}", s + 1)] = layer.keys_read(s) * 1e-6;
  }
}

template <typename T>
void add(const std::string& type, const std::string& preset, const HipConfig& config,
         const Shape& shape, Attend attend = Attend::kChosen) {
  const std::string name = fmt::format("prefill/{}/{}/{}", type, preset, shape.name());
  AttentionPlan plan;
  const Status planned = plan_prefill<T>(config, attention_shape(shape), plan);
  if (!can_run(name, bytes_of<T>(shape), planned)) return;
  benchmark::RegisterBenchmark(name.c_str(),
                               [preset, config, shape, attend](benchmark::State& state) {
                                 prefill<T>(state, preset, config, shape, attend);
                               })
      ->Unit(benchmark::kMillisecond)
      ->UseManualTime()
      ->MinTime(0.1);
}

// The first `count` stages of a config, then one that narrows what they keep to the config's own
// number of tokens for next to nothing: search_ms is the time of those stages.
HipConfig first_stages(HipConfig config, int count) {
  const std::int64_t keep = config.stages.back().keep;
  config.refresh_interval.clear();
  config.stages.resize(count);
  const std::int32_t chunk_size = config.stages.back().chunk_size;
  config.stages.push_back({chunk_size, keep, config.block_q, ScanRule::kCentre});
  return config;
}

// The whole config, and below its name the searches that end after each stage before its last.
void add_with_stages(const std::string& preset, const HipConfig& config, const Shape& shape) {
  add<bfloat16>("bfloat16", preset, config, shape);
  std::string stages;
  for (int count = 1; count < config.num_stages(); ++count) {
    stages += fmt::format("{}", count);
    const std::string name = fmt::format("{}_stage{}{}", preset, count > 1 ? "s" : "", stages);
    add<bfloat16>("bfloat16", name, first_stages(config, count), shape);
  }
}

void register_benchmarks() {
  const HipConfig hip = presets::infinite_hip();
  const HipConfig dense = presets::dense();
  for (const std::int64_t context : kLengths) {
    const Shape shape{.context = context};
    add_with_stages("infinite_hip", hip, shape);
    // Without its last stage the search of landmarks would run other kernels.
    add<bfloat16>("bfloat16", "landmark", presets::landmark(context), shape);
    add<bfloat16>("bfloat16", "landmark_1k", presets::landmark_1k(context), shape);
    // A second at 256k, and four times that at twice the length.
    if (context <= 262144) add<bfloat16>("bfloat16", "dense", dense, shape);
    if (context <= 131072) {
      add<bfloat16>("bfloat16", "infinite_hip_generic", hip, shape, Attend::kGeneric);
    }
  }
  const auto add_presets = [&](const Shape& shape) {
    add<bfloat16>("bfloat16", "infinite_hip", hip, shape);
    add<bfloat16>("bfloat16", "landmark", presets::landmark(shape.context), shape);
    add<bfloat16>("bfloat16", "landmark_1k", presets::landmark_1k(shape.context), shape);
  };
  for (const auto& [name, config] : varied_configs(131072)) {
    add<bfloat16>("bfloat16", name, config, {.context = 131072});
  }
  for (const std::int64_t kv_heads : kKvHeads) {
    const Shape shape{.context = 131072, .kv_heads = kv_heads};
    if (kv_heads == Shape{}.kv_heads) continue;
    add_presets(shape);
    add<bfloat16>("bfloat16", "dense", dense, shape);
  }
  const std::array<Shape, 7> more_shapes{{{.context = 131072, .head_dim = 64},
                                          {.context = 131072, .head_dim = 256},
                                          {.context = 131072, .page_size = 1},
                                          {.context = 131072, .page_size = 256},
                                          {.batch = 8, .context = 16384},
                                          {.context = 131072, .rows = 64},
                                          {.context = 4194304, .rows = 32768}}};
  for (const Shape& shape : more_shapes) add_presets(shape);
  add<float16>("float16", "infinite_hip", hip, {.context = 131072});
  add<float16>("float16", "landmark", presets::landmark(131072), {.context = 131072});
}

}  // namespace

int main(int argc, char** argv) {
  constexpr std::string_view kOption = "--selection_out=";
  char** const end = std::remove_if(argv + 1, argv + argc, [&](std::string_view argument) {
    if (!argument.starts_with(kOption)) return false;
    selection_folder() = argument.substr(kOption.size());
    return true;
  });
  return run_benchmarks(static_cast<int>(end - argv), argv, register_benchmarks);
}
