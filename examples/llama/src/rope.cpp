#include "rope.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <numbers>
#include <string>
#include <string_view>

#include "warning.hpp"

namespace llama {
namespace {

[[noreturn]] void unsupported(const std::string& message) {
  throw Error(ErrorCode::kUnsupportedRopeScaling, message);
}

/// Warns that of two places with a value `used` counts.
void warn_if_they_differ(const Fields& used, const char* key, const Fields& other,
                         const char* other_key) {
  if (used.json().at(key) == other.json().at(other_key)) return;
  warn(fmt::format("{}: {} is {}, and {} of {} is {}; the former is used, as in Transformers",
                   used.where(), key, short_text(used.json().at(key)), other_key, other.where(),
                   short_text(other.json().at(other_key))));
}

/// The object to read `key` from, which may stand in either.
const Fields& place_of(const char* key, const Fields& first, const Fields& second) {
  if (!first.has(key)) return second;
  if (second.has(key)) warn_if_they_differ(first, key, second, key);
  return first;
}

/// The object of scaling parameters; an empty one where there is none.
Fields rope_object(const Fields& config) {
  static const Json kNone = Json::object();
  const auto holds = [&](const char* key) {
    const Json* value = config.find(key);
    return value && *value != kNone;
  };
  const bool scaling = holds("rope_scaling");
  const bool parameters = holds("rope_parameters");
  if (scaling && parameters) {
    warn_if_they_differ(config, "rope_scaling", config, "rope_parameters");
  }
  if (!scaling && !parameters) {
    return Fields(kNone, config.where(), ErrorCode::kMalformedModelConfig);
  }
  return config.object(scaling ? "rope_scaling" : "rope_parameters");
}

void warn_of_unused(const Fields& rope, const std::string& type,
                    std::initializer_list<std::string_view> used) {
  for (const auto& [key, value] : rope.json().items()) {
    if (std::find(used.begin(), used.end(), key) != used.end()) continue;
    warn(fmt::format("{}: {} is {}, which rope_type \"{}\" does not use", rope.where(), key,
                     short_text(value), type));
  }
}

Llama3RopeScaling read_llama3(const Fields& rope, const Fields& config,
                              std::int64_t max_position_embeddings) {
  Llama3RopeScaling scaling{rope.positive_number("factor"), rope.positive_number("low_freq_factor"),
                            rope.positive_number("high_freq_factor"),
                            static_cast<double>(max_position_embeddings)};
  constexpr auto kOriginal = "original_max_position_embeddings";
  if (const Fields& place = place_of(kOriginal, config, rope); place.has(kOriginal)) {
    scaling.original_max_position_embeddings = place.positive_number(kOriginal);
  }
  if (scaling.factor < 1) rope.reject("factor", "at least 1");
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    rope.reject("high_freq_factor", "more than low_freq_factor");
  }
  return scaling;
}

}  // namespace

Rope read_rope(const Fields& config, std::int64_t max_position_embeddings) {
  const Fields object = rope_object(config);
  for (const auto& [key, value] : object.json().items()) {
    if (!value.is_object()) continue;
    unsupported(fmt::format("{}: {} is an object; this engine has one RoPE for all layers",
                            object.where(), key));
  }
  const Fields& partial = place_of("partial_rotary_factor", object, config);
  if (partial.find("partial_rotary_factor") &&
      partial.positive_number("partial_rotary_factor") != 1) {
    unsupported(fmt::format("{}: partial_rotary_factor is {}; this engine rotates whole heads, 1.0",
                            partial.where(), short_text(partial.at("partial_rotary_factor"))));
  }

  Rope rope;
  const Fields& theta = place_of("rope_theta", object, config);
  // Below 1 the frequencies grow with the dimension, without a bound.
  if (theta.has("rope_theta")) rope.theta = theta.positive_number("rope_theta");
  if (rope.theta < 1) theta.reject("rope_theta", "at least 1");

  const std::string type =
      object.has("rope_type") ? object.string("rope_type") : object.string("type", "default");
  if (type == "llama3") {
    rope.scaling = read_llama3(object, config, max_position_embeddings);
    warn_of_unused(object, type,
                   {"rope_type", "type", "rope_theta", "partial_rotary_factor", "factor",
                    "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"});
  } else if (type == "default") {
    warn_of_unused(object, type, {"rope_type", "type", "rope_theta", "partial_rotary_factor"});
  } else {
    unsupported(
        fmt::format("{}: rope_type is \"{}\"; this engine implements \"default\" and \"llama3\"",
                    object.where(), type));
  }
  return rope;
}

std::vector<float> rope_frequencies(const Rope& rope, std::int64_t head_dim) {
  std::vector<float> frequencies(head_dim / 2);
  for (std::int64_t i = 0; i < head_dim / 2; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(head_dim);
    double frequency = 1.0 / std::pow(rope.theta, exponent);
    if (const auto& scaling = rope.scaling) {
      // How often the pair turns around within the original context decides what becomes of it.
      const double turns =
          scaling->original_max_position_embeddings * frequency / (2 * std::numbers::pi);
      const double kept = std::clamp((turns - scaling->low_freq_factor) /
                                         (scaling->high_freq_factor - scaling->low_freq_factor),
                                     0.0, 1.0);
      frequency *= kept + (1.0 - kept) / scaling->factor;
    }
    frequencies[i] = static_cast<float>(frequency);
  }
  return frequencies;
}

}  // namespace llama
