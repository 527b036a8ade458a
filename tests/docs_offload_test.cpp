// The code of docs/guide/offload.md: see docs_interface_test.cpp. It runs on the CPU, where a store
// has one place; with the device and its allocator exchanged it is that of a GPU.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/docs_layer.hpp"

namespace {

using namespace hip_attn;
using test::bits_of;
using test::DocsLayer;

TEST_CASE_METHOD(DocsLayer, "docs: a cache in host memory") {
  if (!test::documents_can_run()) HIP_ATTN_SKIP("this build lacks bfloat16");
  const Device device = kCpu;
  const std::int64_t max_seq_len = capacity;
  const std::int64_t num_home_blocks = batch * capacity / kKvBlockTokens;
  auto allocate = [storage = std::vector<std::byte>()](std::size_t bytes) mutable {
    storage.resize(bytes);
    return storage.data();
  };
  take_rows({1, 1});
  AttentionPlan plan;
  const AttentionShape shape{.batch = batch,
                             .total_q = total_q,
                             .max_seq_len = max_seq_len,
                             .num_q_heads = num_q_heads,
                             .num_kv_heads = num_kv_heads,
                             .head_dim = head_dim};
  REQUIRE(plan_decode<bfloat16>(config, shape, plan).ok());
  std::vector<std::byte> workspace(plan.workspace_bytes);

  KvStorePlan store_plan;
  HostMemory home;
  KvStore store;
  const auto set_up = [&]() -> Status {
    // [store]
    const KvStoreShape store_shape{.device = device,
                                   .type = ElementType::kBFloat16,
                                   .max_requests = batch,
                                   .max_seq_len = max_seq_len,
                                   .num_kv_heads = num_kv_heads,
                                   .head_dim = head_dim};
    const std::size_t budget = std::size_t{256} << 20;  // of device memory, for one layer
    Status status = plan_kv_store(config, store_shape, budget, store_plan);
    if (!status.ok()) return status;

    // The cache of the layer, in host memory that the device reads and writes in place.
    const std::int64_t elements = num_home_blocks * num_kv_heads * 2 * kKvBlockTokens * head_dim;
    status = HostMemory::allocate(device, elements * sizeof(bfloat16), home);
    if (!status.ok()) return status;

    store = {&store_plan, allocate(store_plan.memory_bytes)};
    return clear_kv_store(store);
    // [store]
  };
  REQUIRE(set_up().ok());

  // Blocks in no order.
  std::vector<std::int32_t> table;
  for (std::int64_t i = 0; i < num_home_blocks; ++i) {
    table.push_back(static_cast<std::int32_t>(i * 7 % num_home_blocks));
  }
  const TensorView<const std::int32_t, 2> block_table(table.data(),
                                                      {batch, capacity / kKvBlockTokens});
  const std::vector<std::int32_t> no_keys(2, 0);
  const auto begin = [&]() -> Status {
    // [bind]
    // Requests begin: with no keys yet, or with those of a prefix that others have, too.
    return bind_kv_store({store, num_home_blocks, block_table, {no_keys.data(), {batch}}});
    // [bind]
  };
  REQUIRE(begin().ok());

  std::vector<std::byte> selections(batch * plan.selection_cache_slot_bytes);
  const std::vector<std::int32_t> refresh_from(2, 0);
  const SelectionCache cache{
      selections.data(), batch, {refresh_from.data(), {batch}}, std::nullopt};
  std::vector<bfloat16> new_k;
  std::vector<bfloat16> new_v;
  std::vector<std::int64_t> slots;
  std::vector<std::int32_t> new_cu_seqlens{0};
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t t = 0; t < seq_lens[b]; ++t) {
      const std::int64_t from = (b * capacity + t) * kv_row;
      new_k.insert(new_k.end(), k.begin() + from, k.begin() + from + kv_row);
      new_v.insert(new_v.end(), v.begin() + from, v.begin() + from + kv_row);
      slots.push_back(block_table(b, t / kKvBlockTokens) * kKvBlockTokens + t % kKvBlockTokens);
    }
    new_cu_seqlens.push_back(static_cast<std::int32_t>(slots.size()));
  }
  const auto num_tokens = static_cast<std::int64_t>(slots.size());
  const TensorView<const std::int32_t, 1> lengths(seq_lens.data(), {batch});

  const auto step = [&]() -> Status {
    // [step]
    const KvPages<bfloat16> pages = kv_home_pages(reinterpret_cast<bfloat16*>(home.data()),
                                                  num_home_blocks, num_kv_heads, head_dim);
    AppendKvArgs<bfloat16> append;
    append.k = {new_k.data(), {num_tokens, num_kv_heads, head_dim}};
    append.v = {new_v.data(), {num_tokens, num_kv_heads, head_dim}};
    append.slot_mapping = {slots.data(), {num_tokens}};  // home block * kKvBlockTokens + offset
    append.pages = pages;
    append.store = {store, block_table, lengths, {new_cu_seqlens.data(), {batch + 1}}, cache};
    Status status = append_kv<bfloat16>(device, append);
    if (!status.ok()) return status;

    AttentionArgs<bfloat16> args;
    args.q = {q.data(), {total_q, num_q_heads, head_dim}};
    args.kv = {pages, block_table};
    args.store = store;
    args.seq_lens = lengths;
    args.cu_seqlens_q = {cu_seqlens_q.data(), {batch + 1}};
    args.out = {out.data(), {total_q, num_q_heads, head_dim}};
    args.cache = cache;
    return run_decode(plan, args, workspace);
    // [step]
  };
  const Status status = step();
  INFO(status.message());
  REQUIRE(status.ok());
  CHECK(bits_of(out) == expected(Operator::kDecode, config));
}

}  // namespace
