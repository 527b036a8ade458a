/// The search by a sum of exponentials in float64: a chunk's score is the sum over pooled rows of
/// exp(scale * (logit - the row's largest logit)), the logit that of the chunk's centre key.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <vector>

#include "hip_attn/config.hpp"
#include "support/problem.hpp"
#include "support/reference.hpp"

namespace hip_attn::test {

/// What one unit selects.
struct ExpectedSelection {
  std::int64_t w0 = 0;
  std::vector<std::int32_t> blocks;
  std::map<std::int32_t, double> scores;  ///< of the last stage's chunks, by block
  std::vector<std::int64_t> key_reads;    ///< of each stage
  /// Between what a stage before the last kept and dropped, relative; infinite: dropped nothing.
  double least_gap = std::numeric_limits<double>::infinity();
};

/// Scores of chunks where weight_of(i, rows.size()) says how often row i counts.
template <Element T, typename WeightOf>
std::vector<double> scores_of(const std::vector<std::vector<float>>& rows,
                              const Request<T>& request, std::int64_t kv_head,
                              const std::vector<Chunk>& chunks, WeightOf&& weight_of) {
  const double scale = 1 / std::sqrt(static_cast<double>(request.heads.head_dim));
  std::vector<double> scores(chunks.size(), 0.);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    std::vector<double> logits;
    for (const Chunk& chunk : chunks) {
      const T* const key = request.key(chunk.begin + (chunk.end - chunk.begin) / 2, kv_head);
      double logit = 0;
      for (std::int64_t d = 0; d < request.heads.head_dim; ++d) {
        logit += static_cast<double>(rows[row][d]) * to_float(key[d]);
      }
      logits.push_back(logit);
    }
    const double largest = *std::max_element(logits.begin(), logits.end());
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      scores[i] += weight_of(row, rows.size()) * std::exp(scale * (logits[i] - largest));
    }
  }
  return scores;
}

template <Element T, typename WeightOf>
ExpectedSelection expected_selection(Operator op, const HipConfig& config,
                                     const Problem<T>& problem, const QueryBlock& block,
                                     std::int64_t kv_head, WeightOf&& weight_of) {
  const Request<T>& request = problem.requests[block.request];
  const UnitScore<T> unit(request, block, kv_head, op, config);
  ExpectedSelection expected;
  expected.w0 = reference_window_start(config, block.p0);
  std::vector<Chunk> chunks;
  if (expected.w0 > config.sink) chunks = {{config.sink, expected.w0}};
  for (int s = 0; s < config.num_stages(); ++s) {
    const ScanStage& stage = config.stage(s);
    chunks = cut(chunks, stage.chunk_size);
    const auto keep = static_cast<std::size_t>(stage.keep / stage.chunk_size);
    expected.key_reads.push_back(0);
    if (chunks.size() <= keep) continue;
    expected.key_reads.back() = 2 * static_cast<std::int64_t>(chunks.size());  // states, scores
    const std::vector<double> scores =
        scores_of(unit.pooled(s), request, kv_head, chunks, weight_of);
    std::vector<std::size_t> order(chunks.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
    if (s + 1 < config.num_stages()) {
      const double kept = scores[order[keep - 1]];
      expected.least_gap = std::min(expected.least_gap, (kept - scores[order[keep]]) / kept);
    } else {
      for (std::size_t i = 0; i < chunks.size(); ++i) {
        expected.scores[static_cast<std::int32_t>(chunks[i].begin / config.block_k())] = scores[i];
      }
    }
    order.resize(keep);
    std::sort(order.begin(), order.end());
    std::vector<Chunk> survivors;
    for (const std::size_t i : order) survivors.push_back(chunks[i]);
    chunks = survivors;
  }
  for (const Chunk& chunk : chunks) {
    expected.blocks.push_back(static_cast<std::int32_t>(chunk.begin / config.block_k()));
  }
  return expected;
}

}  // namespace hip_attn::test
