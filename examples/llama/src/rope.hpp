/// How far the rotary embedding turns each pair of dimensions, from config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "json_file.hpp"

namespace llama {

/// "llama3" scaling: low frequencies are divided by `factor`, high ones kept, those between
/// interpolated.
struct Llama3RopeScaling {
  double factor;
  double low_freq_factor;
  double high_freq_factor;
  double original_max_position_embeddings;
};

struct Rope {
  double theta = 10000.0;
  std::optional<Llama3RopeScaling> scaling;
};

/// Reads what Transformers 4 keeps in rope_theta and rope_scaling, and 5 in rope_parameters. Where
/// several places have a value, the one that Transformers 5 takes counts, with a warning if another
/// differs. Errors: that of `config`, kUnsupportedRopeScaling.
Rope read_rope(const Fields& config, std::int64_t max_position_embeddings);

/// The rotation per position of each pair of dimensions, [head_dim / 2].
std::vector<float> rope_frequencies(const Rope& rope, std::int64_t head_dim);

}  // namespace llama
