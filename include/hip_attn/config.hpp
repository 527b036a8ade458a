/// What the sparse attention computes: sink, window and the stages of the tree search.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "hip_attn/core/host_device.hpp"
#include "hip_attn/export.hpp"
#include "hip_attn/status.hpp"

namespace hip_attn {

/// How a stage scores a chunk of keys (docs/guide/algorithm.md, "Scoring a chunk").
enum class ScanRule : int {
  kDescent,   ///< binary descent, two keys per level (InfiniteHiP, arXiv 2502.08910, algorithm 1)
  kCentre,    ///< the chunk's centre key alone (HiP, arXiv 2406.09827)
  kLandmark,  ///< a summary of the chunk's keys that was made when they were written
              ///< (landmarks.hpp)
  kEveryKey,  ///< every key of the chunk: with kSoftmaxSum their masses add up
  /// The first of a program's own rules, for templates that it instantiates with them
  /// (docs/guide/extending.md); the compiled library has none.
  kCustom,
};

/// How a stage makes one score of what the pooled query rows make of a chunk
/// (docs/guide/algorithm.md, "From rows to a score").
enum class Reduction : int {
  kMaximum,  ///< the largest logit of any row (both papers)
  /// The attention mass that the rows give the chunk: the sum over rows of the softmax of a row's
  /// logits over all chunks of the stage.
  kSoftmaxSum,
};

/// Stages of a HipConfig at most; hip_classic needs log2(max_len / k) of them.
inline constexpr int kMaxStages = 32;

/// One pruning stage of the search.
struct ScanStage {
  std::int32_t chunk_size = 0;  ///< tokens; a power of two that divides the stage before's
  /// Tokens that survive; a multiple of chunk_size, not above the stage before's. 0, in the last
  /// stage alone: nothing is selected (HipConfig::is_window_only).
  std::int64_t keep = 0;
  std::int32_t query_stride = 1;  ///< positions averaged into one pooled query; divides block_q
  ScanRule rule = ScanRule::kDescent;
  Reduction reduction = Reduction::kMaximum;

  friend bool operator==(const ScanStage&, const ScanStage&) = default;
};

/// A default-constructed HipConfig is presets::dense().
struct HipConfig {
  /// Tokens at the start that every row attends; a multiple of block_k(), and with landmark stages
  /// of the first one's chunk_size.
  std::int64_t sink = 0;
  /// Latest tokens that every row attends, itself included; >= 1. The rows of a query block share
  /// the window's start, so some attend to a few more, unless is_window_only(). With landmark
  /// stages at least the first one's chunk_size: then every landmark that is looked at is complete.
  std::int64_t window = 1;
  std::int32_t block_q = 64;  ///< positions that share one selection in prefill; >= 1
  /// Up to kMaxStages; none: dense attention. Stages of rule kLandmark come before all others.
  std::vector<ScanStage> stages = {};
  /// Decode steps between two runs of each stage, one per stage, or empty: every stage every step.
  /// Advice for the caller, who says in SelectionCache::refresh_from what runs: see
  /// refresh_from_at and refresh_ahead_at.
  std::vector<std::int32_t> refresh_interval = {};
  /// Chunks that the first stage scores at most: its chunk_size doubles until they fit, so the
  /// search is O(T log T) in all. Not below stages[0].keep / stages[0].chunk_size. Landmarks exist
  /// for fixed chunks: a plan whose max_seq_len gives a first landmark stage more is refused.
  std::int64_t max_first_chunks = 4096;

  [[nodiscard]] int num_stages() const noexcept { return static_cast<int>(stages.size()); }
  /// Stage s, from 0 to num_stages() - 1.
  [[nodiscard]] const ScanStage& stage(int s) const noexcept {
    return stages[static_cast<std::size_t>(s)];
  }
  [[nodiscard]] bool is_dense() const noexcept { return stages.empty(); }
  /// The last stage keeps nothing: no stage runs, and each row attends to the sink and to exactly
  /// its `window` latest tokens.
  [[nodiscard]] bool is_window_only() const noexcept {
    return !stages.empty() && stages.back().keep == 0;
  }
  /// The first stage reads landmarks, so that calls take AttentionArgs::landmarks.
  [[nodiscard]] bool uses_landmarks() const noexcept {
    return !is_window_only() && !stages.empty() && stages.front().rule == ScanRule::kLandmark;
  }
  /// Tokens in one selected block: the last stage's chunk_size (1 without stages).
  [[nodiscard]] std::int32_t block_k() const noexcept {
    return stages.empty() ? 1 : stages.back().chunk_size;
  }

  friend bool operator==(const HipConfig&, const HipConfig&) = default;
};

/// W0 (docs/guide/algorithm.md, "What a row attends to") for a query block whose first row stands
/// at position p0: the first key of the window. Keys in [sink, W0) are a whole number of blocks of
/// 2^block_shift.
template <typename Integer>
HIP_ATTN_HOST_DEVICE constexpr Integer window_start_by_shift(Integer sink, Integer window,
                                                             int block_shift, Integer p0) noexcept {
  const Integer w = p0 + 1 - window;
  return w <= sink ? sink : sink + ((w - sink) >> block_shift << block_shift);
}

/// The same for blocks of block_k keys, a power of two.
constexpr std::int64_t window_start(std::int64_t sink, std::int64_t window, std::int32_t block_k,
                                    std::int64_t p0) noexcept {
  return window_start_by_shift(sink, window, std::countr_zero(static_cast<std::uint32_t>(block_k)),
                               p0);
}

/// The same for a config: a window alone starts at any key, and without stages it starts at the
/// sink. Otherwise the keys in [sink, W0) are the candidates of the search.
inline std::int64_t window_start(const HipConfig& config, std::int64_t p0) noexcept {
  if (config.is_dense()) return config.sink;
  return window_start(config.sink, config.window, config.is_window_only() ? 1 : config.block_k(),
                      p0);
}

/// Checks every rule stated beside the fields above; kInvalidConfig names field, value and rule.
HIP_ATTN_API Status validate(const HipConfig& config);

/// The first stage to run again at decode step `step` (0, 1, 2, ...) of a request under
/// config.refresh_interval: stage s is due at every multiple of its interval, and a stage that runs
/// makes every later one run. num_stages() when none is due; 0 at step 0.
HIP_ATTN_API std::int32_t refresh_from_at(const HipConfig& config, std::int64_t step) noexcept;

/// The same with searches ahead: where stages before the last are due at step `step`, they run in
/// the step before, unless something is due there too, and the last one alone runs in this. For a
/// cache in host memory, whose blocks come in between (docs/guide/offload.md). Below 0:
/// search_ahead_from(). To be followed at every step: where the step before did not search ahead, a
/// search that was due is left out until it is due again; take refresh_from_at there.
HIP_ATTN_API std::int32_t refresh_ahead_at(const HipConfig& config, std::int64_t step) noexcept;

/// Named configurations.
namespace presets {

/// InfiniteHiP's default, about 3k keys per row: sink 256, window 1024, stages {256, 32768, 4}
/// {32, 8192, 4} {8, 2048, 1}, refresh every 32, 16, 8 steps.
HIP_ATTN_API HipConfig infinite_hip();

/// infinite_hip with the longer refresh intervals 96, 24, 8 (the authors' serving configuration).
HIP_ATTN_API HipConfig infinite_hip_fast();

/// infinite_hip with Reduction::kSoftmaxSum in every stage.
HIP_ATTN_API HipConfig infinite_hip_softmax_sum();

/// Landmarks in front, then every key of what is left, about 3k keys per row: sink 256, window
/// 1024, stages {64, 8192, 4, kLandmark} {8, 2048, 4, kEveryKey}, softmax sums, refresh every 16, 8
/// steps. For every factor of 4 that max_len has above 256k, begun or whole, one more landmark
/// stage stands in front, which keeps 256 chunks: of 256 tokens above 256k, of 1024 above 1M, and
/// so on. Sink and window are then at least one chunk of the first stage. landmark_chunk_sizes()
/// says which levels to keep. max_len, from 1 to 2^31 - 1, is the plan's max_seq_len or more; of
/// other values the result fails validate(), whose message names them.
HIP_ATTN_API HipConfig landmark(std::int64_t max_len);

/// landmark with half the budget, about 1.7k keys per row: sink 128 and window 512, or one chunk of
/// the first stage, and a last stage that keeps 1024 tokens.
HIP_ATTN_API HipConfig landmark_1k(std::int64_t max_len);

/// infinite_hip with 4096 tokens kept by the last stage, about 5k keys per row.
HIP_ATTN_API HipConfig infinite_hip_5k();

/// The halving search of the first paper (arXiv 2406.09827, algorithm 1): chunk sizes
/// C, C/2, ..., block_k with C the power of two at or above max_len * block_k / k, rule kCentre,
/// every stage keeping k / block_k chunks. Sink 0 and window block_k unless the caller changes
/// them. max_len >= 1, k a multiple of block_k (0: the window alone), block_k a power of two;
/// otherwise the result fails validate().
HIP_ATTN_API HipConfig hip_classic(std::int64_t max_len, std::int64_t k, std::int32_t block_k);

/// The attention of sliding-window models: each row attends to the first `sink` tokens and to its
/// `window` latest, itself included. sink >= 0, window >= 1; otherwise the result fails validate().
HIP_ATTN_API HipConfig sliding_window(std::int64_t window, std::int64_t sink = 0);

/// Every row attends to every key up to itself.
HIP_ATTN_API HipConfig dense();

}  // namespace presets
}  // namespace hip_attn
