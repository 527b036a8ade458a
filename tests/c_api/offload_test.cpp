// Host memory and stores through the C interface: the bits and refusals of C++.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/c/hip_attn.h"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/same_bits.hpp"
#include "support/spoilt_call.hpp"
#include "support/store_engine.hpp"

namespace hip_attn {
namespace {

using namespace test;

HipConfig by_landmarks() {
  return {.sink = 64,
          .window = 128,
          .stages = {{64, 512, 1, ScanRule::kLandmark, Reduction::kSoftmaxSum},
                     {8, 128, 1, ScanRule::kEveryKey, Reduction::kSoftmaxSum}},
          .refresh_interval = {4, 2}};
}

// Steps of two engines with stores, whose calls go through C++ and through C.
template <Element T>
void check_same_steps(StoreEngineOptions options) {
  StoreEngine<T> cpp(options);
  options.through_c = true;
  StoreEngine<T> c(options);
  CHECK(c.store_plan().memory_bytes == cpp.store_plan().memory_bytes);
  CHECK(c.store_plan().slots == cpp.store_plan().slots);
  for (auto* engine : {&cpp, &c}) {
    engine->bind();
    engine->append({1300, 700});
  }
  int wrong = 0;
  for (std::int64_t step = 0; step < 20; ++step) {
    for (auto* engine : {&cpp, &c}) engine->append({1, 1});
    const std::int32_t from = options.is_prefill ? 0 : refresh_from_at(options.config, step);
    const auto expected = cpp.attend({1, 1}, {from, from}, static_cast<std::uint64_t>(step));
    const auto actual = c.attend({1, 1}, {from, from}, static_cast<std::uint64_t>(step));
    wrong += !(same_bits(expected.out, actual.out) && same_bits(expected.lse, actual.lse));
  }
  CHECK(wrong == 0);
  const KvStoreCounters expected = cpp.counters();
  const KvStoreCounters actual = c.counters();
  CHECK(actual.hits == expected.hits);
  CHECK(actual.misses == expected.misses);
  CHECK(actual.evictions == expected.evictions);
}

StoreEngineOptions two_requests(Device device) {
  StoreEngineOptions options{device, by_landmarks()};
  options.max_len = 2048;
  options.head_dim = least_head_dim();
  options.is_prefill = GENERATE(false, true);
  options.admits_apart = !options.is_prefill && GENERATE(false, true);
  options.budget = std::size_t{64} << 20;
  return options;
}

TEST_CASE("C: a store on the CPU is that of C++") {
  check_same_steps<AnyElement>(two_requests(kCpu));
}

TEST_CASE("C: CUDA steps with a store are those of C++", "[cuda][offload]") {
  if (const Status status = check_device(cuda_device()); !status.ok()) {
    HIP_ATTN_SKIP(status.message());
  }
  if (!is_built<bfloat16>()) HIP_ATTN_SKIP("this build lacks the element type");
  check_same_steps<bfloat16>(two_requests(cuda_device()));
}

TEST_CASE("C: host memory is zeroed, written, and given back in pieces") {
  HipAttnHostMemory* memory = nullptr;
  const auto allocate = [&](DLDevice device, std::size_t bytes) {
    return status_of_c([&](char* message, std::size_t capacity) {
      return hip_attn_host_memory_allocate(device, bytes, &memory, message, capacity);
    });
  };
  const DLDevice cpu{kDLCPU, 0};
  check_refused(allocate(cpu, std::size_t{1} << 62), StatusCode::kOutOfMemory,
                {"the system has no"});
  check_refused(allocate({kDLMetal, 0}, 1), StatusCode::kUnsupported, {"device is DLDeviceType 8"});
  REQUIRE(memory == nullptr);

  REQUIRE(allocate(cpu, HostMemory::kPieceBytes + 100).ok());
  auto* const data = static_cast<unsigned char*>(hip_attn_host_memory_data(memory));
  CHECK(hip_attn_host_memory_size(memory) == HostMemory::kPieceBytes + 100);
  CHECK(data[HostMemory::kPieceBytes + 99] == 0);
  data[0] = 7;
  CHECK(hip_attn_host_memory_release(memory, 1) == HostMemory::kPieceBytes);
  CHECK(data[0] == 7);
  CHECK(hip_attn_host_memory_release(memory, 1) == 0);
  CHECK(hip_attn_host_memory_data(memory) == nullptr);
  hip_attn_host_memory_destroy(memory);
}

TEST_CASE("C: a plan of a store says what C++ says of bad shapes and configs") {
  const KvStoreShape good{kCpu, kElementType<AnyElement>, 4, 1000, 2, least_head_dim()};
  const auto check_both = [&](const HipConfig& config, const KvStoreShape& shape, StatusCode code) {
    KvStorePlan plan;
    const Status cpp = plan_kv_store(config, shape, 1000, plan);
    CHECK(cpp.code() == code);
    check_same_status(cpp, plan_kv_store_through_c(config, shape, 1000, plan));
  };
  check_both(by_landmarks(), good, StatusCode::kOk);
  KvStoreShape bad = good;
  bad.max_requests = 0;
  check_both(by_landmarks(), bad, StatusCode::kInvalidShape);
  bad = good;
  bad.head_dim = 7;
  check_both(by_landmarks(), bad, StatusCode::kUnsupported);
  HipConfig config = by_landmarks();
  config.window = 0;
  check_both(config, good, StatusCode::kInvalidConfig);

  const HipAttnConfig valid{by_landmarks(), {}};
  HipAttnKvStoreShape shape{sizeof(shape), {kDLCPU, 0}, {kDLInt, 8, 1}, 1, 8, 1, 64};
  HipAttnKvStorePlan* plan = nullptr;
  check_refused(status_of_c([&](char* message, std::size_t capacity) {
                  return hip_attn_plan_kv_store(&valid, &shape, 0, &plan, message, capacity);
                }),
                StatusCode::kInvalidArgument, {"shape.dtype is int8"});
}

TEST_CASE("C: a plan of a store tells its bytes and slots") {
  HipAttnKvStorePlan plan;
  plan.plan.memory_bytes = 77;
  plan.plan.least_budget = 66;
  plan.plan.slots = 5;
  HipAttnKvStorePlanInfo info{};
  info.struct_size = sizeof(info);
  REQUIRE(hip_attn_kv_store_plan_info(&plan, &info, nullptr, 0) == HIP_ATTN_OK);
  CHECK((info.memory_bytes == 77 && info.least_budget == 66 && info.slots == 5));
  CHECK(hip_attn_kv_store_plan_info(&plan, nullptr, nullptr, 0) == HIP_ATTN_NULL_POINTER);
}

// Good arguments of every call with a store, to spoil: two requests, one of which appends a row.
struct StoreCalls {
  StoreCalls() {
    const KvStoreShape shape{kCpu, kElementType<AnyElement>, 2, 64, 2, dim};
    REQUIRE(plan_kv_store(by_landmarks(), shape, 0, plan.plan).ok());
    cache_bytes.resize(2 * c_api::slot_bytes_of(plan.plan));
    cache_size = static_cast<std::int64_t>(cache_bytes.size());
    k = tensor(home.data(), dtype, 4, page_sizes.data());
    v = tensor(home.data() + 8 * dim, dtype, 4, page_sizes.data());
    k.strides = v.strides = page_strides.data();
  }
  static DLTensor tensor(const void* data, DLDataType dtype, int rank, std::int64_t* sizes) {
    return {const_cast<void*>(data), {kDLCPU, 0}, rank, dtype, sizes, nullptr, 0};
  }
  template <typename Run>
  static Status status_of(const Run& run) {
    return status_of_c([&](char* message, std::size_t capacity) { return run(message, capacity); });
  }
  [[nodiscard]] Status clear() const {
    return status_of([&](auto... m) { return hip_attn_clear_kv_store(&store, nullptr, m...); });
  }
  [[nodiscard]] Status count(HipAttnKvStoreCounters* counters) const {
    return status_of([&](auto... m) {
      return hip_attn_read_kv_store_counters(&store, counters, nullptr, m...);
    });
  }
  [[nodiscard]] Status run_bind() const {
    return status_of([&](auto... m) { return hip_attn_bind_kv_store(&bind, nullptr, m...); });
  }
  [[nodiscard]] Status run_append() const {
    return status_of([&](auto... m) {
      return hip_attn_append_kv({kDLCPU, 0}, &append, nullptr, m...);
    });
  }
  [[nodiscard]] Status run_admit() const {
    return status_of([&](auto... m) { return hip_attn_admit_kv_store(&admit, nullptr, m...); });
  }

  const DLDataType dtype = c_api::dtype_of<AnyElement>();
  const DLDataType int32{kDLInt, 32, 1};
  const DLDataType uint8{kDLUInt, 8, 1};
  const std::int64_t dim = least_head_dim();
  HipAttnKvStorePlan plan;
  std::vector<AnyElement> home = std::vector<AnyElement>(static_cast<std::size_t>(16 * 32 * dim));
  std::vector<AnyElement> row = std::vector<AnyElement>(static_cast<std::size_t>(2 * dim));
  std::vector<std::byte> store_bytes = std::vector<std::byte>(64);
  std::vector<std::byte> cache_bytes;
  std::array<std::int32_t, 16> zeros{};
  std::array<std::int32_t, 3> start_values{0, 1, 1};
  std::array<std::int32_t, 2> row_values{1, 0};
  std::int64_t slot = 0;
  std::int64_t one = 1, two = 2, three = 3, store_size = 64, cache_size = 0;
  std::array<std::int64_t, 2> table_sizes{2, 8};
  std::array<std::int64_t, 3> row_sizes{1, 2, dim};
  std::array<std::int64_t, 4> page_sizes{16, 8, 2, dim};
  std::array<std::int64_t, 4> page_strides{32 * dim, dim, 16 * dim, 1};
  DLTensor memory = tensor(store_bytes.data(), uint8, 1, &store_size);
  DLTensor rows = tensor(row_values.data(), int32, 1, &two);
  DLTensor table = tensor(zeros.data(), int32, 2, table_sizes.data());
  DLTensor lengths = tensor(zeros.data(), int32, 1, &two);
  DLTensor starts = tensor(start_values.data(), int32, 1, &three);
  DLTensor new_rows = tensor(row.data(), dtype, 3, row_sizes.data());
  DLTensor slot_mapping = tensor(&slot, {kDLInt, 64, 1}, 1, &one);
  DLTensor cache_data = tensor(nullptr, uint8, 1, &cache_size);
  DLTensor k{}, v{};
  HipAttnKvStore store{sizeof(store), &plan, &memory, &rows};
  HipAttnSelectionCache cache{sizeof(cache), &cache_data, 2, nullptr, nullptr};
  HipAttnKvPages pages{sizeof(pages), &k, &v};
  HipAttnBindKvStoreArgs bind{sizeof(bind), &store, 16, &table, &lengths};
  HipAttnAppendStore upkeep{sizeof(upkeep), &store, &table, &lengths, &starts, &cache};
  HipAttnAppendKvArgs append{sizeof(append), &new_rows, &new_rows, &slot_mapping,
                             &pages,         nullptr,   &upkeep};
  HipAttnAdmitKvStoreArgs admit{sizeof(admit), &store, &pages, &table, &lengths, &cache};
};

TEST_CASE("C: what is wrong with a store's arguments is refused by name") {
  struct Case {
    StatusCode code;
    std::string message;
    Status (StoreCalls::*run)() const;
    std::function<void(StoreCalls&)> spoil;
  };
  const auto null = StatusCode::kNullPointer;
  const auto shape = StatusCode::kInvalidShape;
  const auto bad = StatusCode::kInvalidArgument;
  const auto clear = &StoreCalls::clear;
  const auto bind = &StoreCalls::run_bind;
  const auto append = &StoreCalls::run_append;
  const auto admit = &StoreCalls::run_admit;
  using C = StoreCalls&;
  const std::vector<Case> cases{
      {null, "store.plan is null; it must point at a plan of hip_attn_plan_kv_store", clear,
       [](C c) { c.store.plan = nullptr; }},
      {shape, "store.memory.sizes[0] is 64; it must be at least memory_bytes of the plan (65)",
       clear, [](C c) { c.plan.plan.memory_bytes = 65; }},
      {bad, "store.memory.dtype is int8; it must be uint8", clear,
       [](C c) { c.memory.dtype.code = kDLInt; }},
      {StatusCode::kInvalidStride, "store.memory.strides[0] is 3; it must be 1", clear,
       [](C c) { c.memory.strides = &c.three; }},
      {bad, "store.rows.device is CUDA 0", clear, [](C c) { c.rows.device.device_type = kDLCUDA; }},
      {bad, "store.struct_size is 3", clear, [](C c) { c.store.struct_size = 3; }},
      {null, "store is null", bind, [](C c) { c.bind.store = nullptr; }},
      {null, "block_table is null", bind, [](C c) { c.bind.block_table = nullptr; }},
      {null, "seq_lens is null", bind, [](C c) { c.bind.seq_lens = nullptr; }},
      {shape, "num_home_blocks is -1", bind, [](C c) { c.bind.num_home_blocks = -1; }},
      {shape, "store.rows.sizes[0] is 3", bind, [](C c) { c.rows.shape = &c.three; }},
      {StatusCode::kExceedsPlan, "the call has 2 requests", bind,
       [](C c) {
         c.store.rows = nullptr;
         c.plan.plan.shape.max_requests = 1;
       }},
      {null, "store.store is null", append, [](C c) { c.upkeep.store = nullptr; }},
      {null, "store.block_table is null", append, [](C c) { c.upkeep.block_table = nullptr; }},
      {null, "store.seq_lens is null", append, [](C c) { c.upkeep.seq_lens = nullptr; }},
      {null, "store.cu_seqlens is null", append, [](C c) { c.upkeep.cu_seqlens = nullptr; }},
      {shape, "store.cache.data.sizes[0] is ", append, [](C c) { --c.cache_size; }},
      {null, "store.cache.data is null", append, [](C c) { c.cache.data = nullptr; }},
      {bad, "store.cache.slots.ndim is 2", append, [](C c) { c.cache.slots = &c.table; }},
      {StatusCode::kInvalidStride, "pages are not laid out as kv_home_pages", append,
       [](C c) { c.k.strides = c.v.strides = nullptr; }},
      {null, "cache is null", admit, [](C c) { c.admit.cache = nullptr; }},
      {shape, "cache.data.sizes[0] is ", admit, [](C c) { c.cache.num_slots = 3; }},
      {null, "pages is null", admit, [](C c) { c.admit.pages = nullptr; }},
      {null, "block_table is null", admit, [](C c) { c.admit.block_table = nullptr; }},
      {null, "seq_lens is null", admit, [](C c) { c.admit.seq_lens = nullptr; }},
      {bad, "pages.k.dtype is ", admit, [](C c) { c.k.dtype.bits = 64; }}};
  for (const Case& each : cases) {
    CAPTURE(each.message);
    StoreCalls calls;
    calls.cache_data.data = calls.cache_bytes.data();
    REQUIRE((calls.*each.run)().ok());
    each.spoil(calls);
    check_refused((calls.*each.run)(), each.code, {each.message});
  }
}

TEST_CASE("C: counters of a store are written as far as the caller's struct goes") {
  const StoreCalls calls;
  HipAttnKvStoreCounters counters{sizeof(counters), -1, -1, -1};
  REQUIRE(calls.count(&counters).ok());
  CHECK((counters.hits == 0 && counters.misses == 0 && counters.evictions == 0));
  counters = {offsetof(HipAttnKvStoreCounters, evictions), -1, -1, -1};
  REQUIRE(calls.count(&counters).ok());
  CHECK((counters.misses == 0 && counters.evictions == -1));
  check_refused(calls.count(nullptr), StatusCode::kNullPointer, {"counters is null"});
}

TEST_CASE("C: an append without a store's cache, and without memory on the CPU, is taken") {
  StoreCalls calls;
  calls.upkeep.cache = nullptr;
  calls.store.memory = nullptr;
  CHECK(calls.run_append().ok());
  // One of a header without stores.
  calls.append.struct_size = offsetof(HipAttnAppendKvArgs, store);
  std::memset(&calls.append.store, 0x5a, sizeof(calls.append.store));
  CHECK(calls.run_append().ok());
}

}  // namespace
}  // namespace hip_attn
