#include "hip_attn/config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "hip_attn/operator_checks.hpp"

namespace hip_attn {
namespace {

/// "config.window is 0; it must be at least 1"
template <typename Value>
Status invalid(const std::string& field, const Value& value, const std::string& rule) {
  return {StatusCode::kInvalidConfig, fmt::format("config.{} is {}; {}", field, value, rule)};
}

Status validate_stage(const HipConfig& config, std::size_t index, int num_rules) {
  const ScanStage& stage = config.stages[index];
  const ScanStage* before = index == 0 ? nullptr : &config.stages[index - 1];
  const auto field = [&](const char* name) { return fmt::format("stages[{}].{}", index, name); };

  if (stage.chunk_size < 1 || !std::has_single_bit(static_cast<std::uint32_t>(stage.chunk_size)))
    return invalid(field("chunk_size"), stage.chunk_size, "it must be a power of two");
  // Powers of two: the smaller divides the larger.
  if (before && stage.chunk_size > before->chunk_size)
    return invalid(field("chunk_size"), stage.chunk_size,
                   fmt::format("it must divide the chunk_size of the stage before it ({})",
                               before->chunk_size));
  const bool is_last = index + 1 == config.stages.size();
  const bool keeps_nothing = is_last && stage.keep == 0;
  if (!keeps_nothing && (stage.keep < 1 || stage.keep % stage.chunk_size != 0))
    return invalid(field("keep"), stage.keep,
                   fmt::format("it must be a positive multiple of that stage's chunk_size ({}){}",
                               stage.chunk_size, is_last ? ", or 0" : ""));
  if (before && stage.keep > before->keep)
    return invalid(
        field("keep"), stage.keep,
        fmt::format("it must not be above the keep of the stage before it ({})", before->keep));
  if (stage.query_stride < 1 || config.block_q % stage.query_stride != 0)
    return invalid(field("query_stride"), stage.query_stride,
                   fmt::format("it must be at least 1 and divide block_q ({})", config.block_q));
  const int rule = static_cast<int>(stage.rule);
  if (rule < 0 || rule >= num_rules)
    return invalid(field("rule"), rule,
                   num_rules == detail::kNumBuiltRules
                       ? "it must be ScanRule::kDescent (0) or ScanRule::kCentre (1)"
                       : fmt::format("the kernels have rules 0 to {}", num_rules - 1));
  return {};
}

Status validate_refresh_interval(const HipConfig& config) {
  const auto& intervals = config.refresh_interval;
  if (!intervals.empty() && intervals.size() != config.stages.size())
    return invalid(
        "refresh_interval", fmt::format("{} numbers", intervals.size()),
        fmt::format("it must be empty or hold one number per stage ({})", config.stages.size()));
  for (std::size_t i = 0; i < intervals.size(); ++i)
    if (intervals[i] < 1)
      return invalid(fmt::format("refresh_interval[{}]", i), intervals[i], "it must be at least 1");
  return {};
}

}  // namespace

Status validate(const HipConfig& config) {
  return detail::validate_with_rules(config, detail::kNumBuiltRules);
}

Status detail::validate_with_rules(const HipConfig& config, int num_rules) {
  if (config.sink < 0) return invalid("sink", config.sink, "it must be at least 0");
  if (config.window < 1) return invalid("window", config.window, "it must be at least 1");
  if (config.block_q < 1) return invalid("block_q", config.block_q, "it must be at least 1");

  if (config.stages.size() > kMaxStages)
    return invalid("stages", fmt::format("{} stages", config.stages.size()),
                   fmt::format("it must hold at most {}", kMaxStages));
  for (std::size_t i = 0; i < config.stages.size(); ++i)
    if (Status status = validate_stage(config, i, num_rules); !status.ok()) return status;

  if (config.sink % config.block_k() != 0)
    return invalid("sink", config.sink,
                   fmt::format("it must be a multiple of block_k, the last stage's chunk_size ({})",
                               config.block_k()));
  if (Status status = validate_refresh_interval(config); !status.ok()) return status;

  if (config.max_first_chunks < 1)
    return invalid("max_first_chunks", config.max_first_chunks, "it must be at least 1");
  if (config.is_dense()) return {};
  const ScanStage& first = config.stages.front();
  if (config.max_first_chunks < first.keep / first.chunk_size)
    return invalid(
        "max_first_chunks", config.max_first_chunks,
        fmt::format("it must be at least stages[0].keep / stages[0].chunk_size ({} / {} = {})",
                    first.keep, first.chunk_size, first.keep / first.chunk_size));
  return {};
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

namespace presets {

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
