// Calls whose arrays hold wrong values: lengths, pages, selections and caches. The status code, and
// a message that names the array, the place and the value.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"
#include "support/spoilt_call.hpp"

namespace hip_attn {
namespace {

using namespace test;

using T = AnyElement;

constexpr std::int32_t kLeastInt32 = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t kMostInt32 = std::numeric_limits<std::int32_t>::max();

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

TEST_CASE("more rows than a batch of queries has of each request are refused") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const auto with_rows = [](std::int64_t rows) {
    return [rows](Call& c) {
      c.args.q.sizes[0] = rows;
      c.args.q_request_stride = 2 * c.args.q.strides[0];
    };
  };
  check_cases(op, StatusCode::kInvalidLength, {{{"request 1", "3 rows", "2"}, with_rows(2)}});
  check_cases(op, StatusCode::kInvalidShape, {{{"q.sizes[0]", "0", "5"}, with_rows(0)}});
}

TEST_CASE("decode refuses more than 8 rows of a request") {
  const auto problem = make_problem<T>({4, 2, least_head_dim()}, {{60, 8, 1}, {90, 9, 2}});
  const AttentionPlan plan = make_plan<T>(Operator::kDecode, small_config(), problem.shape(kCpu));
  CallMemory<T> memory(plan, problem, {});
  check_refused(
      same_through_c(run_decode<T>(plan, memory.args(), memory.workspace()),
                     run_through_c(Operator::kDecode, plan, memory.args(), memory.workspace())),
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
  for (const std::int32_t refresh_from : {3, search_ahead_from(0), search_ahead_from(1)}) {
    for (const std::uint8_t garbage : {0x01, 0x7f, 0x80, 0xff}) {
      call.cache_bytes.write(std::vector<std::byte>(size, std::byte{garbage}));
      call.args.cache->refresh_from = call.array({refresh_from, refresh_from});
      const Status status = call.run();
      // Garbage that lies ahead of the sequence refreshes itself.
      INFO(status.message());
      CHECK((status.ok() || status.code() == StatusCode::kInvalidSelection));
      CHECK(call.memory.untouched_around_outputs());
    }
  }
}

TEST_CASE("a step around a search ahead refuses survivors that are none") {
  const HipConfig config = small_config();
  const auto problem = make_problem<T>({1, 1, least_head_dim()}, {{300, 1, 1}});
  const AttentionPlan plan = make_plan<T>(Operator::kDecode, config, problem.shape(kCpu));
  const SearchPlan search = make_search_plan(config, 300);
  CallMemory<T> memory(plan, problem, {});
  DeviceBuffer<std::byte> bytes(kCpu, static_cast<std::int64_t>(plan.selection_cache_slot_bytes),
                                std::byte{0});
  DeviceBuffer<std::int32_t> refresh_from(kCpu, 1, 0);
  memory.args().cache = SelectionCache{bytes.data(), 1, {refresh_from.data(), {1}}, std::nullopt};
  const auto run = [&](std::int32_t from) {
    refresh_from.write(std::vector<std::int32_t>{from});
    return run_decode<T>(plan, memory.args(), memory.workspace());
  };
  const auto spoil = [&](int stage) {  // its first survivor
    std::vector<std::byte> words = bytes.read();
    const std::int32_t bad = 7;
    std::memcpy(words.data() + (search.stages[stage].cache_word + 1) * 4, &bad, sizeof(bad));
    bytes.write(words);
  };
  REQUIRE(run(0).ok());
  SECTION("the selection that is reused") {
    spoil(2);
    check_refused(run(search_ahead_from(0)), StatusCode::kInvalidSelection, {"cache slot 0"});
  }
  SECTION("what the search goes on from") {
    spoil(0);
    check_refused(run(search_ahead_from(1)), StatusCode::kInvalidSelection, {"cache slot 0"});
  }
  SECTION("what the search left, whatever is asked for") {
    REQUIRE(run(search_ahead_from(0)).ok());
    spoil(1);
    check_refused(run(3), StatusCode::kInvalidSelection, {"cache slot 0"});
  }
  CHECK(memory.untouched_around_outputs());
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

}  // namespace
}  // namespace hip_attn
