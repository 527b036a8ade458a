// Decode on CUDA against the CPU backend: the same calls, the same selections to the block, outputs
// to rounding. What decode must do in itself is tested on every device elsewhere.
#include <algorithm>
#include <climits>
#include <cmath>
#include <cstring>
#include <iterator>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
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

#define REQUIRE_CUDA_DEVICE()                                                        \
  if (const Status device_status = check_device(cuda_device()); !device_status.ok()) \
  HIP_ATTN_SKIP(device_status.message())

#define REQUIRE_BUILT(T) \
  if (!is_built<T>()) HIP_ATTN_SKIP("this build lacks the element type")

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

std::int64_t any_head_dim(Choices& choices) {
  const auto dims = head_dims();
  return dims[choices.between(0, static_cast<std::int64_t>(dims.size()) - 1)];
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
  REQUIRE_BUILT(TestType);
  Choices choices(11);
  const int cases = 150;
  for (int i = 0; i < cases; ++i) {
    const HipConfig config = with_maxima(random_config(choices, 4));
    Heads heads;
    heads.head_dim = any_head_dim(choices);
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
  REQUIRE_BUILT(TestType);
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

TEMPLATE_TEST_CASE("CUDA decode without clusters gives the same bits", "[cuda][decode]", float16,
                   bfloat16) {
  REQUIRE_CUDA_DEVICE();
  REQUIRE_BUILT(TestType);
  Choices choices(12);
  for (int i = 0; i < 20; ++i) {
    const HipConfig config = with_maxima(random_config(choices, 4));
    const std::int64_t kv_heads = choices.of({1, 2, 3});
    const Heads heads{kv_heads * choices.between(1, 16), kv_heads, any_head_dim(choices)};
    // Few enough units for all blocks to be on the GPU at once.
    const auto problem =
        make_problem<TestType>(heads, random_requests(choices, 2000), Values::kExact);
    AttentionPlan plan =
        make_plan<TestType>(Operator::kDecode, config, problem.shape(cuda_device()));
    CallMemory<TestType> clusters(plan, problem, {});
    REQUIRE(run_decode(plan, clusters.args(), clusters.workspace()).ok());
    cuda::use_portable_kernels(plan);
    CallMemory<TestType> grid(plan, problem, {});
    const Status status = run_decode(plan, grid.args(), grid.workspace());
    INFO("case " << i << ": " << describe(config) << "; " << status.message());
    REQUIRE(status.ok());
    const auto expected = clusters.read();
    const auto result = grid.read();
    REQUIRE(grid.untouched_around_outputs());
    CHECK(same_bits(result.out, expected.out));
    CHECK(same_bits(result.lse, expected.lse));
    CHECK(result.selection.blocks == expected.selection.blocks);
    CHECK(result.counters == expected.counters);
  }
}

TEST_CASE("CUDA decode of many requests is that of the CPU", "[cuda][decode]") {
  REQUIRE_CUDA_DEVICE();
  using T = bfloat16;
  std::vector<RequestSpec> specs;
  for (std::int64_t b = 0; b < 64; ++b) {
    specs.push_back({b % 9 == 4 ? 0 : 37 * b + 5, 1, static_cast<std::uint64_t>(b + 1)});
  }
  const auto problem = make_problem<T>({8, 2, 128}, specs, Values::kExact);
  RunOptions options;
  const auto cpu = run_attention(Operator::kDecode, small_config(), problem, options);
  options.device = cuda_device();
  require_same(cpu, run_attention(Operator::kDecode, small_config(), problem, options));
}

namespace {

// One request whose pages repeat a few physical ones, which lie `first_page` pages into the pool.
struct RepeatedPages {
  using T = bfloat16;
  static constexpr std::int64_t kPages = 61;
  static constexpr std::int64_t kPageSize = 16;
  static constexpr std::int64_t kHeadDim = 64;
  static constexpr std::int64_t kGroup = 4;

  std::vector<T> out;
  HostSelection selection;
  std::vector<std::int64_t> counters;

  RepeatedPages(Device device, const HipConfig& config, std::int64_t seq_len,
                std::int64_t first_page)
      : selection(1, 1, 1) {
    const std::int64_t columns = (seq_len + kPageSize - 1) / kPageSize;
    const auto source =
        make_problem<T>({kGroup, 1, kHeadDim}, {{kPages * kPageSize, 1, 7}}, Values::kExact);
    const Request<T>& request = source.requests[0];
    const std::int64_t elements = kPages * kPageSize * kHeadDim;
    const std::size_t before = first_page * kPageSize * kHeadDim * sizeof(T);
    DeviceBytes keys(device, before + elements * sizeof(T));
    DeviceBytes values(device, before + elements * sizeof(T));
    // Page 0, which the table does not name, is read where there is nothing to read.
    const std::vector<T> poison(std::min(first_page, std::int64_t{1}) * kPageSize * kHeadDim,
                                from_float<T>(NAN));
    keys.write(0, poison.data(), poison.size() * sizeof(T));
    values.write(0, poison.data(), poison.size() * sizeof(T));
    keys.write(before, request.k.data(), elements * sizeof(T));
    values.write(before, request.v.data(), elements * sizeof(T));
    std::vector<std::int32_t> table(columns);
    for (std::int64_t i = 0; i < columns; ++i) {
      table[i] = static_cast<std::int32_t>(first_page + (i * 7 + i / 50) % kPages);
    }

    const AttentionShape shape{device, 1, 1, seq_len, kGroup, 1, kHeadDim};
    const AttentionPlan plan = make_plan<T>(Operator::kDecode, config, shape);
    const DeviceBuffer<T> q(device, request.q);
    const DeviceBuffer<T> result(device, kGroup * kHeadDim, from_float<T>(0.f));
    const DeviceBuffer<std::int32_t> block_table(device, table);
    const DeviceBuffer<std::int32_t> lengths(device, 1, static_cast<std::int32_t>(seq_len));
    const DeviceBuffer<std::int32_t> rows(device, std::vector<std::int32_t>{0, 1});
    const DeviceBuffer<std::int64_t> counts(device, config.num_stages() + 2, 0);
    const SelectionMemory selected(device, HostSelection(1, 1, plan.max_selected_blocks));
    const DeviceBuffer<std::byte> workspace(device, static_cast<std::int64_t>(plan.workspace_bytes),
                                            std::byte{0xff});
    AttentionArgs<T> args;
    args.q = {q.data(), {1, kGroup, kHeadDim}};
    args.out = {result.data(), {1, kGroup, kHeadDim}};
    args.kv.pages = kv_pages_nhd<const T>(reinterpret_cast<const T*>(keys.data()),
                                          reinterpret_cast<const T*>(values.data()),
                                          first_page + kPages, kPageSize, 1, kHeadDim);
    args.kv.block_table = TensorView<const std::int32_t, 2>(block_table.data(), {1, columns});
    args.seq_lens = {lengths.data(), {1}};
    args.cu_seqlens_q = {rows.data(), {2}};
    args.selection_out = selected.view();
    args.counters = TensorView<std::int64_t, 1>(counts.data(), {counts.size()});
    const Status status =
        run_decode(plan, args, {workspace.data(), static_cast<std::size_t>(workspace.size())});
    INFO(status.message());
    REQUIRE(status.ok());
    out = result.read();
    selection = selected.read();
    counters = counts.read();
    REQUIRE(workspace.guards_intact());
  }
};

void require_same(const RepeatedPages& a, const RepeatedPages& b) {
  CHECK(a.selection.counts == b.selection.counts);
  CHECK(a.selection.window_start == b.selection.window_start);
  CHECK(a.selection.blocks == b.selection.blocks);
  CHECK(a.counters == b.counters);
}

}  // namespace

TEST_CASE("CUDA decode of millions of tokens selects as the CPU does", "[cuda][decode]") {
  REQUIRE_CUDA_DEVICE();
  if (!is_built<bfloat16>()) HIP_ATTN_SKIP("this build lacks the element type");
  const std::int64_t seq_len = GENERATE(1048576, 3000001, 4194304);
  const HipConfig config = GENERATE(presets::infinite_hip(), presets::infinite_hip_5k());
  const RepeatedPages cpu(kCpu, config, seq_len, 0);
  const RepeatedPages cuda(cuda_device(), config, seq_len, 0);
  require_same(cpu, cuda);
  for (std::size_t i = 0; i < cpu.out.size(); ++i) {
    REQUIRE(std::abs(to_float(cpu.out[i]) - to_float(cuda.out[i])) <= tolerance<bfloat16>());
  }
}

TEST_CASE("CUDA decode reads pages beyond the 2^31st element", "[cuda][decode]") {
  REQUIRE_CUDA_DEVICE();
  if (!is_built<bfloat16>()) HIP_ATTN_SKIP("this build lacks the element type");
  const std::int64_t seq_len = GENERATE(700, 100000);
  const HipConfig config = presets::infinite_hip();
  const std::int64_t page = RepeatedPages::kPageSize * RepeatedPages::kHeadDim;
  const RepeatedPages low(cuda_device(), config, seq_len, 0);
  const RepeatedPages high(cuda_device(), config, seq_len, (std::int64_t{1} << 31) / page + 3);
  require_same(low, high);
  CHECK(same_bits(low.out, high.out));
}

TEMPLATE_TEST_CASE("CUDA decode in small, for compute-sanitizer", "[cuda][decode][sanitize]",
                   float16, bfloat16) {
  REQUIRE_CUDA_DEVICE();
  REQUIRE_BUILT(TestType);
  const HipConfig config = GENERATE(small_config(), landmark_config());
  for (const std::int64_t head_dim : head_dims()) {
    if (head_dim > 128) continue;
    const auto problem = make_problem<TestType>(
        {8, 2, head_dim}, {{300, 1, 1}, {150, 3, 2}, {0, 1, 3}, {20, 1, 4}}, Values::kExact);
    AttentionPlan plan =
        make_plan<TestType>(Operator::kDecode, config, problem.shape(cuda_device()));
    for (const bool clusters : {true, false}) {
      if (!clusters) cuda::use_portable_kernels(plan);
      CallMemory<TestType> memory(plan, problem, {});
      const DeviceBuffer<std::byte> cache(
          cuda_device(), static_cast<std::int64_t>(4 * plan.selection_cache_slot_bytes),
          std::byte{0});
      DeviceBuffer<std::int32_t> refresh_from(cuda_device(), 4, 0);
      memory.args().cache = SelectionCache{cache.data(), 4, {refresh_from.data(), {4}}, {}};
      for (const std::int32_t stage : {0, 3, 2, search_ahead_from(0), 3}) {
        refresh_from.write(std::vector<std::int32_t>(4, stage));
        REQUIRE(run_decode(plan, memory.args(), memory.workspace()).ok());
      }
      memory.args().selection_out.reset();  // to the selection as it lies in the cache
      for (const std::int32_t stage : {3, 0, 3, search_ahead_from(1), 2}) {
        refresh_from.write(std::vector<std::int32_t>(4, stage));
        REQUIRE(run_decode(plan, memory.args(), memory.workspace()).ok());
      }
      REQUIRE(memory.untouched_around_outputs());
    }
  }
}

TEST_CASE("CUDA decode answers lengths that do not hold with NaN rows of that request alone",
          "[cuda][decode]") {
  REQUIRE_CUDA_DEVICE();
  using T = bfloat16;
  const HipConfig config = small_config();
  const auto problem = make_problem<T>({4, 2, 64}, {{200, 1, 1}, {300, 2, 2}, {100, 1, 3}});
  const AttentionPlan plan = make_plan<T>(Operator::kDecode, config, problem.shape(cuda_device()));
  const bool apart = GENERATE(false, true);
  CallMemory<T> memory(plan, problem, {.request_rows = apart ? 2 : 0});
  const DeviceBuffer<std::int32_t> lengths(cuda_device(),
                                           std::vector<std::int32_t>{200, 3000000, 100});
  if (apart) {
    memory.args().q.sizes[0] = 1;  // fewer rows than request 1 has
  } else {
    memory.args().seq_lens = {lengths.data(), {3}};
  }
  REQUIRE(run_decode(plan, memory.args(), memory.workspace()).ok());
  const auto result = memory.read();
  const std::size_t row = 4 * 64;
  for (std::size_t i = 0; i < result.out.size(); ++i) {
    const float value = to_float(result.out[i]);
    REQUIRE((value != value) == (i >= row && i < 3 * row));
  }
  REQUIRE(memory.untouched_around_outputs());
}

namespace {

// Decode on one device over many steps, with a cache. Without asking for selections, unless told
// to: those who ask get a copy of what the cache holds, and so another path.
template <Element T>
struct CachedDecode {
  CachedDecode(Device device, const HipConfig& config, const Problem<T>& problem,
               const MemoryLayout& layout = {}, bool clusters = true)
      : plan(make_plan<T>(Operator::kDecode, config, problem.shape(device))),
        memory(plan, problem, layout),
        batch(static_cast<std::int64_t>(problem.requests.size())),
        lengths(device, std::vector<std::int32_t>(batch, 0)),
        refresh_from(device, std::vector<std::int32_t>(batch, 0)),
        cache(device, batch * static_cast<std::int64_t>(plan.selection_cache_slot_bytes),
              std::byte{0}) {
    if (!clusters) cuda::use_portable_kernels(plan);
    memory.args().seq_lens = {lengths.data(), {batch}};
    memory.args().cache = SelectionCache{cache.data(), batch, {refresh_from.data(), {batch}}, {}};
    asked_ = memory.args().selection_out;
    memory.args().selection_out.reset();
  }

  void ask_for_selections() { memory.args().selection_out = asked_; }

  void set(const std::vector<std::int32_t>& new_lengths, const std::vector<std::int32_t>& refresh) {
    lengths.write(new_lengths);
    refresh_from.write(refresh);
  }

  RunResult<T> run(std::int32_t new_length, std::int32_t refresh) {
    set(std::vector<std::int32_t>(batch, new_length), std::vector<std::int32_t>(batch, refresh));
    return run();
  }
  RunResult<T> run() {
    const Status status = run_decode(plan, memory.args(), memory.workspace());
    INFO(status.message());
    REQUIRE(status.ok());
    REQUIRE(memory.untouched_around_outputs());
    return memory.read();
  }

  AttentionPlan plan;
  CallMemory<T> memory;
  std::int64_t batch;
  DeviceBuffer<std::int32_t> lengths;
  DeviceBuffer<std::int32_t> refresh_from;
  DeviceBuffer<std::byte> cache;

 private:
  std::optional<BlockSelection> asked_;
};

std::vector<RequestSpec> equal_requests(std::int64_t batch, std::int64_t seq_len,
                                        std::int64_t rows = 1) {
  std::vector<RequestSpec> specs;
  for (std::int64_t b = 1; b <= batch; ++b) {
    specs.push_back({seq_len, rows, static_cast<std::uint64_t>(b)});
  }
  return specs;
}

}  // namespace

TEMPLATE_TEST_CASE("CUDA decode that reuses a selection is that of the CPU", "[cuda][decode]",
                   float16, bfloat16) {
  REQUIRE_CUDA_DEVICE();
  REQUIRE_BUILT(TestType);
  struct Case {
    HipConfig config;
    Heads heads;
    std::int64_t batch;
    std::int32_t first;  // length at which everything is refreshed
    std::int32_t last;   // and to which it grows
    std::int64_t rows = 1;
  };
  const HipConfig preset = presets::infinite_hip();
  const auto [config, heads, batch, first, last, rows] = GENERATE_COPY(
      Case{small_config(), {8, 2, 128}, 2, 300, 360}, Case{small_config(), {5, 1, 64}, 3, 30, 90},
      Case{small_config(), {16, 1, 128}, 2, 299, 300},    // two tiles of query rows
      Case{small_config(), {8, 2, 128}, 40, 300, 333},    // one block to a unit
      Case{small_config(), {8, 2, 128}, 2, 300, 360, 3},  // several query rows
      Case{preset, {32, 8, 128}, 1, 20000, 20005},        // all keys at once
      Case{preset, {32, 8, 128}, 1, 9000, 14000},         // the window outgrows that
      Case{preset, {32, 8, 128}, 8, 6000, 6007},          // two blocks to a unit: several rounds
      Case{preset, {4, 2, 64}, 1, 8001, 8050},
      Case{presets::infinite_hip_5k(), {4, 4, 128}, 2, 9000, 9003});
  if (const auto dims = head_dims();
      std::find(dims.begin(), dims.end(), heads.head_dim) == dims.end()) {
    HIP_ATTN_SKIP("this build lacks the head dim");
  }
  INFO(describe(config) << "; D " << heads.head_dim << ", Hq " << heads.num_q_heads << ", Hk "
                        << heads.num_kv_heads << ", batch " << batch << ", rows " << rows);
  MemoryLayout layout;
  layout.order = GENERATE(KvOrder::kNhd, KvOrder::kHnd, KvOrder::kContiguous);
  const auto problem =
      make_problem<TestType>(heads, equal_requests(batch, last, rows), Values::kExact);
  CachedDecode<TestType> cpu(kCpu, config, problem, layout);
  CachedDecode<TestType> cuda(cuda_device(), config, problem, layout);
  CachedDecode<TestType> grid(cuda_device(), config, problem, layout, false);
  const std::int32_t all = config.num_stages();
  for (const auto& [length, refresh] : {std::pair{first, 0},
                                        {first, all},
                                        {first + 1, all},
                                        {last, all},
                                        {last, all - 1},
                                        {last, all}}) {
    INFO("length " << length << ", refresh from " << refresh);
    const auto result = cuda.run(length, refresh);
    require_same(cpu.run(length, refresh), result);
    CHECK(same_bits(grid.run(length, refresh).out, result.out));
  }
  // The same bits for those who ask for the selection.
  const auto direct = cuda.run(last, all);
  CallMemory<TestType> asking(cuda.plan, problem, layout);
  asking.args().cache = cuda.memory.args().cache;
  REQUIRE(run_decode(cuda.plan, asking.args(), asking.workspace()).ok());
  CHECK(same_bits(asking.read().out, direct.out));
  CHECK(same_bits(asking.read().lse, direct.lse));
}

TEST_CASE("CUDA decode answers an entry that holds no selection with NaN rows of that unit alone",
          "[cuda][decode]") {
  REQUIRE_CUDA_DEVICE();
  using T = bfloat16;
  REQUIRE_BUILT(T);
  const bool small = GENERATE(true, false);
  const HipConfig config = small ? small_config() : presets::infinite_hip();
  const std::int32_t length = small ? 300 : 20000;
  const std::int64_t group = GENERATE(4, 16, 40);
  const Heads heads{3 * group, 3, 64};
  const auto problem = make_problem<T>(heads, equal_requests(1, length), Values::kExact);
  CachedDecode<T> decode(cuda_device(), config, problem);
  const std::int32_t all = config.num_stages();
  const auto expected = decode.run(length, 0);
  const std::vector<std::byte> good = decode.cache.read();

  // Words of the second KV head's entry.
  const SearchPlan plan = make_search_plan(config, length);
  const std::int64_t entry = plan.cache_entry_words;
  const std::int64_t count = plan.stages[all - 1].cache_word;
  const auto word = [&](std::int64_t i) {
    std::int32_t value;
    std::memcpy(&value, good.data() + (entry + i) * 4, 4);
    return value;
  };
  const std::int64_t survivors = word(count);
  REQUIRE(survivors > 5);
  const std::int32_t w0 = word(CacheLayout::kWindowStart);
  const auto sink = static_cast<std::int32_t>(config.sink);
  const auto spoil = [&](std::int64_t i, std::int32_t value) {
    std::vector<std::byte> bad = good;
    std::memcpy(bad.data() + (entry + i) * 4, &value, 4);
    decode.cache.write(bad);
    INFO("word " << i << " is " << value << ", was " << word(i));
    const auto result = decode.run(length, all);
    const std::int64_t row = group * heads.head_dim;
    for (std::int64_t e = 0; e < 3 * row; ++e) {
      const float x = to_float(result.out[e]);
      if (e / row == 1) {
        REQUIRE(x != x);
      } else {
        REQUIRE(x == to_float(expected.out[e]));
      }
    }
    for (std::int64_t h = 0; h < heads.num_q_heads; ++h) {
      REQUIRE((result.lse[h] != result.lse[h]) == (h / group == 1));
    }
  };
  const std::int64_t last = count + survivors;
  for (const std::int64_t i : {count + 1, count + 4, last}) {
    for (const std::int32_t value : {-8, sink - 4, w0, w0 + 4, INT32_MIN, INT32_MAX, word(i) + 1}) {
      spoil(i, value);
    }
    if (i > count + 1) spoil(i, word(i - 1));
  }
  spoil(count, -1);
  spoil(count, plan.stages[all - 1].max_survivors + 1);
  spoil(count, INT32_MAX);
  spoil(CacheLayout::kWindowStart, sink - 4);
  spoil(CacheLayout::kWindowStart, w0 - 1);
  spoil(CacheLayout::kWindowStart, INT32_MIN);

  decode.cache.write(good);
  CHECK(same_bits(decode.run(length, all).out, expected.out));

  // What is all sink has no blocks, though a key of the sink may be named as one.
  const std::int32_t in_sink = sink - 4;
  decode.run(in_sink - 2, 0);
  std::vector<std::byte> bad = decode.cache.read();
  const std::int32_t words[] = {1, in_sink};
  std::memcpy(bad.data() + (entry + count) * 4, words, sizeof(words));
  decode.cache.write(bad);
  const auto result = decode.run(in_sink - 2, all);
  for (std::int64_t h = 0; h < heads.num_q_heads; ++h) {
    REQUIRE((result.lse[h] != result.lse[h]) == (h / group == 1));
  }
}

TEST_CASE("CUDA decode that starts while its upstream kernel runs sees what that one writes",
          "[cuda][decode]") {
  REQUIRE_CUDA_DEVICE();
  using T = bfloat16;
  REQUIRE_BUILT(T);
  const HipConfig config = presets::infinite_hip();
  constexpr std::int32_t kLength = 20000;  // all keys at once
  const Heads heads{32, 8, 128};
  const auto a = make_problem<T>(heads, {{kLength, 1, 1}}, Values::kExact);
  const auto b = make_problem<T>(heads, {{kLength, 1, 2}}, Values::kExact);
  // Two layers with one cache: each searches, and the other attends to what it has found.
  CachedDecode<T> a_searches(cuda_device(), config, a);
  CachedDecode<T> b_reuses(cuda_device(), config, b);
  CachedDecode<T> b_searches(cuda_device(), config, b);
  CachedDecode<T> a_reuses(cuda_device(), config, a);
  CachedDecode<T> spoilt(cuda_device(), config, a);
  spoilt.run(kLength, 0);
  std::vector<std::byte> entries = spoilt.cache.read();
  const SearchPlan plan = make_search_plan(config, kLength);
  const std::int64_t entry = 4 * plan.cache_entry_words;
  const std::int64_t survivors = 4 * (plan.stages[plan.num_stages - 1].cache_word + 1);
  for (std::int64_t head = 0; head < heads.num_kv_heads; ++head) {
    std::fill(entries.begin() + head * entry + survivors, entries.begin() + (head + 1) * entry,
              std::byte{0x11});
  }
  spoilt.cache.write(entries);
  for (CachedDecode<T>* const decode : {&b_reuses, &b_searches, &a_reuses}) {
    decode->memory.args().cache->data = a_searches.cache.data();
  }
  const std::pair<CachedDecode<T>*, std::int32_t> calls[] = {{&a_searches, 0},
                                                             {&b_reuses, config.num_stages()},
                                                             {&b_searches, 0},
                                                             {&a_reuses, config.num_stages()},
                                                             {&spoilt, config.num_stages()}};
  std::vector<RunResult<T>> alone;
  for (const auto& [decode, refresh] : calls) alone.push_back(decode->run(kLength, refresh));
  REQUIRE_FALSE(same_bits(alone[1].out, alone[2].out));  // so that the wrong one is seen
  REQUIRE_FALSE(same_bits(alone[3].out, alone[0].out));
  REQUIRE(std::isnan(to_float(alone[4].out[0])));

  for (int round = 0; round < 20; ++round) {
    for (const auto& [decode, refresh] : calls) {
      REQUIRE(run_decode(decode->plan, decode->memory.args(), decode->memory.workspace()).ok());
    }
    for (std::size_t i = 0; i < std::size(calls); ++i) {
      INFO("round " << round << ", call " << i);
      const auto result = calls[i].first->memory.read();
      REQUIRE(calls[i].first->memory.untouched_around_outputs());
      REQUIRE(same_bits(result.out, alone[i].out));
      REQUIRE(same_bits(result.lse, alone[i].lse));
    }
  }
}

TEST_CASE("CUDA decode attends to infinite values where it should", "[cuda][decode]") {
  REQUIRE_CUDA_DEVICE();
  using T = bfloat16;
  REQUIRE_BUILT(T);
  const HipConfig config = small_config();
  const std::int32_t length = 301;  // the last tile is not full
  const std::int64_t rows = GENERATE(1, 2);
  auto problem = make_problem<T>({4, 1, 64}, equal_requests(1, length, rows), Values::kExact);
  for (std::int64_t d = 0; d < 64; ++d) {
    problem.requests[0].v[(length - 1) * 64 + d] = from_float<T>(kInfinity);
  }
  CachedDecode<T> decode(cuda_device(), config, problem);
  for (const std::int32_t refresh : {0, config.num_stages()}) {
    const auto result = decode.run(length, refresh);
    for (std::size_t i = 0; i < result.out.size(); ++i) {
      const bool is_last_row = i >= static_cast<std::size_t>(rows - 1) * 4 * 64;
      REQUIRE((to_float(result.out[i]) == kInfinity) == is_last_row);
      REQUIRE(to_float(result.out[i]) == to_float(result.out[i]));
    }
  }
}

#if HIP_ATTN_HAS_CUDA
TEST_CASE("CUDA append_kv that starts while its upstream kernel runs copies what that one writes",
          "[cuda][decode]") {
  REQUIRE_CUDA_DEVICE();
  using T = bfloat16;
  REQUIRE_BUILT(T);
  const HipConfig config = presets::infinite_hip();
  const Heads heads{8, 8, 128};
  const auto problem = make_problem<T>(heads, {{20000, 1, 1}}, Values::kExact);
  CachedDecode<T> decode(cuda_device(), config, problem);
  const auto expected = decode.run(20000, 0).out;
  // The rows that it attends become keys and values.
  const TensorView<T, 3> out = decode.memory.args().out;
  const std::int64_t row = heads.num_kv_heads * heads.head_dim;
  const DeviceBuffer<T> pages(cuda_device(), std::vector<T>(2 * row, from_float<T>(0.f)));
  const DeviceBuffer<std::int64_t> slot(cuda_device(), 1, 0);
  AppendKvArgs<T> append;
  append.k = {out.data, out.sizes};
  append.v = append.k;
  append.slot_mapping = {slot.data(), {1}};
  append.pages =
      kv_pages_nhd(pages.data(), pages.data() + row, 1, 1, heads.num_kv_heads, heads.head_dim);
  for (int round = 0; round < 20; ++round) {
    REQUIRE(cudaMemset(out.data, 0, static_cast<std::size_t>(row) * sizeof(T)) == cudaSuccess);
    REQUIRE(run_decode(decode.plan, decode.memory.args(), decode.memory.workspace()).ok());
    REQUIRE(append_kv<T>(cuda_device(), append).ok());
    INFO("round " << round);
    const std::vector<T> copied = pages.read();
    REQUIRE(std::equal(expected.begin(), expected.end(), copied.begin(),
                       [](T a, T b) { return to_float(a) == to_float(b); }));
  }
}

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

  CachedDecode<T> cpu(kCpu, config, problem);
  CachedDecode<T> cuda(cuda_device(), config, problem);
  if (GENERATE(false, true)) {
    cpu.ask_for_selections();
    cuda.ask_for_selections();
  }

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
    cpu.set(lengths, refresh);
    cuda.set(lengths, refresh);
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
