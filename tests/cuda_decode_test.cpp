// Decode on CUDA against the CPU backend: the same calls, the same selections to the block, outputs
// to rounding. What decode must do in itself is tested on every device elsewhere.
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "hip_attn_instantiations.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"

#if HIP_ATTN_HAS_CUDA
#include <cuda_runtime_api.h>
#endif

namespace {

using namespace hip_attn;
using namespace hip_attn::test;

#define REQUIRE_CUDA_DEVICE()                                                        \
  if (const Status device_status = check_device(cuda_device()); !device_status.ok()) \
  HIP_ATTN_SKIP(device_status.message())

template <Element T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Both backends round the probabilities and the output to T at different places: a few units in the
// last place of the largest value (|v| <= 3 in these problems).
template <Element T>
float tolerance() {
  return std::same_as<T, float16> ? 6e-3f : 5e-2f;
}

template <Element T>
void require_close(const RunResult<T>& cpu, const RunResult<T>& cuda) {
  REQUIRE(cpu.out.size() == cuda.out.size());
  float worst = 0.f;
  for (std::size_t i = 0; i < cpu.out.size(); ++i) {
    const float difference = std::abs(to_float(cpu.out[i]) - to_float(cuda.out[i]));
    worst = difference <= worst ? worst : difference;  // NaN counts
  }
  CHECK(worst <= tolerance<T>());
  float worst_lse = 0.f;
  for (std::size_t i = 0; i < cpu.lse.size(); ++i) {
    if (cpu.lse[i] == cuda.lse[i]) continue;  // -inf
    const float difference = std::abs(cpu.lse[i] - cuda.lse[i]) / (1.f + std::abs(cpu.lse[i]));
    worst_lse = difference <= worst_lse ? worst_lse : difference;
  }
  CHECK(worst_lse <= 1e-5f);
}

template <Element T>
void require_same(const RunResult<T>& cpu, const RunResult<T>& cuda) {
  CHECK(cpu.selection.counts == cuda.selection.counts);
  CHECK(cpu.selection.window_start == cuda.selection.window_start);
  CHECK(cpu.selection.blocks == cuda.selection.blocks);
  CHECK(cpu.counters == cuda.counters);
  require_close(cpu, cuda);
}

std::vector<RequestSpec> random_requests(Choices& choices, std::int64_t longest) {
  std::vector<RequestSpec> specs;
  for (std::int64_t b = choices.between(1, 5); b > 0; --b) {
    const std::int64_t seq_len = choices.one_in(8) ? 0 : choices.between(1, longest);
    const std::int64_t rows = choices.one_in(6) ? 0 : choices.of({1, 1, 1, 2, 5, 8});
    specs.push_back({seq_len, seq_len == 0 ? rows : std::min(seq_len, rows),
                     static_cast<std::uint64_t>(choices.between(1, 1000))});
  }
  return specs;
}

MemoryLayout random_layout(Choices& choices) {
  MemoryLayout layout;
  layout.order = choices.of({KvOrder::kNhd, KvOrder::kHnd, KvOrder::kContiguous});
  layout.page_size = choices.of({1, 3, 16, 64});
  layout.row_padding = choices.one_in(3) ? 8 : 0;
  layout.interleave_kv = choices.one_in(3);
  return layout;
}

}  // namespace

TEMPLATE_TEST_CASE("CUDA decode selects, counts and attends as the CPU does", "[cuda][decode]",
                   float16, bfloat16) {
  REQUIRE_CUDA_DEVICE();
  Choices choices(11);
  const int cases = 150;
  for (int i = 0; i < cases; ++i) {
    const HipConfig config = random_config(choices, 4);
    Heads heads;
    heads.head_dim = choices.of({64, 128, 256});
    heads.num_kv_heads = choices.of({1, 2, 3});
    heads.num_q_heads = heads.num_kv_heads * choices.between(1, 16);
    const Values values = choices.one_in(4) ? Values::kTies : Values::kExact;
    const auto problem = make_problem<TestType>(
        heads, random_requests(choices, choices.of({40, 300, 2000})), values);
    RunOptions options;
    options.memory = random_layout(choices);
    if (choices.one_in(3)) options.logit_softcap = 20.f;
    if (choices.one_in(3)) options.scale = 0.05f;
    INFO("case " << i << ": " << describe(config) << "; D " << heads.head_dim << ", Hq "
                 << heads.num_q_heads << ", Hk " << heads.num_kv_heads);
    const auto cpu = run_attention(Operator::kDecode, config, problem, options);
    options.device = cuda_device();
    const auto cuda = run_attention(Operator::kDecode, config, problem, options);
    require_same(cpu, cuda);

    options.selection = &cuda.selection;  // and back in
    const auto again = run_attention(Operator::kDecode, config, problem, options);
    CHECK(same_bits(again.out, cuda.out));
  }
}

TEMPLATE_TEST_CASE("CUDA decode of long contexts selects as the CPU does", "[cuda][decode]",
                   float16, bfloat16) {
  REQUIRE_CUDA_DEVICE();
  const HipConfig config = GENERATE(presets::infinite_hip(), presets::infinite_hip_5k(),
                                    presets::hip_classic(65536, 1024, 16), presets::dense());
  const Heads heads{8, 2, 128};
  const auto problem = make_problem<TestType>(
      heads, {{50000, 1, 1}, {70001, 3, 2}, {0, 1, 3}, {1500, 8, 4}, {40000, 0, 5}},
      Values::kExact);
  RunOptions options;
  const auto cpu = run_attention(Operator::kDecode, config, problem, options);
  options.device = cuda_device();
  const auto cuda = run_attention(Operator::kDecode, config, problem, options);
  require_same(cpu, cuda);
  const auto repeated = run_attention(Operator::kDecode, config, problem, options);
  CHECK(same_bits(cuda.out, repeated.out));
  CHECK(same_bits(cuda.lse, repeated.lse));
}

TEST_CASE("CUDA decode answers lengths that do not hold with NaN rows of that request alone",
          "[cuda][decode]") {
  REQUIRE_CUDA_DEVICE();
  using T = bfloat16;
  const HipConfig config = small_config();
  const auto problem = make_problem<T>({4, 2, 64}, {{200, 1, 1}, {300, 2, 2}, {100, 1, 3}});
  const AttentionPlan plan = make_plan<T>(Operator::kDecode, config, problem.shape(cuda_device()));
  CallMemory<T> memory(plan, problem, {});
  const DeviceBuffer<std::int32_t> lengths(cuda_device(),
                                           std::vector<std::int32_t>{200, 3000000, 100});
  memory.args().seq_lens = {lengths.data(), {3}};
  REQUIRE(run_decode(plan, memory.args(), memory.workspace()).ok());
  const auto result = memory.read();
  const std::size_t row = 4 * 64;
  for (std::size_t i = 0; i < result.out.size(); ++i) {
    const float value = to_float(result.out[i]);
    REQUIRE((value != value) == (i >= row && i < 3 * row));
  }
  REQUIRE(memory.untouched_around_outputs());
}

#if HIP_ATTN_HAS_CUDA
TEST_CASE("One captured graph serves every refresh state while lengths grow", "[cuda][decode]") {
  REQUIRE_CUDA_DEVICE();
  using T = bfloat16;
  const HipConfig config = small_config();
  constexpr int kSteps = 64;
  constexpr std::int32_t kStart[] = {300, 500, 30};
  const Heads heads{8, 2, 128};
  std::vector<RequestSpec> specs;
  for (int b = 0; b < 3; ++b)
    specs.push_back({kStart[b] + kSteps, 1, static_cast<std::uint64_t>(b + 1)});
  const auto problem = make_problem<T>(heads, specs, Values::kExact);

  struct Side {
    Side(Device device, const HipConfig& config, const Problem<T>& problem)
        : plan(make_plan<T>(Operator::kDecode, config, problem.shape(device))),
          memory(plan, problem, {}),
          lengths(device, std::vector<std::int32_t>(3, 0)),
          refresh_from(device, std::vector<std::int32_t>(3, 0)),
          cache(device, static_cast<std::int64_t>(3 * plan.selection_cache_slot_bytes),
                std::byte{0}) {
      memory.args().seq_lens = {lengths.data(), {3}};
      memory.args().cache = SelectionCache{cache.data(), 3, {refresh_from.data(), {3}}, {}};
    }
    AttentionPlan plan;
    CallMemory<T> memory;
    DeviceBuffer<std::int32_t> lengths;
    DeviceBuffer<std::int32_t> refresh_from;
    DeviceBuffer<std::byte> cache;
  };
  Side cpu(kCpu, config, problem);
  Side cuda(cuda_device(), config, problem);

  cudaStream_t stream;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  const Status captured =
      run_decode(cuda.plan, cuda.memory.args(), cuda.memory.workspace(), stream);
  cudaGraph_t graph;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  INFO(captured.message());
  REQUIRE(captured.ok());
  cudaGraphExec_t exec;
  REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);

  for (int step = 0; step < kSteps; ++step) {
    std::vector<std::int32_t> lengths;
    std::vector<std::int32_t> refresh;
    for (int b = 0; b < 3; ++b) {
      lengths.push_back(kStart[b] + step);
      refresh.push_back(refresh_from_at(config, step + 3 * b));  // staggered
    }
    for (Side* side : {&cpu, &cuda}) {
      side->lengths.write(lengths);
      side->refresh_from.write(refresh);
    }
    REQUIRE(run_decode(cpu.plan, cpu.memory.args(), cpu.memory.workspace()).ok());
    REQUIRE(cudaGraphLaunch(exec, stream) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
    INFO("step " << step);
    require_same(cpu.memory.read(), cuda.memory.read());
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

TEST_CASE("Two streams with two workspaces decode at once", "[cuda][decode]") {
  REQUIRE_CUDA_DEVICE();
  using T = bfloat16;
  const HipConfig config = small_config();
  const auto problem = make_problem<T>({32, 8, 128}, {{4000, 1, 1}, {3000, 2, 2}}, Values::kExact);
  const auto alone =
      run_attention(Operator::kDecode, config, problem, RunOptions{.device = cuda_device()});
  const AttentionPlan plan = make_plan<T>(Operator::kDecode, config, problem.shape(cuda_device()));
  CallMemory<T> first(plan, problem, {});
  CallMemory<T> second(plan, problem, {});
  cudaStream_t streams[2];
  for (cudaStream_t& stream : streams) REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  for (int i = 0; i < 20; ++i) {
    REQUIRE(run_decode(plan, first.args(), first.workspace(), streams[0]).ok());
    REQUIRE(run_decode(plan, second.args(), second.workspace(), streams[1]).ok());
  }
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(same_bits(first.read().out, alone.out));
  CHECK(same_bits(second.read().out, alone.out));
  for (cudaStream_t stream : streams) cudaStreamDestroy(stream);
}
#endif
