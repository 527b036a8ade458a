#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "support/parse_config.hpp"

namespace hip_attn {
namespace {

using namespace test;

/// Every key that is read at once.
const std::string kFull = R"({"using_extend": false, "mask_refresh_interval": [32, 16, 8],
  "force_dense": false, "decode_always_dense": false, "prefill_always_dense": false,
  "prefill_dense_threshold": 8192, "__using_dense_prefill": true, "__head_reduce": 1,
  "dense_layers": [0, 1, 2], "layers": [{"second_stage_k": 0}, {"sliding_window_size": 1024,
  "second_stage_k": 2048, "sink_token_size": 256, "sa_extend_backend": "streaming",
  "stages": )" + kStages + R"(}], "prefill_layers": [{"second_stage_k": 4096}, {"stages": )" +
                          kStages + "}]}";

/// Whatever the text, the parser answers with one of its codes or a configuration that is valid.
/// Returns whether it was accepted.
bool survives(const std::string& json) {
  ModelConfig config;
  const Status status = parse_model_config(json, config);
  bool sound = true;
  if (status.ok()) {
    for (const std::int32_t layer : {0, 1, 2, 50})
      sound &= validate(config.decode(layer)).ok() && validate(config.prefill(layer)).ok();
  } else {
    sound =
        !status.message().empty() && config.decode_layers.empty() &&
        (status.code() == StatusCode::kMalformedJson || status.code() == StatusCode::kUnknownKey ||
         status.code() == StatusCode::kInvalidConfig);
  }
  if (!sound) FAIL_CHECK(json << "\n" << status.message());
  return status.ok();
}

TEST_CASE("every truncation of a file is refused") {
  for (std::size_t size = 0; size < kFull.size(); ++size)
    if (survives(kFull.substr(0, size))) FAIL_CHECK("accepted the first " << size << " bytes");
  CHECK(survives(kFull));
}

TEST_CASE("random bytes and random edits of a file never crash the parser") {
  std::mt19937 random(20240613);
  const auto below = [&](std::size_t n) { return random() % n; };
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(below(200), '\0');
    for (char& byte : bytes) byte = static_cast<char>(below(256));
    survives(bytes);
  }
  const std::string_view alphabet = "{}[]\",:0123456789-.e \nnulltruefals\\\x80";
  for (int i = 0; i < 3000; ++i) {
    std::string json = kFull;
    for (std::size_t edits = 1 + below(4); edits > 0; --edits) {
      const std::size_t at = below(json.size());
      switch (below(3)) {
        case 0:
          json.erase(at, 1 + below(20));
          break;
        case 1:
          json[at] = alphabet[below(alphabet.size())];
          break;
        default:
          json.insert(at, json.substr(below(json.size()), 1 + below(30)));
          break;
      }
    }
    survives(json);
  }
}

/// A random document over the format's own words, so that many are accepted.
class RandomDocument {
 public:
  explicit RandomDocument(std::uint32_t seed) : random_(seed) {}

  std::string document() {
    const std::string members =
        object({{"mask_refresh_interval", [&] { return refresh(); }},
                {"layers", [&] { return list([&] { return layer(); }); }},
                {"prefill_layers", [&] { return list([&] { return layer(); }); }},
                {"dense_layers", [&] { return list([&] { return number(); }); }},
                {"decode_always_dense", [&] { return boolean(); }},
                {"__using_dense_prefill", [&] { return boolean(); }},
                {"prefill_dense_threshold", [&] { return number(); }},
                {"__last_dense", [&] { return number(); }},
                {"sliding_window_size", [&] { return number(); }}});
    const std::string extend = pick({"", "true", "false", "false", "false"});
    if (extend.empty()) return members;
    return "{\"using_extend\": " + extend + (members == "{}" ? "" : ", ") + members.substr(1);
  }

 private:
  struct Member {
    std::string key;
    std::function<std::string()> value;
  };

  std::size_t below(std::size_t n) { return random_() % n; }

  std::string pick(const std::vector<std::string>& choices) {
    return choices[below(choices.size())];
  }

  std::string number() {
    return below(20) != 0
               ? std::to_string(1u << below(14))
               : pick({"0", "-1", "null", "1.5", "\"8\"", "true", "[]", "{}", "3", "2147483647",
                       "2147483648", "9223372036854775807", "18446744073709551615", "1e300"});
  }

  std::string boolean() { return pick({"true", "false", "false", number()}); }

  std::string refresh() {
    return below(2) != 0 ? number() : list([&] { return number(); });
  }

  std::string layer() {
    return object(
        {{"sink_token_size", [&] { return number(); }},
         {"sliding_window_size", [&] { return number(); }},
         {"second_stage_k",
          [&] {
            return pick({"0", "256", "2048", number()});
          }},
         {"stages", [&] { return below(4) != 0 ? kStages : list([&] { return stage(); }); }}});
  }

  std::string stage() {
    return "{\"stage_block_size_q\": " + pick({"64", "64", number()}) +
           ", \"stage_block_stride_q\": " + pick({"1", "2", number()}) +
           ", \"stage_chunk_size\": " + pick({"8", "32", number()}) +
           ", \"stage_k\": " + pick({"null", "4096", number()}) + "}";
  }

  std::string list(const std::function<std::string()>& element) {
    std::string text = "[";
    for (std::size_t n = below(4); n > 0; --n) text += element() + (n > 1 ? "," : "");
    return text + "]";
  }

  std::string object(const std::vector<Member>& members) {
    std::string text = "{";
    for (const Member& member : members)
      if (below(3) == 0)
        text += (text.size() > 1 ? ", \"" : "\"") + member.key + "\": " + member.value();
    return text + "}";
  }

  std::mt19937 random_;
};

TEST_CASE("random documents are refused or give valid configurations") {
  RandomDocument random(7);
  int accepted = 0;
  for (int i = 0; i < 5000; ++i) accepted += survives(random.document()) ? 1 : 0;
  // Both outcomes have been seen often.
  CHECK(accepted > 500);
  CHECK(accepted < 4500);
}

}  // namespace
}  // namespace hip_attn
