/// What a configuration and the shape of a plan must be.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "hip_attn/attention.hpp"
#include "hip_attn/checks/views.hpp"
#include "hip_attn/config.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/landmarks.hpp"
#include "hip_attn/status.hpp"

namespace hip_attn::detail {

/// Of ScanRule, in the compiled library.
inline constexpr int kNumBuiltRules = static_cast<int>(ScanRule::kCustom);

/// "config.window is 0; it must be at least 1"
template <typename Value>
Status invalid(const std::string& field, const Value& value, const std::string& rule) {
  return {StatusCode::kInvalidConfig, message("config.", field, " is ", value, "; ", rule)};
}

inline Status validate_stage(const HipConfig& config, std::size_t index, int num_rules) {
  const ScanStage& stage = config.stages[index];
  const ScanStage* before = index == 0 ? nullptr : &config.stages[index - 1];
  const auto field = [&](const char* name) { return message("stages[", index, "].", name); };

  if (stage.chunk_size < 1 || !std::has_single_bit(static_cast<std::uint32_t>(stage.chunk_size)))
    return invalid(field("chunk_size"), stage.chunk_size, "it must be a power of two");
  // Powers of two: the smaller divides the larger.
  if (before && stage.chunk_size > before->chunk_size)
    return invalid(
        field("chunk_size"), stage.chunk_size,
        message("it must divide the chunk_size of the stage before it (", before->chunk_size, ")"));
  const bool is_last = index + 1 == config.stages.size();
  const bool keeps_nothing = is_last && stage.keep == 0;
  if (!keeps_nothing && (stage.keep < 1 || stage.keep % stage.chunk_size != 0))
    return invalid(field("keep"), stage.keep,
                   message("it must be a positive multiple of that stage's chunk_size (",
                           stage.chunk_size, ")", is_last ? ", or 0" : ""));
  if (before && stage.keep > before->keep)
    return invalid(
        field("keep"), stage.keep,
        message("it must not be above the keep of the stage before it (", before->keep, ")"));
  if (stage.query_stride < 1 || config.block_q % stage.query_stride != 0)
    return invalid(field("query_stride"), stage.query_stride,
                   message("it must be at least 1 and divide block_q (", config.block_q, ")"));
  const int rule = static_cast<int>(stage.rule);
  if (rule < 0 || rule >= num_rules)
    return invalid(field("rule"), rule,
                   num_rules == kNumBuiltRules
                       ? "it must be ScanRule::kDescent (0), kCentre (1), kLandmark (2) or "
                         "kEveryKey (3)"
                       : message("the kernels have rules 0 to ", num_rules - 1));
  const int reduction = static_cast<int>(stage.reduction);
  if (reduction != static_cast<int>(Reduction::kMaximum) &&
      reduction != static_cast<int>(Reduction::kSoftmaxSum))
    return invalid(field("reduction"), reduction,
                   "it must be Reduction::kMaximum (0) or Reduction::kSoftmaxSum (1)");
  if (stage.rule == ScanRule::kLandmark && before && before->rule != ScanRule::kLandmark)
    return invalid(field("rule"), rule,
                   message("a stage of rule kLandmark must come before all others, and stages[",
                           index - 1, "] is of rule ", static_cast<int>(before->rule)));
  if (stage.rule == ScanRule::kLandmark && index >= static_cast<std::size_t>(kMaxLandmarkLevels))
    return invalid(field("rule"), rule,
                   message("at most ", kMaxLandmarkLevels, " stages are of rule kLandmark"));
  return {};
}

/// What landmark stages ask of sink and window: that every candidate lies in a complete chunk.
inline Status validate_landmark_range(const HipConfig& config) {
  if (!config.uses_landmarks()) return {};
  const std::int32_t chunk = config.stages.front().chunk_size;
  if (config.sink % chunk != 0)
    return invalid("sink", config.sink,
                   message("it must be a multiple of the first stage's chunk_size (", chunk,
                           "), which is of rule kLandmark"));
  if (config.window < chunk)
    return invalid("window", config.window,
                   message("it must be at least the first stage's chunk_size (", chunk,
                           "), which is of rule kLandmark"));
  return {};
}

/// A landmark stage cannot double its chunks.
inline Status check_first_landmarks(const HipConfig& config, std::int64_t max_seq_len) {
  if (!config.uses_landmarks()) return {};
  const std::int32_t chunk = config.stages.front().chunk_size;
  const std::int64_t chunks = (max_candidates(config, max_seq_len) + chunk - 1) / chunk;
  if (chunks <= config.max_first_chunks) return {};
  return invalid(
      "stages[0].chunk_size", chunk,
      message("with shape.max_seq_len ", max_seq_len,
              " the stage, of rule kLandmark, "
              "would score ",
              chunks, " chunks, and max_first_chunks is ", config.max_first_chunks,
              "; presets::landmark(", max_seq_len, ") has stages of larger chunks in front"));
}

inline Status validate_refresh_interval(const HipConfig& config) {
  const auto& intervals = config.refresh_interval;
  if (!intervals.empty() && intervals.size() != config.stages.size())
    return invalid(
        "refresh_interval", message(intervals.size(), " numbers"),
        message("it must be empty or hold one number per stage (", config.stages.size(), ")"));
  for (std::size_t i = 0; i < intervals.size(); ++i)
    if (intervals[i] < 1)
      return invalid(message("refresh_interval[", i, "]"), intervals[i], "it must be at least 1");
  return {};
}

/// validate() for kernels that know rules 0 to num_rules - 1.
inline Status validate_with_rules(const HipConfig& config, int num_rules) {
  if (config.sink < 0) return invalid("sink", config.sink, "it must be at least 0");
  if (config.window < 1) return invalid("window", config.window, "it must be at least 1");
  if (config.block_q < 1) return invalid("block_q", config.block_q, "it must be at least 1");

  if (config.stages.size() > kMaxStages)
    return invalid("stages", message(config.stages.size(), " stages"),
                   message("it must hold at most ", kMaxStages));
  for (std::size_t i = 0; i < config.stages.size(); ++i)
    if (Status status = validate_stage(config, i, num_rules); !status.ok()) return status;

  if (config.sink % config.block_k() != 0)
    return invalid("sink", config.sink,
                   message("it must be a multiple of block_k, the last stage's chunk_size (",
                           config.block_k(), ")"));
  if (Status status = validate_landmark_range(config); !status.ok()) return status;
  if (Status status = validate_refresh_interval(config); !status.ok()) return status;

  if (config.max_first_chunks < 1)
    return invalid("max_first_chunks", config.max_first_chunks, "it must be at least 1");
  if (config.is_dense()) return {};
  const ScanStage& first = config.stages.front();
  if (config.max_first_chunks < first.keep / first.chunk_size)
    return invalid(
        "max_first_chunks", config.max_first_chunks,
        message("it must be at least stages[0].keep / stages[0].chunk_size (", first.keep, " / ",
                first.chunk_size, " = ", first.keep / first.chunk_size, ")"));
  return {};
}

inline constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();
inline constexpr std::int64_t kMaxThreads = 4096;
/// Keeps every size below 2^63 for any head dim and number of threads.
inline constexpr std::int64_t kMaxQueryElements = std::int64_t{1} << 40;

inline Status check_range(const char* name, std::int64_t value, std::int64_t lowest,
                          std::int64_t highest) {
  if (value >= lowest && value <= highest) return {};
  return {StatusCode::kInvalidShape,
          message("shape.", name, " is ", value, "; it must be from ", lowest, " to ", highest)};
}

inline Status check_shape(const AttentionShape& shape) {
  HIP_ATTN_RETURN_IF_ERROR(check_range("batch", shape.batch, 0, kMaxInt32));
  HIP_ATTN_RETURN_IF_ERROR(check_range("total_q", shape.total_q, 0, kMaxInt32));
  HIP_ATTN_RETURN_IF_ERROR(check_range("max_seq_len", shape.max_seq_len, 0, kMaxInt32));
  HIP_ATTN_RETURN_IF_ERROR(check_range("num_kv_heads", shape.num_kv_heads, 1, kMaxInt32));
  HIP_ATTN_RETURN_IF_ERROR(check_range("num_q_heads", shape.num_q_heads, 1, kMaxInt32));
  HIP_ATTN_RETURN_IF_ERROR(check_range("num_threads", shape.num_threads, 0, kMaxThreads));
  if (shape.num_q_heads % shape.num_kv_heads != 0) {
    return {StatusCode::kInvalidShape,
            message("shape.num_q_heads is ", shape.num_q_heads,
                    "; it must be a multiple of num_kv_heads (", shape.num_kv_heads, ")")};
  }
  if (shape.total_q * shape.num_q_heads > kMaxQueryElements) {
    return {StatusCode::kInvalidShape,
            message("shape.total_q * num_q_heads is ", shape.total_q, " * ", shape.num_q_heads,
                    "; it must be at most ", kMaxQueryElements)};
  }
  return {};
}

}  // namespace hip_attn::detail
