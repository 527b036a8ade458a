// Every way to call the operators wrongly: the status code, and a message that names the argument
// and its value. JSON has a test of its own.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"

namespace hip_attn {
namespace {

using namespace test;

using T = AnyElement;
using Mentions = std::vector<std::string>;

constexpr std::int32_t kLeastInt32 = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t kMostInt32 = std::numeric_limits<std::int32_t>::max();
constexpr float kNoFloat = std::numeric_limits<float>::quiet_NaN();

void check_refused(const Status& status, StatusCode code, const Mentions& mentions) {
  INFO(to_string(status.code()) << ": " << status.message());
  CHECK(status.code() == code);
  for (const std::string& mention : mentions) {
    CAPTURE(mention);
    const bool mentioned = status.message().find(mention) != std::string::npos;
    CHECK(mentioned);
  }
}

/// A good call to spoil: two requests of 60 and 90 keys in pages of 16, with 2 and 3 rows.
struct Call {
  explicit Call(Operator op)
      : problem(make_problem<T>({4, 2, least_head_dim()}, {{60, 2, 1}, {90, 3, 2}})),
        plan(make_plan<T>(op, small_config(), problem.shape(kCpu))),
        memory(plan, problem, {}),
        cache_bytes(kCpu, 2 * static_cast<std::int64_t>(plan.selection_cache_slot_bytes),
                    std::byte{0}),
        args(memory.args()),
        workspace(memory.workspace()) {}

  [[nodiscard]] Status run() const { return run_operator<T>(plan, args, workspace); }

  /// A cache of two slots; every stage runs.
  void add_cache() {
    args.cache = SelectionCache{cache_bytes.data(), 2, array({0, 0}), array({1, 0})};
  }
  void add_selection(const HostSelection& selection) {
    args.selection = given.emplace(kCpu, selection).view();
  }
  /// The selection that the call finds by itself.
  HostSelection good_selection() {
    REQUIRE(run().ok());
    return memory.read().selection;
  }
  TensorView<const std::int32_t, 1> array(const std::vector<std::int32_t>& values) {
    arrays.push_back(std::make_unique<DeviceBuffer<std::int32_t>>(kCpu, values));
    return {arrays.back()->data(), {arrays.back()->size()}};
  }
  /// A block table of two rows, for two requests.
  TensorView<const std::int32_t, 2> table(const std::vector<std::int32_t>& values) {
    const auto flat = array(values);
    return {flat.data, {2, flat.sizes[0] / 2}};
  }

  Problem<T> problem;
  AttentionPlan plan;
  CallMemory<T> memory;
  DeviceBuffer<std::byte> cache_bytes;
  std::optional<SelectionMemory> given;
  std::vector<std::unique_ptr<DeviceBuffer<std::int32_t>>> arrays;
  AttentionArgs<T> args;
  Workspace workspace;
};

struct Case {
  Mentions mentions;
  std::function<void(Call&)> spoil;
};

void check_cases(Operator op, StatusCode code, const std::vector<Case>& cases) {
  for (const Case& each : cases) {
    CAPTURE(op, each.mentions.front());
    Call call(op);
    if (op == Operator::kDecode) call.add_cache();
    REQUIRE(call.run().ok());
    each.spoil(call);
    check_refused(call.run(), code, each.mentions);
  }
}

// A pointer that is off by some bytes; it is never followed.
template <typename P>
P* shifted(P* pointer, std::uintptr_t bytes) {
  return reinterpret_cast<P*>(reinterpret_cast<std::uintptr_t>(pointer) + bytes);
}

// Elements of T in 16 bytes.
constexpr std::int64_t kAlignedElements = 16 / sizeof(T);

TEST_CASE("null pointers are refused by name") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  std::vector<Case> cases = {
      {{"q"}, [](Call& c) { c.args.q.data = nullptr; }},
      {{"out"}, [](Call& c) { c.args.out.data = nullptr; }},
      {{"kv.pages.k"}, [](Call& c) { c.args.kv.pages.k.data = nullptr; }},
      {{"kv.pages.v"}, [](Call& c) { c.args.kv.pages.v.data = nullptr; }},
      {{"kv.block_table"}, [](Call& c) { c.args.kv.block_table->data = nullptr; }},
      {{"seq_lens"}, [](Call& c) { c.args.seq_lens.data = nullptr; }},
      {{"cu_seqlens_q"}, [](Call& c) { c.args.cu_seqlens_q.data = nullptr; }},
      {{"lse"}, [](Call& c) { c.args.lse->data = nullptr; }},
      {{"counters"}, [](Call& c) { c.args.counters->data = nullptr; }},
      {{"workspace"},
       [](Call& c) {
         c.workspace = {static_cast<std::byte*>(nullptr), 1u << 30};
       }},
      {{"selection_out.blocks"}, [](Call& c) { c.args.selection_out->blocks.data = nullptr; }},
      {{"selection_out.counts"}, [](Call& c) { c.args.selection_out->counts.data = nullptr; }},
      {{"selection_out.window_start"},
       [](Call& c) { c.args.selection_out->window_start.data = nullptr; }},
  };
  if (op == Operator::kDecode) {
    cases.push_back({{"cache"}, [](Call& c) { c.args.cache->data = nullptr; }});
    cases.push_back(
        {{"cache.refresh_from"}, [](Call& c) { c.args.cache->refresh_from.data = nullptr; }});
    cases.push_back({{"cache.slots"}, [](Call& c) { c.args.cache->slots->data = nullptr; }});
  }
  check_cases(op, StatusCode::kNullPointer, cases);
}

TEST_CASE("null pointers of a selection given in are refused by name") {
  Call call(Operator::kPrefill);
  call.add_selection(call.good_selection());
  const ConstBlockSelection good = *call.args.selection;
  call.args.selection->blocks.data = nullptr;
  check_refused(call.run(), StatusCode::kNullPointer, {"selection.blocks"});
  call.args.selection = good;
  call.args.selection->counts.data = nullptr;
  check_refused(call.run(), StatusCode::kNullPointer, {"selection.counts"});
  call.args.selection = good;
  call.args.selection->window_start.data = nullptr;
  check_refused(call.run(), StatusCode::kNullPointer, {"selection.window_start"});
}

TEST_CASE("misaligned pointers and row strides are refused by name") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const std::string odd_stride = std::to_string(least_head_dim() + 1);
  std::vector<Case> cases = {
      {{"q", "16"}, [](Call& c) { c.args.q.data = shifted(c.args.q.data, sizeof(T)); }},
      {{"out", "16"}, [](Call& c) { c.args.out.data = shifted(c.args.out.data, 8); }},
      {{"kv.pages.k", "16"},
       [](Call& c) { c.args.kv.pages.k.data = shifted(c.args.kv.pages.k.data, 1); }},
      {{"kv.pages.v", "16"},
       [](Call& c) { c.args.kv.pages.v.data = shifted(c.args.kv.pages.v.data, 8); }},
      {{"workspace", "16"},
       [](Call& c) {
         c.workspace = {c.workspace.data() + 8, c.workspace.size()};
       }},
      {{"seq_lens", "4"}, [](Call& c) { c.args.seq_lens.data = shifted(c.args.seq_lens.data, 2); }},
      {{"cu_seqlens_q", "4"},
       [](Call& c) { c.args.cu_seqlens_q.data = shifted(c.args.cu_seqlens_q.data, 1); }},
      {{"kv.block_table", "4"},
       [](Call& c) { c.args.kv.block_table->data = shifted(c.args.kv.block_table->data, 3); }},
      {{"lse", "4"}, [](Call& c) { c.args.lse->data = shifted(c.args.lse->data, 2); }},
      {{"counters", "8"},
       [](Call& c) { c.args.counters->data = shifted(c.args.counters->data, 4); }},
      {{"q.strides[1]", odd_stride}, [](Call& c) { ++c.args.q.strides[1]; }},
      {{"out.strides[0]"}, [](Call& c) { c.args.out.strides[0] += kAlignedElements / 2; }},
      {{"kv.pages.k.strides[0]"}, [](Call& c) { ++c.args.kv.pages.k.strides[0]; }},
      {{"kv.pages.k.strides[1]"}, [](Call& c) { ++c.args.kv.pages.k.strides[1]; }},
      {{"kv.pages.v.strides[2]", odd_stride}, [](Call& c) { ++c.args.kv.pages.v.strides[2]; }},
  };
  if (op == Operator::kDecode) {
    cases.push_back(
        {{"cache", "16"}, [](Call& c) { c.args.cache->data = c.cache_bytes.data() + 8; }});
  }
  check_cases(op, StatusCode::kMisalignedPointer, cases);
}

TEST_CASE("strides that are negative, or not 1 in the last dimension, are refused by name") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  check_cases(
      op, StatusCode::kInvalidStride,
      {{{"q.strides[2]", "2"}, [](Call& c) { c.args.q.strides[2] = 2; }},
       {{"out.strides[2]", "0"}, [](Call& c) { c.args.out.strides[2] = 0; }},
       {{"kv.pages.k.strides[3]", "-1"}, [](Call& c) { c.args.kv.pages.k.strides[3] = -1; }},
       {{"kv.pages.v.strides[3]", "3"}, [](Call& c) { c.args.kv.pages.v.strides[3] = 3; }},
       {{"kv.block_table.strides[1]", "2"}, [](Call& c) { c.args.kv.block_table->strides[1] = 2; }},
       {{"seq_lens.strides[0]", "2"}, [](Call& c) { c.args.seq_lens.strides[0] = 2; }},
       {{"lse.strides[1]", "5"}, [](Call& c) { c.args.lse->strides[1] = 5; }},
       {{"counters.strides[0]", "0"}, [](Call& c) { c.args.counters->strides[0] = 0; }},
       {{"selection_out.blocks.strides[2]", "2"},
        [](Call& c) { c.args.selection_out->blocks.strides[2] = 2; }},
       {{"q.strides[0]", "-256"}, [](Call& c) { c.args.q.strides[0] = -256; }},
       {{"out.strides[1]", "-64"}, [](Call& c) { c.args.out.strides[1] = -64; }},
       {{"kv.pages.k.strides[0]", "-64"}, [](Call& c) { c.args.kv.pages.k.strides[0] = -64; }},
       {{"kv.pages.v.strides[1]", "-64"}, [](Call& c) { c.args.kv.pages.v.strides[1] = -64; }},
       {{"kv.block_table.strides[0]", "-7"},
        [](Call& c) { c.args.kv.block_table->strides[0] = -7; }}});
}

TEST_CASE("sizes that contradict each other or the plan are refused by name") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  check_cases(
      op, StatusCode::kInvalidShape,
      {{{"q.sizes[1]", "is 3"}, [](Call& c) { c.args.q.sizes[1] = 3; }},
       {{"q.sizes[2]", "is 8"}, [](Call& c) { c.args.q.sizes[2] = 8; }},
       {{"q.sizes[0]", "-5"}, [](Call& c) { c.args.q.sizes[0] = -5; }},
       {{"out.sizes[0]", "is 4"}, [](Call& c) { c.args.out.sizes[0] = 4; }},
       {{"out.sizes[2]"}, [](Call& c) { c.args.out.sizes[2] = 8; }},
       {{"kv.pages.k.sizes[2]", "is 1"},
        [](Call& c) { c.args.kv.pages.k.sizes[2] = c.args.kv.pages.v.sizes[2] = 1; }},
       {{"kv.pages.k.sizes[3]", "is 8"},
        [](Call& c) { c.args.kv.pages.k.sizes[3] = c.args.kv.pages.v.sizes[3] = 8; }},
       {{"kv.pages.v.sizes[0]", "is 2"}, [](Call& c) { c.args.kv.pages.v.sizes[0] = 2; }},
       {{"kv.pages.v.sizes[1]", "is 8"}, [](Call& c) { c.args.kv.pages.v.sizes[1] = 8; }},
       {{"kv.pages.k.sizes[1]", "0"},
        [](Call& c) { c.args.kv.pages.k.sizes[1] = c.args.kv.pages.v.sizes[1] = 0; }},
       {{"kv.block_table.sizes[0]", "is 1"}, [](Call& c) { c.args.kv.block_table->sizes[0] = 1; }},
       {{"cu_seqlens_q.sizes[0]", "is 2"}, [](Call& c) { c.args.cu_seqlens_q.sizes[0] = 2; }},
       {{"lse.sizes[0]", "is 4"}, [](Call& c) { c.args.lse->sizes[0] = 4; }},
       {{"lse.sizes[1]", "is 2"}, [](Call& c) { c.args.lse->sizes[1] = 2; }},
       {{"counters.sizes[0]", "is 4"}, [](Call& c) { c.args.counters->sizes[0] = 4; }},
       {{"selection_out.blocks.sizes[0]"},
        [](Call& c) { c.args.selection_out->blocks.sizes[0] = 1; }},
       {{"selection_out.blocks.sizes[2]", "is 1"},
        [](Call& c) { c.args.selection_out->blocks.sizes[2] = 1; }},
       {{"selection_out.counts.sizes[0]"},
        [](Call& c) { c.args.selection_out->counts.sizes[0] = 1; }},
       {{"selection_out", "is 1"},
        [](Call& c) { c.args.selection_out->window_start.sizes[1] = 1; }},
       {{"logit_softcap", "0"}, [](Call& c) { c.args.logit_softcap = 0.f; }},
       {{"logit_softcap", "-2"}, [](Call& c) { c.args.logit_softcap = -2.f; }},
       {{"logit_softcap", "nan"}, [](Call& c) { c.args.logit_softcap = kNoFloat; }},
       {{"num_threads", "0"}, [](Call& c) { c.plan.num_threads = 0; }},
       {{"num_threads", "-3"}, [](Call& c) { c.plan.num_threads = -3; }}});
}

TEST_CASE("a plan of another operator or type, or no plan, is refused") {
  Call prefill(Operator::kPrefill);
  check_refused(run_decode<T>(prefill.plan, prefill.args, prefill.workspace),
                StatusCode::kInvalidShape, {"plan", "plan_prefill", "plan_decode"});
  Call decode(Operator::kDecode);
  check_refused(run_prefill<T>(decode.plan, decode.args, decode.workspace),
                StatusCode::kInvalidShape, {"plan", "plan_prefill", "plan_decode"});
  prefill.plan.type =
      kElementType<T> == ElementType::kFloat16 ? ElementType::kBFloat16 : ElementType::kFloat16;
  check_refused(prefill.run(), StatusCode::kInvalidShape, {"plan", "element type"});
  prefill.plan = AttentionPlan{};
  prefill.plan.type = kElementType<T>;
  check_refused(prefill.run(), StatusCode::kInvalidShape, {"plan"});
}

TEST_CASE("a workspace that is too small is told how much is needed") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  Call call(op);
  const std::size_t needed = call.plan.workspace_bytes;
  REQUIRE(needed == call.workspace.size());
  for (const std::size_t size : {needed - 1, std::size_t{16}, std::size_t{0}}) {
    call.workspace = call.memory.workspace().first(size);
    check_refused(call.run(), StatusCode::kWorkspaceTooSmall,
                  {"workspace", std::to_string(size), std::to_string(needed)});
  }
}

TEST_CASE("plans refuse shapes by field and value") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const auto check = [&](StatusCode code, const Mentions& mentions,
                         const std::function<void(AttentionShape&)>& spoil) {
    AttentionShape shape{kCpu, 2, 8, 100, 4, 2, least_head_dim()};
    spoil(shape);
    AttentionPlan plan;
    plan.num_threads = 77;
    check_refused(op == Operator::kPrefill ? plan_prefill<T>(small_config(), shape, plan)
                                           : plan_decode<T>(small_config(), shape, plan),
                  code, mentions);
    CHECK(plan.num_threads == 77);  // written on success alone
  };
  const auto invalid = StatusCode::kInvalidShape;
  check(invalid, {"batch", "-1"}, [](auto& s) { s.batch = -1; });
  check(invalid, {"batch", "2147483648"}, [](auto& s) { s.batch = std::int64_t{1} << 31; });
  check(invalid, {"total_q", "-8"}, [](auto& s) { s.total_q = -8; });
  check(invalid, {"max_seq_len", "-2"}, [](auto& s) { s.max_seq_len = -2; });
  check(invalid, {"max_seq_len", "2147483648"},
        [](auto& s) { s.max_seq_len = std::int64_t{1} << 31; });
  check(invalid, {"num_q_heads", "5", "2"}, [](auto& s) { s.num_q_heads = 5; });
  check(invalid, {"num_q_heads", "0"}, [](auto& s) { s.num_q_heads = 0; });
  check(invalid, {"num_kv_heads", "0"}, [](auto& s) { s.num_kv_heads = 0; });
  check(invalid, {"num_kv_heads", "-2"}, [](auto& s) { s.num_kv_heads = -2; });
  for (const std::int64_t head_dim : {0, -64, 1, 96, 512}) {
    check(StatusCode::kUnsupported,
          {"head_dim", std::to_string(head_dim), std::to_string(least_head_dim())},
          [&](auto& s) { s.head_dim = head_dim; });
  }
  check(StatusCode::kUnsupported, {"device"},
        [](auto& s) { s.device.type = static_cast<DeviceType>(9); });
  if (!built_with_cuda()) {
    check(StatusCode::kUnsupported, {"CUDA 3", "HIP_ATTN_CUDA"},
          [](auto& s) { s.device = cuda_device(3); });
  }
}

TEST_CASE("plans refuse configurations by field and value") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  HipConfig config = small_config();
  config.stages[1].chunk_size = 12;
  AttentionPlan plan;
  const AttentionShape shape{kCpu, 2, 8, 100, 4, 2, least_head_dim()};
  check_refused(op == Operator::kPrefill ? plan_prefill<T>(config, shape, plan)
                                         : plan_decode<T>(config, shape, plan),
                StatusCode::kInvalidConfig, {"stages[1].chunk_size", "12"});
}

TEST_CASE("calls larger than their plan are refused by field and value") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  check_cases(op, StatusCode::kExceedsPlan,
              {{{"seq_lens.sizes[0]", "2", "1"}, [](Call& c) { c.plan.shape.batch = 1; }},
               {{"q.sizes[0]", "5", "4"}, [](Call& c) { c.plan.shape.total_q = 4; }},
               {{"seq_lens[1]", "91", "90"}, [](Call& c) {
                  c.args.seq_lens = c.array({60, 91});
                }}});
}

TEST_CASE("lengths that do not make sense are refused by name") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  check_cases(op, StatusCode::kInvalidLength,
              {{{"seq_lens[0]", "-1"},
                [](Call& c) {
                  c.args.seq_lens = c.array({-1, 90});
                }},
               {{"seq_lens[1]", std::to_string(kLeastInt32)},
                [](Call& c) {
                  c.args.seq_lens = c.array({60, kLeastInt32});
                }},
               {{"cu_seqlens_q[0]", "1"},
                [](Call& c) {
                  c.args.cu_seqlens_q = c.array({1, 2, 5});
                }},
               {{"cu_seqlens_q[0]", "-1"},
                [](Call& c) {
                  c.args.cu_seqlens_q = c.array({-1, 2, 5});
                }},
               {{"cu_seqlens_q[2]", "2"},
                [](Call& c) {
                  c.args.cu_seqlens_q = c.array({0, 3, 2});
                }},
               {{"cu_seqlens_q[2]", "4"},
                [](Call& c) {
                  c.args.cu_seqlens_q = c.array({0, 2, 4});
                }},
               {{"cu_seqlens_q[2]", "6"},
                [](Call& c) {
                  c.args.cu_seqlens_q = c.array({0, 2, 6});
                }},
               {{"cu_seqlens_q[1]", std::to_string(kMostInt32)},
                [](Call& c) {
                  c.args.cu_seqlens_q = c.array({0, kMostInt32, 5});
                }},
               {{"cu_seqlens_q[1]", std::to_string(kLeastInt32)}, [](Call& c) {
                  c.args.cu_seqlens_q = c.array({0, kLeastInt32, 5});
                }}});
}

TEST_CASE("a sequence beyond the block table or its contiguous page is refused") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  check_cases(op, StatusCode::kSeqLenBeyondBlockTable,
              {{{"seq_lens[1]", "90", "80"},
                [](Call& c) {
                  c.args.kv.block_table = c.table({0, 1, 2, 3, 0, 1, 2, 3, 0, 1});
                }},
               {{"seq_lens[0]", "60", "16"}, [](Call& c) { c.args.kv.block_table.reset(); }},
               {{"seq_lens[0]", "60", "0"}, [](Call& c) { c.args.kv.block_table = c.table({}); }}});
}

TEST_CASE("more rows than keys are refused") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  check_cases(op, StatusCode::kQueryLongerThanSequence,
              {{{"request 0", "2", "seq_lens[0]", "1"}, [](Call& c) {
                  c.args.seq_lens = c.array({1, 90});
                }}});
}

TEST_CASE("decode refuses more than 8 rows of a request") {
  const auto problem = make_problem<T>({4, 2, least_head_dim()}, {{60, 8, 1}, {90, 9, 2}});
  const AttentionPlan plan = make_plan<T>(Operator::kDecode, small_config(), problem.shape(kCpu));
  CallMemory<T> memory(plan, problem, {});
  check_refused(run_decode<T>(plan, memory.args(), memory.workspace()),
                StatusCode::kTooManyDecodeRows, {"request 1", "9", "8"});
}

TEST_CASE("block table entries that are no pages are refused when they are read") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const auto table_with = [](std::int32_t entry) {
    // The last page of request 1 is in the window of all rows.
    return [entry](Call& c) {
      std::vector<std::int32_t> table = {0, 1, 2, 3, -1, -1, 4, 5, 6, 7, 8, entry};
      c.args.kv.block_table = c.table(table);
    };
  };
  check_cases(op, StatusCode::kInvalidPage,
              {{{"kv.block_table[1][5]", "-1"}, table_with(-1)},
               {{"kv.block_table[1][5]", "13"}, table_with(13)},
               {{"kv.block_table[1][5]", std::to_string(kMostInt32)}, table_with(kMostInt32)},
               {{"kv.block_table[1][5]", std::to_string(kLeastInt32)}, table_with(kLeastInt32)}});
}

TEST_CASE("contiguous KV with fewer pages than requests is refused") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const auto problem = make_problem<T>({4, 2, least_head_dim()}, {{60, 2, 1}, {90, 3, 2}});
  const AttentionPlan plan = make_plan<T>(op, small_config(), problem.shape(kCpu));
  CallMemory<T> memory(plan, problem, {.order = KvOrder::kContiguous});
  memory.args().kv.pages.k.sizes[0] = memory.args().kv.pages.v.sizes[0] = 1;
  check_refused(run_operator<T>(plan, memory.args(), memory.workspace()), StatusCode::kInvalidPage,
                {"request 1", "1"});
}

TEST_CASE("selections that are not ascending, in range and causal are refused") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  // Rows 87 to 89 of request 1: W0 is 64 and the blocks of 4 are 4 to 15.
  Call call(op);
  const HostSelection good = call.good_selection();
  const std::int64_t row = query_blocks(call.problem, op, small_config()).back().selection_row;
  REQUIRE(good.w0(row, 1) == 64);
  REQUIRE(good.unit(row, 1).size() == 8);
  const auto check = [&](const Mentions& mentions, std::int64_t w0,
                         const std::vector<std::int32_t>& blocks,
                         std::optional<std::int32_t> count = {}) {
    HostSelection bad = good;
    bad.set_unit(row, 1, w0, blocks);
    if (count) bad.counts[row * 2 + 1] = *count;
    call.add_selection(bad);
    check_refused(call.run(), StatusCode::kInvalidSelection, mentions);
  };
  std::string at = std::to_string(row);
  at.insert(0, "[").append("][1]");
  check({"selection.blocks" + at, "5"}, 64, {4, 6, 5});
  check({"selection.blocks" + at, "6"}, 64, {4, 6, 6});
  check({"selection.blocks" + at, "3"}, 64, {3, 6});
  check({"selection.blocks" + at, "16"}, 64, {4, 16});
  check({"selection.blocks" + at, "15"}, 63, {4, 15});
  check({"selection.blocks" + at, "-1"}, 64, {-1, 6});
  check({"selection.blocks" + at, std::to_string(kLeastInt32)}, 64, {kLeastInt32});
  check({"selection.blocks" + at, std::to_string(kMostInt32)}, 64, {4, kMostInt32});
  check({"selection.counts" + at, "-1"}, 64, {4}, -1);
  check({"selection.counts" + at, "9"}, 64, {4}, 9);
  check({"selection.counts" + at, std::to_string(kMostInt32)}, 64, {4}, kMostInt32);
  check({"selection.window_start" + at, "15"}, 15, {});
  check({"selection.window_start" + at, "89"}, 89, {});  // one past the first row is 88
  check({"selection.window_start" + at, std::to_string(kLeastInt32)}, kLeastInt32, {});
}

TEST_CASE("a cache that contradicts the call is refused") {
  Call prefill(Operator::kPrefill);
  prefill.add_cache();
  check_refused(prefill.run(), StatusCode::kUnsupported, {"cache", "decode"});

  Call both(Operator::kDecode);
  both.add_selection(both.good_selection());
  both.add_cache();
  check_refused(both.run(), StatusCode::kInvalidSelection, {"cache", "selection"});

  check_cases(
      Operator::kDecode, StatusCode::kInvalidShape,
      {{{"cache.num_slots", "-1"}, [](Call& c) { c.args.cache->num_slots = -1; }},
       {{"cache.refresh_from.sizes[0]", "is 1"},
        [](Call& c) { c.args.cache->refresh_from.sizes[0] = 1; }},
       {{"cache.slots.sizes[0]", "is 1"}, [](Call& c) { c.args.cache->slots->sizes[0] = 1; }}});
  check_cases(Operator::kDecode, StatusCode::kInvalidSlot,
              {{{"cache.slots[0]", "2"},
                [](Call& c) {
                  c.args.cache->slots = c.array({2, 0});
                }},
               {{"cache.slots[1]", "-1"},
                [](Call& c) {
                  c.args.cache->slots = c.array({0, -1});
                }},
               {{"cache.slots[1]", std::to_string(kLeastInt32)},
                [](Call& c) {
                  c.args.cache->slots = c.array({0, kLeastInt32});
                }},
               {{"cache.slots[0]", "0"}, [](Call& c) { c.args.cache->num_slots = 0; }},
               {{"cache.num_slots", "1", "2"}, [](Call& c) {
                  c.args.cache->slots.reset();
                  c.args.cache->num_slots = 1;
                }}});
}

// Two slots for the same request would be written by two threads at once.
TEST_CASE("a slot that two requests share is refused") {
  check_cases(Operator::kDecode, StatusCode::kInvalidSlot,
              {{{"cache.slots[1]", "1"}, [](Call& c) {
                  c.args.cache->slots = c.array({1, 1});
                }}});
}

TEST_CASE("a cache full of garbage is refused when it is read") {
  Call call(Operator::kDecode);
  call.add_cache();
  const std::int64_t size = call.cache_bytes.size();
  for (const std::uint8_t garbage : {0x01, 0x7f, 0x80, 0xff}) {
    call.cache_bytes.write(std::vector<std::byte>(size, std::byte{garbage}));
    call.args.cache->refresh_from = call.array({3, 3});
    const Status status = call.run();
    // Garbage that lies ahead of the sequence refreshes itself.
    INFO(status.message());
    CHECK((status.ok() || status.code() == StatusCode::kInvalidSelection));
    CHECK(call.memory.untouched_around_outputs());
  }
}

TEST_CASE("a cache that a plan of another configuration filled is refused, not overrun") {
  // Four chunks of 16 survive the first stage, 32 keys apart.
  HipConfig config;
  config.window = 4;
  config.stages = {{16, 64, 1, ScanRule::kCentre}, {4, 16, 1, ScanRule::kCentre}};
  auto problem = make_problem<T>({1, 1, least_head_dim()}, {{132, 1, 1}});
  auto& request = problem.requests[0];
  std::fill(request.q.begin(), request.q.end(), from_float<T>(1.f));
  for (std::int64_t key = 0; key < 132; ++key) {
    std::fill_n(request.k.begin() + request.kv_offset(key, 0), least_head_dim(),
                from_float<T>(key / 16 % 2 == 0 ? 1.f : 0.f));
  }
  const DeviceBuffer<std::int32_t> refresh_from(kCpu, 1, 1);
  const AttentionPlan plan = make_plan<T>(Operator::kDecode, config, problem.shape(kCpu));
  const DeviceBuffer<std::byte> bytes(
      kCpu, static_cast<std::int64_t>(plan.selection_cache_slot_bytes), std::byte{0});
  const SelectionCache cache{bytes.data(), 1, {refresh_from.data(), {1}}, std::nullopt};
  REQUIRE(run_attention(Operator::kDecode, config, problem, {.cache = cache}).counters[0] > 0);

  // Here the first chunk doubles to 32, of which at most two survive.
  config.max_first_chunks = 4;
  const AttentionPlan other = make_plan<T>(Operator::kDecode, config, problem.shape(kCpu));
  REQUIRE(other.selection_cache_slot_bytes == plan.selection_cache_slot_bytes);
  CallMemory<T> memory(other, problem, {});
  memory.args().cache = cache;
  check_refused(run_decode<T>(other, memory.args(), memory.workspace()),
                StatusCode::kInvalidSelection, {"cache slot 0"});
  CHECK(memory.untouched_around_outputs());
}

TEST_CASE("append_kv refuses bad arguments by name") {
  const std::int64_t d = least_head_dim();
  const auto check = [&](StatusCode code, const Mentions& mentions,
                         const std::function<void(AppendKvArgs<T>&)>& spoil) {
    const DeviceBuffer<T> rows(kCpu, 2 * 3 * d, from_float<T>(1.f));
    const DeviceBuffer<T> cache(kCpu, 2 * 4 * 3 * d, from_float<T>(kNaN));
    const DeviceBuffer<std::int64_t> slots(kCpu, std::vector<std::int64_t>{0, 7});
    AppendKvArgs<T> args;
    args.k = args.v = {rows.data(), {2, 3, d}};
    args.slot_mapping = {slots.data(), {2}};
    args.pages = kv_pages_nhd(cache.data(), cache.data(), 2, 4, 3, d);
    spoil(args);
    check_refused(append_kv<T>(kCpu, args), code, mentions);
  };
  check(StatusCode::kNullPointer, {"k.data"}, [](auto& a) { a.k.data = nullptr; });
  check(StatusCode::kNullPointer, {"v.data"}, [](auto& a) { a.v.data = nullptr; });
  check(StatusCode::kNullPointer, {"slot_mapping"}, [](auto& a) { a.slot_mapping.data = nullptr; });
  check(StatusCode::kNullPointer, {"pages.k"}, [](auto& a) { a.pages.k.data = nullptr; });
  check(StatusCode::kNullPointer, {"pages.v"}, [](auto& a) { a.pages.v.data = nullptr; });
  check(StatusCode::kMisalignedPointer, {"k.data"},
        [](auto& a) { a.k.data = shifted(a.k.data, 8); });
  check(StatusCode::kMisalignedPointer, {"pages.v.strides[1]"},
        [](auto& a) { ++a.pages.v.strides[1]; });
  check(StatusCode::kInvalidStride, {"v.strides[2]", "2"}, [](auto& a) { a.v.strides[2] = 2; });
  check(StatusCode::kInvalidStride, {"pages.k.strides[0]", "-64"},
        [](auto& a) { a.pages.k.strides[0] = -64; });
  check(StatusCode::kInvalidShape, {"slot_mapping.sizes[0]", "1"},
        [](auto& a) { a.slot_mapping.sizes[0] = 1; });
  check(StatusCode::kInvalidShape, {"v.sizes[0]", "1"}, [](auto& a) { a.v.sizes[0] = 1; });
  check(StatusCode::kInvalidShape, {"pages.v.sizes[1]", "3"},
        [](auto& a) { a.pages.v.sizes[1] = 3; });
  check(StatusCode::kInvalidShape, {"pages.k.sizes[2]", "2"},
        [](auto& a) { a.pages.k.sizes[2] = a.pages.v.sizes[2] = 2; });
  check(StatusCode::kUnsupported, {"head_dim", "16"}, [](auto& a) {
    a.k.sizes[2] = a.v.sizes[2] = a.pages.k.sizes[3] = a.pages.v.sizes[3] = 16;
  });
}

TEST_CASE("merge_states refuses bad arguments by name") {
  const std::int64_t d = least_head_dim();
  const auto check = [&](StatusCode code, const Mentions& mentions,
                         const std::function<void(MergeStatesArgs<T>&)>& spoil) {
    const DeviceBuffer<T> partial(kCpu, 2 * 3 * d, from_float<T>(1.f));
    const DeviceBuffer<float> partial_lse(kCpu, 2 * 3, 0.f);
    const DeviceBuffer<T> out(kCpu, 3 * d, from_float<T>(kNaN));
    const DeviceBuffer<float> lse(kCpu, 3, kNaN);
    MergeStatesArgs<T> args;
    args.partial_out = {partial.data(), {2, 1, 3, d}};
    args.partial_lse = {partial_lse.data(), {2, 1, 3}};
    args.out = {out.data(), {1, 3, d}};
    args.lse = TensorView<float, 2>(lse.data(), {1, 3});
    spoil(args);
    check_refused(merge_states<T>(kCpu, args), code, mentions);
  };
  check(StatusCode::kNullPointer, {"partial_out"}, [](auto& a) { a.partial_out.data = nullptr; });
  check(StatusCode::kNullPointer, {"partial_lse"}, [](auto& a) { a.partial_lse.data = nullptr; });
  check(StatusCode::kNullPointer, {"out.data"}, [](auto& a) { a.out.data = nullptr; });
  check(StatusCode::kNullPointer, {"lse.data"}, [](auto& a) { a.lse->data = nullptr; });
  check(StatusCode::kMisalignedPointer, {"partial_out", "16"},
        [](auto& a) { a.partial_out.data = shifted(a.partial_out.data, 2); });
  check(StatusCode::kMisalignedPointer, {"out.strides[1]"}, [](auto& a) { ++a.out.strides[1]; });
  check(StatusCode::kInvalidStride, {"out.strides[2]", "0"}, [](auto& a) { a.out.strides[2] = 0; });
  check(StatusCode::kInvalidStride, {"partial_lse.strides[0]", "-3"},
        [](auto& a) { a.partial_lse.strides[0] = -3; });
  check(StatusCode::kInvalidShape, {"partial_lse.sizes[0]", "1"},
        [](auto& a) { a.partial_lse.sizes[0] = 1; });
  check(StatusCode::kInvalidShape, {"out.sizes[1]", "2"}, [](auto& a) { a.out.sizes[1] = 2; });
  check(StatusCode::kInvalidShape, {"lse.sizes[0]", "0"}, [](auto& a) { a.lse->sizes[0] = 0; });
  check(StatusCode::kUnsupported, {"head_dim", "16"},
        [](auto& a) { a.partial_out.sizes[3] = a.out.sizes[2] = 16; });
}

TEST_CASE("a device that is not here is refused by every operator") {
  const Device device = GENERATE(cuda_device(4711), Device{static_cast<DeviceType>(5), 0});
  const bool known = device.type == DeviceType::kCuda && built_with_cuda();
  const auto check = [&](const Status& status) {
    INFO(status.message());
    // CUDA itself answers where it is built in, and there may be no driver.
    CHECK((status.code() == StatusCode::kUnsupported ||
           (known && status.code() == StatusCode::kCudaError)));
    CHECK(status.message().find("device") != std::string::npos);
  };
  check(check_device(device));
  AttentionPlan plan;
  const AttentionShape shape{device, 1, 1, 10, 1, 1, least_head_dim()};
  check(plan_prefill<T>(presets::dense(), shape, plan));
  check(plan_decode<T>(presets::dense(), shape, plan));

  const DeviceBuffer<T> values(kCpu, 2 * least_head_dim(), from_float<T>(0.f));
  const DeviceBuffer<float> lse(kCpu, 1, 0.f);
  const DeviceBuffer<std::int64_t> slots(kCpu, 1, 0);
  AppendKvArgs<T> append;
  append.k = append.v = {values.data(), {1, 1, least_head_dim()}};
  append.slot_mapping = {slots.data(), {1}};
  append.pages = kv_pages_nhd(values.data(), values.data(), 1, 1, 1, least_head_dim());
  check(append_kv<T>(device, append));
  MergeStatesArgs<T> merge;
  merge.partial_out = {values.data(), {1, 1, 1, least_head_dim()}};
  merge.partial_lse = {lse.data(), {1, 1, 1}};
  merge.out = {values.data(), {1, 1, least_head_dim()}};
  check(merge_states<T>(device, merge));
}

}  // namespace
}  // namespace hip_attn
