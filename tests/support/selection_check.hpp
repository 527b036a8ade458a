/// What a call selects and counts, against the brute-force search of reference.hpp. Where maxima
/// decide, on numbers whose products are exact, selections are equal. Where a sum decides they are
/// equal but for chunks whose scores are as good as the threshold, stage by stage.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <vector>

#include "catch.hpp"
#include "configs.hpp"
#include "problem.hpp"
#include "reference.hpp"
#include "run.hpp"

namespace hip_attn::test {

/// Relative distance of two scores of softmax sums that rounding may take for equal. CUDA's dense
/// search keeps the mass that a row gives a chunk as bfloat16, wrong by up to 2^-9.
inline double sum_tolerance(Device device) {
  return device.type == DeviceType::kCpu ? 1e-4 : 0x1p-6;
}

inline LandmarkOptions landmarks_of(const RunOptions& options) {
  return {options.landmarks.chunk_sizes, options.landmarks.spread};
}

/// The survivors of stage s, which the call reports as blocks: what follows drops nothing. Its rule
/// and reduction stay, so that the same kernels run: others may decide otherwise between chunks
/// within sum_tolerance, and the stages after would start from other survivors.
template <TestedTypes P>
RunResult<P> run_until_stage(Operator op, const HipConfig& config, int s, const Problem<P>& problem,
                             RunOptions options) {
  HipConfig shorter = config;
  shorter.stages.resize(static_cast<std::size_t>(s) + 1);
  shorter.refresh_interval.clear();
  if (s + 1 < config.num_stages()) {
    ScanStage cut = config.stages.back();
    cut.keep = shorter.stages.back().keep;
    shorter.stages.push_back(cut);
  }
  options.landmarks = with_levels_of(config, options.landmarks);
  return run_attention(op, shorter, problem, options);
}

/// Blocks put together to the chunks that they were cut from.
inline std::vector<Chunk> chunks_of_blocks(const HipConfig& config, std::int64_t chunk_size,
                                           std::int64_t w0,
                                           const std::vector<std::int32_t>& blocks) {
  std::vector<Chunk> chunks;
  for (const std::int32_t block : blocks) {
    const std::int64_t begin = std::int64_t{block} * config.block_k();
    if ((begin - config.sink) % chunk_size == 0) {
      chunks.push_back({begin, std::min(begin + chunk_size, w0)});
    }
  }
  return chunks;
}

/// A stage's survivors are the reference's, or with a tolerance differ from them by chunks within
/// it of the threshold, and where nothing counts (a mass below 1e-30) by any.
inline void check_survivors(const StageResult& expected, const std::vector<Chunk>& actual,
                            double tolerance) {
  REQUIRE(actual.size() == expected.survivors.size());
  if (expected.scores.empty() || tolerance == 0) {
    CHECK((actual == expected.survivors));
    return;
  }
  const auto position = [](const Chunk& x, const Chunk& y) { return x.begin < y.begin; };
  const auto is_in = [&](const std::vector<Chunk>& chunks, const Chunk& chunk) {
    return std::binary_search(chunks.begin(), chunks.end(), chunk, position);
  };
  double threshold = kInfinity;
  for (std::size_t i = 0; i < expected.chunks.size(); ++i) {
    if (is_in(expected.survivors, expected.chunks[i])) {
      threshold = std::min(threshold, expected.scores[i]);
    }
  }
  std::size_t found = 0;
  for (std::size_t i = 0; i < expected.chunks.size(); ++i) {
    const bool selected = is_in(actual, expected.chunks[i]);
    found += selected;
    if (selected == is_in(expected.survivors, expected.chunks[i])) continue;
    CAPTURE(expected.chunks[i].begin, expected.scores[i], threshold);
    const bool near_tie = std::abs(expected.scores[i] - threshold) <= tolerance * threshold + 1e-30;
    CHECK(near_tie);
  }
  CHECK(found == actual.size());
}

/// Every unit of a call whose config has sums, stage by stage: the reference goes on with what the
/// call itself kept. Where several stages follow each other, the chunks of the first do not double,
/// because a stage that drops nothing could not follow those.
template <TestedTypes P>
void check_selection_by_stages(Operator op, const HipConfig& config, const Problem<P>& problem,
                               const RunResult<P>& result, const RunOptions& options) {
  std::vector<RunResult<P>> until;
  for (int s = 0; s + 1 < config.num_stages(); ++s) {
    until.push_back(run_until_stage(op, config, s, problem, options));
  }
  ExpectedCounters counters(config);
  for (const QueryBlock& block : query_blocks(problem, op, config)) {
    for (std::int64_t head = 0; head < problem.heads.num_kv_heads; ++head) {
      CAPTURE(block.request, block.p0, head);
      const UnitScore<P> score(problem.requests[block.request], block, head, op, config,
                               {options.scale, options.logit_softcap}, landmarks_of(options));
      SearchResult search;
      search.w0 = reference_window_start(config, block.p0);
      search.blocks = result.selection.unit(block.selection_row, head);
      search.key_reads.assign(config.stages.size(), 0);
      CHECK(result.selection.w0(block.selection_row, head) == search.w0);
      std::vector<Chunk> entering = all_candidates(config, search.w0);
      for (int s = 0; s < config.num_stages() && !config.is_window_only(); ++s) {
        CAPTURE(s);
        const bool is_last = s + 1 == config.num_stages();
        const StageResult expected = reference_stage(config, s, search.w0, entering, score);
        const HostSelection& selection = is_last ? result.selection : until[s].selection;
        const auto actual = chunks_of_blocks(config, reference_chunk_size(config, s, search.w0),
                                             search.w0, selection.unit(block.selection_row, head));
        const bool sums = config.stages[s].reduction == Reduction::kSoftmaxSum;
        check_survivors(expected, actual, sums ? sum_tolerance(options.device) : 0);
        search.key_reads[s] = expected.reads;
        entering = actual;
      }
      counters.add(config, block, search);
    }
  }
  CHECK(result.counters == counters.values);
}

/// Every unit of a call against brute force, rows of no query block untouched, and the counters.
template <TestedTypes P>
void check_selection(Operator op, const HipConfig& config, const Problem<P>& problem,
                     const RunResult<P>& result, const RunOptions& options = {}) {
  std::set<std::int64_t> rows;
  ExpectedCounters counters(config);
  const bool by_stages = has_sums(config);
  for (const QueryBlock& block : query_blocks(problem, op, config)) {
    CHECK(rows.insert(block.selection_row).second);
    for (std::int64_t head = 0; head < problem.heads.num_kv_heads; ++head) {
      CAPTURE(block.request, block.p0, head);
      REQUIRE(result.selection.written(block.selection_row, head));
      if (by_stages) continue;
      const SearchResult expected =
          reference_select(problem, block, head, op, config, {options.scale, options.logit_softcap},
                           landmarks_of(options));
      counters.add(config, block, expected);
      CHECK(result.selection.w0(block.selection_row, head) == expected.w0);
      CHECK(result.selection.unit(block.selection_row, head) == expected.blocks);
    }
  }
  for (std::int64_t row = 0; row < result.selection.rows; ++row) {
    for (std::int64_t head = 0; head < problem.heads.num_kv_heads; ++head) {
      CHECK(result.selection.written(row, head) == (rows.count(row) > 0));
    }
  }
  if (by_stages) {
    check_selection_by_stages(op, config, problem, result, options);
  } else {
    CHECK(result.counters == counters.values);
  }
}

/// Runs it and checks what it selects.
template <TestedTypes P>
RunResult<P> run_and_check_selection(Operator op, const HipConfig& config,
                                     const Problem<P>& problem, const RunOptions& options = {}) {
  RunResult<P> result = run_attention(op, config, problem, options);
  check_selection(op, config, problem, result, options);
  return result;
}

}  // namespace hip_attn::test
