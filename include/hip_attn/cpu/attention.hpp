/// Prefill and decode on the CPU: query blocks of all requests, run in parallel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "hip_attn/attention.hpp"
#include "hip_attn/cpu/unit.hpp"

namespace hip_attn::cpu {

/// Threads that a plan may use.
inline int max_threads() noexcept {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

inline int thread_number() noexcept {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}

/// Lists the query blocks of a call (docs/algorithm.md, "Query blocks") and returns their number.
template <Element T>
std::int64_t list_query_blocks(const AttentionPlan& plan, const AttentionArgs<T>& args,
                               QueryBlock* blocks) noexcept {
  std::int64_t n = 0;
  for (std::int64_t b = 0; b < args.seq_lens.sizes[0]; ++b) {
    const std::int64_t first_row = args.cu_seqlens_q(b);
    const std::int64_t q_len = args.cu_seqlens_q(b + 1) - first_row;
    const std::int64_t first_position = args.seq_lens(b) - q_len;
    if (q_len == 0 || args.seq_lens(b) == 0) continue;
    if (plan.op == Operator::kDecode) {
      blocks[n++] = {b, first_row, q_len, first_position, 0, b};
      continue;
    }
    const std::int64_t block_q = plan.config.block_q;
    std::int64_t selection_row_ = selection_row(first_row, b, 0, block_q);
    for (std::int64_t row = 0; row < q_len;) {
      const std::int64_t p0 = first_position + row;
      const std::int64_t rows = std::min(block_q - p0 % block_q, q_len - row);
      blocks[n++] = {b, first_row + row, rows, p0, p0 % block_q, selection_row_++};
      row += rows;
    }
  }
  return n;
}

/// Rows of requests without keys (padding): out = 0, lse = -inf.
template <Element T>
void write_empty_rows(const AttentionPlan& plan, const AttentionArgs<T>& args) noexcept {
  for (std::int64_t b = 0; b < args.seq_lens.sizes[0]; ++b) {
    if (args.seq_lens(b) != 0) continue;
    for (std::int64_t row = args.cu_seqlens_q(b); row < args.cu_seqlens_q(b + 1); ++row) {
      for (std::int64_t head = 0; head < plan.shape.num_q_heads; ++head) {
        T* out = &args.out(row, head, 0);
        std::fill(out, out + plan.shape.head_dim, from_float<T>(0.f));
        if (args.lse) (*args.lse)(row, head) = -std::numeric_limits<float>::infinity();
      }
    }
  }
}

/// Runs a checked call. A value in device memory that does not hold is left in `error`.
template <Element T>
void run_attention(const AttentionPlan& plan, const AttentionArgs<T>& args, std::byte* memory,
                   CallError& error) {
  write_empty_rows(plan, args);
  const CpuWorkspace workspace = carve(plan, memory);
  const std::int64_t num_blocks = list_query_blocks(plan, args, workspace.query_blocks);
  const std::int64_t num_heads = plan.shape.num_kv_heads;
  const int num_counters = plan.config.num_stages() + 2;
  const auto thread_memory = [&](int thread) {
    Carver carver(workspace.threads + static_cast<std::size_t>(thread) * workspace.thread_bytes);
    return carve_thread(plan, carver);
  };
  for (int thread = 0; thread < plan.num_threads; ++thread) {
    const ThreadMemory mine = thread_memory(thread);
    std::fill(mine.counters, mine.counters + num_counters, 0);
    std::fill(mine.zeros, mine.zeros + plan.shape.head_dim * sizeof(float), std::byte{0});
  }

  // The last blocks of a prompt attend to most: they go first, so that no thread ends on them.
#pragma omp parallel for schedule(dynamic, 1) num_threads(plan.num_threads)
  for (std::int64_t unit = num_blocks * num_heads - 1; unit >= 0; --unit) {
    ThreadMemory mine = thread_memory(thread_number());
    const QueryBlock& block = workspace.query_blocks[unit / num_heads];
    UnitRunner<T>(plan, args, block, unit % num_heads, mine, error).run();
  }

  if (!args.counters) return;
  for (int thread = 0; thread < plan.num_threads; ++thread) {
    const ThreadMemory mine = thread_memory(thread);
    for (int i = 0; i < num_counters; ++i) (*args.counters)(i) += mine.counters[i];
  }
}

}  // namespace hip_attn::cpu
