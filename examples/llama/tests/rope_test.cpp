#include "rope.hpp"

#include <cmath>

#include "support.hpp"
#include "warning.hpp"

namespace llama::test {
namespace {

const Json kLlama3 = {{"rope_type", "llama3"},
                      {"factor", 8.0},
                      {"low_freq_factor", 1.0},
                      {"high_freq_factor", 4.0},
                      {"original_max_position_embeddings", 8192}};

Json llama3_with(const char* key, const Json& value) {
  Json json = kLlama3;
  json[key] = value;
  return json;
}

struct Read {
  Rope rope;
  std::vector<std::string> warnings;
};

/// From these fields of a config.json.
Read read(const Json& fields) {
  const CollectedWarnings warnings;
  const Rope rope = read_rope(Fields(fields, "config.json", ErrorCode::kMalformedModelConfig),
                              /*max_position_embeddings=*/32768);
  return {rope, warnings.messages()};
}

TEST_CASE("rope: rope_theta is found wherever Transformers 4 and 5 put it") {
  const auto theta_of = [](const Json& fields) {
    const auto [rope, warnings] = read(fields);
    REQUIRE_FALSE(rope.scaling);
    REQUIRE(warnings.empty());
    return rope.theta;
  };
  CHECK(theta_of(Json::object()) == 1e4);
  CHECK(theta_of({{"rope_theta", 5e5}}) == 5e5);
  CHECK(theta_of({{"rope_theta", 500000}}) == 5e5);
  for (const char* object : {"rope_scaling", "rope_parameters"}) {
    CAPTURE(object);
    CHECK(theta_of({{"rope_theta", 5e5}, {object, nullptr}}) == 5e5);
    CHECK(theta_of({{"rope_theta", 5e5}, {object, Json::object()}}) == 5e5);
    CHECK(theta_of({{"rope_theta", 5e5}, {object, {{"rope_type", "default"}}}}) == 5e5);
    CHECK(theta_of({{"rope_theta", 5e5}, {object, {{"type", "default"}}}}) == 5e5);
    CHECK(theta_of({{object, {{"rope_theta", 5e5}}}}) == 5e5);
    CHECK(theta_of({{"rope_theta", 5e5}, {object, {{"rope_theta", 5e5}}}}) == 5e5);
    CHECK(theta_of({{object, {{"rope_type", "default"}}}}) == 1e4);
  }
}

TEST_CASE("rope: where two places disagree, the one of Transformers 5 counts, with a warning") {
  const auto counts = [](const Json& fields, double theta, const std::string& words) {
    const auto [rope, warnings] = read(fields);
    CHECK(rope.theta == theta);
    REQUIRE(warnings.size() == 1);
    CHECK(warnings[0].find(words) != std::string::npos);
    return rope;
  };
  counts({{"rope_theta", 5e5}, {"rope_parameters", {{"rope_theta", 1e4}}}}, 1e4,
         "config.json: rope_parameters: rope_theta is 10000.0, and rope_theta of config.json is "
         "500000.0; the former is used");
  CHECK_FALSE(counts({{"rope_scaling", {{"rope_theta", 2e4}}}, {"rope_parameters", kLlama3}}, 2e4,
                     "rope_scaling is")
                  .scaling);
  CHECK(counts({{"rope_scaling", kLlama3}, {"rope_parameters", {{"rope_theta", 2e4}}}}, 1e4,
               "rope_scaling is")
            .scaling);
  // The one value whose place at the top comes first.
  const Rope rope = counts({{"rope_scaling", kLlama3}, {"original_max_position_embeddings", 256}},
                           1e4, "original_max_position_embeddings is 256");
  CHECK(rope.scaling->original_max_position_embeddings == 256);
}

TEST_CASE("rope: llama3 scaling in either form") {
  for (const Json& fields :
       {Json{{"rope_scaling", kLlama3}}, Json{{"rope_parameters", kLlama3}},
        Json{{"rope_scaling", kLlama3}, {"rope_parameters", kLlama3}},
        Json{{"rope_scaling", Json::object()}, {"rope_parameters", kLlama3}}}) {
    CAPTURE(fields);
    const auto [rope, warnings] = read(fields);
    REQUIRE(rope.scaling);
    CHECK(rope.scaling->factor == 8);
    CHECK(rope.scaling->original_max_position_embeddings == 8192);
    CHECK(warnings.empty());
  }
  Json brief = kLlama3;
  brief.erase("original_max_position_embeddings");
  CHECK(read({{"rope_scaling", brief}}).rope.scaling->original_max_position_embeddings == 32768);
  brief["type"] = brief["rope_type"];
  brief.erase("rope_type");
  CHECK(read({{"rope_scaling", brief}}).rope.scaling);
  CHECK(read({{"rope_scaling", llama3_with("type", "default")}}).rope.scaling);
}

TEST_CASE("rope: parameters that the type does not use are warned of") {
  const auto warned = [](const Json& object, const std::string& words) {
    const auto warnings = read({{"rope_scaling", object}}).warnings;
    REQUIRE(warnings.size() == 1);
    CHECK(warnings[0].find(words) != std::string::npos);
  };
  warned({{"rope_type", "default"}, {"factor", 8.0}}, "factor is 8.0, which rope_type \"default\"");
  warned(llama3_with("attention_factor", 2.0),
         "attention_factor is 2.0, which rope_type \"llama3\"");
}

TEST_CASE("rope: what this engine does not compute is refused") {
  const auto refused = [](const Json& fields, const std::string& words) {
    require_error(ErrorCode::kUnsupportedRopeScaling, words, [&] { read(fields); });
  };
  refused({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}}}, "rope_type is \"yarn\"");
  refused({{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}, "rope_type is \"linear\"");
  refused({{"rope_parameters", {{"rope_theta", 1e4}, {"rope_type", "dynamic"}}}},
          "rope_parameters: rope_type is \"dynamic\"");
  refused({{"partial_rotary_factor", 0.5}}, "config.json: partial_rotary_factor is 0.5");
  refused({{"rope_parameters", {{"partial_rotary_factor", 0.5}}}},
          "rope_parameters: partial_rotary_factor is 0.5");
  refused({{"rope_parameters", {{"full_attention", {{"rope_theta", 5e5}}}}}},
          "full_attention is an object");
  CHECK(read({{"partial_rotary_factor", 1.0}, {"rope_theta", 5e5}}).rope.theta == 5e5);
  CHECK(read({{"partial_rotary_factor", nullptr}, {"rope_theta", 5e5}}).rope.theta == 5e5);
}

TEST_CASE("rope: malformed values are refused, with place and field") {
  const auto refused = [](const Json& fields, const std::string& words) {
    require_error(ErrorCode::kMalformedModelConfig, words, [&] { read(fields); });
  };
  refused({{"rope_theta", nullptr}}, "config.json: rope_theta is null; expected a positive number");
  refused({{"rope_theta", 5e5}, {"rope_parameters", {{"rope_theta", nullptr}}}},
          "rope_parameters: rope_theta is null");
  refused({{"rope_theta", "big"}}, "rope_theta is \"big\"");
  refused({{"rope_theta", -1}}, "rope_theta is -1");
  refused({{"rope_theta", 1e-300}}, "rope_theta is 1e-300; expected at least 1");
  refused({{"rope_scaling", {{"rope_type", "llama3"}}}}, "factor is missing");
  refused({{"rope_scaling", llama3_with("factor", 0.5)}}, "factor is 0.5; expected at least 1");
  refused({{"rope_scaling", llama3_with("high_freq_factor", 1.0)}},
          "high_freq_factor is 1.0; expected more than low_freq_factor");
  refused({{"rope_scaling", llama3_with("original_max_position_embeddings", nullptr)}},
          "original_max_position_embeddings is null");
  refused({{"rope_scaling", {{"rope_type", nullptr}}}}, "rope_type is null; expected a string");
  refused({{"rope_scaling", "yarn"}}, "rope_scaling is \"yarn\"; expected an object");
  refused({{"rope_parameters", {1}}}, "rope_parameters is [1]; expected an object");
}

TEST_CASE("rope: llama3 scaling keeps high frequencies, divides low ones, blends between") {
  const std::vector<float> plain = rope_frequencies({.theta = 5e5, .scaling = {}}, 128);
  REQUIRE(plain[0] == 1.f);
  REQUIRE(plain[32] == Catch::Approx(std::pow(5e5, -0.5)));

  const Rope rope = read({{"rope_theta", 5e5}, {"rope_scaling", kLlama3}}).rope;
  const std::vector<float> scaled = rope_frequencies(rope, 128);
  int blended = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const double wavelength = 2 * 3.14159265358979 / plain[i];
    if (wavelength < 8192 / 4.0) {
      REQUIRE(scaled[i] == plain[i]);
    } else if (wavelength > 8192 / 1.0) {
      REQUIRE(scaled[i] == Catch::Approx(plain[i] / 8));
    } else {
      ++blended;
      const double smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0);
      REQUIRE(scaled[i] == Catch::Approx((1 - smooth) * plain[i] / 8 + smooth * plain[i]));
    }
  }
  REQUIRE(blended > 0);
}

}  // namespace
}  // namespace llama::test
