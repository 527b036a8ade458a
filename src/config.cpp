#include "hip_attn/config.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "hip_attn/checks/config.hpp"
#include "hip_attn/landmarks.hpp"
#include "hip_attn/selection.hpp"

namespace hip_attn {
Status validate(const HipConfig& config) {
  return detail::validate_with_rules(config, detail::kNumBuiltRules);
}

// Total, also on configurations that validate() refuses: a missing interval, or one below 1, counts
// as "every step".
std::int32_t refresh_from_at(const HipConfig& config, std::int64_t step) noexcept {
  const auto& intervals = config.refresh_interval;
  for (std::size_t s = 0; s < config.stages.size(); ++s)
    if (s >= intervals.size() || intervals[s] <= 1 || step % intervals[s] == 0)
      return static_cast<std::int32_t>(s);
  return config.num_stages();
}

std::int32_t refresh_ahead_at(const HipConfig& config, std::int64_t step) noexcept {
  const std::int32_t stages = config.num_stages();
  // What is due at `at` and can be searched for in the step before; stages: nothing.
  const auto due_ahead = [&](std::int64_t at) {
    if (at < 2 || refresh_from_at(config, at - 1) < stages) return stages;
    const std::int32_t from = refresh_from_at(config, at);
    return from < stages - 1 ? from : stages;
  };
  if (due_ahead(step) < stages) return stages - 1;
  const std::int32_t next =
      step < std::numeric_limits<std::int64_t>::max() ? due_ahead(step + 1) : stages;
  return next < stages ? search_ahead_from(next) : refresh_from_at(config, step);
}

std::vector<std::int64_t> landmark_chunk_sizes(const HipConfig& config) {
  std::vector<std::int64_t> sizes;
  if (config.is_window_only()) return sizes;
  for (const ScanStage& stage : config.stages)
    if (stage.rule == ScanRule::kLandmark) sizes.push_back(stage.chunk_size);
  std::ranges::sort(sizes);
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

namespace presets {
namespace {

HipConfig landmark_stages(std::int64_t max_len, std::int64_t sink, std::int64_t window,
                          std::int64_t keep) {
  constexpr std::int32_t kChunk = 64;
  constexpr std::int32_t kLevelFactor = 4;
  constexpr std::int64_t kFrontChunks = 256;
  const auto stage = [](std::int32_t chunk_size, std::int64_t kept, ScanRule rule) {
    return ScanStage{chunk_size, kept, 4, rule, Reduction::kSoftmaxSum};
  };
  HipConfig config;
  config.stages = {stage(kChunk, 8192, ScanRule::kLandmark), stage(8, keep, ScanRule::kEveryKey)};
  config.refresh_interval = {16, 8};
  std::int32_t first = kChunk;
  // Below every max_len that a plan takes: the chunk size stays an int32.
  while (max_len > config.max_first_chunks * first && max_len <= detail::kMaxInt32) {
    first *= kLevelFactor;
    config.stages.insert(config.stages.begin(),
                         stage(first, kFrontChunks * first, ScanRule::kLandmark));
    config.refresh_interval.insert(config.refresh_interval.begin(), 16);
  }
  config.sink = std::max<std::int64_t>(sink, first);
  config.window = std::max<std::int64_t>(window, first);
  // A max_len that no plan takes is handed to a field whose rule refuses it and names the value.
  if (max_len < 1) config.window = max_len;
  if (max_len > detail::kMaxInt32) config.stages.back().keep = max_len;
  return config;
}

}  // namespace

HipConfig infinite_hip() {
  HipConfig config;
  config.sink = 256;
  config.window = 1024;
  config.block_q = 64;
  config.stages = {
      {.chunk_size = 256, .keep = 32768, .query_stride = 4, .rule = ScanRule::kDescent},
      {.chunk_size = 32, .keep = 8192, .query_stride = 4, .rule = ScanRule::kDescent},
      {.chunk_size = 8, .keep = 2048, .query_stride = 1, .rule = ScanRule::kDescent},
  };
  config.refresh_interval = {32, 16, 8};
  return config;
}

HipConfig infinite_hip_fast() {
  HipConfig config = infinite_hip();
  config.refresh_interval = {96, 24, 8};
  return config;
}

HipConfig infinite_hip_softmax_sum() {
  HipConfig config = infinite_hip();
  for (ScanStage& stage : config.stages) stage.reduction = Reduction::kSoftmaxSum;
  return config;
}

HipConfig landmark(std::int64_t max_len) { return landmark_stages(max_len, 256, 1024, 2048); }

HipConfig landmark_1k(std::int64_t max_len) { return landmark_stages(max_len, 128, 512, 1024); }

HipConfig infinite_hip_5k() {
  HipConfig config = infinite_hip();
  config.stages.back().keep = 4096;
  return config;
}

HipConfig hip_classic(std::int64_t max_len, std::int64_t k, std::int32_t block_k) {
  // The last stage carries k and block_k as they came, so validate() refuses bad ones there, by
  // value; a max_len below 1 is handed to the window, whose rule is the same.
  HipConfig config;
  config.window = max_len < 1 ? max_len : std::max(block_k, 1);
  config.stages = {
      {.chunk_size = block_k, .keep = k, .query_stride = 1, .rule = ScanRule::kCentre}};
  if (block_k > 0) config.max_first_chunks = std::max(config.max_first_chunks, k / block_k);
  if (k == 0 || !validate(config).ok()) return config;

  // C >= max_len * block_k / k is C * kept_chunks >= max_len, which does not overflow when divided
  // out. C stops where chunk_size or keep would overflow; longer sequences are searched all the
  // same, from more than kept_chunks chunks.
  const std::int64_t kept_chunks = k / block_k;
  const std::int64_t needed = (max_len - 1) / kept_chunks + 1;
  const std::int64_t largest =
      std::min<std::int64_t>(std::numeric_limits<std::int32_t>::max(),
                             std::numeric_limits<std::int64_t>::max() / kept_chunks);
  for (std::int64_t chunk = block_k; chunk < needed && chunk <= largest / 2;) {
    chunk *= 2;
    config.stages.push_back({.chunk_size = static_cast<std::int32_t>(chunk),
                             .keep = kept_chunks * chunk,
                             .query_stride = 1,
                             .rule = ScanRule::kCentre});
  }
  std::ranges::reverse(config.stages);
  return config;
}

HipConfig sliding_window(std::int64_t window, std::int64_t sink) {
  HipConfig config;
  config.sink = sink;
  config.window = window;
  config.stages = {{.chunk_size = 1, .keep = 0}};
  return config;
}

HipConfig dense() { return {}; }

}  // namespace presets
}  // namespace hip_attn
