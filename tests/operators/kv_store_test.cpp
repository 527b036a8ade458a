// A store beside the same steps with a cache on the device: the same bits, whatever is hot.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
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

namespace {

using namespace hip_attn;
using namespace hip_attn::test;

template <Element T>
struct Pair {
  explicit Pair(const StoreEngineOptions& options, std::size_t budget)
      : resident(options), stored([&] {
          StoreEngineOptions with_store = options;
          with_store.budget = budget;
          return with_store;
        }()) {}

  template <typename Do>
  void both(Do&& act) {
    act(resident);
    act(stored);
  }
  /// One decode of both; true when they agree.
  bool step(const std::vector<std::int64_t>& rows, std::int32_t refresh_from, std::uint64_t at) {
    const std::vector<std::int32_t> refresh(rows.size(), refresh_from);
    const auto expected = resident.attend(rows, refresh, at);
    const auto actual = stored.attend(rows, refresh, at);
    return same_bits(expected.out, actual.out) && same_bits(expected.lse, actual.lse) &&
           !std::isnan(to_float(expected.out.front()));
  }

  StoreEngine<T> resident;
  StoreEngine<T> stored;
};

using T = bfloat16;

TEST_CASE("CUDA decode with a store is decode of a cache on the device, bit for bit",
          "[cuda][offload]") {
  REQUIRE_CUDA_OR_SKIP();
  const HipConfig config =
      GENERATE(by_landmarks(), by_descent(), of_one_stage(), of_window(), presets::dense());
  const bool is_tight = GENERATE(true, false);
  StoreEngineOptions options{cuda_device(), config};
  options.head_dim = GENERATE(from_range(head_dims()));
  options.admits_apart = GENERATE(false, true);
  const bool searches_ahead = config.num_stages() > 1 ? GENERATE(false, true) : false;
  const std::size_t least = least_budget(options, kElementType<T>);
  CAPTURE(describe(config), options.head_dim, is_tight, options.admits_apart, searches_ahead);
  Pair<T> pair(options, is_tight ? least : 4 * least);
  pair.both([](auto& engine) {
    engine.bind();
    engine.append({1900, 700});
    engine.append({0, 333});
  });
  const auto cache_stages = static_cast<std::int32_t>(config.num_stages());
  int wrong = 0;
  for (std::uint64_t step = 0; step < 120; ++step) {
    // Also rows of speculative decoding, and a request that pauses.
    const std::vector<std::int64_t> added = step % 7 == 3    ? std::vector<std::int64_t>{4, 1}
                                            : step % 11 == 5 ? std::vector<std::int64_t>{1, 0}
                                                             : std::vector<std::int64_t>{1, 1};
    pair.both([&](auto& engine) { engine.append(added); });
    const auto at = static_cast<std::int64_t>(step);
    const std::int32_t from = cache_stages == 0 ? 0
                              : searches_ahead  ? refresh_ahead_at(config, at)
                                                : refresh_from_at(config, at);
    wrong += !pair.step(added, from, step);
  }
  CHECK(wrong == 0);
  const KvStoreCounters counters = pair.stored.counters();
  if (config.is_dense()) return;  // everything fits
  CHECK(counters.hits + counters.evictions > 0);
  if (is_tight) CHECK(counters.evictions > 0);
}

TEST_CASE("Appends of up to sixteen rows begin one block, two or three", "[cuda][offload]") {
  REQUIRE_CUDA_OR_SKIP();
  const HipConfig config = by_landmarks();
  StoreEngineOptions options{cuda_device(), config};
  options.head_dim = GENERATE(from_range(head_dims()));
  options.admits_apart = GENERATE(false, true);
  CAPTURE(options.head_dim, options.admits_apart);
  Pair<T> pair(options, least_budget(options, kElementType<T>));
  pair.both([](auto& engine) {
    engine.bind();
    engine.append({1500, 901});
  });
  int wrong = 0;
  for (std::int64_t step = 0; step < 96; ++step) {
    // Every number of rows from every place in a block.
    const std::int64_t rows = step * 5 % 16 + 1;
    pair.both([&](auto& engine) { engine.append({rows, 17 - rows}); });
    wrong += !pair.step({std::min<std::int64_t>(rows, 8), std::min<std::int64_t>(17 - rows, 8)},
                        refresh_from_at(config, step), static_cast<std::uint64_t>(step));
  }
  CHECK(wrong == 0);
}

TEST_CASE("Behind a search ahead nothing is read from the home", "[cuda][offload]") {
  REQUIRE_CUDA_OR_SKIP();
  const HipConfig config = by_landmarks();
  StoreEngineOptions options{cuda_device(), config};
  options.head_dim = head_dims().front();
  options.admits_apart = GENERATE(false, true);
  Pair<T> pair(options, 2 * least_budget(options, kElementType<T>));
  pair.both([](auto& engine) {
    engine.bind();
    engine.append({2500, 1900});
  });
  const std::int32_t last = config.num_stages() - 1;
  int wrong = 0;
  for (std::uint64_t step = 0; step < 40; ++step) {
    pair.both([](auto& engine) { engine.append({1, 1}); });
    // Queries that have nothing in common with those that were searched for before.
    const std::uint64_t at = step / 2 * 100 + step % 2;
    if (step == 0) {
      wrong += !pair.step({1, 1}, 0, at);
    } else if (step % 2 == 1) {
      wrong += !pair.step({1, 1}, search_ahead_from(0), at);
    } else {
      const std::vector<std::byte> home = pair.stored.poison_home();
      wrong += !pair.step({1, 1}, last, at);
      pair.stored.restore_home(home);
    }
  }
  CHECK(wrong == 0);
  CHECK(pair.stored.counters().evictions > 100);
}

TEST_CASE("A thousand steps that each make room are those of a cache on the device",
          "[cuda][offload]") {
  REQUIRE_CUDA_OR_SKIP();
  HipConfig config = by_landmarks();
  config.refresh_interval = {1, 1};
  StoreEngineOptions options{cuda_device(), config};
  options.head_dim = head_dims().front();
  Pair<T> pair(options, least_budget(options, kElementType<T>));
  pair.both([](auto& engine) {
    engine.bind();
    engine.append({2500, 2900});
  });
  int wrong = 0;
  for (std::uint64_t step = 0; step < 1000; ++step) {
    pair.both([](auto& engine) { engine.append({1, 1}); });
    wrong += !pair.step({1, 1}, 0, 10 * step);  // queries that have nothing in common
  }
  CHECK(wrong == 0);
  CHECK(pair.stored.counters().evictions > 1000);
}

TEST_CASE("What fits the budget is copied once and stays", "[cuda][offload]") {
  REQUIRE_CUDA_OR_SKIP();
  StoreEngineOptions options{cuda_device(), by_landmarks()};
  options.head_dim = head_dims().front();
  options.budget = std::size_t{1} << 30;
  StoreEngine<T> engine(options);
  engine.bind();
  engine.append({1000, 2000});
  for (std::uint64_t step = 0; step < 50; ++step) {
    engine.append({1, 1});
    static_cast<void>(engine.attend({1, 1}, {0, 0}, step));
  }
  const KvStoreCounters counters = engine.counters();
  CHECK(counters.misses == 0);  // they were appended, so they are there
  CHECK(counters.evictions == 0);
  CHECK(counters.hits > 0);
}

TEST_CASE("Requests that share a prefix, end, begin in old rows and roll back, with a store",
          "[cuda][offload]") {
  REQUIRE_CUDA_OR_SKIP();
  const HipConfig config = GENERATE(by_landmarks(), by_descent());
  StoreEngineOptions options{cuda_device(), config};
  options.batch = 3;
  options.head_dim = head_dims().front();
  Pair<T> pair(options, least_budget(options, kElementType<T>));
  constexpr std::int64_t kPrefix = 1024;
  std::uint64_t at = 0;
  const auto run = [&](int steps) {
    int wrong = 0;
    for (int i = 0; i < steps; ++i, ++at) {
      pair.both([](auto& engine) { engine.append({1, 1, 1}); });
      wrong += !pair.step({1, 1, 1}, refresh_from_at(config, i), at);
    }
    return wrong;
  };
  pair.both([](auto& engine) {
    engine.bind();
    engine.append({1500, 900, 800});
  });
  CHECK(run(20) == 0);
  // Request 1 ends; another of the same seed begins in its row behind the prefix of request 0.
  pair.both([](auto& engine) {
    engine.member(1).seed = engine.member(0).seed;
    engine.member(1).len = kPrefix;
    for (std::int64_t c = 0; c < kPrefix / kKvBlockTokens; ++c) {
      // Its own go to request 2 at once, for keys to come.
      engine.block(2, 110 + c) = engine.block(1, c);
      engine.block(1, c) = engine.block(0, c);
    }
    engine.share_landmarks(0, 1);
    engine.bind();
    engine.append({0, 300, 400});
  });
  CHECK(run(20) == 0);
  // Request 0 ends while its prefix lives on.
  pair.both([](auto& engine) {
    engine.member(0).seed = 77;
    engine.member(0).len = 0;
    engine.take_fresh_blocks(0);
    engine.bind();
    engine.append({1200, 0, 0});
  });
  CHECK(run(20) == 0);
  // Rolled back over the ends of blocks, and written again otherwise.
  pair.both([](auto& engine) {
    engine.member(1).len -= 21;
    engine.append({0, 30, 0});
  });
  CHECK(run(20) == 0);
}

TEST_CASE("A store on the CPU changes nothing") {
  StoreEngineOptions options{kCpu, GENERATE(by_landmarks(), by_descent())};
  options.head_dim = head_dims().front();
  options.max_len = 2048;
  using Any = AnyElement;
  StoreEngine<Any> plain(options);
  options.budget = 0;  // nothing is needed
  StoreEngine<Any> stored(options);
  for (auto* engine : {&plain, &stored}) {
    engine->bind();
    engine->append({900, 700});
  }
  for (std::uint64_t step = 0; step < 5; ++step) {
    for (auto* engine : {&plain, &stored}) engine->append({1, 1});
    const std::vector<std::int32_t> refresh{step == 0 ? 0 : 9, 0};
    const auto expected = plain.attend({1, 1}, refresh, step);
    const auto actual = stored.attend({1, 1}, refresh, step);
    CHECK(same_bits(expected.out, actual.out));
    CHECK(same_bits(expected.lse, actual.lse));
  }
  CHECK(stored.counters().hits == 0);
}

// ---- Bad input ----------------------------------------------------------------------------------

KvStoreShape cpu_shape() {
  return {kCpu, kElementType<AnyElement>, 4, 1000, 2, head_dims().front()};
}

TEST_CASE("plan_kv_store says what is wrong") {
  KvStorePlan plan;
  const auto refused = [&](KvStoreShape shape, const HipConfig& config, StatusCode code,
                           const std::string& text) {
    const Status status = plan_kv_store(config, shape, 1000, plan);
    INFO(status.message());
    CHECK(status.code() == code);
    CHECK(status.message().find(text) != std::string::npos);
  };
  KvStoreShape shape = cpu_shape();
  shape.max_requests = 0;
  refused(shape, by_landmarks(), StatusCode::kInvalidShape, "shape.max_requests is 0");
  shape = cpu_shape();
  shape.head_dim = 7;
  refused(shape, by_landmarks(), StatusCode::kUnsupported, "head_dim is 7");
  shape = cpu_shape();
  shape.max_seq_len = -1;
  refused(shape, by_landmarks(), StatusCode::kInvalidShape, "max_seq_len is -1");
  HipConfig config = by_landmarks();
  config.window = 0;
  refused(cpu_shape(), config, StatusCode::kInvalidConfig, "window is 0");
}

TEST_CASE("A budget below what a step reads is refused with the least that is not",
          "[cuda][offload]") {
  REQUIRE_CUDA_OR_SKIP();
  const KvStoreShape shape{cuda_device(), kElementType<T>, 2, 8192, 2, head_dims().front()};
  KvStorePlan plan;
  REQUIRE(plan_kv_store(by_landmarks(), shape, std::size_t{1} << 30, plan).ok());
  const std::size_t least = plan.least_budget;
  const Status status = plan_kv_store(by_landmarks(), shape, least - 1, plan);
  CHECK(status.code() == StatusCode::kBudgetTooSmall);
  CHECK(status.message().find(std::to_string(least)) != std::string::npos);
  REQUIRE(plan_kv_store(by_landmarks(), shape, least, plan).ok());
  CHECK(plan.memory_bytes <= least);
}

TEST_CASE("Calls say what is wrong with a store") {
  KvStorePlan plan;
  REQUIRE(plan_kv_store(by_landmarks(), cpu_shape(), 0, plan).ok());
  const std::vector<std::int32_t> lengths(5, 0);
  const std::vector<std::int32_t> table(5, 0);
  BindKvStoreArgs args{{&plan, nullptr, {}}, 9, {table.data(), {4, 1}}, {lengths.data(), {4}}};
  REQUIRE(bind_kv_store(args).ok());
  const auto refused = [&](const BindKvStoreArgs& bad, StatusCode code, const std::string& text) {
    const Status status = bind_kv_store(bad);
    INFO(status.message());
    CHECK(status.code() == code);
    CHECK(status.message().find(text) != std::string::npos);
  };
  BindKvStoreArgs bad = args;
  bad.store.plan = nullptr;
  refused(bad, StatusCode::kNullPointer, "store.plan is null");
  const KvStorePlan empty;
  bad.store.plan = &empty;
  refused(bad, StatusCode::kInvalidShape, "store.plan is empty");
  bad = args;
  bad.seq_lens = {lengths.data(), {5}};
  bad.block_table = {table.data(), {5, 1}};
  refused(bad, StatusCode::kExceedsPlan, "the call has 5 requests");
  bad = args;
  bad.block_table = {table.data(), {3, 1}};
  refused(bad, StatusCode::kInvalidShape, "block_table.sizes[0] is 3");
  bad = args;
  bad.num_home_blocks = -1;
  refused(bad, StatusCode::kInvalidShape, "num_home_blocks is -1");
  bad = args;
  bad.store.rows = TensorView<const std::int32_t, 1>(lengths.data(), {3});
  refused(bad, StatusCode::kInvalidShape, "store.rows.sizes[0] is 3");
}

TEST_CASE("append_kv and decode refuse a store that does not fit their pages") {
  using Any = AnyElement;
  const std::int64_t dim = head_dims().front();
  KvStoreShape shape = cpu_shape();
  KvStorePlan plan;
  REQUIRE(plan_kv_store(by_descent(), shape, 0, plan).ok());
  std::vector<Any> pages(static_cast<std::size_t>(4 * 2 * 2 * kKvBlockTokens * dim));
  const std::vector<Any> rows(static_cast<std::size_t>(2 * dim));
  const std::vector<std::int64_t> slots{0};
  const std::vector<std::int32_t> table(4, 0);
  const std::vector<std::int32_t> numbers{0, 1};
  const auto append = [&](KvPages<Any> to, const KvStorePlan& with, std::int64_t heads = 2) {
    AppendKvArgs<Any> args;
    args.k = {rows.data(), {1, heads, dim}};
    args.v = args.k;
    args.slot_mapping = {slots.data(), {1}};
    args.pages = to;
    args.store = {
        {&with, nullptr}, {table.data(), {1, 4}}, {numbers.data() + 1, {1}}, {numbers.data(), {2}}};
    return append_kv<Any>(kCpu, args);
  };
  const KvPages<Any> home = kv_home_pages(pages.data(), 4, 2, dim);
  REQUIRE(append(home, plan).ok());
  const auto refused = [](const Status& status, StatusCode code, const std::string& text) {
    INFO(status.message());
    CHECK(status.code() == code);
    CHECK(status.message().find(text) != std::string::npos);
  };
  Any* const data = pages.data();
  refused(
      append(kv_pages_nhd(data, data + 2 * kKvBlockTokens * dim, 1, kKvBlockTokens, 2, dim), plan),
      StatusCode::kInvalidStride, "pages are not laid out as kv_home_pages");
  refused(append(kv_home_pages(data, 4, 1, dim), plan, 1), StatusCode::kInvalidShape,
          "pages.k.sizes[2] is 1; it must be 2");
  KvStorePlan other = plan;
  other.shape.type =
      kElementType<Any> == ElementType::kFloat32 ? ElementType::kFloat16 : ElementType::kFloat32;
  refused(append(home, other), StatusCode::kInvalidShape, "store.plan was made for elements of");
  other = plan;
  other.shape.device = cuda_device();
  refused(append(home, other), StatusCode::kInvalidShape, "made for another device");

  AttentionPlan decode;
  REQUIRE(plan_decode<Any>(by_descent(), {kCpu, 1, 1, 100, 2, 2, dim}, decode).ok());
  std::vector<std::byte> workspace(decode.workspace_bytes);
  std::vector<Any> out(rows.size());
  AttentionArgs<Any> args;
  args.q = {rows.data(), {1, 2, dim}};
  args.out = {out.data(), {1, 2, dim}};
  args.kv = {home, TensorView<const std::int32_t, 2>(table.data(), {1, 4})};
  args.seq_lens = {numbers.data() + 1, {1}};
  args.cu_seqlens_q = {numbers.data(), {2}};
  args.store = KvStore{&plan, nullptr};
  CHECK(run_decode(decode, args, workspace).ok());
  args.kv.pages = kv_pages_hnd(data, data + 2 * kKvBlockTokens * dim, 1, kKvBlockTokens, 2, dim);
  refused(run_decode(decode, args, workspace), StatusCode::kInvalidStride,
          "kv.pages are not laid out as kv_home_pages");
}

TEST_CASE("Host memory that does not exist is refused, and what exists is given back in pieces") {
  HostMemory memory;
  const Status status = HostMemory::allocate(kCpu, std::size_t{1} << 62, memory);
  CHECK(status.code() == StatusCode::kOutOfMemory);
  CHECK(memory.data() == nullptr);
  REQUIRE(HostMemory::allocate(kCpu, 2 * HostMemory::kPieceBytes + 100, memory).ok());
  CHECK(memory.data()[memory.size() - 1] == std::byte{0});
  CHECK(memory.release(1) == 2 * HostMemory::kPieceBytes);
  CHECK(memory.data()[memory.size() - 1] == std::byte{0});
  HostMemory other = std::move(memory);
  CHECK(memory.data() == nullptr);  // NOLINT(bugprone-use-after-move)
  CHECK(other.release(2 * HostMemory::kPieceBytes) == 0);
  CHECK(other.data() == nullptr);
}

}  // namespace
