// Indices of a trained indexer: a row attends to the keys of its blocks, and to nothing else.
#include "hip_attn/index_selection.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "catch.hpp"
#include "support/attention_oracle.hpp"
#include "support/built.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"
#include "support/same_bits.hpp"
#include "support/spoilt_call.hpp"
#include "support/through_c.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

constexpr std::int64_t kTopK = 9;

/// What an indexer needs of a configuration: its granularity, and nothing that is attended besides.
HipConfig index_config(std::int32_t granularity, std::int64_t sink = 0) {
  return {.sink = sink,
          .window = 1,
          .block_q = 1,
          .stages = {{.chunk_size = granularity, .keep = kTopK * granularity}}};
}

/// [total_q, heads, top_k] for a problem.
struct Indices {
  std::int64_t heads;
  std::int64_t top_k;
  std::vector<std::int32_t> values;

  [[nodiscard]] const std::int32_t* row(std::int64_t query, std::int64_t head) const {
    return values.data() + (query * heads + (heads == 1 ? 0 : head)) * top_k;
  }
};

/// Blocks that the row sees, in no order, some twice and some absent, the row's own among them or
/// not.
template <TestedTypes P>
Indices random_indices(const Problem<P>& problem, std::int64_t granularity, std::int64_t heads,
                       std::int64_t top_k) {
  Indices indices{heads, top_k, {}};
  Choices choices(31 * granularity + heads);
  for (const Request<P>& request : problem.requests) {
    for (std::int64_t row = 0; row < request.q_len; ++row) {
      const std::int64_t own = (request.first_position() + row) / granularity;
      for (std::int64_t i = 0; i < heads * top_k; ++i) {
        const bool none = request.seq_len == 0 || choices.one_in(4);
        indices.values.push_back(none ? -1 : static_cast<std::int32_t>(choices.between(0, own)));
      }
    }
  }
  return indices;
}

/// The selection of C++, after a look that C makes the same.
template <TestedTypes P>
HostSelection selection_of(const AttentionPlan& plan, const Problem<P>& problem,
                           const Indices& indices) {
  std::vector<std::int32_t> seq_lens;
  std::vector<std::int32_t> cu_seqlens{0};
  for (const Request<P>& request : problem.requests) {
    seq_lens.push_back(static_cast<std::int32_t>(request.seq_len));
    cu_seqlens.push_back(cu_seqlens.back() + static_cast<std::int32_t>(request.q_len));
  }
  std::vector<HostSelection> made;
  for (const bool through_c : {false, true}) {
    HostSelection& host =
        made.emplace_back(plan.selection_rows, plan.shape.num_kv_heads, indices.top_k);
    IndexSelectionArgs args;
    args.indices = {indices.values.data(), {problem.total_q(), indices.heads, indices.top_k}};
    args.seq_lens = {seq_lens.data(), {problem.batch()}};
    args.cu_seqlens_q = {cu_seqlens.data(), {problem.batch() + 1}};
    args.selection = {{host.blocks.data(), {host.rows, host.kv_heads, host.max_blocks}},
                      {host.counts.data(), {host.rows, host.kv_heads}},
                      {host.window_start.data(), {host.rows, host.kv_heads}}};
    const Status status =
        through_c ? make_index_selection_through_c(plan, args) : make_index_selection(plan, args);
    INFO(status.message());
    REQUIRE(status.ok());
  }
  CHECK(made[0].counts == made[1].counts);
  CHECK(made[0].window_start == made[1].window_start);
  return made[0];
}

/// Every operation in Float, over the keys that the indices name.
template <typename Float, TestedTypes P>
RowStates<Float> attend_indices(const Problem<P>& problem, const HipConfig& config,
                                const Indices& indices) {
  const Heads& heads = problem.heads;
  RowStates<Float> states;
  states.out.assign(problem.total_q() * heads.num_q_heads * heads.head_dim, 0);
  states.lse.assign(problem.total_q() * heads.num_q_heads, -std::numeric_limits<Float>::infinity());
  std::int64_t query = -1;
  for (const Request<P>& request : problem.requests) {
    for (std::int64_t row = 0; row < request.q_len; ++row) {
      ++query;
      if (request.seq_len == 0) continue;
      for (std::int64_t head = 0; head < heads.num_q_heads; ++head) {
        const std::int32_t* blocks = indices.row(query, head / heads.group());
        std::vector<std::int64_t> keys;
        for (std::int64_t t = 0; t <= request.first_position() + row; ++t) {
          const bool listed = std::find(blocks, blocks + indices.top_k, t / config.block_k()) !=
                              blocks + indices.top_k;
          if (t < config.sink || listed) keys.push_back(t);
        }
        const std::int64_t at = query * heads.num_q_heads + head;
        attend_row<Float>(request, row, head, keys, {}, &states.out[at * heads.head_dim],
                          &states.lse[at]);
      }
    }
  }
  return states;
}

HIP_ATTN_OPERATOR_TEST_CASE("rows attend to the blocks that an indexer names, and no others") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const std::int32_t granularity = GENERATE(1, 4, 64, 128);
  const std::int64_t index_heads = GENERATE(1, 2);
  const std::int64_t sinks = GENERATE(0, 1);
  CAPTURE(op, granularity, index_heads, sinks);
  const HipConfig config = index_config(granularity, sinks * granularity);
  const std::int64_t rows = op == Operator::kDecode ? 1 : 40;
  const auto problem = make_problem<TestType>(
      {4, 2, least_head_dim()},
      {{300, rows, 1}, {rows, rows, 2}, {0, 1, 3}, {131, std::min<std::int64_t>(rows, 3), 4}});
  const Indices indices = random_indices(problem, granularity, index_heads, kTopK);
  const HostSelection selection =
      selection_of(make_plan<TestType>(op, config, problem.shape(kCpu)), problem, indices);
  // Of requests long enough for kTopK blocks, so that a selection is as wide as the indices.
  AttentionShape shape = problem.shape(device);
  shape.max_seq_len = 4096;
  const auto result = run_attention<TestType>(
      op, config, problem, {.device = device, .selection = &selection, .planned = shape});
  check_close<QueryType<TestType>>(result.out, result.lse,
                                   attend_indices<double>(problem, config, indices),
                                   attend_indices<float>(problem, config, indices));
}

TEST_CASE("make_index_selection refuses bad arguments by name") {
  struct Lists {
    HipConfig config = index_config(4);
    Operator op = Operator::kPrefill;
    std::vector<std::int32_t> indices{0, -1, 1, 0};
    std::vector<std::int32_t> seq_lens{6};
    std::vector<std::int32_t> cu_seqlens{0, 2};
    bool on_cuda = false;
  };
  std::vector<std::int32_t> blocks(64), counts(16), window_start(16);
  const auto check = [&](StatusCode code, const Mentions& mentions,
                         const std::function<void(Lists&)>& spoil,
                         const std::function<void(IndexSelectionArgs&)>& spoil_args = {}) {
    Lists lists;
    spoil(lists);
    AttentionPlan plan = make_plan<AnyElement>(
        lists.op, lists.config,
        {.batch = 1, .total_q = 2, .max_seq_len = 10, .head_dim = least_head_dim()});
    if (lists.on_cuda) plan.shape.device = cuda_device();
    IndexSelectionArgs args;
    args.indices = {lists.indices.data(), {2, 1, 2}};
    args.seq_lens = {lists.seq_lens.data(), {1}};
    args.cu_seqlens_q = {lists.cu_seqlens.data(), {2}};
    args.selection = {
        {blocks.data(), {4, 1, 2}}, {counts.data(), {4, 1}}, {window_start.data(), {4, 1}}};
    if (spoil_args) spoil_args(args);
    const Status status = make_index_selection(plan, args);
    check_refused(status, code, mentions);
    check_same_status(status, make_index_selection_through_c(plan, args));
  };
  const auto nothing = [](Lists&) {};
  check(StatusCode::kUnsupported, {"CUDA"}, [](Lists& l) { l.on_cuda = true; });
  check(StatusCode::kUnsupported, {"config.block_q is 2"}, [](Lists& l) { l.config.block_q = 2; });
  check(StatusCode::kInvalidSelection, {"indices[1][0][1] is 2", "blocks 0 to 1"},
        [](Lists& l) { l.indices[3] = 2; });
  check(StatusCode::kInvalidLength, {"request 0 has rows 1 to 2"},
        [](Lists& l) { l.cu_seqlens[0] = 1; });
  check(StatusCode::kInvalidLength, {"seq_lens[0]", "-1"}, [](Lists& l) { l.seq_lens[0] = -1; });
  check(StatusCode::kQueryLongerThanSequence, {"request 0 has 2 rows"},
        [](Lists& l) { l.seq_lens[0] = 1; });
  check(StatusCode::kTooManyDecodeRows, {"request 0 has 2 rows"},
        [](Lists& l) { l.op = Operator::kDecode; });
  check(StatusCode::kNullPointer, {"indices.data"}, nothing,
        [](IndexSelectionArgs& a) { a.indices.data = nullptr; });
  check(StatusCode::kInvalidShape, {"indices.sizes[1]", "3"}, nothing,
        [](IndexSelectionArgs& a) { a.indices.sizes[1] = 3; });
  check(StatusCode::kInvalidShape, {"cu_seqlens_q.sizes[0]"}, nothing,
        [](IndexSelectionArgs& a) { a.cu_seqlens_q.sizes[0] = 1; });
  check(StatusCode::kInvalidShape, {"selection.blocks.sizes[0]", "3"}, nothing,
        [](IndexSelectionArgs& a) { a.selection.blocks.sizes[0] = 3; });
  check(StatusCode::kInvalidShape, {"selection.blocks.sizes[2]", "1"}, nothing,
        [](IndexSelectionArgs& a) { a.selection.blocks.sizes[2] = 1; });
  check(StatusCode::kInvalidStride, {"indices.strides[2]"}, nothing,
        [](IndexSelectionArgs& a) { a.indices.strides[2] = 2; });
}

}  // namespace
}  // namespace hip_attn
