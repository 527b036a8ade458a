// Calls whose arguments are wrong as such: the status code, and a message that names the argument
// and its value. bad_data_test.cpp has what the arguments' memory holds, config_json_test.cpp JSON.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"
#include "support/same_bits.hpp"
#include "support/spoilt_call.hpp"

namespace hip_attn {
namespace {

using namespace test;

using T = AnyElement;

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
       {{"q_request_stride", "0"}, [](Call& c) { c.args.q_request_stride = 0; }},
       {{"q_request_stride", "-64"}, [](Call& c) { c.args.q_request_stride = -64; }},
       {{"q_request_stride", "1027", "16 bytes"}, [](Call& c) { c.args.q_request_stride = 1027; }},
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
       {{"num_threads", "0"}, [](Call& c) { c.plan.num_threads = 0; }},
       {{"num_threads", "-3"}, [](Call& c) { c.plan.num_threads = -3; }}});
}

TEST_CASE("scalars that are not finite or out of range are refused by name and value") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  check_cases(op, StatusCode::kInvalidScalar,
              {{{"logit_softcap", "is 0"}, [](Call& c) { c.args.logit_softcap = 0.f; }},
               {{"logit_softcap", "-2"}, [](Call& c) { c.args.logit_softcap = -2.f; }},
               {{"logit_softcap", "nan"}, [](Call& c) { c.args.logit_softcap = kNaN; }},
               {{"logit_softcap", "inf"}, [](Call& c) { c.args.logit_softcap = kInfinity; }},
               {{"scale", "nan"}, [](Call& c) { c.args.scale = kNaN; }},
               {{"scale", "inf"}, [](Call& c) { c.args.scale = kInfinity; }},
               {{"scale", "-inf"}, [](Call& c) { c.args.scale = -kInfinity; }}});
}

TEST_CASE("outputs that share memory with what is read or written are refused by name") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const auto in_pages = [](const TensorView<const T, 4>& pages) {
    return const_cast<T*>(pages.data + pages.strides[0]);
  };
  check_cases(
      op, StatusCode::kOverlap,
      {{{"out", "with q"}, [](Call& c) { c.args.out.data = const_cast<T*>(c.args.q.data); }},
       {{"out", "with q"},  // its last row is q's first
        [](Call& c) {
          c.args.out = {const_cast<T*>(c.args.q.data) - 4 * c.args.q.strides[0],
                        c.args.q.sizes,
                        {c.args.q.strides[0], c.args.q.strides[1], 1}};
        }},
       {{"out", "with kv.pages.k"},
        [=](Call& c) { c.args.out.data = in_pages(c.args.kv.pages.k); }},
       {{"out", "with kv.pages.v"},
        [=](Call& c) { c.args.out.data = in_pages(c.args.kv.pages.v); }},
       {{"out", "with workspace"},
        [](Call& c) { c.args.out.data = reinterpret_cast<T*>(c.workspace.data()); }},
       {{"lse", "with q"},
        [](Call& c) {
          c.args.lse->data = reinterpret_cast<float*>(const_cast<T*>(c.args.q.data));
        }},
       {{"lse", "with out"},
        [](Call& c) { c.args.lse->data = reinterpret_cast<float*>(c.args.out.data); }}});
}

TEST_CASE("outputs that share memory with landmarks that are read are refused by name") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const auto problem = make_problem<T>({4, 2, least_head_dim()}, {{300, 2, 1}, {431, 3, 2}});
  const AttentionPlan plan = make_plan<T>(op, landmark_config(), problem.shape(kCpu));
  // The config reads those of 32 and 8 keys.
  CallMemory<T> memory(plan, problem, {}, {.chunk_sizes = {8, 16, 32}});
  const AttentionArgs<T> good = memory.args();
  const auto run = [&](const AttentionArgs<T>& args) {
    return run_operator<T>(plan, args, memory.workspace());
  };
  REQUIRE(run(good).ok());
  const HostSelection searched = memory.read().selection;
  const auto in_level = [&](int i) {
    return const_cast<T*>(good.landmarks->levels[static_cast<std::size_t>(i)].rows.data);
  };
  for (const int level : {0, 2}) {
    const std::string name = "with landmarks.levels[" + std::to_string(level) + "].rows";
    AttentionArgs<T> args = good;
    args.out.data = in_level(level);
    check_refused(run(args), StatusCode::kOverlap, {"out", name});
    args = good;
    args.lse->data = reinterpret_cast<float*>(in_level(level));
    check_refused(run(args), StatusCode::kOverlap, {"lse", name});
  }
  AttentionArgs<T> args = good;
  args.out.data = in_level(1);
  CHECK(run(args).ok());  // nobody reads it
  const SelectionMemory given(kCpu, searched);
  args.selection = given.view();
  args.out.data = in_level(2);
  CHECK(run(args).ok());
}

TEST_CASE("queries and outputs may be parts of the same rows") {
  Call call(Operator::kPrefill);
  const auto expected = [&] {
    REQUIRE(call.run().ok());
    return call.memory.read().out;
  }();
  const auto [rows, heads, d] = call.args.q.sizes;
  std::vector<T> both(2 * rows * heads * d + kAlignedElements);
  T* first = both.data();
  while (reinterpret_cast<std::uintptr_t>(first) % 16 != 0) ++first;
  const std::array<std::int64_t, 3> strides{2 * heads * d, d, 1};
  const TensorView<T, 3> q(first, {rows, heads, d}, strides);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t head = 0; head < heads; ++head) {
      std::copy_n(&call.args.q(row, head, 0), d, &q(row, head, 0));
    }
  }
  call.args.q = q;
  call.args.out = {first + heads * d, {rows, heads, d}, strides};
  REQUIRE(call.run().ok());
  std::vector<T> out;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t head = 0; head < heads; ++head) {
      out.insert(out.end(), &call.args.out(row, head, 0), &call.args.out(row, head, 0) + d);
    }
  }
  CHECK(same_bits(out, expected));
  call.args.out.data -= kAlignedElements;  // the last elements of q's rows
  check_refused(call.run(), StatusCode::kOverlap, {"out", "with q"});
}

TEST_CASE("a plan of another operator or type, or no plan, is refused") {
  Call prefill(Operator::kPrefill);
  check_refused(run_decode<T>(prefill.plan, prefill.args, prefill.workspace),
                StatusCode::kInvalidShape, {"plan", "plan_prefill", "plan_decode"});
  Call decode(Operator::kDecode);
  check_refused(run_prefill<T>(decode.plan, decode.args, decode.workspace),
                StatusCode::kInvalidShape, {"plan", "plan_prefill", "plan_decode"});
  const ElementType other =
      kElementType<T> == ElementType::kFloat16 ? ElementType::kBFloat16 : ElementType::kFloat16;
  prefill.plan.type = other;
  check_refused(prefill.run(), StatusCode::kInvalidShape, {"plan", "element type"});
  prefill.plan.type = kElementType<T>;
  prefill.plan.cache_type = other;
  check_refused(prefill.run(), StatusCode::kInvalidShape, {"plan", "a cache of"});
  prefill.plan = AttentionPlan{};
  prefill.plan.type = prefill.plan.cache_type = kElementType<T>;
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
    const Status status = op == Operator::kPrefill ? plan_prefill<T>(small_config(), shape, plan)
                                                   : plan_decode<T>(small_config(), shape, plan);
    check_refused(status, code, mentions);
    if (shape.device.type == DeviceType::kCpu || shape.device.type == DeviceType::kCuda) {
      check_same_status(status, plan_through_c(op, kElementType<T>, kElementType<T>, small_config(),
                                               shape, plan));
    }
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
  for (const std::int64_t head_dim : {0, -64, 1, 80, 512}) {
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
  const Status status = op == Operator::kPrefill ? plan_prefill<T>(config, shape, plan)
                                                 : plan_decode<T>(config, shape, plan);
  check_same_status(status,
                    plan_through_c(op, kElementType<T>, kElementType<T>, config, shape, plan));
  check_refused(status, StatusCode::kInvalidConfig, {"stages[1].chunk_size", "12"});
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
    check_refused(same_through_c(append_kv<T>(kCpu, args), append_kv_through_c(kCpu, args)), code,
                  mentions);
  };
  check(StatusCode::kOverlap, {"pages.k", "with v"},
        [](auto& a) { a.v = TensorView<const T, 3>(a.pages.k.data, a.v.sizes, a.v.strides); });
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
    check_refused(same_through_c(merge_states<T>(kCpu, args), merge_states_through_c(kCpu, args)),
                  code, mentions);
  };
  check(StatusCode::kOverlap, {"out", "with partial_out"},
        [](auto& a) { a.out.data = const_cast<T*>(a.partial_out.data); });
  check(StatusCode::kOverlap, {"lse", "with partial_lse"},
        [](auto& a) { a.lse->data = const_cast<float*>(a.partial_lse.data); });
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

TEST_CASE("add_sink_logits refuses bad arguments by name") {
  const std::int64_t d = least_head_dim();
  const auto check = [&](StatusCode code, const Mentions& mentions,
                         const std::function<void(AddSinkLogitsArgs<T>&)>& spoil) {
    const DeviceBuffer<float> sink_logits(kCpu, 3, 0.f);
    const DeviceBuffer<T> out(kCpu, 3 * d, from_float<T>(1.f));
    const DeviceBuffer<float> lse(kCpu, 3, 0.f);
    AddSinkLogitsArgs<T> args;
    args.sink_logits = {sink_logits.data(), {3}};
    args.out = {out.data(), {1, 3, d}};
    args.lse = {lse.data(), {1, 3}};
    spoil(args);
    check_refused(
        same_through_c(add_sink_logits<T>(kCpu, args), add_sink_logits_through_c(kCpu, args)), code,
        mentions);
  };
  check(StatusCode::kNullPointer, {"sink_logits"}, [](auto& a) { a.sink_logits.data = nullptr; });
  check(StatusCode::kNullPointer, {"out.data"}, [](auto& a) { a.out.data = nullptr; });
  check(StatusCode::kNullPointer, {"lse.data"}, [](auto& a) { a.lse.data = nullptr; });
  check(StatusCode::kMisalignedPointer, {"out.strides[1]"}, [](auto& a) { ++a.out.strides[1]; });
  check(StatusCode::kInvalidStride, {"out.strides[2]", "0"}, [](auto& a) { a.out.strides[2] = 0; });
  check(StatusCode::kInvalidShape, {"sink_logits.sizes[0]", "2"},
        [](auto& a) { a.sink_logits.sizes[0] = 2; });
  check(StatusCode::kInvalidShape, {"lse.sizes[0]", "0"}, [](auto& a) { a.lse.sizes[0] = 0; });
  check(StatusCode::kInvalidShape, {"lse.sizes[1]", "2"}, [](auto& a) { a.lse.sizes[1] = 2; });
  check(StatusCode::kUnsupported, {"head_dim", "16"}, [](auto& a) { a.out.sizes[2] = 16; });
  check(StatusCode::kOverlap, {"out", "with lse"},
        [](auto& a) { a.lse.data = reinterpret_cast<float*>(a.out.data); });
  check(StatusCode::kOverlap, {"lse", "with sink_logits"},
        [](auto& a) { a.sink_logits.data = a.lse.data; });
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

  const DeviceBuffer<T> values(kCpu, 4 * least_head_dim(), from_float<T>(0.f));
  const DeviceBuffer<float> lse(kCpu, 1, 0.f);
  float sink_lse = 0.f;
  const DeviceBuffer<std::int64_t> slots(kCpu, 1, 0);
  AppendKvArgs<T> append;
  append.k = append.v = {values.data(), {1, 1, least_head_dim()}};
  append.slot_mapping = {slots.data(), {1}};
  append.pages = kv_pages_nhd(values.data() + least_head_dim(),
                              values.data() + 2 * least_head_dim(), 1, 1, 1, least_head_dim());
  check(append_kv<T>(device, append));
  MergeStatesArgs<T> merge;
  merge.partial_out = {values.data(), {1, 1, 1, least_head_dim()}};
  merge.partial_lse = {lse.data(), {1, 1, 1}};
  merge.out = {values.data() + least_head_dim(), {1, 1, least_head_dim()}};
  check(merge_states<T>(device, merge));
  AddSinkLogitsArgs<T> sinks;
  sinks.sink_logits = {lse.data(), {1}};
  sinks.out = merge.out;
  sinks.lse = {&sink_lse, {1, 1}};
  check(add_sink_logits<T>(device, sinks));
}

}  // namespace
}  // namespace hip_attn
