#include "config_json_layer.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "config_json_keys.hpp"

namespace hip_attn::detail {
namespace {

// The authors' package takes this window for "the model's whole context".
constexpr std::int64_t kWholeContext = 777;

}  // namespace

std::vector<HipConfig> LayerReader::list(const JsonNode& node, Use use) {
  std::vector<HipConfig> configs;
  for (const JsonNode& element : reader_.elements(node, "a list of layer objects")) {
    if (!reader_.status().ok()) break;
    if (reader_.check_object(element, kLayerKeys, kInertLayerKeys))
      configs.push_back(layer(element, use));
  }
  if (configs.empty())
    reader_.refuse(StatusCode::kMalformedJson, "{} is empty; at least one layer object is accepted",
                   node.path);
  return configs;
}

HipConfig LayerReader::layer(const JsonNode& node, Use use) {
  HipConfig config = presets::infinite_hip();
  if (const auto sink = find(node, "sink_token_size"))
    config.sink = reader_.integer<std::int64_t>(*sink, 0);
  if (const auto window = find(node, "sliding_window_size"))
    config.window = reader_.integer<std::int64_t>(*window, 1);
  if (config.window == kWholeContext)
    reader_.note(
        "sliding_window_size {} is read as {} tokens, where the authors' package attends to the "
        "whole context",
        kWholeContext, kWholeContext);
  if (const auto windows = find(node, "sliding_window_size_for_masking_step"))
    check_masking_window(*windows, config.window);

  const auto keep = find(node, "second_stage_k");
  const std::int64_t last_keep =
      keep ? reader_.integer<std::int64_t>(*keep, 0) : config.stages.back().keep;
  const auto stages = find(node, "stages");
  if (stages && stages->json.is_array() && stages->json.empty()) {
    config.stages.clear();
    if (keep)
      reader_.refuse(StatusCode::kInvalidConfig,
                     "{} is given, but {} is empty: no stage keeps anything", keep->path,
                     stages->path);
  } else if (last_keep == 0) {
    if (stages && !reader_.elements(*stages, "a list of stage objects").empty())
      reader_.note("stages has no effect where second_stage_k is 0: nothing is searched");
    config = presets::sliding_window(config.window, config.sink);
  } else {
    if (stages) read_stages(*stages, use, config);
    config.stages.back().keep = last_keep;
    // The format has no such bound: lift it where the stages need more than the default.
    config.max_first_chunks = std::max(
        config.max_first_chunks, config.stages.front().keep / config.stages.front().chunk_size);
  }
  config = refreshed(std::move(config));
  if (use != Use::kPrefill && intervals_.is_list && !config.refresh_interval.empty() &&
      intervals_.numbers.size() != config.stages.size())
    reader_.note(
        "mask_refresh_interval has {} numbers, and a layer {} stages: a number without a stage has "
        "no effect, and a stage without a number runs whenever the stage before it does",
        intervals_.numbers.size(), config.stages.size());
  if (const Status invalid = validate(config); !invalid.ok())
    reader_.refuse(invalid.code(), "{}{}{}", node.path, node.path.empty() ? "" : ": ",
                   invalid.message());
  return config;
}

HipConfig LayerReader::refreshed(HipConfig config) const {
  config.refresh_interval.clear();
  if (config.is_dense() || config.is_window_only()) return config;
  for (std::size_t s = 0; s < config.stages.size(); ++s)
    config.refresh_interval.push_back(
        intervals_.numbers[std::min(s, intervals_.numbers.size() - 1)]);
  return config;
}

/// The window of a decode step in which a stage runs. Only that of every other step is supported.
void LayerReader::check_masking_window(const JsonNode& node, std::int64_t window) {
  if (node.json.is_null()) return;
  for (const JsonNode& element : reader_.elements(node, "null or a list of integers"))
    if (reader_.integer<std::int64_t>(element, 0) != window)
      reader_.refuse(StatusCode::kUnknownKey,
                     "{} is {}; a window that is wider while stages run is not supported: write "
                     "sliding_window_size ({}), or leave the list out",
                     element.path, shown(element.json), window);
}

/// A stage may search for smaller query blocks than the one before it, each of which inherits the
/// survivors of the block that it lies in.
void LayerReader::check_block_sizes(const JsonNode& stage, Use use, std::int32_t before,
                                    std::int32_t block_q) {
  const std::string path = member_path(stage.path, "stage_block_size_q");
  if (before % block_q != 0)
    reader_.refuse(StatusCode::kInvalidConfig,
                   "{} is {}; it must divide that of the stage before it ({})", path, block_q,
                   before);
  else if (use != Use::kDecode)
    reader_.refuse(
        StatusCode::kUnknownKey,
        "{} is {}, and {} in the stage before it; a search that starts with larger query "
        "blocks is not supported in prefill: write one size in all stages",
        path, block_q, before);
  else
    reader_.note(
        "stage_block_size_q has no effect in layers, where it differs between stages: the rows of "
        "a decode step are one query block");
}

/// A stage's stage_k is what enters it, hence what the stage before keeps. The last stage keeps
/// what the caller says.
void LayerReader::read_stages(const JsonNode& list, Use use, HipConfig& config) {
  std::vector<ScanStage> stages;
  std::int32_t block_q = 0;  // of the stage before
  for (const JsonNode& node : reader_.elements(list, "a list of stage objects")) {
    if (!reader_.status().ok() || !reader_.check_object(node, kStageKeys, kInertStageKeys)) break;
    const bool first = stages.empty();

    const std::int32_t block_q_before = std::exchange(
        block_q, reader_.required_integer<std::int32_t>(node, "stage_block_size_q", 1));
    if (first)
      config.block_q = block_q;
    else if (block_q != block_q_before)
      check_block_sizes(node, use, block_q_before, block_q);

    if (!first)
      stages.back().keep = reader_.required_integer<std::int64_t>(node, "stage_k", 1);
    else if (const auto entering = find(node, "stage_k"); entering && !entering->json.is_null())
      reader_.refuse(StatusCode::kUnknownKey,
                     "{} is {}; every candidate enters the first stage, so only null is accepted",
                     entering->path, shown(entering->json));

    const auto stride = find(node, "stage_stride");
    if (stride && reader_.integer<std::int32_t>(*stride, 1) != 1)
      reader_.refuse(StatusCode::kUnknownKey, "{} is {}; only 1 is supported", stride->path,
                     shown(stride->json));

    stages.push_back(
        {.chunk_size = reader_.required_integer<std::int32_t>(node, "stage_chunk_size", 1),
         .keep = 0,
         .query_stride = reader_.required_integer<std::int32_t>(node, "stage_block_stride_q", 1),
         .rule = ScanRule::kDescent});
  }
  if (!stages.empty()) config.stages = std::move(stages);
}

}  // namespace hip_attn::detail
