/// The specification again, by brute force and straight from its text (DESIGN part 1): shares
/// nothing with the library but the config.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include "hip_attn/config.hpp"
#include "problem.hpp"
#include "run.hpp"

namespace hip_attn::test {

/// Keys [begin, end).
struct Chunk {
  std::int64_t begin;
  std::int64_t end;

  friend bool operator==(const Chunk&, const Chunk&) = default;
};

struct SearchResult {
  std::int64_t w0 = 0;
  std::vector<std::vector<Chunk>> survivors;  ///< of each stage
  std::vector<std::int64_t> key_reads;        ///< of each stage
  std::vector<std::int32_t> blocks;
};

inline std::int64_t reference_window_start(const HipConfig& config, std::int64_t p0) {
  if (config.stages.empty()) return config.sink;
  const std::int64_t w = p0 + 1 - config.window;
  if (w <= config.sink) return config.sink;
  if (config.stages.back().keep == 0) return w;
  const std::int64_t block_k = config.stages.back().chunk_size;
  return config.sink + (w - config.sink) / block_k * block_k;
}

inline std::vector<Chunk> cut(const std::vector<Chunk>& chunks, std::int64_t size) {
  std::vector<Chunk> pieces;
  for (const Chunk& chunk : chunks) {
    for (std::int64_t begin = chunk.begin; begin < chunk.end; begin += size) {
      pieces.push_back({begin, std::min(begin + size, chunk.end)});
    }
  }
  return pieces;
}

/// a(key) may be NaN, which counts as -inf.
template <typename A>
double reference_score(ScanRule rule, Chunk chunk, A&& a, std::int64_t& reads) {
  const auto read = [&](std::int64_t key) {
    ++reads;
    const double score = a(key);
    return std::isnan(score) ? -std::numeric_limits<double>::infinity() : score;
  };
  auto [l, r] = chunk;
  if (rule == ScanRule::kCentre) return read(l + (r - l) / 2);
  if (r - l == 1) return read(l);
  double best = -std::numeric_limits<double>::infinity();
  while (r - l > 1) {
    const std::int64_t m = l + (r - l) / 2;
    const double left = read(l + (m - l) / 2);
    const double right = read(m + (r - m) / 2);
    best = std::max({best, left, right});
    if (left >= right) {
      r = m;
    } else {
      l = m;
    }
  }
  return best;
}

/// The search over the candidates before w0, where a(stage, key) scores a key. From first_stage > 0
/// on, it starts from the survivors of the stage before, as remembered with their w0.
template <typename A>
SearchResult reference_search(const HipConfig& config, std::int64_t w0, A&& a, int first_stage = 0,
                              const SearchResult* remembered = nullptr) {
  SearchResult result = first_stage > 0 ? *remembered : SearchResult{};
  if (first_stage == 0) result.w0 = w0;
  result.survivors.resize(config.stages.size());
  result.key_reads.assign(config.stages.size(), 0);
  if (!config.stages.empty() && config.stages.back().keep == 0) return result;  // a window alone

  std::vector<Chunk> chunks;
  if (first_stage == 0) {
    if (result.w0 > config.sink) chunks = {{config.sink, result.w0}};
  } else {
    chunks = result.survivors[first_stage - 1];
  }
  for (int s = first_stage; s < config.num_stages(); ++s) {
    const ScanStage& stage = config.stages[s];
    std::int64_t size = stage.chunk_size;
    if (s == 0) {
      const std::int64_t candidates = result.w0 - config.sink;
      while ((candidates + size - 1) / size > config.max_first_chunks) size *= 2;
    }
    chunks = cut(chunks, size);
    const auto keep = static_cast<std::size_t>(std::max<std::int64_t>(1, stage.keep / size));
    if (chunks.size() > keep) {
      struct Scored {
        Chunk chunk;
        double score;
      };
      std::vector<Scored> scored;
      for (const Chunk& chunk : chunks) {
        const auto score = [&](std::int64_t key) { return a(s, key); };
        scored.push_back({chunk, reference_score(stage.rule, chunk, score, result.key_reads[s])});
      }
      std::stable_sort(scored.begin(), scored.end(),
                       [](const Scored& x, const Scored& y) { return x.score > y.score; });
      scored.resize(keep);
      std::sort(scored.begin(), scored.end(),
                [](const Scored& x, const Scored& y) { return x.chunk.begin < y.chunk.begin; });
      chunks.clear();
      for (const Scored& survivor : scored) chunks.push_back(survivor.chunk);
    }
    result.survivors[s] = chunks;
  }
  result.blocks.clear();
  for (const Chunk& block : cut(chunks, config.block_k())) {
    result.blocks.push_back(static_cast<std::int32_t>(block.begin / config.block_k()));
  }
  return result;
}

/// a(stage, key) of one unit: the largest product of the key with a pooled query.
template <TestedTypes P>
class UnitScore {
 public:
  UnitScore(const Request<P>& request, const QueryBlock& block, std::int64_t kv_head, Operator op,
            const HipConfig& config)
      : request_(request), kv_head_(kv_head) {
    for (const ScanStage& stage : config.stages) {
      pooled_.push_back(pool(block, op, stage.query_stride));
    }
  }

  double operator()(int stage, std::int64_t key) const {
    const std::int64_t head_dim = request_.heads.head_dim;
    const CacheType<P>* k = request_.key(key, kv_head_);
    double best = -std::numeric_limits<double>::infinity();
    for (const std::vector<float>& query : pooled_[stage]) {
      double product = 0;
      for (std::int64_t d = 0; d < head_dim; ++d) {
        product += static_cast<double>(query[d]) * to_float(k[d]);
      }
      if (product > best) best = product;
    }
    return best;
  }

  /// The pooled queries of a stage.
  [[nodiscard]] const std::vector<std::vector<float>>& pooled(int stage) const {
    return pooled_[stage];
  }

 private:
  [[nodiscard]] std::vector<std::vector<float>> pool(const QueryBlock& block, Operator op,
                                                     std::int64_t stride) const {
    const Heads& heads = request_.heads;
    const auto group_of = [&](std::int64_t row) {
      return (op == Operator::kPrefill ? block.p0 + row : row) / stride;
    };
    std::vector<std::vector<float>> pooled;
    for (std::int64_t begin = 0, end = 0; begin < block.rows; begin = end) {
      while (end < block.rows && group_of(end) == group_of(begin)) ++end;
      for (std::int64_t g = 0; g < heads.group(); ++g) {
        std::vector<float> mean(heads.head_dim);
        for (std::int64_t d = 0; d < heads.head_dim; ++d) {
          float sum = 0.f;
          for (std::int64_t row = begin; row < end; ++row) {
            sum += to_float(request_.query(block.first_row + row, kv_head_ * heads.group() + g)[d]);
          }
          mean[d] = to_float(from_float<QueryType<P>>(sum / static_cast<float>(end - begin)));
        }
        pooled.push_back(mean);
      }
    }
    return pooled;
  }

  const Request<P>& request_;
  std::int64_t kv_head_;
  std::vector<std::vector<std::vector<float>>> pooled_;  // [stage][pooled row][D]
};

template <TestedTypes P>
SearchResult reference_select(const Problem<P>& problem, const QueryBlock& block,
                              std::int64_t kv_head, Operator op, const HipConfig& config) {
  const UnitScore<P> score(problem.requests[block.request], block, kv_head, op, config);
  return reference_search(config, reference_window_start(config, block.p0), score);
}

/// The keys that the row at position p attends to, ascending.
inline std::vector<std::int64_t> attended_keys(const HipConfig& config,
                                               const std::vector<std::int32_t>& blocks,
                                               std::int64_t w0, std::int64_t p) {
  std::vector<std::int64_t> keys;
  for (std::int64_t key = 0; key < std::min(config.sink, p + 1); ++key) keys.push_back(key);
  for (const std::int64_t block : blocks) {
    for (std::int64_t i = 0; i < config.block_k(); ++i)
      keys.push_back(block * config.block_k() + i);
  }
  const bool window_alone = !config.stages.empty() && config.stages.back().keep == 0;
  const std::int64_t first = window_alone ? std::max(w0, p + 1 - config.window) : w0;
  for (std::int64_t key = first; key <= p; ++key) keys.push_back(key);
  return keys;
}

/// What the counters of a call must be.
struct ExpectedCounters {
  std::vector<std::int64_t> values;

  explicit ExpectedCounters(const HipConfig& config) : values(config.stages.size() + 2, 0) {}

  void add(const HipConfig& config, const QueryBlock& block, const SearchResult& search) {
    for (std::size_t s = 0; s < search.key_reads.size(); ++s) values[s] += search.key_reads[s];
    std::set<std::int64_t> of_unit;
    for (std::int64_t row = 0; row < block.rows; ++row) {
      const auto keys = attended_keys(config, search.blocks, search.w0, block.p0 + row);
      values[values.size() - 1] += static_cast<std::int64_t>(keys.size());
      of_unit.insert(keys.begin(), keys.end());
    }
    values[values.size() - 2] += static_cast<std::int64_t>(of_unit.size());
  }
};

}  // namespace hip_attn::test
