// What the kernels must compute, by brute force in float64: docs/guide/algorithm.md with the rule
// of this project, which scores a chunk by its first and its last key.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "problem.hpp"

namespace own {

inline double dot(const float* a, const float* b) {
  double sum = 0;
  for (int d = 0; d < kHeadDim; ++d) sum += double{a[d]} * double{b[d]};
  return sum;
}

/// The rows of a call that share a selection, in positions [begin, end).
struct QueryBlock {
  const Request* request;
  std::int64_t number;  ///< among those of its request
  std::int64_t begin;
  std::int64_t end;

  /// Among the rows of all requests.
  [[nodiscard]] std::int64_t row(std::int64_t position) const {
    return request->first_row + position - (request->seq_len - request->q_len);
  }
};

inline std::vector<QueryBlock> query_blocks(const Problem& problem, hip_attn::Operator op,
                                            std::int64_t block_q) {
  std::vector<QueryBlock> blocks;
  for (const Request& request : problem.requests) {
    std::int64_t number = 0;
    std::int64_t end = 0;
    for (std::int64_t begin = request.seq_len - request.q_len; begin < request.seq_len;
         begin = end) {
      end = op == hip_attn::Operator::kDecode
                ? request.seq_len
                : std::min(request.seq_len, (begin / block_q + 1) * block_q);
      blocks.push_back({&request, number++, begin, end});
    }
  }
  return blocks;
}

struct Selection {
  std::int64_t window_start;
  std::vector<std::int32_t> blocks;
};

/// Of one query block and KV head.
class Search {
 public:
  Search(const Problem& problem, const QueryBlock& block, std::int64_t kv_head,
         hip_attn::Operator op)
      : problem_(problem), block_(block), kv_head_(kv_head), op_(op) {}

  [[nodiscard]] Selection run(const hip_attn::HipConfig& config) const {
    Selection selection{hip_attn::window_start(config, block_.begin), {}};
    std::vector<Chunk> chunks;
    if (selection.window_start > config.sink) chunks = {{config.sink, selection.window_start}};
    for (const hip_attn::ScanStage& stage : config.stages) {
      chunks = cut(chunks, stage.chunk_size);
      const auto keep = static_cast<std::size_t>(stage.keep / stage.chunk_size);
      if (chunks.size() > keep) chunks = best(chunks, keep, pooled(stage.query_stride));
    }
    for (const Chunk& chunk : chunks) {
      selection.blocks.push_back(static_cast<std::int32_t>(chunk.begin / config.block_k()));
    }
    return selection;
  }

 private:
  struct Chunk {
    std::int64_t begin;
    std::int64_t end;
  };
  using Rows = std::vector<std::vector<float>>;

  static std::vector<Chunk> cut(const std::vector<Chunk>& chunks, std::int64_t size) {
    std::vector<Chunk> pieces;
    for (const Chunk& chunk : chunks) {
      for (std::int64_t begin = chunk.begin; begin < chunk.end; begin += size) {
        pieces.push_back({begin, std::min(begin + size, chunk.end)});
      }
    }
    return pieces;
  }

  /// Means of the rows whose positions are in the same group of `stride`.
  [[nodiscard]] Rows pooled(std::int64_t stride) const {
    const std::int64_t anchor = op_ == hip_attn::Operator::kDecode ? block_.begin : 0;
    Rows rows;
    for (std::int64_t begin = block_.begin, end = begin; begin < block_.end; begin = end) {
      end = std::min(block_.end, anchor + ((begin - anchor) / stride + 1) * stride);
      for (std::int64_t head = kv_head_ * kGroup; head < (kv_head_ + 1) * kGroup; ++head) {
        std::vector<float> mean(kHeadDim);
        for (std::int64_t position = begin; position < end; ++position) {
          const float* const query = problem_.query(block_.row(position), head);
          for (int d = 0; d < kHeadDim; ++d) mean[d] += query[d] / static_cast<float>(end - begin);
        }
        rows.push_back(mean);
      }
    }
    return rows;
  }

  [[nodiscard]] double score(const Chunk& chunk, const Rows& rows) const {
    double largest = -std::numeric_limits<double>::infinity();
    for (const auto& row : rows) {
      for (const std::int64_t at : {chunk.begin, chunk.end - 1}) {
        largest = std::max(largest, dot(row.data(), problem_.key(*block_.request, at, kv_head_)));
      }
    }
    return largest;
  }

  /// The `keep` with the highest scores, in ascending order; of equal scores the lower position.
  [[nodiscard]] std::vector<Chunk> best(const std::vector<Chunk>& chunks, std::size_t keep,
                                        const Rows& rows) const {
    std::vector<double> scores;
    for (const Chunk& chunk : chunks) scores.push_back(score(chunk, rows));
    std::vector<std::size_t> order(chunks.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
    order.resize(keep);
    std::sort(order.begin(), order.end());
    std::vector<Chunk> survivors;
    for (const std::size_t i : order) survivors.push_back(chunks[i]);
    return survivors;
  }

  const Problem& problem_;
  const QueryBlock& block_;
  std::int64_t kv_head_;
  hip_attn::Operator op_;
};

/// The keys that the row at `position` attends to.
inline std::vector<std::int64_t> attended_keys(const hip_attn::HipConfig& config,
                                               const Selection& selection, std::int64_t position) {
  std::vector<std::int64_t> keys;
  for (std::int64_t at = 0; at < std::min(config.sink, position + 1); ++at) keys.push_back(at);
  for (const std::int64_t block : selection.blocks) {
    for (std::int64_t i = 0; i < config.block_k(); ++i)
      keys.push_back(block * config.block_k() + i);
  }
  for (std::int64_t at = selection.window_start; at <= position; ++at) keys.push_back(at);
  return keys;
}

struct Attention {
  double lse;
  std::vector<double> out;     ///< [kHeadDim]
  std::vector<double> spread;  ///< mean of |v|, which rounding errors of probabilities scale with
};

inline Attention attend(const Problem& problem, const QueryBlock& block, std::int64_t position,
                        std::int64_t head, const std::vector<std::int64_t>& keys) {
  const float* const query = problem.query(block.row(position), head);
  const std::int64_t kv_head = head / kGroup;
  std::vector<double> logits;
  for (const std::int64_t at : keys) {
    logits.push_back(dot(query, problem.key(*block.request, at, kv_head)) / std::sqrt(kHeadDim));
  }
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - largest);
  Attention result{largest + std::log(sum), std::vector<double>(kHeadDim),
                   std::vector<double>(kHeadDim)};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const double probability = std::exp(logits[i] - result.lse);
    const float* const value = problem.value(*block.request, keys[i], kv_head);
    for (int d = 0; d < kHeadDim; ++d) {
      result.out[d] += probability * double{value[d]};
      result.spread[d] += probability * std::abs(double{value[d]});
    }
  }
  return result;
}

}  // namespace own
