// What cuda_decode_bench measures: decode of several layers in one CUDA graph, with its memory.
#pragma once

#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda_bench_support.hpp"
#include "hip_attn/hip_attn.hpp"

namespace hip_attn::bench {

inline constexpr int kLayers = 8;
inline constexpr int kCycle = 32;

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

inline AttentionShape attention_shape(const Shape& s) {
  return {.device = cuda_device(),
          .batch = s.batch,
          .total_q = s.batch * s.rows,
          .max_seq_len = s.context,
          .num_q_heads = s.q_heads,
          .num_kv_heads = s.kv_heads,
          .head_dim = s.head_dim};
}

// Of keys and values.
template <typename T>
double bytes_of_layer(const Shape& s) {
  return static_cast<double>(2 * s.batch * s.context * s.kv_heads * s.head_dim) * sizeof(T);
}

// Of landmarks, a 43rd of keys and values, and of what calls take.
inline constexpr std::int64_t kOtherBytes = std::int64_t{6} << 30;

// kLayers, or fewer where memory is short.
template <typename T>
int layers_that_fit(const Shape& s) {
  const auto bytes = static_cast<std::int64_t>(bytes_of_layer<T>(s));
  return static_cast<int>(
      std::clamp<std::int64_t>((free_bytes() - kOtherBytes) / bytes, 1, kLayers));
}

// The keys, values and landmarks of kLayers layers (fewer where memory is short), pages in shuffled
// order.
template <typename T>
class Cache {
 public:
  explicit Cache(const Shape& s)
      : shape(s),
        pages(s.batch * s.context / s.page_size),
        layer_elements(pages * s.page_size * s.kv_heads * s.head_dim),
        layers(layers_that_fit<T>(s)),
        keys(layers * layer_elements),
        values(layers * layer_elements),
        table(shuffled(pages)) {
    fill(keys.get(), keys.size(), 1);
    fill(values.get(), values.size(), 2);
  }

  KvPages<T> kv_pages(int layer) {
    const auto view = shape.by_head ? kv_pages_hnd<T> : kv_pages_nhd<T>;
    return view(keys.get() + layer * layer_elements, values.get() + layer * layer_elements, pages,
                shape.page_size, shape.kv_heads, shape.head_dim);
  }
  TensorView<const std::int32_t, 2> block_table() const {
    return {table.get(), {shape.batch, shape.context / shape.page_size}};
  }
  const Landmarks<T>& landmarks(int layer) const { return landmarks_[layer].view(); }
  // Of one layer.
  std::int64_t kv_bytes() const { return 2 * layer_elements * std::int64_t{sizeof(T)}; }
  std::int64_t landmark_bytes() const {
    return landmarks_.empty() ? 0 : landmarks_.front().bytes();
  }

  // Makes the landmarks that a config needs, where those of the config before have other levels.
  void keep_landmarks(const HipConfig& config) {
    const std::vector<std::int64_t> sizes = landmark_chunk_sizes(config);
    if (!landmarks_.empty() && sizes == landmark_sizes_) return;
    landmarks_.clear();
    landmark_sizes_ = sizes;
    for (int layer = 0; layer < layers; ++layer) {
      landmarks_.emplace_back(sizes, shape.batch, shape.context, shape.kv_heads, shape.head_dim);
      landmarks_.back().make({kv_pages(layer), block_table()});
    }
  }

  Shape shape;
  std::int64_t pages;
  std::int64_t layer_elements;
  int layers;
  Buffer<T> keys;
  Buffer<T> values;
  Buffer<std::int32_t> table;

 private:
  std::vector<std::int64_t> landmark_sizes_;
  std::vector<LandmarkLayer<T>> landmarks_;
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
        cu_appended_(multiples(1, s.batch + 1)),
        step_(std::vector<std::int32_t>(2 * s.batch, 0)),
        counters_(std::vector<std::int64_t>(config.num_stages() + 2, 0)),
        appended_(s.batch * s.kv_heads * s.head_dim),
        slots_(last_slots(s)) {
    fill(q_.get(), q_.size(), 3);
    fill(appended_.get(), appended_.size(), 4);
    cache_.keep_landmarks(config);
    check(plan_decode<T>(config, attention_shape(s), plan_));
    workspace_ = std::make_unique<Buffer<std::byte>>(plan_.workspace_bytes);
    const std::int64_t cache_bytes = plan_.selection_cache_slot_bytes * s.batch;
    selections_ = std::make_unique<Buffer<std::byte>>(cache_.layers * cache_bytes);
    check(cudaMemset(selections_->get(), 0, selections_->size()), "cudaMemset");
    check(cudaStreamCreate(&stream_), "cudaStreamCreate");

    set_step(0, 0);
    check(call(0, true));  // counts what a refreshed call reads
    check(cudaStreamSynchronize(stream_), "decode");
    read_counters();

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
  const Reads& reads() const { return reads_; }
  const Cache<T>& cache() const { return cache_; }

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

  // Where the config has landmarks, those that the token completes are made too.
  Status append(int layer) {
    const Shape& s = cache_.shape;
    AppendKvArgs<T> args;
    args.k = {appended_.get(), {s.batch, s.kv_heads, s.head_dim}};
    args.v = args.k;
    args.pages = cache_.kv_pages(layer);
    args.slot_mapping = {slots_.get(), {s.batch}};
    if (plan_.config.uses_landmarks()) {
      args.landmarks = AppendLandmarks<T>{cache_.landmarks(layer),
                                          cache_.block_table(),
                                          {step_.get() + s.batch, {s.batch}},
                                          {cu_appended_.get(), {s.batch + 1}}};
    }
    return append_kv(cuda_device(), args, stream_);
  }

  Status call(int layer, bool count) {
    const Shape& s = cache_.shape;
    const std::int64_t rows = s.batch * s.rows;
    const std::int64_t first = layer * rows * s.q_heads * s.head_dim;
    AttentionArgs<T> args;
    args.q = {q_.get() + first, {rows, s.q_heads, s.head_dim}};
    args.out = {out_.get() + first, {rows, s.q_heads, s.head_dim}};
    args.kv = {cache_.kv_pages(layer), cache_.block_table()};
    args.landmarks = cache_.landmarks(layer);
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

  void read_counters() { reads_ = Reads(plan_.config, counters_.read()); }

  Cache<T>& cache_;
  Buffer<T> q_;
  Buffer<T> out_;
  Buffer<std::int32_t> cu_seqlens_;
  Buffer<std::int32_t> cu_appended_;
  Buffer<std::int32_t> step_;  // refresh_from [B], lengths [B]
  Buffer<std::int64_t> counters_;
  Buffer<T> appended_;
  Buffer<std::int64_t> slots_;
  std::unique_ptr<Buffer<std::byte>> workspace_;
  std::unique_ptr<Buffer<std::byte>> selections_;
  AttentionPlan plan_;
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  Reads reads_;
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

}  // namespace hip_attn::bench
