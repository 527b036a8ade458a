#include "options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <utility>

#include "gpus.hpp"
#include "hip_attn/build_info.hpp"
#include "hip_attn/config_json.hpp"

namespace hip_attn::info {
namespace {

const std::map<std::string, std::function<HipConfig(std::int64_t)>>& preset_makers() {
  static const std::map<std::string, std::function<HipConfig(std::int64_t)>> kPresets = {
      {"dense", [](auto) { return presets::dense(); }},
      {"hip_classic", [](std::int64_t max_len) { return presets::hip_classic(max_len, 2048, 32); }},
      {"infinite_hip", [](auto) { return presets::infinite_hip(); }},
      {"infinite_hip_5k", [](auto) { return presets::infinite_hip_5k(); }},
      {"infinite_hip_fast", [](auto) { return presets::infinite_hip_fast(); }},
      {"infinite_hip_softmax_sum", [](auto) { return presets::infinite_hip_softmax_sum(); }},
      {"landmark", presets::landmark},
      {"landmark_1k", presets::landmark_1k},
      {"sliding_window", [](auto) { return presets::sliding_window(4096); }},
  };
  return kPresets;
}

const std::map<std::string, ElementType>& element_types() {
  static const std::map<std::string, ElementType> kTypes = {{"float32", ElementType::kFloat32},
                                                            {"float16", ElementType::kFloat16},
                                                            {"bfloat16", ElementType::kBFloat16}};
  return kTypes;
}

template <typename Map>
std::vector<std::string> keys_of(const Map& map) {
  std::vector<std::string> keys;
  for (const auto& [key, _] : map) keys.push_back(key);
  return keys;
}

/// A number from `least` to `most`, in a message that names the option.
CLI::Validator from_to(std::int64_t least, std::int64_t most) {
  return {[least, most](std::string& text) -> std::string {
            std::int64_t value = 0;
            if (CLI::detail::lexical_cast(text, value) && value >= least && value <= most)
              return {};
            return fmt::format("{} is not accepted: it takes a whole number from {} to {}", text,
                               least, most);
          },
          fmt::format("{} to {}", least, most)};
}

CLI::Validator number_from(double least, double most) {
  return {[least, most](std::string& text) -> std::string {
            double value = 0.;
            if (CLI::detail::lexical_cast(text, value) && value >= least && value <= most)
              return {};
            return fmt::format("{} is not accepted: it takes a number from {} to {}", text, least,
                               most);
          },
          fmt::format("{} to {}", least, most)};
}

CLI::Validator one_of(std::vector<std::string> names) {
  const std::string list = fmt::format("{}", fmt::join(names, ", "));
  return {[names, list](std::string& text) -> std::string {
            for (const std::string& name : names)
              if (text == name) return {};
            return fmt::format("\"{}\" is not accepted: it takes one of {}", text, list);
          },
          list};
}

ScanStage parse_stage(const std::string& text) {
  static const std::map<std::string, ScanRule> kRules = {{"descent", ScanRule::kDescent},
                                                         {"centre", ScanRule::kCentre},
                                                         {"landmark", ScanRule::kLandmark},
                                                         {"every_key", ScanRule::kEveryKey}};
  static const std::map<std::string, Reduction> kReductions = {
      {"maximum", Reduction::kMaximum}, {"softmax_sum", Reduction::kSoftmaxSum}};
  const auto refuse = [&](const std::string& why) -> UsageError {
    return UsageError(fmt::format(
        "--stage is \"{}\": {}; it takes CHUNK:KEEP:STRIDE[:RULE[:REDUCTION]], RULE one of {} and "
        "REDUCTION one of {}, as in 256:32768:4:descent:maximum",
        text, why, fmt::join(keys_of(kRules), ", "), fmt::join(keys_of(kReductions), ", ")));
  };
  const std::vector<std::string> parts = CLI::detail::split(text, ':');
  if (parts.size() < 3 || parts.size() > 5) throw refuse(fmt::format("{} parts", parts.size()));
  ScanStage stage;
  if (!CLI::detail::lexical_cast(parts[0], stage.chunk_size)) throw refuse("CHUNK is no number");
  if (!CLI::detail::lexical_cast(parts[1], stage.keep)) throw refuse("KEEP is no number");
  if (!CLI::detail::lexical_cast(parts[2], stage.query_stride)) throw refuse("STRIDE is no number");
  if (parts.size() > 3) {
    if (!kRules.contains(parts[3])) throw refuse(fmt::format("RULE is \"{}\"", parts[3]));
    stage.rule = kRules.at(parts[3]);
  }
  if (parts.size() > 4) {
    if (!kReductions.contains(parts[4])) throw refuse(fmt::format("REDUCTION is \"{}\"", parts[4]));
    stage.reduction = kReductions.at(parts[4]);
  }
  return stage;
}

NamedConfig config_of_file(const Options& options, Operator op) {
  std::ifstream file(options.config, std::ios::binary);
  if (!file) {
    throw UsageError(fmt::format(
        "--config is \"{}\", which cannot be read; it takes a JSON configuration", options.config));
  }
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  NamedConfig named{options.config, {}, {}};
  ModelConfig model;
  const Status status = parse_model_config(text, model, &named.notes);
  if (!status.ok())
    throw UsageError(fmt::format("--config is \"{}\": {}", options.config, status.message()));
  // Of the last layer: the first ones may be dense.
  constexpr std::int32_t kLastLayer = 1 << 20;
  named.config = op == Operator::kDecode ? model.decode(kLastLayer) : model.prefill(kLastLayer);
  return named;
}

void add_call_options(CLI::App& app, Options& o) {
  constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;
  app.add_option("--op", o.op, "which operator's plan")
      ->check(one_of({"prefill", "decode", "both"}))
      ->capture_default_str();
  app.add_option("--batch", o.batch, "requests of a call")->check(from_to(1, 65535));
  app.add_option("--context", o.context, "keys of each request; without it no plan is made")
      ->check(from_to(1, kMost));
  app.add_option("--rows", o.rows,
                 "query rows of each request, at the end of its context "
                 "(default: prefill all of the context, decode 1)")
      ->check(from_to(1, kMost));
  app.add_option("--q-heads", o.q_heads, "query heads")
      ->check(from_to(1, 65535))
      ->capture_default_str();
  app.add_option("--kv-heads", o.kv_heads, "KV heads")
      ->check(from_to(1, 65535))
      ->capture_default_str();
  app.add_option("--head-dim", o.head_dim, "elements of a head")
      ->check(from_to(1, 4096))
      ->capture_default_str();
  app.add_option("--page-size", o.page_size, "tokens of a page of the cache")
      ->check(from_to(1, kMost))
      ->capture_default_str();
  app.add_option("--type", o.type, "element type of queries and cache")
      ->check(one_of(keys_of(element_types())))
      ->capture_default_str();
  app.add_flag("--behind-append", o.behind_append,
               "decode behind an append_kv of its rows, whose time is counted");
}

void add_config_options(CLI::App& app, Options& o) {
  auto* preset = app.add_option("--preset", o.preset, "a configuration by name")
                     ->check(one_of(keys_of(preset_makers())))
                     ->capture_default_str();
  auto* file = app.add_option("--config", o.config,
                              "a JSON configuration as the authors' package has it; of its layers "
                              "the last");
  auto* stage = app.add_option("--stage", o.stages,
                               "a stage of a configuration of your own, in order: "
                               "CHUNK:KEEP:STRIDE[:RULE[:REDUCTION]]");
  file->excludes(preset);
  stage->excludes(preset);
  stage->excludes(file);
  constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;
  app.add_option("--refresh", o.refresh,
                 "decode steps between two runs of a stage, once for each stage, instead of the "
                 "configuration's")
      ->check(from_to(1, 1 << 20));
  app.add_option("--sink", o.sink, "instead of the configuration's")->check(from_to(0, kMost));
  app.add_option("--window", o.window, "instead of the configuration's")->check(from_to(1, kMost));
  app.add_option("--block-q", o.block_q, "instead of the configuration's")
      ->check(from_to(1, 65536));
  app.add_option("--dense-until", o.dense_until,
                 "prefill: query blocks before this position attend to every key "
                 "(default: as the plan chooses)")
      ->check(from_to(0, kMost));
}

void add_gpu_options(CLI::App& app, Options& o) {
  app.add_option("--gpu", o.gpu, "predict for this GPU instead of the one that is here")
      ->check(one_of(gpu_names()));
  app.add_option("--device", o.device, "number of the CUDA device")
      ->check(from_to(0, 1023))
      ->capture_default_str();
  app.add_option("--kernels", o.kernels, "those that a plan chooses, or those for any GPU")
      ->check(one_of({"chosen", "portable"}))
      ->capture_default_str();
  app.add_option("--team", o.team, "decode: thread blocks of a unit, instead of a plan's")
      ->check(from_to(1, 16));
  app.add_option("--layers", o.layers, "layers whose caches lie on the GPU")
      ->check(from_to(1, 65536))
      ->capture_default_str();
  app.add_option("--weights-gb", o.weights_gb, "10^9 bytes of the GPU that are taken otherwise")
      ->check(number_from(0., 1e6))
      ->capture_default_str();
  app.add_option(
         "--miss", o.miss,
         "KV offload: of the blocks that a search asks for, the part that is not on the GPU")
      ->check(number_from(0., 1.))
      ->capture_default_str();
}

}  // namespace

ElementType element_type(const Options& options) { return element_types().at(options.type); }

const char* to_string(ElementType type) {
  for (const auto& [name, value] : element_types())
    if (value == type) return name.c_str();
  return "?";
}

NamedConfig named_config(const Options& options, Operator op) {
  NamedConfig named;
  if (!options.config.empty()) {
    named = config_of_file(options, op);
  } else if (!options.stages.empty()) {
    named.name = "stages of your own";
    for (const std::string& text : options.stages) named.config.stages.push_back(parse_stage(text));
    named.config.sink = 256;
    named.config.window = 1024;
  } else {
    named.name = options.preset;
    named.config = preset_makers().at(options.preset)(options.context);
  }
  if (!options.refresh.empty()) named.config.refresh_interval = options.refresh;
  if (options.sink >= 0) named.config.sink = options.sink;
  if (options.window >= 0) named.config.window = options.window;
  if (options.block_q >= 0) named.config.block_q = static_cast<std::int32_t>(options.block_q);
  return named;
}

Parsed parse_options(int argc, char** argv) {
  Parsed parsed;
  Options& o = parsed.options;
  CLI::App app(
      "What this build of hip_attn contains and, for given shapes, what a plan would do and "
      "how long a call would take.");
  app.name("hip_attn-info");
  app.set_version_flag("--version", version());
  app.add_flag("--json", o.json, "print JSON");
  app.add_flag("--terms", o.terms, "with --json: what the cost model counts, and its rates");
  add_call_options(app, o);
  add_config_options(app, o);
  add_gpu_options(app, o);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    parsed.exits = true;
    const bool fine = error.get_exit_code() == 0;
    if (fine) {
      app.exit(error);
    } else {
      fmt::print(stderr, "hip_attn-info: {}\nRun hip_attn-info --help for all arguments.\n",
                 error.what());
      parsed.code = 2;
    }
    return parsed;
  }
  if (o.rows > 0 && o.op == "both") {
    throw UsageError(fmt::format(
        "--rows is {} and --op is both; with --rows it takes prefill or decode", o.rows));
  }
  if (o.rows > o.context) {
    throw UsageError(
        fmt::format("--rows is {}; it takes up to --context, which is {}", o.rows, o.context));
  }
  if (o.op == "decode" && o.rows > kMaxDecodeRows) {
    throw UsageError(
        fmt::format("--rows is {}; with --op decode it takes 1 to {}", o.rows, kMaxDecodeRows));
  }
  if (o.q_heads % o.kv_heads != 0) {
    throw UsageError(fmt::format("--q-heads is {}; it takes a multiple of --kv-heads, which is {}",
                                 o.q_heads, o.kv_heads));
  }
  return parsed;
}

}  // namespace hip_attn::info
