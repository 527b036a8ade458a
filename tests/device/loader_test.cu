// A loader that converts: the operators on a cache of bytes against the library's own on a cache of
// what the bytes stand for. Both see the same numbers in the same order, so all results are the
// same to the bit.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "device/built_traits.cuh"
#include "device/device_test.cuh"
#include "hip_attn/cuda/launch/decode.cuh"
#include "hip_attn/cuda/launch/prefill.cuh"
#include "hip_attn/operator_checks.hpp"
#include "support/configs.hpp"
#include "support/device_buffer.hpp"
#include "support/same_bits.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

using T = BuiltElement;

/// An element of a cache: -127 to 127 times a scale, rounded to T. -128 is infinity.
struct Byte {
  std::int8_t bits;
};

constexpr float kScale = 1.f / 37.f;
constexpr std::int8_t kInfiniteByte = -128;

T converted(Byte byte) {
  return from_float<T>(byte.bits == kInfiniteByte ? kInfinity
                                                  : static_cast<float>(byte.bits) * kScale);
}

struct ByteLoader {
  using Stored = Byte;
  using Element = T;
  static constexpr bool kCopiesAsync = false;

  __device__ static void copy(std::uint32_t to, const Byte* from) {
    cuda::store_shared_16(to, read(from));
  }
  __device__ static void copy(std::uint32_t to, const Byte* from, bool wanted) {
    cuda::store_shared_16(to, wanted ? read(from) : make_uint4(0, 0, 0, 0));
  }
  __device__ static uint4 read(const Byte* from) {
    const uint2 bytes = __ldg(reinterpret_cast<const uint2*>(from));
    return {pair(bytes.x), pair(bytes.x >> 16), pair(bytes.y), pair(bytes.y >> 16)};
  }
  __device__ static float element(const Byte* from) {
    return cuda::widen(cuda::narrow<T>(value(from->bits)));
  }

 private:
  __device__ static float value(std::int8_t bits) {
    return bits == kInfiniteByte ? INFINITY : static_cast<float>(bits) * kScale;
  }
  /// Of the two lower bytes.
  __device__ static std::uint32_t pair(std::uint32_t bytes) {
    return cuda::narrow_pair<T>(value(static_cast<std::int8_t>(bytes & 0xffu)),
                                value(static_cast<std::int8_t>(bytes >> 8 & 0xffu)));
  }
};
static_assert(!ByteLoader::kCopiesAsync);  // nvcc calls it unused where no kernel of Hopper is

struct ByteTraits : BuiltTraits {
  using Stored = Byte;
  using Loader = ByteLoader;
};

}  // namespace

template <>
inline constexpr bool kIsStoredFor<Byte, T> = true;

namespace {

/// Requests, their queries and their cache, on the host.
struct Call {
  static constexpr std::int64_t kPageSize = 16;

  std::int64_t num_q_heads;
  std::int64_t num_kv_heads;
  std::vector<std::int32_t> seq_lens;
  std::vector<std::int32_t> cu_seqlens = {0};
  std::int64_t columns = 0;  ///< of the block table
  std::vector<std::int32_t> block_table;
  std::vector<Byte> k;  ///< [pages, kPageSize, Hk, D]
  std::vector<Byte> v;
  std::vector<T> q;  ///< [total_q, Hq, D]

  struct Lengths {
    std::int32_t seq_len;
    std::int32_t rows;
  };

  Call(std::int64_t group, std::int64_t num_kv_heads_, const std::vector<Lengths>& requests)
      : num_q_heads(group * num_kv_heads_), num_kv_heads(num_kv_heads_) {
    for (const Lengths& request : requests) {
      seq_lens.push_back(request.seq_len);
      cu_seqlens.push_back(cu_seqlens.back() + request.rows);
      columns = std::max(columns, (request.seq_len + kPageSize - 1) / kPageSize);
    }
    // The pages of a request are neither neighbours nor in order.
    const std::int64_t pages = num_pages();
    std::vector<std::int32_t> order(pages);
    std::iota(order.begin(), order.end(), 0);
    Choices choices(5);
    for (std::int64_t i = pages - 1; i > 0; --i) std::swap(order[i], order[choices.between(0, i)]);
    block_table = order;
    for (std::int64_t i = 0; i < pages * kPageSize * row(); ++i) {
      const auto index = static_cast<std::uint64_t>(i);
      k.push_back({static_cast<std::int8_t>(static_cast<int>(mix(1, index) % 255) - 127)});
      v.push_back({static_cast<std::int8_t>(static_cast<int>(mix(2, index) % 255) - 127)});
    }
    for (std::int64_t i = 0; i < total_q() * num_q_heads * kBuiltHeadDim; ++i) {
      q.push_back(from_float<T>(gaussian(mix(3, static_cast<std::uint64_t>(i)))));
    }
    put_infinities();
  }

  [[nodiscard]] std::int64_t batch() const { return static_cast<std::int64_t>(seq_lens.size()); }
  [[nodiscard]] std::int64_t total_q() const { return cu_seqlens.back(); }
  [[nodiscard]] std::int64_t num_pages() const { return batch() * columns; }
  [[nodiscard]] std::int64_t row() const { return num_kv_heads * kBuiltHeadDim; }
  [[nodiscard]] AttentionShape shape() const {
    return {.device = cuda_device(),
            .batch = batch(),
            .total_q = total_q(),
            .max_seq_len = *std::max_element(seq_lens.begin(), seq_lens.end()),
            .num_q_heads = num_q_heads,
            .num_kv_heads = num_kv_heads,
            .head_dim = kBuiltHeadDim};
  }

 private:
  /// Values that only the last of a request's rows sees, and the others must not hear of.
  void put_infinities() {
    for (std::int64_t b = 0; b < batch(); ++b) {
      const std::int64_t last = seq_lens[b] - 1;
      const std::int64_t page = block_table[b * columns + last / kPageSize];
      for (std::int64_t i = 0; i < row(); i += 5) {
        v[(page * kPageSize + last % kPageSize) * row() + i] = {kInfiniteByte};
      }
    }
  }
};

template <typename C>
std::vector<C> cache_of(const std::vector<Byte>& bytes) {
  if constexpr (std::same_as<C, Byte>) {
    return bytes;
  } else {
    std::vector<C> elements;
    for (const Byte byte : bytes) elements.push_back(converted(byte));
    return elements;
  }
}

struct Result {
  std::vector<T> out;
  std::vector<float> lse;
  std::vector<std::int32_t> blocks;
  std::vector<std::int32_t> counts;
  std::vector<std::int32_t> window_start;
  std::vector<std::int64_t> counters;
  std::vector<std::byte> cache;
};

void check_same(const Result& bytes, const Result& elements) {
  CHECK(same_bits(bytes.out, elements.out));
  CHECK(same_bits(bytes.lse, elements.lse));
  CHECK(bytes.blocks == elements.blocks);
  CHECK(bytes.counts == elements.counts);
  CHECK(bytes.window_start == elements.window_start);
  CHECK(bytes.counters == elements.counters);
  CHECK(bytes.cache == elements.cache);
}

/// The memory of calls that read a cache of C.
template <typename C>
class CallMemory {
 public:
  CallMemory(const AttentionPlan& plan, const Call& call)
      : plan_(plan),
        call_(call),
        k_(kDevice, cache_of<C>(call.k)),
        v_(kDevice, cache_of<C>(call.v)),
        block_table_(kDevice, call.block_table),
        q_(kDevice, call.q),
        seq_lens_(kDevice, call.seq_lens),
        cu_seqlens_(kDevice, call.cu_seqlens),
        refresh_from_(kDevice, call.batch(), 0),
        out_(kDevice, static_cast<std::int64_t>(call.q.size()), from_float<T>(kNaN)),
        lse_(kDevice, call.total_q() * call.num_q_heads, kNaN),
        blocks_(kDevice, units() * plan.max_selected_blocks, -1),
        counts_(kDevice, units(), -1),
        window_start_(kDevice, units(), -1),
        counters_(kDevice, plan.config.num_stages() + 2, 0),
        cache_(kDevice, call.batch() * static_cast<std::int64_t>(plan.selection_cache_slot_bytes),
               std::byte{0}),
        workspace_(kDevice, static_cast<std::int64_t>(plan.workspace_bytes), std::byte{0xff}) {}

  [[nodiscard]] AttentionArgs<T, C> args() const {
    const std::int64_t rows = plan_.selection_rows;
    const std::int64_t heads = call_.num_kv_heads;
    AttentionArgs<T, C> args;
    args.q = {q_.data(), {call_.total_q(), call_.num_q_heads, kBuiltHeadDim}};
    args.kv = {
        kv_pages_nhd<const C>(k_.data(), v_.data(), call_.num_pages(), Call::kPageSize, heads,
                              kBuiltHeadDim),
        TensorView<const std::int32_t, 2>(block_table_.data(), {call_.batch(), call_.columns})};
    args.seq_lens = {seq_lens_.data(), {call_.batch()}};
    args.cu_seqlens_q = {cu_seqlens_.data(), {call_.batch() + 1}};
    args.out = {out_.data(), {call_.total_q(), call_.num_q_heads, kBuiltHeadDim}};
    args.lse = TensorView<float, 2>(lse_.data(), {call_.total_q(), call_.num_q_heads});
    args.selection_out = BlockSelection{
        TensorView<std::int32_t, 3>(blocks_.data(), {rows, heads, plan_.max_selected_blocks}),
        TensorView<std::int32_t, 2>(counts_.data(), {rows, heads}),
        TensorView<std::int32_t, 2>(window_start_.data(), {rows, heads})};
    args.counters = TensorView<std::int64_t, 1>(counters_.data(), {counters_.size()});
    return args;
  }
  /// Of which every request runs the stages from `first_stage` on.
  SelectionCache cache(std::int32_t first_stage) {
    refresh_from_.write(std::vector<std::int32_t>(call_.batch(), first_stage));
    return {cache_.data(), call_.batch(), {refresh_from_.data(), {call_.batch()}}, std::nullopt};
  }
  [[nodiscard]] std::byte* workspace() const { return workspace_.data(); }

  Result read() const {
    require_success(cudaDeviceSynchronize());
    CHECK((out_.guards_intact() && lse_.guards_intact() && blocks_.guards_intact() &&
           cache_.guards_intact() && workspace_.guards_intact()));
    return {out_.read(),          lse_.read(),      blocks_.read(), counts_.read(),
            window_start_.read(), counters_.read(), cache_.read()};
  }

 private:
  static constexpr Device kDevice = cuda_device();
  [[nodiscard]] std::int64_t units() const { return plan_.selection_rows * call_.num_kv_heads; }

  const AttentionPlan& plan_;
  const Call& call_;
  DeviceBuffer<C> k_;
  DeviceBuffer<C> v_;
  DeviceBuffer<std::int32_t> block_table_;
  DeviceBuffer<T> q_;
  DeviceBuffer<std::int32_t> seq_lens_;
  DeviceBuffer<std::int32_t> cu_seqlens_;
  DeviceBuffer<std::int32_t> refresh_from_;
  DeviceBuffer<T> out_;
  DeviceBuffer<float> lse_;
  DeviceBuffer<std::int32_t> blocks_;
  DeviceBuffer<std::int32_t> counts_;
  DeviceBuffer<std::int32_t> window_start_;
  DeviceBuffer<std::int64_t> counters_;
  DeviceBuffer<std::byte> cache_;
  DeviceBuffer<std::byte> workspace_;
};

void require_ok(const Status& status) {
  INFO(status.message());
  REQUIRE(status.ok());
}

/// A plan of the library's kernels for T (C = T), or of those for bytes.
template <typename C>
AttentionPlan make_plan(Operator op, const HipConfig& config, const AttentionShape& shape,
                        bool portable) {
  AttentionPlan plan;
  if constexpr (std::same_as<C, Byte>) {
    require_ok(detail::begin_plan({.op = op,
                                   .type = kElementType<T>,
                                   .cache_type = kElementType<T>,
                                   .head_dim = kBuiltHeadDim},
                                  config, shape, plan));
    require_ok(op == Operator::kDecode ? cuda::plan_decode<ByteTraits>(plan)
                                       : cuda::plan_prefill<ByteTraits>(plan));
  } else {
    require_ok(op == Operator::kDecode ? plan_decode<T>(config, shape, plan)
                                       : plan_prefill<T>(config, shape, plan));
  }
  if (portable) cuda::use_portable_kernels(plan);
  plan.dense_until = 0;  // the search runs whether or not it pays
  return plan;
}

template <typename C>
Status run(const AttentionPlan& plan, const AttentionArgs<T, C>& args,
           const CallMemory<C>& memory) {
  if constexpr (std::same_as<C, Byte>) {
    return plan.op == Operator::kDecode
               ? cuda::run_decode<ByteTraits, T>(plan, args, memory.workspace(), nullptr)
               : cuda::run_prefill<ByteTraits, T>(plan, args, memory.workspace(), nullptr);
  } else {
    const Workspace workspace{memory.workspace(), plan.workspace_bytes};
    return plan.op == Operator::kDecode ? run_decode(plan, args, workspace)
                                        : run_prefill(plan, args, workspace);
  }
}

struct Options {
  bool portable = false;  ///< by the kernels that every GPU has
  std::optional<float> logit_softcap = {};
};

template <typename C>
Result run_once(Operator op, const HipConfig& config, const Call& call, const Options& options) {
  const AttentionPlan plan = make_plan<C>(op, config, call.shape(), options.portable);
  const CallMemory<C> memory(plan, call);
  AttentionArgs<T, C> args = memory.args();
  args.logit_softcap = options.logit_softcap;
  require_ok(run(plan, args, memory));
  return memory.read();
}

/// The same call twice: the second step takes its selection from the cache, which the first filled.
template <typename C>
Result run_reuse(const HipConfig& config, const Call& call, const Options& options) {
  const AttentionPlan plan =
      make_plan<C>(Operator::kDecode, config, call.shape(), options.portable);
  CallMemory<C> memory(plan, call);
  AttentionArgs<T, C> args = memory.args();
  args.cache = memory.cache(0);
  require_ok(run(plan, args, memory));
  args.selection_out = std::nullopt;  // else the selection is not used where it lies
  args.cache = memory.cache(config.num_stages());
  require_ok(run(plan, args, memory));
  return memory.read();
}

/// A test whose outputs are not numbers would compare nothing.
void check_mostly_finite(const Result& result) {
  std::size_t finite = 0;
  for (const T element : result.out) finite += std::isfinite(to_float(element)) ? 1 : 0;
  CHECK(finite > result.out.size() / 2);
}

void compare(Operator op, const HipConfig& config, const Call& call, const Options& options) {
  CAPTURE(describe(config), options.portable, options.logit_softcap.has_value());
  const Result bytes = run_once<Byte>(op, config, call, options);
  check_same(bytes, run_once<T>(op, config, call, options));
  check_mostly_finite(bytes);
}

TEST_CASE("Decode over bytes is decode over what they stand for", "[cuda][device]") {
  REQUIRE_BUILT_FOR_16_BITS();
  REQUIRE_CUDA_DEVICE();
  Options options;
  options.portable = GENERATE(false, true);
  const HipConfig config = small_config();
  SECTION("one row each") {
    compare(Operator::kDecode, config, {4, 2, {{900, 1}, {64, 1}, {333, 1}}}, options);
  }
  SECTION("several rows") {
    compare(Operator::kDecode, config, {3, 2, {{700, 8}, {90, 3}, {401, 1}}}, options);
  }
  SECTION("softcap, many heads") {
    options.logit_softcap = 3.f;
    compare(Operator::kDecode, config, {16, 1, {{1500, 5}}}, options);
  }
  SECTION("dense") {
    compare(Operator::kDecode, presets::dense(), {2, 2, {{300, 2}, {17, 1}}}, options);
  }
}

TEST_CASE("Decode over bytes reuses a selection as decode over what they stand for",
          "[cuda][device]") {
  REQUIRE_BUILT_FOR_16_BITS();
  REQUIRE_CUDA_DEVICE();
  Options options;
  options.portable = GENERATE(false, true);
  // At once by few heads, by the general path with many.
  const std::int64_t group = GENERATE(4, 12);
  const Call call(group, 2, {{900, 1}, {64, 1}, {333, 1}});
  CAPTURE(options.portable, group);
  const Result bytes = run_reuse<Byte>(small_config(), call, options);
  check_same(bytes, run_reuse<T>(small_config(), call, options));
  check_mostly_finite(bytes);
}

TEST_CASE("Prefill over bytes is prefill over what they stand for", "[cuda][device]") {
  REQUIRE_BUILT_FOR_16_BITS();
  REQUIRE_CUDA_DEVICE();
  Options options;
  options.portable = GENERATE(false, true);
  const std::int64_t group = GENERATE(1, 3, 8);
  CAPTURE(group);
  const Call call(group, 2, {{700, 150}, {64, 64}, {333, 40}});
  SECTION("search") { compare(Operator::kPrefill, small_config(), call, options); }
  SECTION("windows of rows") { compare(Operator::kPrefill, window_only_config(), call, options); }
  SECTION("softcap") {
    options.logit_softcap = 3.f;
    compare(Operator::kPrefill, small_config(), call, options);
  }
  SECTION("dense") { compare(Operator::kPrefill, presets::dense(), call, options); }
}

}  // namespace
}  // namespace hip_attn
