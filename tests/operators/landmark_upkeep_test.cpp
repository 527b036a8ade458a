// Landmarks that update_landmarks and append_kv keep: those of the definition, to the bit, and
// nothing else written.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "hip_attn/kv.hpp"
#include "support/built.hpp"
#include "support/device_buffer.hpp"
#include "support/landmark_memory.hpp"
#include "support/memory.hpp"
#include "support/problem.hpp"
#include "support/spoilt_call.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

using Ints = std::vector<std::int32_t>;
using Sizes = std::vector<std::int64_t>;

constexpr std::int64_t kKvHeads = 2;

Heads heads_of(std::int64_t head_dim) { return {kKvHeads, kKvHeads, head_dim}; }

template <Element T>
Problem<T> problem_of(const Sizes& seq_lens, std::int64_t head_dim = least_head_dim()) {
  std::vector<RequestSpec> specs;
  for (std::size_t b = 0; b < seq_lens.size(); ++b) specs.push_back({seq_lens[b], 0, 7 * b + 1});
  return make_problem<T>(heads_of(head_dim), specs);
}

void require_ok(const Status& status) {
  INFO(status.message());
  REQUIRE(status.ok());
}

/// What a test of update_landmarks needs: keys in a cache, and NaN where landmarks go.
template <Element T>
struct Update {
  Problem<T> problem;
  KvMemory<T> kv;
  LandmarkMemory<T> landmarks;

  Update(Device device, Problem<T> problem_, const MemoryLayout& layout,
         const LandmarkLayout& landmark_layout)
      : problem(std::move(problem_)),
        kv(device, problem, layout),
        landmarks(device, problem, landmark_layout) {}

  [[nodiscard]] bool guards_intact() const {
    return kv.guards_intact() && landmarks.guards_intact();
  }
};

HIP_ATTN_TYPED_TEST_CASE("update_landmarks makes those of the definition for every page size") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::int64_t page_size = GENERATE(1, 3, 16, 48, 64, 100, 256);
  const KvOrder order = GENERATE(KvOrder::kNhd, KvOrder::kHnd);
  Update<TestType> update(device, problem_of<TestType>({700, 0, 63, 64, 321}),
                          {.order = order, .page_size = page_size, .row_padding = 8},
                          {.by_head = order == KvOrder::kNhd, .row_padding = 16});
  const auto wanted = update.landmarks.expected(update.problem, update.landmarks.read());
  require_ok(update.landmarks.update(update.kv.view(), update.problem));
  CHECK(update.landmarks.difference(wanted) == "");
  CHECK(update.guards_intact());
}

HIP_ATTN_TYPED_TEST_CASE("update_landmarks makes those of the definition for all levels, spreads") {
  const Device device = GENERATE(from_range(data_devices()));
  const float spread = GENERATE(0.f, 0.3f, 0.5f, 1.f);
  const Sizes chunk_sizes = GENERATE(Sizes{}, Sizes{64}, Sizes{64, 256}, Sizes{16, 64, 1024},
                                     Sizes{1}, Sizes{2, 4, 8, 16, 32, 64, 128, 256}, Sizes{512});
  const bool tables = GENERATE(true, false);
  const std::int64_t head_dim = GENERATE(from_range(head_dims()));
  Update<TestType> update(device, problem_of<TestType>({2100, 1, 1024, 1023}, head_dim), {},
                          {.chunk_sizes = chunk_sizes, .spread = spread, .tables = tables});
  const auto wanted = update.landmarks.expected(update.problem, update.landmarks.read());
  require_ok(update.landmarks.update(update.kv.view(), update.problem));
  CHECK(update.landmarks.difference(wanted) == "");
  CHECK(update.guards_intact());
}

HIP_ATTN_TYPED_TEST_CASE("one block table serves keys and landmarks, also of contiguous keys") {
  const Device device = GENERATE(from_range(data_devices()));
  const Problem<TestType> problem = problem_of<TestType>({1000, 300, 0, 1024});
  const KvOrder order = GENERATE(KvOrder::kHnd, KvOrder::kContiguous);
  const KvMemory<TestType> kv(device, problem, {.order = order, .page_size = 128});
  auto landmarks = LandmarkMemory<TestType>::with_tables_of(
      kv.view(), device, problem, {.chunk_sizes = {16, 128}, .by_head = GENERATE(true, false)});
  const auto wanted = landmarks.expected(problem, landmarks.read());
  require_ok(landmarks.update(kv.view(), problem));
  CHECK(landmarks.difference(wanted) == "");
  CHECK(landmarks.guards_intact());
}

HIP_ATTN_TYPED_TEST_CASE(
    "update_landmarks makes the chunks that meet the positions and no others") {
  const Device device = GENERATE(from_range(data_devices()));
  const auto [from, to] =
      GENERATE(std::pair(Ints{0, 0}, Ints{0, 15}), std::pair(Ints{15, 100}, Ints{16, 100}),
               std::pair(Ints{16, 17}, Ints{700, 300}), std::pair(Ints{255, 64}, Ints{256, 511}),
               std::pair(Ints{256, 699}, Ints{640, 700}), std::pair(Ints{700, 0}, Ints{700, 700}));
  Update<TestType> update(device, problem_of<TestType>({700, 700}), {},
                          {.chunk_sizes = {16, 64, 256}});
  // Coarser levels read children that an earlier call has made.
  require_ok(update.landmarks.update(update.kv.view(), {0, 0}, from));
  const auto wanted = update.landmarks.expected(update.problem, update.landmarks.read(), from, to);
  require_ok(update.landmarks.update(update.kv.view(), from, to));
  CHECK(update.landmarks.difference(wanted) == "");
  CHECK(update.guards_intact());
}

HIP_ATTN_TYPED_TEST_CASE("a wrong max_tokens changes nothing") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::int64_t max_tokens = GENERATE(1, 65, 100000, std::int64_t{1} << 62);
  Update<TestType> update(device, problem_of<TestType>({5000, 65}), {}, {.chunk_sizes = {8, 32}});
  require_ok(update.landmarks.update(update.kv.view(), {0, 0}, {5000, 65}, max_tokens));
  CHECK(update.landmarks.difference(update.problem) == "");
}

HIP_ATTN_TYPED_TEST_CASE("a prompt in pieces has the landmarks of the prompt whole") {
  const Device device = GENERATE(from_range(data_devices()));
  Update<TestType> update(device, problem_of<TestType>({1500, 1100}), {.page_size = 48},
                          {.chunk_sizes = {16, 64, 1024}});
  const auto wanted = update.landmarks.expected(update.problem, update.landmarks.read());
  Ints at = {0, 0};
  for (const Ints& next :
       {Ints{1, 40}, Ints{100, 40}, Ints{1023, 1024}, Ints{1024, 1100}, Ints{1500, 1100}}) {
    require_ok(update.landmarks.update(update.kv.view(), at, next));
    at = next;
  }
  CHECK(update.landmarks.difference(wanted) == "");
}

HIP_ATTN_TYPED_TEST_CASE("requests of a shared prefix share its landmarks") {
  const Device device = GENERATE(from_range(data_devices()));
  Problem<TestType> problem = problem_of<TestType>({600});
  const KvMemory<TestType> kv(device, problem, {.page_size = 64});
  const LandmarkLayout layout{.chunk_sizes = {16, 64}};
  auto landmarks = LandmarkMemory<TestType>::with_tables_of(kv.view(), device, problem, layout);
  const auto wanted = landmarks.expected(problem, landmarks.read());
  // Two requests, both with the row of the table that the problem's one request has.
  PagedKv<TestType> twice = kv.view();
  Landmarks<TestType> levels = landmarks.view();
  const auto repeat = [](auto& table) {
    table->sizes[0] = 2;
    table->strides[0] = 0;
  };
  repeat(twice.block_table);
  for (int i = 0; i < levels.num_levels; ++i) repeat(levels.levels[i].block_table);
  const DeviceBuffer<std::int32_t> from(device, Ints{0, 256});
  const DeviceBuffer<std::int32_t> to(device, Ints{256, 600});
  UpdateLandmarksArgs<TestType> args;
  args.kv = twice;
  args.landmarks = levels;
  args.from = {from.data(), {2}};
  args.to = {to.data(), {2}};
  require_ok(update_landmarks<TestType>(device, args));
  CHECK(landmarks.difference(wanted) == "");
}

HIP_ATTN_TYPED_TEST_CASE("NaN and infinity among keys stay in their chunks and heads") {
  const Device device = GENERATE(from_range(data_devices()));
  Problem<TestType> problem = problem_of<TestType>({600, 600});
  auto& k = problem.requests[1].k;
  const auto at = [&](std::int64_t token, std::int64_t head, std::int64_t d) -> TestType& {
    return k[problem.requests[1].kv_offset(token, head) + d];
  };
  at(70, 1, 3) = from_float<TestType>(kNaN);
  at(71, 1, 3) = from_float<TestType>(-kNaN);
  at(200, 0, 5) = from_float<TestType>(kInfinity);
  at(300, 1, 0) = from_float<TestType>(-kInfinity);
  at(300, 1, 1) = from_float<TestType>(-kInfinity);
  at(301, 1, 1) = from_float<TestType>(kInfinity);
  at(400, 1, 2) = from_float<TestType>(-0.f);
  Update<TestType> update(device, problem, {},
                          {.chunk_sizes = {64, 256}, .spread = GENERATE(0.f, 0.5f)});
  const auto wanted = update.landmarks.expected(problem, update.landmarks.read());
  require_ok(update.landmarks.update(update.kv.view(), problem));
  CHECK(update.landmarks.difference(wanted) == "");
}

/// Appends the keys of a problem to a cache without any, and keeps its landmarks.
template <Element T>
class Appender {
 public:
  Appender(Device device, const Problem<T>& problem, const MemoryLayout& layout,
           const LandmarkLayout& landmark_layout)
      : landmarks(device, problem, landmark_layout),
        device_(device),
        kv_(device, without_keys(problem), layout) {}

  /// Rows [from[b], to[b]) of each request b of the problem in one call, which says that there are
  /// seq_lens[b] keys then. The rows of position `skipped` have no slot.
  Status append(const Problem<T>& problem, const Ints& from, const Ints& to, const Ints& seq_lens,
                std::int32_t skipped = -1) {
    const std::int64_t row = problem.heads.num_kv_heads * problem.heads.head_dim;
    std::vector<T> k;
    std::vector<T> v;
    std::vector<std::int64_t> slots;
    Ints cu_seqlens = {0};
    for (std::int64_t b = 0; b < problem.batch(); ++b) {
      const Request<T>& request = problem.requests[b];
      for (std::int64_t t = from[b]; t < to[b]; ++t) {
        k.insert(k.end(), request.key(t, 0), request.key(t, 0) + row);
        v.insert(v.end(), request.value(t, 0), request.value(t, 0) + row);
        slots.push_back(t == skipped || seq_lens[b] == 0 ? -1 : kv_.slot(b, t));
      }
      cu_seqlens.push_back(static_cast<std::int32_t>(slots.size()));
    }
    const DeviceBuffer<T> k_memory(device_, k);
    const DeviceBuffer<T> v_memory(device_, v);
    const DeviceBuffer<std::int64_t> slot_memory(device_, slots);
    const DeviceBuffer<std::int32_t> length_memory(device_, seq_lens);
    const DeviceBuffer<std::int32_t> cu_memory(device_, cu_seqlens);
    const std::int64_t tokens = slot_memory.size();
    AppendKvArgs<T> args;
    args.k = {k_memory.data(), {tokens, problem.heads.num_kv_heads, problem.heads.head_dim}};
    args.v = {v_memory.data(), args.k.sizes};
    args.slot_mapping = {slot_memory.data(), {tokens}};
    args.pages = kv_.pages();
    args.landmarks = AppendLandmarks<T>{landmarks.view(),
                                        kv_.view().block_table,
                                        {length_memory.data(), {length_memory.size()}},
                                        {cu_memory.data(), {cu_memory.size()}}};
    const Status status = append_kv<T>(device_, args);
    static_cast<void>(cu_memory.read());  // waits, so that the rows outlive the kernel
    return status;
  }
  void must_append(const Problem<T>& problem, const Ints& from, const Ints& to) {
    require_ok(append(problem, from, to, to));
  }

  /// Landmarks are those of the problem, and of what the cache holds.
  void check_landmarks(const Problem<T>& problem) {
    CHECK(landmarks.difference(problem) == "");
    const auto kept = landmarks.read();
    require_ok(landmarks.update(kv_.view(), problem));
    CHECK(landmarks.difference(kept) == "");
    CHECK(kv_.guards_intact());
    CHECK(landmarks.guards_intact());
  }

  LandmarkMemory<T> landmarks;

 private:
  static Problem<T> without_keys(Problem<T> problem) {
    for (Request<T>& request : problem.requests) {
      std::fill(request.k.begin(), request.k.end(), from_float<T>(kNaN));
      std::fill(request.v.begin(), request.v.end(), from_float<T>(kNaN));
    }
    return problem;
  }

  Device device_;
  KvMemory<T> kv_;
};

HIP_ATTN_TYPED_TEST_CASE("tokens appended one by one leave the landmarks of the prompt whole") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::int64_t page_size = GENERATE(1, 16, 100);
  const std::int64_t head_dim = GENERATE(from_range(head_dims()));
  const Problem<TestType> problem = problem_of<TestType>({150, 130}, head_dim);
  Appender<TestType> appender(device, problem, {.page_size = page_size},
                              {.chunk_sizes = {8, 16, 128}});
  for (std::int32_t t = 0; t < 150; ++t) {
    const std::int32_t other = std::min(t, 130);
    appender.must_append(problem, {t, other}, {t + 1, std::min(t + 1, 130)});
  }
  appender.check_landmarks(problem);
}

HIP_ATTN_TYPED_TEST_CASE("a prompt appended in pieces beside decoding requests has its landmarks") {
  const Device device = GENERATE(from_range(data_devices()));
  const Problem<TestType> problem = problem_of<TestType>({2500, 70, 4, 1100});
  const bool has_tables = GENERATE(true, false);
  const KvOrder order = GENERATE(KvOrder::kHnd, KvOrder::kContiguous);
  Appender<TestType> appender(device, problem, {.order = order, .page_size = 48},
                              {.chunk_sizes = {64, 1024}, .tables = has_tables});
  Ints at = {0, 0, 0, 0};
  for (const Ints& next : {Ints{1000, 63, 0, 1}, Ints{1023, 64, 0, 1024}, Ints{1024, 65, 3, 1100},
                           Ints{1024, 66, 4, 1100}, Ints{2500, 70, 4, 1100}}) {
    appender.must_append(problem, at, next);
    at = next;
  }
  appender.check_landmarks(problem);
}

HIP_ATTN_TYPED_TEST_CASE("append_kv writes the landmarks that its rows complete and no others") {
  const Device device = GENERATE(from_range(data_devices()));
  const Problem<TestType> problem = problem_of<TestType>({300, 300});
  Appender<TestType> appender(device, problem, {}, {.chunk_sizes = {16, 64}});
  appender.must_append(problem, {0, 0}, {127, 40});
  auto wanted =
      appender.landmarks.expected(problem, appender.landmarks.read(), {127, 40}, {150, 47});
  appender.must_append(problem, {127, 40}, {150, 47});
  CHECK(appender.landmarks.difference(wanted) == "");
}

HIP_ATTN_TYPED_TEST_CASE("rows that are rolled back and appended again make their chunk again") {
  const Device device = GENERATE(from_range(data_devices()));
  const Problem<TestType> rejected = problem_of<TestType>({140});
  Problem<TestType> accepted = rejected;
  const std::int64_t kept = accepted.requests[0].kv_offset(60, 0);
  for (std::int64_t i = kept; i < static_cast<std::int64_t>(accepted.requests[0].k.size()); ++i) {
    accepted.requests[0].k[i] = from_float<TestType>(gaussian(mix(99, i)));
  }
  Appender<TestType> appender(device, rejected, {}, {.chunk_sizes = {8, 64}});
  appender.must_append(rejected, {0}, {60});
  appender.must_append(rejected, {60}, {68});  // completes a chunk of each level
  appender.must_append(accepted, {60}, {63});
  appender.must_append(accepted, {63}, {140});
  appender.check_landmarks(accepted);
}

HIP_ATTN_TYPED_TEST_CASE("a request that takes over pages makes their landmarks anew") {
  const Device device = GENERATE(from_range(data_devices()));
  const Problem<TestType> former =
      make_problem<TestType>(heads_of(least_head_dim()), {{200, 0, 50}, {150, 0, 51}});
  const Problem<TestType> next = problem_of<TestType>({200, 150});
  Appender<TestType> appender(device, former, {}, {.chunk_sizes = {16, 64}});
  appender.must_append(former, {0, 0}, {200, 150});
  appender.must_append(next, {0, 0}, {100, 150});
  appender.must_append(next, {100, 150}, {200, 150});
  appender.check_landmarks(next);
}

HIP_ATTN_TYPED_TEST_CASE("requests of length 0 and rows without a slot make no landmarks") {
  const Device device = GENERATE(from_range(data_devices()));
  const Problem<TestType> problem = problem_of<TestType>({64, 64});
  Appender<TestType> appender(device, problem, {}, {.chunk_sizes = {16, 64}});
  const auto untouched = appender.landmarks.read();
  const auto wanted = appender.landmarks.expected(problem, untouched, {0, 0}, {64, 0});
  require_ok(appender.append(problem, {0, 0}, {64, 64}, {64, 0}));
  CHECK(appender.landmarks.difference(wanted) == "");
}

HIP_ATTN_TYPED_TEST_CASE("a row without a slot leaves its key, which counts") {
  const Device device = GENERATE(from_range(data_devices()));
  const Problem<TestType> first = make_problem<TestType>(heads_of(least_head_dim()), {{64, 0, 50}});
  Problem<TestType> second = problem_of<TestType>({64});
  Appender<TestType> appender(device, first, {}, {.chunk_sizes = {16, 64}});
  appender.must_append(first, {0}, {64});
  require_ok(appender.append(second, {0}, {64}, {64}, 10));
  Request<TestType>& request = second.requests[0];
  std::copy_n(first.requests[0].key(10, 0), kKvHeads * least_head_dim(),
              request.k.begin() + request.kv_offset(10, 0));
  appender.check_landmarks(second);
}

/// A copy of a block table with some entries replaced.
Ints with_entries(Device device, const TensorView<const std::int32_t, 2>& table,
                  const std::vector<std::pair<std::int64_t, std::int32_t>>& entries) {
  Ints copy(table.sizes[0] * table.sizes[1]);
  for (std::int64_t b = 0; b < table.sizes[0]; ++b) {
    read_elements(device, table.data + b * table.strides[0], table.sizes[1],
                  copy.data() + b * table.sizes[1]);
  }
  for (const auto& [at, entry] : entries) copy[at] = entry;
  return copy;
}

HIP_ATTN_TYPED_TEST_CASE("landmarks whose keys or place have no page are refused or left alone") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::int32_t bad_page = GENERATE(-1, 1 << 20, std::numeric_limits<std::int32_t>::min());
  const bool of_keys = GENERATE(true, false);
  Update<TestType> update(device, problem_of<TestType>({520, 500}), {.page_size = 64},
                          {.chunk_sizes = {64, 128}, .landmarks_per_page = 1});
  PagedKv<TestType> kv = update.kv.view();
  Landmarks<TestType> landmarks = update.landmarks.view();
  auto& table = of_keys ? kv.block_table : landmarks.levels[0].block_table;
  // Landmark 1 of request 0; its keys are a page as well.
  const DeviceBuffer<std::int32_t> spoilt(device, with_entries(device, *table, {{1, bad_page}}));
  table = {spoilt.data(), table->sizes};
  const DeviceBuffer<std::int32_t> from(device, Ints{0, 0});
  const DeviceBuffer<std::int32_t> to(device, Ints{520, 500});
  UpdateLandmarksArgs<TestType> args;
  args.kv = kv;
  args.landmarks = landmarks;
  args.from = {from.data(), {2}};
  args.to = {to.data(), {2}};
  const auto before = update.landmarks.read();
  const Status status = update_landmarks<TestType>(device, args);
  if (device == kCpu) {
    check_refused(status, StatusCode::kInvalidPage,
                  {of_keys ? "kv.block_table[0][1]" : "landmarks.levels[0].block_table[0][1]",
                   std::to_string(bad_page)});
    CHECK(update.landmarks.difference(before) == "");
    return;
  }
  require_ok(status);
  // All but landmark 1 and that of chunk 128 above it.
  auto wanted = update.landmarks.expected(update.problem, before, {0, 0}, {64, 500});
  wanted = update.landmarks.expected(update.problem, wanted, {128, 500}, {520, 500});
  CHECK(update.landmarks.difference(wanted) == "");
  CHECK(update.guards_intact());
}

HIP_ATTN_TYPED_TEST_CASE("landmarks beyond short tables are refused or left alone") {
  const Device device = GENERATE(from_range(data_devices()));
  const int shortened = GENERATE(-1, 0, 1);  // the level; -1: the keys
  Update<TestType> update(device, problem_of<TestType>({512}), {.page_size = 64},
                          {.chunk_sizes = {64, 128}, .landmarks_per_page = 1});
  PagedKv<TestType> kv = update.kv.view();
  Landmarks<TestType> landmarks = update.landmarks.view();
  auto& table = shortened < 0 ? kv.block_table : landmarks.levels[shortened].block_table;
  table->sizes[1] = 2;
  const DeviceBuffer<std::int32_t> from(device, Ints{0});
  const DeviceBuffer<std::int32_t> to(device, Ints{512});
  UpdateLandmarksArgs<TestType> args;
  args.kv = kv;
  args.landmarks = landmarks;
  args.from = {from.data(), {1}};
  args.to = {to.data(), {1}};
  const auto before = update.landmarks.read();
  const Status status = update_landmarks<TestType>(device, args);
  if (device == kCpu) {
    check_refused(status, StatusCode::kSeqLenBeyondBlockTable, {"to[0] is 512"});
    CHECK(update.landmarks.difference(before) == "");
    return;
  }
  require_ok(status);
  // Two landmarks of 64 and one of 128, or all of 64 and two of 128.
  auto wanted = update.landmarks.expected(update.problem, before, {0}, {128});
  if (shortened == 1) {
    wanted[0] = update.landmarks.expected(update.problem, before)[0];
    wanted[1] = update.landmarks.expected(update.problem, before, {0}, {256})[1];
  }
  CHECK(update.landmarks.difference(wanted) == "");
}

}  // namespace
}  // namespace hip_attn
