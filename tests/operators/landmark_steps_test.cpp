// A decode step of an engine that keeps landmarks, captured once and replayed while sequences grow
// over the ends of chunks: keys are appended, their landmarks made, and decode searches by them.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "hip_attn_instantiations.hpp"
#include "support/backends.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"
#include "support/same_bits.hpp"

#if HIP_ATTN_HAS_CUDA
#include <cuda_runtime_api.h>
#endif

namespace {

using namespace hip_attn;
using namespace hip_attn::test;

using T = bfloat16;
constexpr std::int64_t kSteps = 64;
constexpr std::int64_t kBatch = 3;
constexpr std::int64_t kStart[kBatch] = {300, 447, 30};

/// One engine: its cache and landmarks, and the arrays that every step fills anew.
class Engine {
 public:
  Engine(Device device, const HipConfig& config, const Problem<T>& problem)
      : problem_(problem),
        config_(config),
        plan_(make_plan<T>(Operator::kDecode, config, problem.shape(device))),
        memory_(plan_, without_later_keys(problem), {.order = KvOrder::kContiguous}),
        page_size_(memory_.kv().pages().page_size()),
        k_(device, kBatch * row_size(), T{}),
        v_(device, kBatch * row_size(), T{}),
        slots_(device, kBatch, std::int64_t{-1}),
        lengths_(device, kBatch, 0),
        cu_seqlens_(device, std::vector<std::int32_t>{0, 1, 2, 3}),
        refresh_from_(device, kBatch, 0),
        cache_(device, kBatch * static_cast<std::int64_t>(plan_.selection_cache_slot_bytes),
               std::byte{0}) {
    memory_.args().seq_lens = {lengths_.data(), {kBatch}};
    memory_.args().cache =
        SelectionCache{cache_.data(), kBatch, {refresh_from_.data(), {kBatch}}, {}};
    append_.k = {k_.data(), {kBatch, problem.heads.num_kv_heads, problem.heads.head_dim}};
    append_.v = {v_.data(), {kBatch, problem.heads.num_kv_heads, problem.heads.head_dim}};
    append_.slot_mapping = {slots_.data(), {kBatch}};
    append_.pages = memory_.kv().pages();
    append_.landmarks = AppendLandmarks<T>{memory_.landmarks().view(),
                                           std::nullopt,
                                           {lengths_.data(), {kBatch}},
                                           {cu_seqlens_.data(), {kBatch + 1}}};
  }

  /// Writes what the step reads. Request b appends its key at kStart[b] + step.
  void prepare(std::int64_t step) {
    std::vector<T> k;
    std::vector<T> v;
    std::vector<std::int64_t> slots;
    std::vector<std::int32_t> lengths;
    std::vector<std::int32_t> refresh_from;
    for (std::int64_t b = 0; b < kBatch; ++b) {
      const Request<T>& request = problem_.requests[b];
      const std::int64_t position = kStart[b] + step;
      k.insert(k.end(), request.key(position, 0), request.key(position, 0) + row_size());
      v.insert(v.end(), request.value(position, 0), request.value(position, 0) + row_size());
      slots.push_back(b * page_size_ + position);
      lengths.push_back(static_cast<std::int32_t>(position + 1));
      refresh_from.push_back(step == 0 ? 0 : refresh_from_at(config_, step + 3 * b));
    }
    k_.write(k);
    v_.write(v);
    slots_.write(slots);
    lengths_.write(lengths);
    refresh_from_.write(refresh_from);
  }

  [[nodiscard]] Status run(Stream stream = nullptr) {
    Status status = append_kv<T>(plan_.shape.device, append_, stream);
    return status.ok() ? run_decode(plan_, memory_.args(), memory_.workspace(), stream) : status;
  }
  [[nodiscard]] RunResult<T> read() const { return memory_.read(); }

  /// Every complete chunk of requests that have been appended to so far has its landmark.
  void check_landmarks(std::int64_t step) const {
    Problem<T> so_far = problem_;
    for (std::int64_t b = 0; b < kBatch; ++b) so_far.requests[b].seq_len = kStart[b] + step + 1;
    CHECK(memory_.landmarks().difference(so_far).empty());
  }

 private:
  [[nodiscard]] std::int64_t row_size() const {
    return problem_.heads.num_kv_heads * problem_.heads.head_dim;
  }

  // What is appended later is NaN before, and so are its landmarks.
  static Problem<T> without_later_keys(Problem<T> problem) {
    for (std::int64_t b = 0; b < kBatch; ++b) {
      Request<T>& request = problem.requests[b];
      for (auto* values : {&request.k, &request.v}) {
        std::fill(values->begin() + request.kv_offset(kStart[b], 0), values->end(),
                  from_float<T>(kNaN));
      }
    }
    return problem;
  }

  const Problem<T>& problem_;
  const HipConfig& config_;
  AttentionPlan plan_;
  CallMemory<T> memory_;
  std::int64_t page_size_;
  DeviceBuffer<T> k_;
  DeviceBuffer<T> v_;
  DeviceBuffer<std::int64_t> slots_;
  DeviceBuffer<std::int32_t> lengths_;
  DeviceBuffer<std::int32_t> cu_seqlens_;
  DeviceBuffer<std::int32_t> refresh_from_;
  DeviceBuffer<std::byte> cache_;
  AppendKvArgs<T> append_;
};

// Also where there is no GPU: the loop that the graph is compared with.
Problem<T> growing_problem() {
  std::vector<RequestSpec> specs;
  for (std::int64_t b = 0; b < kBatch; ++b) {
    specs.push_back({kStart[b] + kSteps, 1, static_cast<std::uint64_t>(b + 1)});
  }
  return make_problem<T>({8, 2, least_head_dim()}, specs, Values::kExact);
}

#if HIP_ATTN_HAS_CUDA
TEST_CASE("One captured graph appends, makes landmarks and decodes while chunks complete",
          "[cuda][decode]") {
  if (const Status status = check_device(cuda_device()); !status.ok()) {
    HIP_ATTN_SKIP(status.message());
  }
  if (!is_built<T>()) HIP_ATTN_SKIP("this build lacks the element type");
  const bool sums = GENERATE(false, true);
  const HipConfig config = sums ? landmark_config() : with_maxima(landmark_config());
  const Problem<T> problem = growing_problem();
  Engine cpu(kCpu, config, problem);
  Engine eager(cuda_device(), config, problem);
  Engine replayed(cuda_device(), config, problem);

  cudaStream_t stream;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  const Status captured = replayed.run(stream);
  cudaGraph_t graph;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  INFO(captured.message());
  REQUIRE(captured.ok());
  cudaGraphExec_t exec;
  REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);

  for (std::int64_t step = 0; step < kSteps; ++step) {
    INFO("step " << step);
    for (Engine* each : {&cpu, &eager, &replayed}) each->prepare(step);
    REQUIRE(cpu.run().ok());
    REQUIRE(eager.run().ok());
    REQUIRE(cudaGraphLaunch(exec, stream) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
    const auto result = replayed.read();
    const auto same = eager.read();
    CHECK(same_bits(result.out, same.out));
    CHECK(result.selection.blocks == same.selection.blocks);
    replayed.check_landmarks(step);
    // Sums may take near ties otherwise on another device.
    if (!sums) require_same(cpu.read(), result);
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}
#endif

TEST_CASE("Appending with landmarks and decoding step by step is decoding what was there before") {
  if (!is_built<T>()) HIP_ATTN_SKIP("this build lacks the element type");
  const HipConfig config = GENERATE(landmark_config(), with_maxima(landmark_config()));
  const Problem<T> problem = growing_problem();
  Engine engine(kCpu, config, problem);
  for (std::int64_t step = 0; step < kSteps; ++step) {
    INFO("step " << step);
    engine.prepare(step);
    const Status status = engine.run();
    INFO(status.message());
    REQUIRE(status.ok());
    engine.check_landmarks(step);
    for (const T value : engine.read().out) REQUIRE(std::isfinite(to_float(value)));
  }
}

}  // namespace
