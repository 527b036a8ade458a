/// A cache of llama.cpp's with keys and values in it, tokens that attend to them, and what the mask
/// makes of that in float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "ggml_stand_in.hpp"
#include "hip_attn/types.hpp"
#include "llama_cells.hpp"
#include "values.hpp"

namespace hip_attn::test {

struct LlamaToken {
  llama_pos pos = 0;
  std::vector<llama_seq_id> sequences;
  llama_kv_cell_ext ext = {};
};

struct LlamaMask {
  llama_swa_type type = LLAMA_SWA_TYPE_NONE;
  llama_pos n_swa = 0;
};

struct LlamaLogits {
  float scale = 0.2f;
  float softcap = 0.f;  ///< 0: none
  bool sinks = false;   ///< of problem.sinks
};

template <Element T>
class LlamaProblem {
 public:
  static constexpr std::int64_t kQueryHeads = 4;
  static constexpr std::int64_t kKvHeads = 2;
  static constexpr llama_pos kNoEnd = std::numeric_limits<llama_pos>::max();

  llama_kv_cache cache;
  llama_ubatch ubatch;
  std::vector<float> sinks{-1.f, 0.5f, 3.f, 1.f};  ///< [Hq] logits

  LlamaProblem(bool unified, std::int64_t head_dim, std::uint64_t seed, std::uint32_t size = 384)
      : cache(unified, size), choices_(seed), head_dim_(head_dim) {
    k_.resize(cache.get_n_stream() * size * kv_row());
    v_.resize(k_.size());
  }

  [[nodiscard]] Choices& choices() { return choices_; }
  [[nodiscard]] std::int64_t head_dim() const { return head_dim_; }

  /// Puts the tokens into empty cells, in no order, and makes them the ubatch.
  void place(const std::vector<LlamaToken>& tokens, std::uint32_t n_pos = 1) {
    const auto n = static_cast<std::uint32_t>(tokens.size());
    ubatch = {n, n_pos, {}, {}};
    for (std::uint32_t part = 0; part < n_pos; ++part) {
      for (const LlamaToken& token : tokens) {
        ubatch.pos.push_back(part == 0 ? token.pos : part == 1 ? token.ext.y : token.ext.x);
      }
    }
    for (const LlamaToken& token : tokens) {
      ubatch.seq_id.push_back(token.sequences);
      llama_kv_cells& cells = cache.cells(token.sequences[0]);
      std::uint32_t cell = 0;
      do {
        cell = static_cast<std::uint32_t>(choices_.between(0, cells.size() - 1));
      } while (!cells.is_empty(cell));
      cells.set(cell, token.pos, token.ext, token.sequences);
      const std::int64_t row = first_row(token.sequences[0]) + cell;
      for (std::int64_t i = 0; i < kv_row(); ++i) {
        k_[row * kv_row() + i] = from_float<T>(gaussian(choices_.bits()));
        v_[row * kv_row() + i] = from_float<T>(gaussian(choices_.bits()));
      }
    }
    q_.resize(n * kFusedHeads * head_dim_);
    for (float& x : q_) x = gaussian(choices_.bits());
    // Nothing may come of an empty cell.
    for (llama_seq_id seq = 0; seq < static_cast<llama_seq_id>(cache.get_n_stream()); ++seq) {
      for (std::uint32_t cell = 0; cell < cache.get_size(); ++cell) {
        if (!cache.get_cells(seq).is_empty(cell)) continue;
        const std::int64_t row = (first_row(seq) + cell) * kv_row();
        std::fill_n(k_.begin() + row, kv_row(), from_float<T>(kNaN));
        std::fill_n(v_.begin() + row, kv_row(), from_float<T>(kNaN));
      }
    }
  }

  // The arguments of a layer's attention, permuted as llama.cpp's build_attn_mha does it.

  /// float [D, tokens of a stream, Hq, streams], rows of a tensor that holds keys and values too.
  [[nodiscard]] ggml_tensor q() {
    const std::int64_t tokens = ubatch.n_tokens / num_streams();
    const std::size_t head = head_dim_ * sizeof(float);
    return {GGML_TYPE_F32,
            {head_dim_, tokens, kQueryHeads, num_streams()},
            {sizeof(float), kFusedHeads * head, head, tokens * kFusedHeads * head},
            {},
            q_.data()};
  }
  [[nodiscard]] ggml_tensor k() { return cells_tensor(k_); }
  [[nodiscard]] ggml_tensor v() { return cells_tensor(v_); }
  [[nodiscard]] ggml_tensor sinks_tensor() {
    return {GGML_TYPE_F32, {kQueryHeads, 1, 1, 1}, {sizeof(float)}, {}, sinks.data()};
  }

  /// [tokens, Hq, D]
  [[nodiscard]] std::vector<double> attention(const LlamaMask& mask, const LlamaLogits& logits) {
    std::vector<double> out(ubatch.n_tokens * kQueryHeads * head_dim_, 0.);
    for (std::uint32_t i = 0; i < ubatch.n_tokens; ++i) {
      const llama_seq_id seq = ubatch.seq_id[i][0];
      std::vector<std::uint32_t> seen;
      for (std::uint32_t cell = 0; cell < cache.get_size(); ++cell) {
        if (mask_admits(ubatch, i, cache.get_cells(seq), cell, mask.type, mask.n_swa)) {
          seen.push_back(cell);
        }
      }
      for (std::int64_t head = 0; head < kQueryHeads; ++head) {
        attend(i, head, seen, logits, &out[(i * kQueryHeads + head) * head_dim_]);
      }
    }
    return out;
  }

 private:
  static constexpr std::int64_t kFusedHeads = kQueryHeads + 2 * kKvHeads;

  [[nodiscard]] std::int64_t kv_row() const { return kKvHeads * head_dim_; }
  [[nodiscard]] std::int64_t first_row(llama_seq_id seq) const {
    return std::int64_t{cache.get_stream(seq)} * cache.get_size();
  }
  /// Of the ubatch; its tokens belong to consecutive streams.
  [[nodiscard]] std::int64_t num_streams() const {
    return 1 + cache.get_stream(ubatch.seq_id.back()[0]) - cache.get_stream(ubatch.seq_id[0][0]);
  }

  /// [D, n_kv, Hk, streams], n_kv a multiple of 32 (of 256 in llama.cpp).
  [[nodiscard]] ggml_tensor cells_tensor(std::vector<T>& rows) {
    const llama_seq_id first = ubatch.seq_id[0][0];
    std::uint32_t used = 1;
    for (llama_seq_id s = 0; s < num_streams(); ++s) {
      used = std::max(used, cache.get_cells(first + s).used_max_p1());
    }
    const std::size_t row = kv_row() * sizeof(T);
    return {std::same_as<T, float>     ? GGML_TYPE_F32
            : std::same_as<T, float16> ? GGML_TYPE_F16
                                       : GGML_TYPE_BF16,
            {head_dim_, (used + 31) / 32 * 32, kKvHeads, num_streams()},
            {sizeof(T), row, head_dim_ * sizeof(T), row * cache.get_size()},
            {},
            &rows[first_row(first) * kv_row()]};
  }

  void attend(std::uint32_t token, std::int64_t head, const std::vector<std::uint32_t>& seen,
              const LlamaLogits& options, double* out) const {
    const float* query = &q_[(token * kFusedHeads + head) * head_dim_];
    const std::int64_t first = first_row(ubatch.seq_id[token][0]);
    const std::int64_t kv_head = head / (kQueryHeads / kKvHeads);
    const auto row = [&](const std::vector<T>& rows, std::uint32_t cell) {
      return &rows[(first + cell) * kv_row() + kv_head * head_dim_];
    };
    std::vector<double> logits;
    for (const std::uint32_t cell : seen) {
      double product = 0;
      for (std::int64_t d = 0; d < head_dim_; ++d) {
        product += static_cast<double>(query[d]) * static_cast<double>(to_float(row(k_, cell)[d]));
      }
      double logit = options.scale * product;
      if (options.softcap != 0) logit = options.softcap * std::tanh(logit / options.softcap);
      logits.push_back(logit);
    }
    // A sink logit takes its share of the softmax and has no value.
    double sum = options.sinks ? std::exp(static_cast<double>(sinks[head])) : 0;
    for (const double logit : logits) sum += std::exp(logit);
    for (std::size_t i = 0; i < seen.size(); ++i) {
      for (std::int64_t d = 0; d < head_dim_; ++d) {
        out[d] += std::exp(logits[i]) / sum * static_cast<double>(to_float(row(v_, seen[i])[d]));
      }
    }
  }

  Choices choices_;
  std::int64_t head_dim_;
  std::vector<T> k_;      ///< [streams, cells, Hk, D]
  std::vector<T> v_;      ///< likewise
  std::vector<float> q_;  ///< [tokens, Hq + 2 Hk, D]
};

/// Appends tokens to several sequences, in one unified cache with their tokens mixed and some in
/// two sequences at once; otherwise as many to each of some consecutive sequences.
template <Element T>
void append_tokens(LlamaProblem<T>& problem, std::int64_t most) {
  Choices& choices = problem.choices();
  const auto next = [&](llama_seq_id seq) {
    return problem.cache.get_cells(seq).seq_pos_max(seq) + 1;
  };
  for (llama_seq_id seq = 0; seq < kMaxSequences; ++seq) {
    if (next(seq) > 40) problem.cache.seq_rm(seq, 0, LlamaProblem<T>::kNoEnd);
  }
  std::vector<LlamaToken> tokens;
  if (problem.cache.get_n_stream() > 1) {
    const auto first = static_cast<llama_seq_id>(choices.between(0, kMaxSequences - 3));
    const std::int64_t count = choices.between(1, most);
    for (llama_seq_id seq = first; seq < first + choices.between(1, 3); ++seq) {
      for (std::int64_t i = 0; i < count; ++i) {
        tokens.push_back({next(seq) + static_cast<llama_pos>(i), {seq}});
      }
    }
    return problem.place(tokens);
  }
  std::vector<llama_pos> at(kMaxSequences);
  for (llama_seq_id seq = 0; seq < kMaxSequences; ++seq) at[seq] = next(seq);
  const auto pick = [&] { return static_cast<llama_seq_id>(choices.between(0, 3)); };
  const llama_seq_id a = pick();
  const llama_seq_id b = pick();
  if (a != b && at[a] == at[b]) {
    for (std::int64_t i = choices.between(1, most); i > 0; --i) {
      tokens.push_back({at[a]++, {a, b}});
      ++at[b];
    }
  }
  for (std::int64_t i = choices.between(1, 2 * most); i > 0; --i) {
    const llama_seq_id seq = pick();
    tokens.push_back({at[seq]++, {seq}});
  }
  problem.place(tokens);
}

/// One of what llama.cpp's memory functions do: a hole, a copy, a context shift.
/// shift_shared: also cells that other sequences share, which then find keys at equal positions.
template <Element T>
void edit_cells(LlamaProblem<T>& problem, bool shift_shared) {
  Choices& choices = problem.choices();
  llama_kv_cache& cache = problem.cache;
  constexpr llama_pos kNoEnd = LlamaProblem<T>::kNoEnd;
  const auto last = cache.get_n_stream() == 1 ? 3 : kMaxSequences - 1;
  const auto seq = static_cast<llama_seq_id>(choices.between(0, last));
  const llama_kv_cells& cells = cache.get_cells(seq);
  const llama_pos end = cells.seq_pos_max(seq) + 1;
  const auto first = static_cast<llama_pos>(choices.between(0, end));
  const auto removed = static_cast<llama_pos>(choices.between(1, 6));
  switch (choices.between(0, 2)) {
    case 0:
      return cache.seq_rm(seq, first, first + removed);
    case 1: {
      const auto to = static_cast<llama_seq_id>(choices.between(0, last));
      if (to == seq || cache.get_n_stream() > 1) return;
      cache.seq_rm(to, 0, kNoEnd);
      return cache.seq_cp(seq, to, 0, choices.one_in(2) ? kNoEnd : first);
    }
    default: {
      bool shared = false;
      for (std::uint32_t i = 0; i < cells.size(); ++i) {
        shared |= cells.seq_has(i, seq) && cells.seq_count(i) > 1;
      }
      if (shared && !shift_shared) return;
      cache.seq_rm(seq, first, first + removed);
      return cache.seq_add(seq, first + removed, kNoEnd, -removed);
    }
  }
}

}  // namespace hip_attn::test
