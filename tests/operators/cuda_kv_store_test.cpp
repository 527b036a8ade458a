// What a store does on streams, in graphs and in prefill on CUDA: the same bits as a cache on the
// device.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "hip_attn_instantiations.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/same_bits.hpp"
#include "support/store_configs.hpp"
#include "support/store_engine.hpp"

#if HIP_ATTN_HAS_CUDA
#include <cuda_runtime_api.h>

namespace {

using namespace hip_attn;
using namespace hip_attn::test;

using T = bfloat16;

class CudaStream {
 public:
  CudaStream() { REQUIRE(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking) == 0); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  ~CudaStream() { cudaStreamDestroy(stream_); }
  operator cudaStream_t() const { return stream_; }  // NOLINT(google-explicit-constructor)

 private:
  cudaStream_t stream_ = nullptr;
};

/// What comes next on `then` comes behind what is on `first`.
void order(cudaStream_t first, cudaStream_t then) {
  cudaEvent_t event;
  REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  REQUIRE(cudaEventRecord(event, first) == cudaSuccess);
  REQUIRE(cudaStreamWaitEvent(then, event) == cudaSuccess);
  cudaEventDestroy(event);
}

void require_same(const StoreEngine<T>::Result& expected, const StoreEngine<T>::Result& actual) {
  REQUIRE(same_bits(expected.out, actual.out));
  REQUIRE(same_bits(expected.lse, actual.lse));
}

StoreEngineOptions with_budget(StoreEngineOptions options, std::size_t budget) {
  options.budget = budget;
  return options;
}

/// In a test of its own for each config: one takes a minute.
void check_prefill_with_store(const HipConfig& config) {
  REQUIRE_CUDA_OR_SKIP();
  StoreEngineOptions options{cuda_device(), config};
  options.is_prefill = true;
  options.q_heads = 16;
  options.kv_heads = 4;
  options.head_dim = GENERATE(from_range(head_dims()));
  // Of few multiprocessors the next heads are copied beside those before.
  options.multiprocessors = GENERATE(0, 8, -1);
  options.hopper = options.multiprocessors >= 0;
  const std::size_t budget = least_budget(options, kElementType<T>);
  StoreEngine<T> resident(options);
  // Staged, of a layer's 4096 blocks: none, three, half a head's, a head's, two heads', all.
  const std::size_t block = 2 * kKvBlockTokens * static_cast<std::size_t>(options.head_dim) * 2;
  options.staging_bytes = block * GENERATE(0, 3, 500, 1100, 2100, 10000);
  CAPTURE(describe(config), options.head_dim, options.multiprocessors, options.staging_bytes);
  StoreEngine<T> stored(with_budget(options, budget));
  for (auto* engine : {&resident, &stored}) engine->bind();
  std::uint64_t at = 0;
  for (const std::vector<std::int64_t>& rows : std::vector<std::vector<std::int64_t>>{
           {1800, 300}, {650, 1}, {3, 1500}, {0, 70}, {1000, 70}}) {
    for (auto* engine : {&resident, &stored}) engine->append(rows);
    const std::vector<std::int32_t> refresh(rows.size(), 0);
    require_same(resident.attend(rows, refresh, at), stored.attend(rows, refresh, at));
    ++at;
  }
}

TEST_CASE("CUDA prefill with a store is that of a cache on the device: by landmarks",
          "[cuda][offload]") {
  check_prefill_with_store(by_landmarks());
}
TEST_CASE("CUDA prefill with a store is that of a cache on the device: by descent",
          "[cuda][offload]") {
  check_prefill_with_store(by_descent());
}
TEST_CASE("CUDA prefill with a store is that of a cache on the device: of a window",
          "[cuda][offload]") {
  check_prefill_with_store(of_window());
}
TEST_CASE("CUDA prefill with a store is that of a cache on the device: dense", "[cuda][offload]") {
  check_prefill_with_store(presets::dense());
}

TEST_CASE("Several KV heads are staged together, or the only one", "[cuda][offload]") {
  REQUIRE_CUDA_OR_SKIP();
  StoreEngineOptions options{cuda_device(), GENERATE(by_landmarks(), by_descent())};
  options.is_prefill = true;
  options.kv_heads = GENERATE(1, 5, 6);  // beside copies by twos, and of five the last alone
  options.q_heads = 2 * options.kv_heads;
  options.head_dim = head_dims().front();
  options.multiprocessors = 32;
  const std::size_t block = 2 * kKvBlockTokens * static_cast<std::size_t>(options.head_dim) * 2;
  options.staging_bytes = block * GENERATE(1500, 20000);
  CAPTURE(describe(options.config), options.kv_heads, options.staging_bytes);
  StoreEngine<T> resident(options);
  StoreEngine<T> stored(with_budget(options, least_budget(options, kElementType<T>)));
  for (auto* engine : {&resident, &stored}) engine->bind();
  std::uint64_t at = 0;
  for (const std::vector<std::int64_t>& rows :
       std::vector<std::vector<std::int64_t>>{{1800, 300}, {0, 70}, {400, 3}}) {
    for (auto* engine : {&resident, &stored}) engine->append(rows);
    const std::vector<std::int32_t> refresh(rows.size(), 0);
    require_same(resident.attend(rows, refresh, at), stored.attend(rows, refresh, at));
    ++at;
  }
}

TEST_CASE("One captured graph serves every state of a store", "[cuda][offload]") {
  REQUIRE_CUDA_OR_SKIP();
  const HipConfig config = GENERATE(by_landmarks(), by_descent());
  StoreEngineOptions options{cuda_device(), config};
  options.head_dim = head_dims().front();
  options.admits_apart = GENERATE(false, true);
  const bool searches_ahead = GENERATE(false, true);
  const std::vector<std::int64_t> one{1, 1};
  StoreEngine<T> resident(options);
  StoreEngine<T> stored(with_budget(options, least_budget(options, kElementType<T>)));
  for (auto* engine : {&resident, &stored}) {
    engine->bind();
    engine->append({1500, 2100});
  }
  const CudaStream stream;
  const CudaStream beside;
  cudaGraphExec_t exec = nullptr;
  for (std::uint64_t step = 0; step < 100; ++step) {
    const auto at = static_cast<std::int64_t>(step);
    const std::vector<std::int32_t> refresh(
        2, searches_ahead ? refresh_ahead_at(config, at) : refresh_from_at(config, at));
    resident.append(one);
    const auto expected = resident.attend(one, refresh, step);
    const std::int64_t tokens = stored.write_new_rows(one);
    const std::int64_t total = stored.write_queries(one, refresh, step);
    if (!exec) {
      REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
      stored.launch_append(tokens, stream);
      stored.launch_attend(total, stream);
      if (options.admits_apart) {
        order(stream, beside);
        stored.launch_admission(beside);
        order(beside, stream);
      }
      cudaGraph_t graph;
      REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
      REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
      cudaGraphDestroy(graph);
    }
    REQUIRE(cudaGraphLaunch(exec, stream) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
    INFO("step " << step);
    require_same(expected, stored.read_result(total));
  }
  cudaGraphExecDestroy(exec);
  CHECK(stored.counters().evictions > 0);
}

TEST_CASE("A prefill that stages blocks can be captured", "[cuda][offload]") {
  REQUIRE_CUDA_OR_SKIP();
  StoreEngineOptions options{cuda_device(), by_landmarks()};
  options.is_prefill = true;
  options.head_dim = head_dims().front();
  options.multiprocessors = GENERATE(0, 8);
  options.staging_bytes =
      2100 * 2 * kKvBlockTokens * static_cast<std::size_t>(options.head_dim) * 2;
  const CudaStream stream;
  StoreEngine<T> resident(options);
  StoreEngine<T> stored(with_budget(options, least_budget(options, kElementType<T>)));
  const std::vector<std::int64_t> rows{2000, 900};
  const std::vector<std::int32_t> refresh(2, 0);
  for (auto* engine : {&resident, &stored}) {
    engine->bind();
    engine->append(rows);
  }
  const auto expected = resident.attend(rows, refresh, 0);
  const std::int64_t total = stored.write_queries(rows, refresh, 0);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  stored.launch_attend(total, stream);
  cudaGraph_t graph;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  cudaGraphExec_t exec;
  REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
  for (int i = 0; i < 3; ++i) {
    static_cast<void>(stored.write_queries(rows, refresh, 0));
    REQUIRE(cudaGraphLaunch(exec, stream) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
    require_same(expected, stored.read_result(total));
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

TEST_CASE("Two stores on two streams at once keep apart", "[cuda][offload]") {
  REQUIRE_CUDA_OR_SKIP();
  const HipConfig config = by_landmarks();
  StoreEngineOptions options{cuda_device(), config};
  options.head_dim = head_dims().front();
  StoreEngine<T> resident(options);
  options = with_budget(options, least_budget(options, kElementType<T>));
  options.admits_apart = GENERATE(false, true);
  // As two layers, whose keys differ; memory of each is poisoned before use, so a block that one
  // read of the other would show.
  StoreEngine<T> first(options);
  StoreEngine<T> second(options);
  StoreEngine<T>* const all[] = {&resident, &first, &second};
  for (std::int64_t b = 0; b < options.batch; ++b) second.member(b).seed += 10;
  for (auto* engine : all) {
    engine->bind();
    engine->append({1600, 2200});
  }
  StoreEngineOptions others = options;
  others.budget.reset();
  StoreEngine<T> resident_second(others);
  for (std::int64_t b = 0; b < options.batch; ++b) resident_second.member(b).seed += 10;
  resident_second.append({1600, 2200});
  const CudaStream streams[2];
  const std::vector<std::int64_t> one{1, 1};
  for (std::uint64_t step = 0; step < 60; ++step) {
    const std::vector<std::int32_t> refresh(
        2, refresh_from_at(config, static_cast<std::int64_t>(step)));
    for (auto* engine : {&resident, &resident_second}) engine->append(one);
    const auto expected_first = resident.attend(one, refresh, step);
    const auto expected_second = resident_second.attend(one, refresh, step);
    const std::int64_t tokens = first.write_new_rows(one);
    static_cast<void>(second.write_new_rows(one));
    const std::int64_t total = first.write_queries(one, refresh, step);
    static_cast<void>(second.write_queries(one, refresh, step));
    for (int i = 0; i < 2; ++i) {
      const StoreEngine<T>& engine = i == 0 ? first : second;
      engine.launch_append(tokens, streams[i]);
      engine.launch_attend(total, streams[i]);
      if (options.admits_apart) engine.launch_admission(streams[i]);
    }
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    INFO("step " << step);
    require_same(expected_first, first.read_result(total));
    require_same(expected_second, second.read_result(total));
  }
}

TEST_CASE("A request whose row the store does not have reads nothing", "[cuda][offload]") {
  REQUIRE_CUDA_OR_SKIP();
  StoreEngineOptions options{cuda_device(), by_landmarks()};
  options.head_dim = head_dims().front();
  options.max_requests = 2;
  StoreEngine<T> resident(options);
  StoreEngine<T> stored(with_budget(options, least_budget(options, kElementType<T>)));
  stored.member(1).row = GENERATE(2, -1, 1 << 30);  // beyond its two rows
  for (auto* engine : {&resident, &stored}) {
    engine->bind();
    engine->append({1200, 900});
    engine->append({1, 1});
  }
  const std::vector<std::int64_t> one{1, 1};
  const auto expected = resident.attend(one, {0, 0}, 0);
  const auto actual = stored.attend(one, {0, 0}, 0);
  const std::size_t half = expected.out.size() / 2;
  // Request 0 is as alone; request 1, which has no pages, is NaN.
  CHECK(same_bits(std::vector<T>(expected.out.begin(), expected.out.begin() + half),
                  std::vector<T>(actual.out.begin(), actual.out.begin() + half)));
  CHECK(std::isnan(to_float(actual.out[half])));
}

}  // namespace
#endif
