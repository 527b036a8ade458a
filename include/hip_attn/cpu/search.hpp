/// The tree search of one unit: stages of scan and select over shrinking chunks
/// (docs/algorithm.md, "The tree search").
#pragma once

#include <cstdint>
#include <utility>

#include "hip_attn/config.hpp"
#include "hip_attn/cpu/scan.hpp"
#include "hip_attn/cpu/select.hpp"
#include "hip_attn/search_plan.hpp"

namespace hip_attn::cpu {

/// Scratch of a search, each array [max_chunks(config, candidates)].
struct SearchMemory {
  std::int32_t* starts;        ///< first keys of the chunks, ascending: input and result
  std::int32_t* other_starts;  ///< exchanged with starts whenever chunks are cut
  float* scores;
  float* scratch;
};

/// Cuts chunks of `from_size` into chunks of `to_size`, dropping those that begin at or after
/// `end`.
inline std::int64_t cut_chunks(SearchMemory& memory, std::int64_t count, std::int64_t from_size,
                               std::int64_t to_size, std::int64_t end) {
  if (from_size == to_size) return count;
  std::int64_t n = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t chunk_end = std::min(memory.starts[i] + from_size, end);
    for (std::int64_t start = memory.starts[i]; start < chunk_end; start += to_size) {
      memory.other_starts[n++] = static_cast<std::int32_t>(start);
    }
  }
  std::swap(memory.starts, memory.other_starts);
  return n;
}

/// Runs stages first_stage, first_stage + 1, ... over the candidates [config.sink, w0).
/// For first_stage > 0 memory.starts holds the `count` survivors of the stage before.
///
/// score_keys(stage, positions, n, a): see scan.hpp. on_survivors(stage, starts, count) is called
/// after each stage. key_reads[stage] is added to. Afterwards memory.starts holds the first keys of
/// the selected blocks; returns their number.
template <typename ScoreKeys, typename OnSurvivors>
std::int64_t search(const HipConfig& config, std::int64_t w0, int first_stage, std::int64_t count,
                    SearchMemory& memory, ScoreKeys&& score_keys, OnSurvivors&& on_survivors,
                    std::int64_t* key_reads) {
  const std::int64_t candidates = w0 - config.sink;
  std::int64_t chunk_size = 0;
  if (first_stage == 0) {  // the first cut: one chunk per first_chunk_size tokens
    chunk_size = first_chunk_size(config, candidates);
    count = 0;
    for (std::int64_t start = config.sink; start < w0; start += chunk_size) {
      memory.starts[count++] = static_cast<std::int32_t>(start);
    }
  } else {
    chunk_size = stage_chunk_size(config, first_stage - 1, candidates);
  }

  for (int s = first_stage; s < config.num_stages(); ++s) {
    const ScanStage& stage = config.stages[s];
    const std::int64_t stage_size = stage_chunk_size(config, s, candidates);
    count = cut_chunks(memory, count, chunk_size, stage_size, w0);
    chunk_size = stage_size;

    const std::int64_t keep = kept_chunks(stage, chunk_size);
    if (count > keep) {  // otherwise nothing can be dropped and no key is read
      const auto score = [&](const std::int32_t* positions, int n, float* a) {
        score_keys(s, positions, n, a);
      };
      key_reads[s] +=
          score_chunks(stage.rule, memory.starts, count, chunk_size, w0, score, memory.scores);
      count = select_chunks(memory.starts, memory.scores, count, keep, memory.scratch);
    }
    on_survivors(s, memory.starts, count);
  }
  // One stage whose chunk size doubled leaves chunks of several blocks.
  return cut_chunks(memory, count, chunk_size, config.block_k(), w0);
}

}  // namespace hip_attn::cpu
