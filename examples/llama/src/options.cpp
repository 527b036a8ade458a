#include "options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <utility>

#include "baseline_config.hpp"
#include "error.hpp"
#include "hip_attn/build_info.hpp"
#include "hip_attn/config.hpp"
#include "hip_attn/config_json.hpp"
#include "json_file.hpp"
#include "warning.hpp"

namespace llama {
namespace {

using NamedConfig = std::pair<std::string, hip_attn::ModelConfig>;
using Preset = std::function<hip_attn::HipConfig(std::int64_t max_len)>;

/// The halving search with the keys per row of infinite_hip, so that the searches compare.
hip_attn::HipConfig classic_search(std::int64_t max_len) {
  const hip_attn::HipConfig like = hip_attn::presets::infinite_hip();
  hip_attn::HipConfig config =
      hip_attn::presets::hip_classic(max_len, like.stages.back().keep, like.block_k());
  config.sink = like.sink;
  config.window = like.window;
  return config;
}

const std::map<std::string, Preset>& presets() {
  static const std::map<std::string, Preset> kPresets = {
      {"infinite_hip", [](auto) { return hip_attn::presets::infinite_hip(); }},
      {"infinite_hip_fast", [](auto) { return hip_attn::presets::infinite_hip_fast(); }},
      {"infinite_hip_5k", [](auto) { return hip_attn::presets::infinite_hip_5k(); }},
      {"infinite_hip_softmax_sum",
       [](auto) { return hip_attn::presets::infinite_hip_softmax_sum(); }},
      {"landmark", hip_attn::presets::landmark},
      {"landmark_1k", hip_attn::presets::landmark_1k},
      {"hip_classic", classic_search},
      {"dense", [](auto) { return hip_attn::presets::dense(); }},
  };
  return kPresets;
}

const std::map<std::string, AttentionMode>& modes() {
  static const std::map<std::string, AttentionMode> kModes = [] {
    std::map<std::string, AttentionMode> names;
    for (const auto mode : {AttentionMode::kHip, AttentionMode::kDense, AttentionMode::kWindow,
                            AttentionMode::kRandom}) {
      names[to_string(mode)] = mode;
    }
    return names;
  }();
  return kModes;
}

bool is_baseline_config(const std::string& name) {
  const auto& names = baseline_configs();
  return std::find(names.begin(), names.end(), name) != names.end();
}

const std::map<std::string, hip_attn::ElementType>& kv_types() {
  static const std::map<std::string, hip_attn::ElementType> kTypes = [] {
    std::map<std::string, hip_attn::ElementType> names;
    for (const hip_attn::ElementType type : hip_attn::built_element_types()) {
      names[to_string(type)] = type;
    }
    return names;
  }();
  return kTypes;
}

template <typename Map>
std::vector<std::string> names(const Map& map) {
  std::vector<std::string> names;
  for (const auto& [name, _] : map) names.push_back(name);
  return names;
}

/// What --attention takes.
std::vector<std::string> attention_names() {
  std::vector<std::string> all = names(modes());
  all.insert(all.end(), baseline_configs().begin(), baseline_configs().end());
  return all;
}

std::vector<NamedConfig> named_configs(const CommonOptions& options, std::int64_t max_len) {
  std::vector<NamedConfig> configs;
  for (const std::string& name : options.presets) {
    hip_attn::ModelConfig config;
    config.decode_layers = {presets().at(name)(max_len)};
    configs.emplace_back(name, std::move(config));
  }
  for (const auto& path : options.configs) {
    hip_attn::ModelConfig config;
    std::vector<std::string> notes;
    const hip_attn::Status status = hip_attn::parse_model_config(read_file(path), config, &notes);
    if (!status.ok()) {
      throw Error(ErrorCode::kAttention,
                  fmt::format("{}: {}: {}", path.string(), hip_attn::to_string(status.code()),
                              status.message()));
    }
    for (const std::string& note : notes) warn(fmt::format("{}: {}", path.string(), note));
    configs.emplace_back(path.stem().string(), std::move(config));
  }
  return configs;
}

}  // namespace

void add_model_options(CLI::App& command, CommonOptions& options) {
  command.add_option("--model", options.model, "a Hugging Face folder of a Llama model")
      ->required();
  command
      .add_option("--device", options.device,
                  "cpu, gpu, or auto: the GPU if there is one that this program was built for")
      ->check(CLI::IsMember({"auto", "cpu", "gpu"}))
      ->capture_default_str();
  command
      .add_option("--kv-type", options.kv_type,
                  "element type of the KV cache, on a GPU also of weights and activations "
                  "(default: float32 on the CPU, bfloat16 on a GPU)")
      ->check(CLI::IsMember(names(kv_types())));
}

void add_engine_options(CLI::App& command, CommonOptions& options) {
  command.add_option("--page-size", options.page_size, "tokens in a page of the KV cache")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command.add_option("--prefill-rows", options.prefill_rows, "tokens of one forward pass at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command
      .add_option("--settling-steps", options.settling_steps,
                  "decode steps of a sequence before selections are reused as the configuration "
                  "says; until then the last stage runs every step")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      .add_option("--kv-budget", options.kv_budget,
                  "keep the KV cache in host memory, and so many bytes of it at most on the "
                  "device, 64M or a number; pages have 8 tokens then")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::PositiveNumber);
  command.add_flag("--stagger-refresh", options.stagger_refresh,
                   "layers make their selections anew in different steps");
  command.add_flag("--search-ahead", options.search_ahead,
                   "searches run one decode step ahead, so that what they find comes from host "
                   "memory before it is read");
  command.add_option("--seed", options.seed, "of everything that is drawn at random")
      ->capture_default_str();
}

void add_attention_options(CLI::App& command, CommonOptions& options, bool several) {
  const std::string list = several ? ", or a list with commas" : "";
  CLI::Option* mode =
      command
          .add_option("--attention", options.modes,
                      "which keys a row attends to" + list +
                          "; all but hip and dense take their size from the first configuration")
          ->check(CLI::IsMember(attention_names()))
          ->delimiter(',')
          ->capture_default_str();
  CLI::Option* preset =
      command
          .add_option("--preset", options.presets,
                      "a named configuration of the search" + list + " (default: infinite_hip)")
          ->check(CLI::IsMember(names(presets())))
          ->delimiter(',');
  CLI::Option* config =
      command
          .add_option(
              "--config", options.configs,
              "a JSON configuration of the search, in the format of the authors' package" + list)
          ->delimiter(',');
  if (!several) {
    mode->expected(1);
    preset->expected(1);
    config->expected(1)->excludes(preset);
  }
}

void add_context_option(CLI::App& command, std::vector<std::int64_t>& contexts,
                        const std::string& what) {
  command.add_option("--context", contexts, what + ", 16384 or 16k, or a list with commas")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, std::int64_t>{{"k", 1024}}))
      ->delimiter(',')
      ->capture_default_str();
}

std::optional<hip_attn::ElementType> kv_type(const CommonOptions& options) {
  if (options.kv_type.empty()) return std::nullopt;
  return kv_types().at(options.kv_type);
}

std::unique_ptr<Backend> choose_backend(const CommonOptions& options) {
  return choose_backend(options.device, kv_type(options));
}

std::vector<AttentionVariant> attention_variants(const CommonOptions& options,
                                                 std::int64_t max_len) {
  CommonOptions chosen = options;
  if (chosen.presets.empty() && chosen.configs.empty()) chosen.presets = {"infinite_hip"};

  AttentionOptions attention;
  attention.kv_type = kv_type(options);
  attention.settling_steps = options.settling_steps;
  attention.seed = options.seed;
  attention.kv_budget = options.kv_budget;
  attention.stagger_refresh = options.stagger_refresh;
  attention.search_ahead = options.search_ahead;
  std::vector<AttentionVariant> variants;
  const auto add = [&](AttentionMode mode, const std::string& label) {
    attention.mode = mode;
    variants.push_back({label, attention});
  };
  if (std::find(options.modes.begin(), options.modes.end(), "dense") != options.modes.end()) {
    add(AttentionMode::kDense, "dense");
  }
  const std::vector<NamedConfig> configs = named_configs(chosen, max_len);
  for (const std::string& mode : options.modes) {
    if (mode == "dense") continue;
    if (is_baseline_config(mode)) {
      const auto& [name, config] = configs.front();
      const BaselineConfig baseline = baseline_config(mode, config);
      variants.push_back({mode + " " + name, attention});
      variants.back().options.mode = AttentionMode::kHip;
      variants.back().options.config = baseline.config;
      variants.back().options.landmark_spread = baseline.landmark_spread;
      continue;
    }
    for (const auto& [name, config] : configs) {
      attention.config = config;
      add(modes().at(mode), mode + " " + name);
      if (mode != "hip") break;  // window and random are of the size of the first
    }
  }
  return variants;
}

EngineOptions engine_options(const CommonOptions& options, std::int64_t max_seq_len) {
  EngineOptions engine;
  engine.max_seq_len = max_seq_len;
  engine.cache_tokens = max_seq_len;
  engine.page_size = options.kv_budget ? hip_attn::kKvBlockTokens : options.page_size;
  engine.prefill_rows = options.prefill_rows;
  return engine;
}

}  // namespace llama
