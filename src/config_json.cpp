#include "hip_attn/config_json.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hip_attn {
namespace {

using Json = nlohmann::json;

// Three stages for each of 500 layers, indented, take half of it. Memory is linear in the text.
constexpr std::size_t kMaxBytes = std::size_t{1} << 20;
// The format itself nests 5 deep: layers[0].stages[0] is inside two lists and three objects.
constexpr std::size_t kMaxDepth = 16;
// Of a key or a value in a message.
constexpr std::size_t kMaxQuoted = 60;

constexpr std::string_view kLayerKeys[] = {"second_stage_k", "sliding_window_size",
                                           "sink_token_size", "stages"};
constexpr std::string_view kTopKeys[] = {
    "mask_refresh_interval", "layers",          "prefill_layers",
    "dense_layers",          "using_extend",    "second_stage_k",
    "sliding_window_size",   "sink_token_size", "stages"};
constexpr std::string_view kStageKeys[] = {"stage_block_size_q", "stage_block_stride_q",
                                           "stage_chunk_size", "stage_k", "stage_stride"};

/// A value as a message shows it: one line of ASCII.
std::string shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kMaxQuoted) text.replace(kMaxQuoted, std::string::npos, "...");
  return text;
}

/// The path of a member: "layers[1].stages", or layers[1]["odd name"] for what is no plain name.
std::string member_path(const std::string& object, const std::string& key) {
  const bool plain =
      !key.empty() && key.size() <= kMaxQuoted && std::ranges::all_of(key, [](unsigned char c) {
        return c < 0x80 && (std::isalnum(c) != 0 || c == '_');
      });
  if (!plain) return fmt::format("{}[{}]", object, shown(key));
  return object.empty() ? key : fmt::format("{}.{}", object, key);
}

/// Walks the text once and builds nothing. Says where it is not JSON, and refuses what the tree of
/// values would hide (a key given twice) or suffer from (deep nesting).
class Inspector final : public nlohmann::json_sax<Json> {
 public:
  explicit Inspector(std::string_view text) : text_(text) {}

  [[nodiscard]] const std::string& problem() const { return problem_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }

  bool key(string_t& name) override {
    if (open_.back().insert(name).second) return true;
    problem_ = fmt::format("the key {} stands twice in one object", shown(name));
    return false;
  }

  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    const std::string_view before = text_.substr(0, position > 0 ? position - 1 : 0);
    const std::size_t newline = before.rfind('\n');
    problem_ = fmt::format(
        "the text is not JSON: line {}, column {}", std::ranges::count(before, '\n') + 1,
        before.size() - (newline == std::string_view::npos ? 0 : newline + 1) + 1);
    return false;
  }

 private:
  bool enter() {
    open_.emplace_back();
    if (open_.size() <= kMaxDepth) return true;
    problem_ = fmt::format("the text nests more than {} levels deep", kMaxDepth);
    return false;
  }

  bool leave() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  std::vector<std::set<std::string>> open_;  // keys so far of the objects around (lists: none)
  std::string problem_;
};

/// A value and where it stands.
struct Node {
  const Json& json;
  std::string path;
};

std::optional<Node> find(const Node& object, const std::string& key) {
  const auto it = object.json.find(key);
  if (it == object.json.end()) return std::nullopt;
  return Node{*it, member_path(object.path, key)};
}

/// Turns the document into configurations. The first error is kept; what is read after it is well
/// defined and thrown away, so that nothing below needs to look at the status between two values.
class Reader {
 public:
  [[nodiscard]] const Status& status() const { return status_; }

  ModelConfig model(const Node& top) {
    ModelConfig config;
    if (!check_object(top, kTopKeys)) return config;
    refuse_extension(top);
    read_refresh_interval(top);

    const auto layers = find(top, "layers");
    const auto prefill_layers = find(top, "prefill_layers");
    for (const std::string_view key : kLayerKeys)
      if ((layers || prefill_layers) && find(top, std::string(key)))
        refuse(StatusCode::kUnknownKey,
               "{} stands beside {}; it is accepted in each layer object, or alone for all layers",
               key, layers ? layers->path : prefill_layers->path);

    if (layers)
      config.decode_layers = layer_list(*layers);
    else
      config.decode_layers = {layer(top)};
    if (prefill_layers) config.prefill_layers = layer_list(*prefill_layers);
    if (const auto node = find(top, "dense_layers")) read_dense_layers(*node, config);
    return config;
  }

 private:
  template <typename... Args>
  void refuse(StatusCode code, fmt::format_string<Args...> format, Args&&... args) {
    if (status_.ok()) status_ = {code, fmt::format(format, std::forward<Args>(args)...)};
  }

  bool check_object(const Node& node, std::span<const std::string_view> keys) {
    if (!node.json.is_object()) {
      refuse(StatusCode::kMalformedJson, "{} is {}; an object is accepted",
             node.path.empty() ? "the document" : node.path, shown(node.json));
      return false;
    }
    for (const auto& [key, value] : node.json.items())
      if (std::ranges::find(keys, key) == keys.end())
        refuse(StatusCode::kUnknownKey, "{} is not supported; the keys accepted here are {}",
               member_path(node.path, key), fmt::join(keys, ", "));
    return true;
  }

  std::vector<Node> elements(const Node& node, const char* accepted) {
    std::vector<Node> nodes;
    if (!node.json.is_array())
      refuse(StatusCode::kMalformedJson, "{} is {}; {} is accepted", node.path, shown(node.json),
             accepted);
    else
      for (const Json& element : node.json)
        nodes.push_back({element, fmt::format("{}[{}]", node.path, nodes.size())});
    return nodes;
  }

  /// An integer from `minimum` to the largest T; `minimum` after an error.
  template <std::signed_integral T>
  T integer(const Node& node, T minimum) {
    const Json& json = node.json;
    const bool in_range =
        json.is_number_unsigned()
            ? std::in_range<T>(json.get<std::uint64_t>())
            : json.is_number_integer() && std::in_range<T>(json.get<std::int64_t>());
    if (in_range && json.get<T>() >= minimum) return json.get<T>();
    refuse(StatusCode::kMalformedJson, "{} is {}; an integer from {} to {} is accepted", node.path,
           shown(json), minimum, std::numeric_limits<T>::max());
    return minimum;
  }

  template <std::signed_integral T>
  T required_integer(const Node& object, const char* key, T minimum) {
    if (const auto node = find(object, key)) return integer(*node, minimum);
    refuse(StatusCode::kMalformedJson, "{} is missing; an integer of at least {} is accepted",
           member_path(object.path, key), minimum);
    return minimum;
  }

  void refuse_extension(const Node& top) {
    const auto node = find(top, "using_extend");
    if (!node) return;
    if (!node->json.is_boolean())
      refuse(StatusCode::kMalformedJson, "{} is {}; false is accepted", node->path,
             shown(node->json));
    else if (node->json.get<bool>())
      refuse(StatusCode::kUnknownKey,
             "{} is true; context extension is not supported, only false is accepted", node->path);
  }

  void read_refresh_interval(const Node& top) {
    const auto node = find(top, "mask_refresh_interval");
    if (!node) return;
    if (node->json.is_number()) {
      shared_interval_ = integer<std::int32_t>(*node, 1);
      return;
    }
    interval_per_stage_.emplace();
    for (const Node& element : elements(*node, "an integer, or a list of one integer per stage,"))
      interval_per_stage_->push_back(integer<std::int32_t>(element, 1));
  }

  std::vector<HipConfig> layer_list(const Node& node) {
    std::vector<HipConfig> configs;
    for (const Node& element : elements(node, "a list of layer objects")) {
      if (!status_.ok()) break;
      if (check_object(element, kLayerKeys)) configs.push_back(layer(element));
    }
    if (configs.empty())
      refuse(StatusCode::kMalformedJson, "{} is empty; at least one layer object is accepted",
             node.path);
    return configs;
  }

  HipConfig layer(const Node& node) {
    HipConfig config = presets::infinite_hip();
    if (const auto sink = find(node, "sink_token_size"))
      config.sink = integer<std::int64_t>(*sink, 0);
    if (const auto window = find(node, "sliding_window_size"))
      config.window = integer<std::int64_t>(*window, 1);
    if (const auto stages = find(node, "stages")) read_stages(*stages, config);
    if (const auto keep = find(node, "second_stage_k")) {
      if (config.is_dense())
        refuse(StatusCode::kInvalidConfig, "{} is given, but {} is empty: no stage keeps anything",
               keep->path, member_path(node.path, "stages"));
      else
        config.stages.back().keep = integer<std::int64_t>(*keep, 1);
    }
    set_refresh_interval(node, config);
    // The format has no such bound: lift it where the stages need more than the default.
    if (!config.is_dense())
      config.max_first_chunks = std::max(
          config.max_first_chunks, config.stages.front().keep / config.stages.front().chunk_size);

    if (const Status invalid = validate(config); !invalid.ok())
      refuse(invalid.code(), "{}{}{}", node.path, node.path.empty() ? "" : ": ", invalid.message());
    return config;
  }

  /// A stage's stage_k is what enters it, hence what the stage before keeps. The last stage keeps
  /// as much as the default's last, until second_stage_k is read.
  void read_stages(const Node& list, HipConfig& config) {
    const std::int64_t last_keep = config.stages.back().keep;
    std::vector<ScanStage> stages;
    for (const Node& node : elements(list, "a list of stage objects")) {
      if (!status_.ok() || !check_object(node, kStageKeys)) break;
      const bool first = stages.empty();

      const auto block_q = required_integer<std::int32_t>(node, "stage_block_size_q", 1);
      if (!first && block_q != config.block_q)
        refuse(StatusCode::kInvalidConfig,
               "{}.stage_block_size_q is {}; one selection serves one query block, so it must be "
               "that of the first stage ({})",
               node.path, block_q, config.block_q);
      config.block_q = block_q;

      if (first)
        refuse_first_stage_k(node);
      else
        stages.back().keep = required_integer<std::int64_t>(node, "stage_k", 1);

      const auto stride = find(node, "stage_stride");
      if (stride && integer<std::int32_t>(*stride, 1) != 1)
        refuse(StatusCode::kUnknownKey, "{} is {}; only 1 is supported", stride->path,
               shown(stride->json));

      stages.push_back(
          {.chunk_size = required_integer<std::int32_t>(node, "stage_chunk_size", 1),
           .keep = last_keep,
           .query_stride = required_integer<std::int32_t>(node, "stage_block_stride_q", 1),
           .rule = ScanRule::kDescent});
    }
    config.stages = std::move(stages);
  }

  void refuse_first_stage_k(const Node& stage) {
    const auto node = find(stage, "stage_k");
    if (node && !node->json.is_null())
      refuse(StatusCode::kUnknownKey,
             "{} is {}; every candidate enters the first stage, so only null is accepted",
             node->path, shown(node->json));
  }

  void set_refresh_interval(const Node& layer, HipConfig& config) {
    const std::size_t num_stages = config.stages.size();
    if (shared_interval_) {
      config.refresh_interval.assign(num_stages, *shared_interval_);
    } else if (interval_per_stage_ && !config.is_dense()) {
      if (interval_per_stage_->size() != num_stages)
        refuse(StatusCode::kInvalidConfig,
               "mask_refresh_interval is a list of {}; {} has {} stages: one integer for all, or "
               "one for each, is accepted",
               interval_per_stage_->size(), layer.path.empty() ? "the document" : layer.path,
               num_stages);
      config.refresh_interval = *interval_per_stage_;
    } else if (config.refresh_interval.size() != num_stages) {
      config.refresh_interval.clear();
    }
  }

  /// Expects the layer lists in `config`; a single entry becomes the two that "dense and all
  /// others" needs.
  void read_dense_layers(const Node& node, ModelConfig& config) {
    std::set<std::int32_t> dense_layers;
    for (const Node& element : elements(node, "a list of layer numbers"))
      dense_layers.insert(integer<std::int32_t>(element, 0));
    if (dense_layers.empty()) return;
    config.dense_layers.assign(dense_layers.begin(), dense_layers.end());

    const auto split = [&](std::vector<HipConfig>& layers, const char* key) {
      if (layers.size() == 1) layers.insert(layers.begin(), presets::dense());
      if (layers.size() > 2)
        refuse(StatusCode::kUnknownKey,
               "{} stands beside {}, which has one entry for each of {} layers; it is accepted "
               "beside at most two entries",
               node.path, key, layers.size());
    };
    split(config.decode_layers, "layers");
    split(config.prefill_layers, "prefill_layers");
  }

  Status status_;
  std::optional<std::int32_t> shared_interval_;
  std::optional<std::vector<std::int32_t>> interval_per_stage_;
};

const HipConfig& entry_of_layer(std::span<const HipConfig> entries,
                                std::span<const std::int32_t> dense_layers, std::int32_t layer) {
  static const HipConfig kDense = presets::dense();
  if (entries.empty()) return kDense;
  if (entries.size() == 2) return entries[std::ranges::count(dense_layers, layer) > 0 ? 0 : 1];
  const auto last = static_cast<std::int64_t>(entries.size()) - 1;
  return entries[static_cast<std::size_t>(std::clamp<std::int64_t>(layer, 0, last))];
}

}  // namespace

const HipConfig& ModelConfig::decode(std::int32_t layer) const {
  return entry_of_layer(decode_layers, dense_layers, layer);
}

const HipConfig& ModelConfig::prefill(std::int32_t layer) const {
  return prefill_layers.empty() ? decode(layer)
                                : entry_of_layer(prefill_layers, dense_layers, layer);
}

Status parse_model_config(std::string_view json, ModelConfig& config) {
  if (json.size() > kMaxBytes)
    return {StatusCode::kMalformedJson,
            fmt::format("the text has {} bytes; at most {} are accepted", json.size(), kMaxBytes)};
  Inspector inspector(json);
  if (!Json::sax_parse(json.begin(), json.end(), &inspector))
    return {StatusCode::kMalformedJson, inspector.problem()};

  const Json document = Json::parse(json.begin(), json.end(), nullptr, /*allow_exceptions=*/false);
  Reader reader;
  ModelConfig parsed = reader.model({document, ""});
  if (reader.status().ok()) config = std::move(parsed);
  return reader.status();
}

}  // namespace hip_attn
