/// Arithmetic of the search that every backend shares: chunk counts and the sizes of its arrays.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hip_attn/config.hpp"

namespace hip_attn {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }

/// Chunks of stage s when nothing is doubled: what `keep` tokens make, at least one.
inline std::int64_t kept_chunks(const ScanStage& stage, std::int64_t chunk_size) noexcept {
  return std::max<std::int64_t>(1, stage.keep / chunk_size);
}

/// The chunk size that stage 1 really uses on `candidates` tokens: its own, doubled until at most
/// max_first_chunks chunks remain (docs/guide/algorithm.md, "Sub-quadratic for real").
inline std::int64_t first_chunk_size(const HipConfig& config, std::int64_t candidates) noexcept {
  std::int64_t chunk_size = config.stages.front().chunk_size;
  while (ceil_div(candidates, chunk_size) > config.max_first_chunks) chunk_size *= 2;
  return chunk_size;
}

/// The chunk size of stage s on `candidates` tokens.
inline std::int64_t stage_chunk_size(const HipConfig& config, int s,
                                     std::int64_t candidates) noexcept {
  return s == 0 ? first_chunk_size(config, candidates) : config.stage(s).chunk_size;
}

/// Most candidates that a request of max_seq_len keys can have.
inline std::int64_t max_candidates(const HipConfig& config, std::int64_t max_seq_len) noexcept {
  if (config.is_window_only()) return 0;
  return std::max<std::int64_t>(0, window_start(config, max_seq_len - 1) - config.sink);
}

/// Most chunks that survive stage s, for any number of candidates up to max_candidates.
inline std::int64_t max_survivors(const HipConfig& config, int s,
                                  std::int64_t candidates) noexcept {
  const std::int64_t all = ceil_div(candidates, config.stage(s).chunk_size);
  return std::min(all, kept_chunks(config.stage(s), config.stage(s).chunk_size));
}

/// Most blocks of block_k that one unit selects. One stage whose chunk doubled keeps whole chunks,
/// which can hold more tokens than `keep`.
inline std::int64_t max_selected_blocks(const HipConfig& config, std::int64_t candidates) noexcept {
  if (config.is_dense() || candidates <= 0) return 1;
  const int last = config.num_stages() - 1;
  const std::int64_t tokens =
      std::max(config.stage(last).keep, stage_chunk_size(config, last, candidates));
  return std::max<std::int64_t>(1, std::min(tokens, candidates) / config.block_k());
}

/// Most chunks that stage s looks at.
inline std::int64_t max_stage_chunks(const HipConfig& config, int s,
                                     std::int64_t candidates) noexcept {
  const std::int64_t chunks = ceil_div(candidates, config.stage(s).chunk_size);
  if (s == 0) return std::min(config.max_first_chunks, chunks);
  // The first stage keeps at least one chunk, however large.
  const std::int64_t entering =
      s == 1 ? std::max(config.stage(0).keep, first_chunk_size(config, candidates))
             : config.stage(s - 1).keep;
  return std::min(chunks, ceil_div(entering, config.stage(s).chunk_size));
}

/// Most chunks that any stage looks at; also bounds the blocks that survivors are cut into.
inline std::int64_t max_chunks(const HipConfig& config, std::int64_t candidates) noexcept {
  if (config.is_dense() || candidates <= 0) return 1;
  std::int64_t most = max_selected_blocks(config, candidates);
  for (int s = 0; s < config.num_stages(); ++s) {
    most = std::max(most, max_stage_chunks(config, s, candidates));
  }
  return most;
}

}  // namespace hip_attn
