// What a call through the C interface costs more than one of C++: a decode step that has next to
// nothing to compute, of one thread.
//
//   c_api_bench --benchmark_repetitions=9 --benchmark_enable_random_interleaving=true
#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "hip_attn/c/hip_attn.h"
#include "hip_attn/hip_attn.hpp"

namespace {

using namespace hip_attn;

// One request of 16 keys, one head, every optional output.
struct Step {
  Step() {
    config.window = 4;
    config.stages = {ScanStage{.chunk_size = 4, .keep = 4}};
    const AttentionShape shape{.max_seq_len = kKeys, .head_dim = head_dim, .num_threads = 1};
    status = plan_decode<float>(config, shape, plan);
    workspace.resize(plan.workspace_bytes);
    cache.resize(plan.selection_cache_slot_bytes);
    blocks.resize(static_cast<std::size_t>(plan.max_selected_blocks));
  }

  static constexpr std::int64_t kKeys = 16;
  const std::int64_t head_dim = built_head_dims().front();
  HipConfig config;
  AttentionPlan plan;
  Status status;
  std::vector<std::byte> workspace;
  std::vector<std::byte> cache;
  std::vector<float> q = std::vector<float>(static_cast<std::size_t>(head_dim), 1.f);
  std::vector<float> out = q;
  std::vector<float> k = std::vector<float>(static_cast<std::size_t>(kKeys * head_dim), 1.f);
  std::vector<float> v = k;
  std::vector<std::int32_t> blocks;
  std::int32_t count = 0;
  std::int32_t window_start = 0;
  std::int32_t table = 0;
  std::int32_t seq_len = kKeys;
  std::int32_t refresh_from = 0;
  std::array<std::int32_t, 2> cu_seqlens{0, 1};
  std::array<std::int64_t, 3> counters{};
  float lse = 0.f;
};

void by_cpp(benchmark::State& state) {
  Step step;
  const std::int64_t d = step.head_dim;
  const auto blocks = static_cast<std::int64_t>(step.blocks.size());
  for (auto _ : state) {
    AttentionArgs<float> args;
    args.q = {step.q.data(), {1, 1, d}};
    args.kv.pages = kv_pages_nhd<const float>(step.k.data(), step.v.data(), 1, Step::kKeys, 1, d);
    args.kv.block_table = TensorView<const std::int32_t, 2>(&step.table, {1, 1});
    args.seq_lens = {&step.seq_len, {1}};
    args.cu_seqlens_q = {step.cu_seqlens.data(), {2}};
    args.out = {step.out.data(), {1, 1, d}};
    args.lse = TensorView<float, 2>(&step.lse, {1, 1});
    args.selection_out =
        BlockSelection{TensorView<std::int32_t, 3>(step.blocks.data(), {1, 1, blocks}),
                       TensorView<std::int32_t, 2>(&step.count, {1, 1}),
                       TensorView<std::int32_t, 2>(&step.window_start, {1, 1})};
    args.cache = SelectionCache{step.cache.data(), 1, {&step.refresh_from, {1}}, std::nullopt};
    args.counters = TensorView<std::int64_t, 1>(step.counters.data(), {3});
    const Status status = run_decode(step.plan, args, step.workspace);
    if (!status.ok()) state.SkipWithError(status.message().c_str());
  }
}
BENCHMARK(by_cpp);

DLTensor tensor(void* data, DLDataType dtype, int ndim, std::int64_t* shape) {
  return {data, {kDLCPU, 0}, ndim, dtype, shape, nullptr, 0};
}

void by_c(benchmark::State& state) {
  Step step;
  const DLDataType float32{kDLFloat, 32, 1};
  const DLDataType int32{kDLInt, 32, 1};
  const DLDataType int64{kDLInt, 64, 1};
  const DLDataType uint8{kDLUInt, 8, 1};
  HipAttnConfig* config = nullptr;
  HipAttnStage stage{sizeof(HipAttnStage), 4, 4, 0, HIP_ATTN_RULE_DESCENT, 0, 0};
  HipAttnConfigValues values{sizeof(HipAttnConfigValues), 0, 4, 0, 0, 1, &stage};
  HipAttnPlan* plan = nullptr;
  HipAttnShape shape{sizeof(HipAttnShape), {kDLCPU, 0}, float32, {0, 0, 0},     1, 1,
                     Step::kKeys,          1,           1,       step.head_dim, 1, 0};
  std::array<char, 256> message{};
  if (hip_attn_config_create(&values, &config, message.data(), message.size()) != HIP_ATTN_OK ||
      hip_attn_plan_decode(config, &shape, &plan, message.data(), message.size()) != HIP_ATTN_OK) {
    state.SkipWithError(message.data());
    return;
  }
  std::int64_t rows[3] = {1, 1, step.head_dim};
  std::int64_t pages_shape[4] = {1, Step::kKeys, 1, step.head_dim};
  std::int64_t ones[3] = {1, 1, 1};
  std::int64_t starts[1] = {2};
  std::int64_t counts[1] = {3};
  std::int64_t bytes[1] = {static_cast<std::int64_t>(step.cache.size())};
  std::int64_t blocks_shape[3] = {1, 1, static_cast<std::int64_t>(step.blocks.size())};
  for (auto _ : state) {
    const DLTensor q = tensor(step.q.data(), float32, 3, rows);
    const DLTensor out = tensor(step.out.data(), float32, 3, rows);
    const DLTensor k = tensor(step.k.data(), float32, 4, pages_shape);
    const DLTensor v = tensor(step.v.data(), float32, 4, pages_shape);
    const DLTensor table = tensor(&step.table, int32, 2, ones);
    const DLTensor seq_lens = tensor(&step.seq_len, int32, 1, ones);
    const DLTensor cu_seqlens = tensor(step.cu_seqlens.data(), int32, 1, starts);
    const DLTensor lse = tensor(&step.lse, float32, 2, ones);
    const DLTensor blocks = tensor(step.blocks.data(), int32, 3, blocks_shape);
    const DLTensor count = tensor(&step.count, int32, 2, ones);
    const DLTensor window_start = tensor(&step.window_start, int32, 2, ones);
    const DLTensor data = tensor(step.cache.data(), uint8, 1, bytes);
    const DLTensor refresh_from = tensor(&step.refresh_from, int32, 1, ones);
    const DLTensor counters = tensor(step.counters.data(), int64, 1, counts);
    const HipAttnKvPages pages{sizeof(pages), &k, &v};
    const HipAttnPagedKv kv{sizeof(kv), &pages, &table};
    const HipAttnSelection selection{sizeof(selection), &blocks, &count, &window_start};
    const HipAttnSelectionCache cache{sizeof(cache), &data, 1, &refresh_from, nullptr};
    HipAttnAttentionArgs args{};
    args.struct_size = sizeof(args);
    args.q = &q;
    args.kv = &kv;
    args.seq_lens = &seq_lens;
    args.cu_seqlens_q = &cu_seqlens;
    args.out = &out;
    args.lse = &lse;
    args.selection_out = &selection;
    args.cache = &cache;
    args.counters = &counters;
    if (hip_attn_decode(plan, &args, step.workspace.data(), step.workspace.size(), nullptr,
                        message.data(), message.size()) != HIP_ATTN_OK) {
      state.SkipWithError(message.data());
    }
  }
  hip_attn_plan_destroy(plan);
  hip_attn_config_destroy(config);
}
BENCHMARK(by_c);

}  // namespace

BENCHMARK_MAIN();
