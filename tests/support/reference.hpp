/// The specification again, by brute force and straight from its text (docs/guide/algorithm.md):
/// shares nothing with the library but the config.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <vector>

#include "hip_attn/config.hpp"
#include "landmark_memory.hpp"
#include "problem.hpp"

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
  double margin = kInfinity;  ///< the least of all stages' (StageResult)

  /// No rounding exchanges a chunk for another.
  [[nodiscard]] bool is_decided() const { return margin > 1e-4; }
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

/// How products become logits.
struct LogitOptions {
  std::optional<float> scale = {};
  std::optional<float> softcap = {};

  [[nodiscard]] double logit(double product, std::int64_t head_dim) const {
    const double x = product * (scale ? double{*scale} : 1 / std::sqrt(double(head_dim)));
    return softcap ? double{*softcap} * std::tanh(x / double{*softcap}) : x;
  }
};

inline constexpr double kNothing = -std::numeric_limits<double>::infinity();

inline double nan_as_nothing(double x) { return std::isnan(x) ? kNothing : x; }

/// Scores of a key that are those of one row: what the search needs of a scorer, whose members give
/// a number per row. Products of rows with keys and with landmarks may be NaN, which counts as
/// -inf.
template <typename A>
struct OneRow {
  A a;

  [[nodiscard]] std::vector<double> key(int stage, std::int64_t key) const {
    return {static_cast<double>(a(stage, key))};
  }
  [[nodiscard]] std::vector<double> landmark(int stage, const Chunk& chunk) const {
    return {static_cast<double>(a(stage, chunk.begin))};
  }
  [[nodiscard]] double logit(double product) const { return product; }
};
template <typename A>
OneRow(A) -> OneRow<A>;

/// log(exp(a) + exp(b) + ...), where infinities are as large as themselves.
inline double log_of_sum(const std::vector<double>& terms) {
  double max = kNothing;
  for (const double x : terms) max = std::max(max, x);
  if (std::isinf(max)) return max;
  double sum = 0;
  for (const double x : terms) sum += std::exp(x - max);
  return max + std::log(sum);
}

/// What the rows make of a chunk: logits, or for a maximum, which does not need them, products.
template <typename Scorer>
std::vector<double> chunk_logits(int s, const ScanStage& stage, Chunk chunk, const Scorer& scorer,
                                 std::int64_t& reads) {
  const bool sums = stage.reduction == Reduction::kSoftmaxSum;
  const auto to_logit = [&](double product) {
    return nan_as_nothing(sums ? scorer.logit(product) : product);
  };
  std::vector<std::vector<double>> of_rows;  // [row][what was read]
  const auto take = [&](const std::vector<double>& products) {
    ++reads;
    of_rows.resize(products.size());
    double largest = kNothing;
    for (std::size_t r = 0; r < products.size(); ++r) {
      of_rows[r].push_back(to_logit(products[r]));
      largest = std::max(largest, nan_as_nothing(products[r]));
    }
    return largest;
  };
  auto [l, r] = chunk;
  switch (stage.rule) {
    case ScanRule::kLandmark:
      take(scorer.landmark(s, chunk));
      break;
    case ScanRule::kEveryKey:
      for (std::int64_t key = l; key < r; ++key) take(scorer.key(s, key));
      break;
    case ScanRule::kCentre:
      take(scorer.key(s, l + (r - l) / 2));
      break;
    default:
      if (r - l == 1) take(scorer.key(s, l));
      while (r - l > 1) {
        const std::int64_t m = l + (r - l) / 2;
        const double left = take(scorer.key(s, l + (m - l) / 2));
        const double right = take(scorer.key(s, m + (r - m) / 2));
        (left >= right ? r : l) = m;
      }
  }
  std::vector<double> logits;
  for (const std::vector<double>& row : of_rows) {
    logits.push_back(sums && stage.rule == ScanRule::kEveryKey
                         ? log_of_sum(row)
                         : *std::max_element(row.begin(), row.end()));
  }
  return logits;
}

/// One score per chunk, of logits[chunk][row].
inline std::vector<double> chunk_scores(Reduction reduction,
                                        const std::vector<std::vector<double>>& logits) {
  std::vector<double> scores;
  if (reduction == Reduction::kMaximum) {
    for (const auto& rows : logits) scores.push_back(*std::max_element(rows.begin(), rows.end()));
    return scores;
  }
  scores.assign(logits.size(), 0.);
  for (std::size_t r = 0; r < logits.front().size(); ++r) {
    double max = kNothing;
    for (const auto& rows : logits) max = std::max(max, rows[r]);
    if (max == kNothing) continue;
    std::vector<double> mass;
    double sum = 0;
    for (const auto& rows : logits) {
      mass.push_back(rows[r] == max ? 1. : std::exp(rows[r] - max));
      sum += mass.back();
    }
    for (std::size_t i = 0; i < mass.size(); ++i) scores[i] += mass[i] / sum;
  }
  return scores;
}

/// Keys of a chunk of stage s: the first stage's double until max_first_chunks hold the candidates.
inline std::int64_t reference_chunk_size(const HipConfig& config, int s, std::int64_t w0) {
  std::int64_t size = config.stages[s].chunk_size;
  if (s > 0) return size;
  while ((w0 - config.sink + size - 1) / size > config.max_first_chunks) size *= 2;
  return size;
}

/// One stage of a search.
struct StageResult {
  std::vector<Chunk> chunks;   ///< that entered
  std::vector<double> scores;  ///< of each; none where nothing can be dropped
  std::int64_t reads = 0;
  std::vector<Chunk> survivors;
  /// Of sums: how far the best chunk that is dropped lies below the worst that is kept, relative to
  /// the latter.
  double margin = kInfinity;
};

/// Stage s of a search over the candidates before w0. `entering`: the survivors of the stage
/// before, or all candidates.
template <typename Scorer>
StageResult reference_stage(const HipConfig& config, int s, std::int64_t w0,
                            const std::vector<Chunk>& entering, const Scorer& scorer) {
  const ScanStage& stage = config.stages[s];
  const std::int64_t size = reference_chunk_size(config, s, w0);
  StageResult result;
  result.chunks = result.survivors = cut(entering, size);
  const auto keep = static_cast<std::size_t>(std::max<std::int64_t>(1, stage.keep / size));
  if (result.chunks.size() <= keep) return result;

  std::vector<std::vector<double>> logits;
  for (const Chunk& chunk : result.chunks) {
    logits.push_back(chunk_logits(s, stage, chunk, scorer, result.reads));
  }
  result.scores = chunk_scores(stage.reduction, logits);
  std::vector<std::size_t> order(result.chunks.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t x, std::size_t y) {
    return result.scores[x] > result.scores[y];
  });
  if (stage.reduction == Reduction::kSoftmaxSum) {
    const double threshold = result.scores[order[keep - 1]];
    const double dropped = result.scores[order[keep]];
    result.margin = threshold > 0 ? (threshold - dropped) / threshold : 0;
  }
  order.resize(keep);
  std::sort(order.begin(), order.end());
  result.survivors.clear();
  for (const std::size_t i : order) result.survivors.push_back(result.chunks[i]);
  return result;
}

/// All candidates before w0, as one chunk.
inline std::vector<Chunk> all_candidates(const HipConfig& config, std::int64_t w0) {
  if (w0 <= config.sink) return {};
  return {{config.sink, w0}};
}

/// The search over the candidates before w0. From first_stage > 0 on, it starts from the survivors
/// of the stage before, as remembered with their w0.
template <typename Scorer>
SearchResult reference_search(const HipConfig& config, std::int64_t w0, const Scorer& scorer,
                              int first_stage = 0, const SearchResult* remembered = nullptr) {
  SearchResult result = first_stage > 0 ? *remembered : SearchResult{};
  if (first_stage == 0) result.w0 = w0;
  result.survivors.resize(config.stages.size());
  result.key_reads.assign(config.stages.size(), 0);
  if (!config.stages.empty() && config.stages.back().keep == 0) return result;  // a window alone

  std::vector<Chunk> chunks =
      first_stage == 0 ? all_candidates(config, result.w0) : result.survivors[first_stage - 1];
  for (int s = first_stage; s < config.num_stages(); ++s) {
    const StageResult stage = reference_stage(config, s, result.w0, chunks, scorer);
    result.key_reads[s] = stage.reads;
    result.survivors[s] = chunks = stage.survivors;
    result.margin = std::min(result.margin, stage.margin);
  }
  result.blocks.clear();
  for (const Chunk& block : cut(chunks, config.block_k())) {
    result.blocks.push_back(static_cast<std::int32_t>(block.begin / config.block_k()));
  }
  return result;
}

/// The landmarks that a problem's requests have.
struct LandmarkOptions {
  std::vector<std::int64_t> chunk_sizes = {};  ///< of the levels; none: those that the config reads
  float spread = 1.f;
};

/// Products of the pooled rows of one unit.
template <TestedTypes P>
class UnitScore {
 public:
  UnitScore(const Request<P>& request, const QueryBlock& block, std::int64_t kv_head, Operator op,
            const HipConfig& config, const LogitOptions& logit = {},
            const LandmarkOptions& landmarks = {})
      : request_(request), kv_head_(kv_head), logit_(logit) {
    std::vector<std::int64_t> sizes = landmarks.chunk_sizes;
    if (sizes.empty()) sizes = landmark_chunk_sizes(config);
    const auto levels = reference_landmarks(request, kv_head, sizes, landmarks.spread);
    for (const ScanStage& stage : config.stages) {
      const auto level = std::find(sizes.begin(), sizes.end(), stage.chunk_size) - sizes.begin();
      const bool reads = stage.rule == ScanRule::kLandmark && !config.is_window_only();
      landmarks_.push_back(reads ? levels[level] : std::vector<LandmarkRow<CacheType<P>>>{});
      chunk_sizes_.push_back(stage.chunk_size);
    }
    for (const ScanStage& stage : config.stages) {
      pooled_.push_back(pool(block, op, stage.query_stride));
    }
  }

  [[nodiscard]] std::vector<double> key(int stage, std::int64_t key) const {
    const CacheType<P>* const k = request_.key(key, kv_head_);
    std::vector<double> products;
    for (const std::vector<float>& query : pooled_[stage]) {
      double product = 0;
      for (std::int64_t d = 0; d < request_.heads.head_dim; ++d) {
        product += static_cast<double>(query[d]) * to_float(k[d]);
      }
      products.push_back(product);
    }
    return products;
  }

  /// The positive part of each row with hi and the negative part with lo: the sum of
  /// max(q hi, q lo), and NaN where an infinity meets a part that is 0.
  [[nodiscard]] std::vector<double> landmark(int stage, const Chunk& chunk) const {
    const std::int64_t head_dim = request_.heads.head_dim;
    const auto& row = landmarks_[stage][chunk.begin / chunk_sizes_[stage]];
    std::vector<double> products;
    for (const std::vector<float>& query : pooled_[stage]) {
      double product = 0;
      for (std::int64_t d = 0; d < head_dim; ++d) {
        product += static_cast<double>(query[d] > 0.f ? query[d] : 0.f) * to_float(row[d]);
        product +=
            static_cast<double>(query[d] > 0.f ? 0.f : query[d]) * to_float(row[head_dim + d]);
      }
      products.push_back(product);
    }
    return products;
  }

  [[nodiscard]] double logit(double product) const {
    return logit_.logit(product, request_.heads.head_dim);
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
  LogitOptions logit_;
  std::vector<std::int64_t> chunk_sizes_;                          // [stage]
  std::vector<std::vector<LandmarkRow<CacheType<P>>>> landmarks_;  // [stage][chunk]
  std::vector<std::vector<std::vector<float>>> pooled_;            // [stage][pooled row][D]
};

template <TestedTypes P>
SearchResult reference_select(const Problem<P>& problem, const QueryBlock& block,
                              std::int64_t kv_head, Operator op, const HipConfig& config,
                              const LogitOptions& logit = {},
                              const LandmarkOptions& landmarks = {}) {
  const UnitScore<P> score(problem.requests[block.request], block, kv_head, op, config, logit,
                           landmarks);
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
