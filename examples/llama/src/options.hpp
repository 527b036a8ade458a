/// Command line options that several commands share.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attention.hpp"
#include "choose_backend.hpp"
#include "engine.hpp"

namespace llama {

struct CommonOptions {
  std::filesystem::path model;
  std::vector<std::string> modes = {"hip"};
  std::vector<std::string> presets;
  std::vector<std::filesystem::path> configs;
  std::string device = "auto";
  std::string kv_type;  ///< empty: the device's own
  std::int64_t page_size = 64;
  std::int64_t prefill_rows = 2048;
  std::int64_t settling_steps = AttentionOptions{}.settling_steps;
  std::uint64_t seed = 1;
  std::optional<std::int64_t> kv_budget;
  bool stagger_refresh = false;
  bool search_ahead = false;
};

/// One kind of attention to run, and what to call it: "hip infinite_hip".
struct AttentionVariant {
  std::string label;
  AttentionOptions options;
};

/// Adds --model, --device and --kv-type.
void add_model_options(CLI::App& command, CommonOptions& options);

/// Adds --page-size and the like.
void add_engine_options(CLI::App& command, CommonOptions& options);

/// Adds --attention, --preset and --config; `several`: each takes a list.
void add_attention_options(CLI::App& command, CommonOptions& options, bool several);

/// Adds --context, a list of lengths; `what` says of what.
void add_context_option(CLI::App& command, std::vector<std::int64_t>& contexts,
                        const std::string& what);

std::optional<hip_attn::ElementType> kv_type(const CommonOptions& options);

/// What --device and --kv-type ask for. Errors: those of the other choose_backend.
std::unique_ptr<Backend> choose_backend(const CommonOptions& options);

/// Dense once if it is asked for, then hip with every preset and configuration file, and window,
/// random and the baselines of baseline_config.hpp with the first of them.
/// max_len: the length that presets which depend on one are made for. What hip_attn notes of a
/// configuration file goes to stderr. Errors: kInvalidArgument, kCannotReadFile, kAttention for a
/// configuration that hip_attn refuses.
std::vector<AttentionVariant> attention_variants(const CommonOptions& options,
                                                 std::int64_t max_len);

/// The engine's options for a single sequence of max_seq_len tokens.
EngineOptions engine_options(const CommonOptions& options, std::int64_t max_seq_len);

}  // namespace llama
