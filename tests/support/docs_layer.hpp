/// One layer of a model, small, with the names that the code in the documents uses.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "values.hpp"

namespace hip_attn::test {

inline std::vector<bfloat16> random_bfloat16(std::int64_t count, std::uint64_t seed) {
  std::vector<bfloat16> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = from_float<bfloat16>(gaussian(mix(seed, static_cast<std::uint64_t>(i))));
  }
  return values;
}

inline std::vector<std::uint16_t> bits_of(const std::vector<bfloat16>& values) {
  std::vector<std::uint16_t> bits;
  for (const bfloat16 value : values) bits.push_back(value.bits);
  return bits;
}

/// False in a build without bfloat16.
inline bool documents_can_run() {
  return std::ranges::find(built_element_types(), ElementType::kBFloat16) !=
         built_element_types().end();
}

/// A fixture: contiguous keys, values and a query for every position of two requests. Tests of code
/// that keeps the same data otherwise compare with expected().
class DocsLayer {
 protected:
  const std::int64_t batch = 2;
  const std::int64_t num_q_heads = 4;
  const std::int64_t num_kv_heads = 2;
  const std::int64_t head_dim = built_head_dims().front();
  const std::int64_t capacity = 640;
  const std::int64_t kv_row = num_kv_heads * head_dim;
  const std::int64_t q_row = num_q_heads * head_dim;
  /// Small enough that most candidates are dropped.
  const HipConfig config{.sink = 16,
                         .window = 32,
                         .block_q = 16,
                         .stages = {{.chunk_size = 32, .keep = 192, .query_stride = 4},
                                    {.chunk_size = 8, .keep = 64, .query_stride = 1}},
                         .refresh_interval = {4, 2}};

  std::vector<bfloat16> k = random_bfloat16(batch * capacity * kv_row, 1);     ///< [B, T, Hk, D]
  std::vector<bfloat16> v = random_bfloat16(batch * capacity * kv_row, 2);     ///< [B, T, Hk, D]
  std::vector<bfloat16> all_q = random_bfloat16(batch * capacity * q_row, 3);  ///< [B, T, Hq, D]
  std::vector<std::int32_t> seq_lens{640, 401};

  // What take_rows fills.
  std::int64_t total_q = 0;
  std::vector<std::int32_t> cu_seqlens_q;
  std::vector<bfloat16> q;          ///< [total_q, Hq, D]
  std::vector<bfloat16> out;        ///< [total_q, Hq, D]
  std::vector<std::int64_t> reads;  ///< counters, for tests that want them

  /// Makes a call of the last q_lens[b] rows of each request.
  void take_rows(const std::vector<std::int32_t>& q_lens) {
    cu_seqlens_q = {0};
    q.clear();
    for (std::int64_t b = 0; b < batch; ++b) {
      cu_seqlens_q.push_back(cu_seqlens_q.back() + q_lens[b]);
      const auto end = all_q.begin() + (b * capacity + seq_lens[b]) * q_row;
      q.insert(q.end(), end - q_lens[b] * q_row, end);
    }
    total_q = cu_seqlens_q.back();
    out.assign(q.size(), from_float<bfloat16>(kNaN));
    reads.assign(config.stages.size() + 2, 0);
  }

  [[nodiscard]] AttentionShape shape() const {
    return {.batch = batch,
            .total_q = total_q,
            .max_seq_len = capacity,
            .num_q_heads = num_q_heads,
            .num_kv_heads = num_kv_heads,
            .head_dim = head_dim};
  }

  [[nodiscard]] AttentionPlan make_plan(Operator op, const HipConfig& with) const {
    AttentionPlan plan;
    const Status status = op == Operator::kPrefill ? plan_prefill<bfloat16>(with, shape(), plan)
                                                   : plan_decode<bfloat16>(with, shape(), plan);
    INFO(status.message());
    REQUIRE(status.ok());
    return plan;
  }

  /// The rows of take_rows over the contiguous cache.
  [[nodiscard]] AttentionArgs<bfloat16> make_args() {
    AttentionArgs<bfloat16> args;
    args.q = {q.data(), {total_q, num_q_heads, head_dim}};
    args.kv = contiguous_kv(k.data(), v.data(), batch, capacity, num_kv_heads, head_dim);
    args.seq_lens = {seq_lens.data(), {batch}};
    args.cu_seqlens_q = {cu_seqlens_q.data(), {batch + 1}};
    args.out = {out.data(), {total_q, num_q_heads, head_dim}};
    return args;
  }

  static void require_ok(const Status& status) {
    INFO(status.message());
    REQUIRE(status.ok());
  }

  /// The output of the rows of take_rows over the contiguous cache.
  [[nodiscard]] std::vector<std::uint16_t> expected(Operator op, const HipConfig& with) {
    const AttentionPlan plan = make_plan(op, with);
    std::vector<bfloat16> result(out.size());
    std::vector<std::byte> workspace(plan.workspace_bytes);
    AttentionArgs<bfloat16> args = make_args();
    args.out.data = result.data();
    require_ok(op == Operator::kPrefill ? run_prefill(plan, args, workspace)
                                        : run_decode(plan, args, workspace));
    return bits_of(result);
  }
};

/// DocsLayer with its keys and values in shuffled pages as well.
class DocsPagedLayer : public DocsLayer {
 protected:
  const std::int64_t page_size = 16;
  const std::int64_t max_pages = capacity / page_size;
  const std::int64_t num_pages = batch * max_pages;
  std::vector<std::int32_t> block_table = shuffled_pages();  ///< [B, max_pages]

  /// Copies the cache row by row: put(k, v, page, offset, head) gets pointers at D elements each.
  template <typename Put>
  void fill_pages(const Put& put) const {
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t t = 0; t < seq_lens[b]; ++t) {
        const std::int64_t page = block_table[b * max_pages + t / page_size];
        for (std::int64_t head = 0; head < num_kv_heads; ++head) {
          const std::int64_t from = ((b * capacity + t) * num_kv_heads + head) * head_dim;
          put(&k[from], &v[from], page, t % page_size, head);
        }
      }
    }
  }

  void fill_pages(const KvPages<bfloat16>& pages) const {
    fill_pages([&](const bfloat16* key, const bfloat16* value, std::int64_t page,
                   std::int64_t offset, std::int64_t head) {
      std::copy_n(key, head_dim, &pages.k(page, offset, head, 0));
      std::copy_n(value, head_dim, &pages.v(page, offset, head, 0));
    });
  }

 private:
  [[nodiscard]] std::vector<std::int32_t> shuffled_pages() const {
    std::vector<std::int32_t> pages(static_cast<std::size_t>(num_pages));
    std::iota(pages.begin(), pages.end(), 0);
    Choices choices(7);
    for (std::int64_t i = num_pages - 1; i > 0; --i) {
      std::swap(pages[i], pages[choices.between(0, i)]);
    }
    return pages;
  }
};

}  // namespace hip_attn::test
