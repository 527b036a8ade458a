#include "hip_attn/config_json.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config_json_keys.hpp"
#include "config_json_layer.hpp"
#include "json_document.hpp"
#include "json_reader.hpp"

namespace hip_attn {
namespace detail {
namespace {

/// Turns the document into a ModelConfig. An absent key means what it means to the authors' class;
/// a document with the keys of a layer object, which that class does not read, is our own.
class DocumentReader {
 public:
  explicit DocumentReader(JsonReader& reader) : reader_(reader) {}

  ModelConfig model(const JsonNode& top) {
    ModelConfig config;
    std::vector<std::string_view> keys(std::begin(kDocumentKeys), std::end(kDocumentKeys));
    keys.insert(keys.end(), std::begin(kLayerKeys), std::end(kLayerKeys));
    if (!reader_.check_object(top, keys, kInertDocumentKeys)) return config;

    const auto own_key = std::ranges::find_if(
        kLayerKeys, [&](std::string_view key) { return top.json.contains(key); });
    const bool is_own = own_key != std::end(kLayerKeys);
    check_extension(top, is_own);
    const DenseSwitches dense = read_dense_switches(top);
    LayerReader layers(reader_, read_refresh_intervals(top, is_own || dense.decode));
    if (is_own)
      read_one_layer(top, *own_key, layers, config);
    else
      read_lists(top, layers, dense, config);
    read_dense_layers(top, is_own, dense, config);
    apply(dense, config);
    read_dense_threshold(top, config);
    return config;
  }

 private:
  /// What is dense in all layers, and whether prefill is in those of dense_layers.
  struct DenseSwitches {
    bool decode = false;
    bool prefill = false;
    bool prefill_in_dense_layers = false;
  };

  void check_extension(const JsonNode& top, bool is_own) {
    if (!find(top, "using_extend") && !is_own)
      reader_.refuse(StatusCode::kUnknownKey,
                     "using_extend is absent, which means true to the authors' package; context "
                     "extension is not supported: write \"using_extend\": false");
    else if (reader_.boolean(top, "using_extend", false))
      reader_.refuse(StatusCode::kUnknownKey,
                     "using_extend is true; context extension is not supported: write "
                     "\"using_extend\": false");
  }

  RefreshIntervals read_refresh_intervals(const JsonNode& top, bool quietly) {
    RefreshIntervals intervals;
    const auto node = find(top, "mask_refresh_interval");
    if (!node) {
      if (!quietly)
        reader_.note("mask_refresh_interval is absent: it is {}",
                     fmt::join(intervals.numbers, ", "));
      return intervals;
    }
    if (node->json.is_number()) {
      intervals.numbers = {reader_.integer<std::int32_t>(*node, 1)};
      return intervals;
    }
    intervals.is_list = true;
    std::vector<std::int32_t> numbers;
    for (const JsonNode& element :
         reader_.elements(*node, "an integer, or a list of one integer per stage,"))
      numbers.push_back(reader_.integer<std::int32_t>(element, 1));
    if (numbers.empty())
      reader_.refuse(StatusCode::kMalformedJson, "{} is empty; at least one integer is accepted",
                     node->path);
    else
      intervals.numbers = std::move(numbers);
    return intervals;
  }

  void read_one_layer(const JsonNode& top, std::string_view own_key, LayerReader& layers,
                      ModelConfig& config) {
    for (const char* list : {"layers", "prefill_layers"})
      if (find(top, list))
        reader_.refuse(StatusCode::kUnknownKey,
                       "{} stands beside {}; it is accepted in each layer object, or alone for all "
                       "layers",
                       own_key, list);
    config.decode_layers = {layers.layer(top, Use::kBoth)};
  }

  void read_lists(const JsonNode& top, LayerReader& layers, const DenseSwitches& dense,
                  ModelConfig& config) {
    const auto decode = find(top, "layers");
    const auto prefill = find(top, "prefill_layers");
    const auto is_null = [](const auto& node) { return node && node->json.is_null(); };
    const auto list = [&](const auto& node, Use use) {
      return node ? layers.list(*node, use)
                  : std::vector{layers.refreshed(presets::infinite_hip_5k()),
                                layers.refreshed(presets::infinite_hip())};
    };
    if (is_null(decode) && is_null(prefill)) {
      reader_.refuse(StatusCode::kMalformedJson,
                     "layers and prefill_layers are null; a list of layer objects is accepted in "
                     "one of them");
    } else if (is_null(decode) || is_null(prefill)) {  // each is as the other
      config.decode_layers = list(is_null(decode) ? prefill : decode, Use::kBoth);
    } else {
      config.decode_layers = list(decode, Use::kDecode);
      config.prefill_layers = list(prefill, Use::kPrefill);
    }

    constexpr std::string_view kDefault =
        "second_stage_k is 4096 in the layers of dense_layers and 2048 in all others";
    if (!decode && !dense.decode) reader_.note("layers is absent: {}", kDefault);
    if (!prefill && !dense.prefill)
      reader_.note("prefill_layers is absent: {}; null would mean as in layers", kDefault);
  }

  void read_dense_layers(const JsonNode& top, bool is_own, const DenseSwitches& dense,
                         ModelConfig& config) {
    const auto node = find(top, "dense_layers");
    if (!node) {
      if (is_own) return;
      config.dense_layers = {0, 1, 2, 3, 31};
      const bool matters = (config.decode_layers.size() == 2 && !dense.decode) ||
                           (config.prefill_layers.size() == 2 && !dense.prefill) ||
                           dense.prefill_in_dense_layers;
      if (matters)
        reader_.note("dense_layers is absent: it is {}", fmt::join(config.dense_layers, ", "));
      return;
    }
    std::set<std::int32_t> dense_layers;
    for (const JsonNode& element : reader_.elements(*node, "a list of layer numbers"))
      dense_layers.insert(reader_.integer<std::int32_t>(element, 0));
    if (dense_layers.empty()) return;
    config.dense_layers.assign(dense_layers.begin(), dense_layers.end());

    const auto split = [&](std::vector<HipConfig>& layers, const char* key) {
      if (layers.size() == 1) layers.insert(layers.begin(), presets::dense());
      if (layers.size() > 2)
        reader_.note("dense_layers has no effect on {}, which has one entry for each layer", key);
    };
    split(config.decode_layers, "layers");
    split(config.prefill_layers, "prefill_layers");
  }

  /// The first three are what the authors' package reads and no longer acts on.
  DenseSwitches read_dense_switches(const JsonNode& top) {
    const auto is_set = [&](const char* key) {
      if (!reader_.boolean(top, key, false)) return false;
      reader_.note("{} is honoured; the authors' package reads it without acting on it", key);
      return true;
    };
    const bool all = is_set("force_dense");
    const bool decode = is_set("decode_always_dense");
    const bool prefill = is_set("prefill_always_dense");
    return {all || decode, all || prefill, reader_.boolean(top, "__using_dense_prefill", false)};
  }

  static void apply(const DenseSwitches& dense, ModelConfig& config) {
    if (config.prefill_layers.empty()) config.prefill_layers = config.decode_layers;
    if (dense.decode) config.decode_layers = {presets::dense()};
    if (dense.prefill) config.prefill_layers = {presets::dense()};
    if (dense.prefill_in_dense_layers) make_dense(config.prefill_layers, config.dense_layers);
    if (config.prefill_layers == config.decode_layers) config.prefill_layers.clear();
  }

  void read_dense_threshold(const JsonNode& top, ModelConfig& config) {
    const auto node = find(top, "prefill_dense_threshold");
    if (!node) return;
    config.prefill_dense_until = std::int64_t{reader_.integer<std::int32_t>(*node, -1)} + 1;
    if (config.prefill_dense_until == 0) return;
    reader_.note(
        "prefill_dense_threshold is honoured, in layers that search, by callers that hand "
        "ModelConfig::prefill_dense_until to their plans; the authors' package reads it without "
        "acting on it");
  }

  static void make_dense(std::vector<HipConfig>& layers, std::span<const std::int32_t> numbers) {
    if (layers.size() == 1 && !numbers.empty()) layers.insert(layers.begin(), presets::dense());
    if (layers.size() == 2)
      layers.front() = presets::dense();
    else
      for (const std::int32_t number : numbers)
        if (static_cast<std::size_t>(number) < layers.size()) layers[number] = presets::dense();
  }

  JsonReader& reader_;
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
}  // namespace detail

const HipConfig& ModelConfig::decode(std::int32_t layer) const {
  return detail::entry_of_layer(decode_layers, dense_layers, layer);
}

const HipConfig& ModelConfig::prefill(std::int32_t layer) const {
  return prefill_layers.empty() ? decode(layer)
                                : detail::entry_of_layer(prefill_layers, dense_layers, layer);
}

Status parse_model_config(std::string_view json, ModelConfig& config,
                          std::vector<std::string>* notes) {
  detail::Json document;
  if (Status status = detail::parse_json(json, document); !status.ok()) return status;
  detail::JsonReader reader;
  ModelConfig parsed = detail::DocumentReader(reader).model({document, ""});
  if (!reader.status().ok()) return reader.status();
  config = std::move(parsed);
  if (notes) *notes = reader.take_notes();
  return {};
}

}  // namespace hip_attn
