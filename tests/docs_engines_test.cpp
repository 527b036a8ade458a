// The code of docs/guide/engines.md: a cache laid out as other engines do it gives the bits of a
// contiguous one.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/docs_layer.hpp"

namespace {

using namespace hip_attn;
using test::bits_of;

#define HIP_ATTN_SKIP_WITHOUT_BFLOAT16() \
  if (!test::documents_can_run()) HIP_ATTN_SKIP("this build lacks bfloat16")

class EngineLayout : public test::DocsPagedLayer {
 protected:
  EngineLayout() { take_rows({300, 17}); }

  /// Runs over the cache that the test laid out.
  void check(const AttentionArgs<bfloat16>& args) {
    const AttentionPlan plan = make_plan(Operator::kPrefill, config);
    std::vector<std::byte> workspace(plan.workspace_bytes);
    require_ok(run_prefill(plan, args, workspace));
    CHECK(bits_of(out) == expected(Operator::kPrefill, config));
  }

  [[nodiscard]] TensorView<const std::int32_t, 2> table() const {
    return {block_table.data(), {batch, max_pages}};
  }
};

TEST_CASE_METHOD(EngineLayout, "docs: K and V in one tensor of pages") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  std::vector<bfloat16> kv(2 * num_pages * page_size * kv_row);
  AttentionArgs<bfloat16> args = make_args();
  args.kv.block_table = table();
  const auto fill = [&] {
    // The views are of const elements, the engine's memory is not.
    const auto writable = [&](const TensorView<const bfloat16, 4>& view) {
      return TensorView<bfloat16, 4>(kv.data() + (view.data - kv.data()), view.sizes, view.strides);
    };
    fill_pages({writable(args.kv.pages.k), writable(args.kv.pages.v)});
  };
  SECTION("halves of a page") {
    // [kv-halves]
    const std::int64_t half = page_size * num_kv_heads * head_dim;
    const std::array<std::int64_t, 4> sizes{num_pages, page_size, num_kv_heads, head_dim};
    const std::array<std::int64_t, 4> strides{2 * half, num_kv_heads * head_dim, head_dim, 1};
    args.kv.pages.k = {kv.data(), sizes, strides};
    args.kv.pages.v = {kv.data() + half, sizes, strides};
    // [kv-halves]
    fill();
    check(args);
  }
  SECTION("halves of a row") {
    // [kv-rows]
    const std::array<std::int64_t, 4> sizes{num_pages, page_size, num_kv_heads, head_dim};
    const std::array<std::int64_t, 4> strides{num_kv_heads * page_size * 2 * head_dim, 2 * head_dim,
                                              page_size * 2 * head_dim, 1};
    args.kv.pages.k = {kv.data(), sizes, strides};
    args.kv.pages.v = {kv.data() + head_dim, sizes, strides};
    // [kv-rows]
    fill();
    check(args);
  }
}

TEST_CASE_METHOD(EngineLayout, "docs: a CSR page table") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  const std::vector<std::int32_t> true_lens = seq_lens;
  const std::vector<std::int32_t> true_table = block_table;
  std::vector<std::int32_t> kv_indptr{0};
  std::vector<std::int32_t> kv_indices;
  std::vector<std::int32_t> kv_last_page_len;
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t pages = (seq_lens[b] + page_size - 1) / page_size;
    const auto first = block_table.begin() + b * max_pages;
    kv_indices.insert(kv_indices.end(), first, first + pages);
    kv_indptr.push_back(static_cast<std::int32_t>(kv_indices.size()));
    kv_last_page_len.push_back(static_cast<std::int32_t>(seq_lens[b] - (pages - 1) * page_size));
  }
  std::vector<bfloat16> k_pages(num_pages * page_size * kv_row);
  std::vector<bfloat16> v_pages(k_pages.size());
  const KvPages<bfloat16> pages =
      kv_pages_nhd(k_pages.data(), v_pages.data(), num_pages, page_size, num_kv_heads, head_dim);
  fill_pages(pages);
  std::ranges::fill(seq_lens, -1);
  std::ranges::fill(block_table, -1);
  // [csr]
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t pages_of_b = kv_indptr[b + 1] - kv_indptr[b];
    std::copy_n(kv_indices.data() + kv_indptr[b], pages_of_b, &block_table[b * max_pages]);
    seq_lens[b] =
        pages_of_b == 0
            ? 0
            : static_cast<std::int32_t>((pages_of_b - 1) * page_size + kv_last_page_len[b]);
  }
  // [csr]
  CHECK(seq_lens == true_lens);
  AttentionArgs<bfloat16> args = make_args();
  args.kv.pages = pages;
  args.kv.block_table = table();
  check(args);
}

TEST_CASE_METHOD(EngineLayout, "docs: pages of one token") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  // Slots are tokens; the pool of requests has rows that this batch does not use.
  const std::int64_t num_slots = num_pages * page_size;
  const std::int64_t max_context = capacity;
  const std::vector<std::int64_t> req_pool_indices{3, 1};
  const std::vector<std::int64_t> lens(seq_lens.begin(), seq_lens.end());
  std::vector<std::int32_t> req_to_token(5 * max_context, -1);
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t t = 0; t < lens[b]; ++t) {
      req_to_token[req_pool_indices[b] * max_context + t] = static_cast<std::int32_t>(
          block_table[b * max_pages + t / page_size] * page_size + t % page_size);
    }
  }
  std::vector<bfloat16> k_buffer(num_slots * kv_row);
  std::vector<bfloat16> v_buffer(k_buffer.size());
  fill_pages(
      kv_pages_nhd(k_buffer.data(), v_buffer.data(), num_pages, page_size, num_kv_heads, head_dim));
  std::ranges::fill(seq_lens, -1);
  AttentionArgs<bfloat16> args = make_args();
  // [token-slots]
  std::vector<std::int32_t> token_table(batch * max_context);
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int32_t* row = &req_to_token[req_pool_indices[b] * max_context];
    std::copy_n(row, lens[b], &token_table[b * max_context]);
    seq_lens[b] = static_cast<std::int32_t>(lens[b]);  // int64 there, int32 here
  }
  args.kv.pages =
      kv_pages_nhd(k_buffer.data(), v_buffer.data(), num_slots, 1, num_kv_heads, head_dim);
  args.kv.block_table = TensorView<const std::int32_t, 2>(token_table.data(), {batch, max_context});
  // [token-slots]
  check(args);
}

TEST_CASE_METHOD(EngineLayout, "docs: one pool of K and V blocks, offsets of both") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  // Block 2n of the pool holds the keys of page n, block 2n + 1 its values.
  const std::int64_t num_blocks = 2 * num_pages;
  std::vector<bfloat16> pool(num_blocks * page_size * kv_row);
  std::vector<std::int32_t> offsets(batch * 2 * max_pages);  // [B, 2, M]
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t n = 0; n < max_pages; ++n) {
      offsets[b * 2 * max_pages + n] = 2 * block_table[b * max_pages + n];
      offsets[(b * 2 + 1) * max_pages + n] = 2 * block_table[b * max_pages + n] + 1;
    }
  }
  const auto block = [&](std::int64_t n) { return pool.data() + n * page_size * kv_row; };
  fill_pages([&](const bfloat16* key, const bfloat16* value, std::int64_t page, std::int64_t offset,
                 std::int64_t head) {
    std::copy_n(key, head_dim, block(2 * page) + (head * page_size + offset) * head_dim);
    std::copy_n(value, head_dim, block(2 * page + 1) + (head * page_size + offset) * head_dim);
  });
  AttentionArgs<bfloat16> args = make_args();
  // [block-offsets]
  const std::int64_t block_elements = num_kv_heads * page_size * head_dim;
  args.kv.pages = kv_pages_hnd(pool.data(), pool.data() + block_elements, num_blocks - 1, page_size,
                               num_kv_heads, head_dim);
  args.kv.block_table =
      TensorView<const std::int32_t, 2>(offsets.data(), {batch, max_pages}, {2 * max_pages, 1});
  // [block-offsets]
  check(args);
}

TEST_CASE_METHOD(EngineLayout, "docs: a cyclic cache") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  // Token t of a request is in slot t % window of its blocks, over the token a window before it.
  const std::int64_t window = 64;
  const std::int64_t blocks = window / page_size;
  const std::vector<std::int64_t> lens{401, 640};  // the oldest token inside a block, and in front
  std::vector<bfloat16> k_pool(num_pages * page_size * kv_row);
  std::vector<bfloat16> v_pool(k_pool.size());
  std::vector<std::int32_t> cyclic_blocks;  // [B, blocks]
  for (std::int64_t b = 0; b < batch; ++b) {
    seq_lens[b] = static_cast<std::int32_t>(lens[b]);
    for (std::int64_t n = 0; n < blocks; ++n) {
      cyclic_blocks.push_back(block_table[b * max_pages + n]);
    }
    for (std::int64_t t = 0; t < lens[b]; ++t) {
      const std::int64_t slot =
          cyclic_blocks[b * blocks + t % window / page_size] * page_size + t % page_size;
      std::copy_n(&k[(b * capacity + t) * kv_row], kv_row, &k_pool[slot * kv_row]);
      std::copy_n(&v[(b * capacity + t) * kv_row], kv_row, &v_pool[slot * kv_row]);
    }
  }
  take_rows({1, 1});
  const HipConfig sliding = presets::sliding_window(window);
  const std::vector<std::uint16_t> whole = expected(Operator::kDecode, sliding);
  AttentionArgs<bfloat16> args = make_args();
  args.kv.pages =
      kv_pages_nhd(k_pool.data(), v_pool.data(), num_pages, page_size, num_kv_heads, head_dim);
  // [cyclic]
  std::vector<std::int32_t> cyclic_table(batch * (blocks + 1));
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t oldest = lens[b] % window;  // slot of the window's first token
    for (std::int64_t n = 0; n <= blocks; ++n) {
      cyclic_table[b * (blocks + 1) + n] =
          cyclic_blocks[b * blocks + (oldest / page_size + n) % blocks];
    }
    seq_lens[b] = static_cast<std::int32_t>(window + oldest % page_size);
  }
  args.kv.block_table = TensorView<const std::int32_t, 2>(cyclic_table.data(), {batch, blocks + 1});
  // [cyclic]
  const AttentionPlan plan = make_plan(Operator::kDecode, sliding);
  std::vector<std::byte> workspace(plan.workspace_bytes);
  require_ok(run_decode(plan, args, workspace));
  CHECK(bits_of(out) == whole);
}

// A tensor of ggml: sizes from the fastest dimension on, strides in bytes.
struct ByteStridedTensor {
  void* data;
  std::int64_t ne[4];
  std::size_t nb[4];
};

// [byte-strides]
TensorView<const bfloat16, 4> pages_of(const ByteStridedTensor& t) {
  const auto stride = [&](int i) { return static_cast<std::int64_t>(t.nb[i] / sizeof(bfloat16)); };
  return {static_cast<const bfloat16*>(t.data),
          {t.ne[3], t.ne[1], t.ne[2], t.ne[0]},
          {stride(3), stride(1), stride(2), 1}};
}
// [byte-strides]

TEST_CASE_METHOD(EngineLayout, "docs: tensors with strides in bytes") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  // Token-major, seen as [D, tokens, Hk, B] from the fastest dimension on.
  const auto tensor = [&](std::vector<bfloat16>& rows) {
    const auto row_bytes = static_cast<std::size_t>(kv_row) * sizeof(bfloat16);
    return ByteStridedTensor{
        rows.data(),
        {head_dim, capacity, num_kv_heads, batch},
        {sizeof(bfloat16), row_bytes, static_cast<std::size_t>(head_dim) * sizeof(bfloat16),
         static_cast<std::size_t>(capacity) * row_bytes}};
  };
  AttentionArgs<bfloat16> args = make_args();
  args.kv.pages = {pages_of(tensor(k)), pages_of(tensor(v))};
  args.kv.block_table.reset();
  check(args);
}

TEST_CASE_METHOD(EngineLayout, "docs: heads before tokens, in queries as in keys") {
  HIP_ATTN_SKIP_WITHOUT_BFLOAT16();
  const std::int64_t rows = 17;
  take_rows({17, 17});
  std::vector<bfloat16> query(q.size());  // [B, Hq, rows, D]
  std::vector<bfloat16> key(k.size());    // [B, Hk, T, D]
  std::vector<bfloat16> value(v.size());
  const auto transpose = [&](const std::vector<bfloat16>& from, std::int64_t tokens,
                             std::int64_t heads, std::vector<bfloat16>& to) {
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t head = 0; head < heads; ++head) {
          std::copy_n(&from[((b * tokens + t) * heads + head) * head_dim], head_dim,
                      &to[((b * heads + head) * tokens + t) * head_dim]);
        }
      }
    }
  };
  transpose(q, rows, num_q_heads, query);
  transpose(k, capacity, num_kv_heads, key);
  transpose(v, capacity, num_kv_heads, value);
  AttentionArgs<bfloat16> args = make_args();
  // [heads-first]
  args.q = {query.data(), {rows, num_q_heads, head_dim}, {head_dim, rows * head_dim, 1}};
  args.q_request_stride = num_q_heads * rows * head_dim;
  args.kv = {kv_pages_hnd(key.data(), value.data(), batch, capacity, num_kv_heads, head_dim),
             std::nullopt};
  // [heads-first]
  check(args);
}

}  // namespace
