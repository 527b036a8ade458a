#include "json_file.hpp"

#include <functional>

#include "checkpoint.hpp"
#include "llama_config.hpp"
#include "model_folder.hpp"
#include "reference.hpp"
#include "safetensors.hpp"
#include "special_tokens.hpp"
#include "tokenizer.hpp"

namespace llama::test {
namespace {

constexpr auto kMalformed = ErrorCode::kMalformedModelConfig;

Json parse(std::string_view text) { return parse_object(text, "text", kMalformed); }

TEST_CASE("json: a text is read to its end") {
  const auto refused = [](const std::string& text, const std::string& words) {
    require_error(kMalformed, words, [&] { parse(text); });
  };
  using namespace std::string_literals;
  refused("{\"a\":1}\0"s, "text is not valid JSON: byte 7 is zero");
  refused("{\"a\":1}\0 and more"s, "byte 7 is zero");
  refused("\0"s, "byte 0 is zero");
  refused("{\"a\":\"b\0c\"}"s, "byte 7 is zero");
  refused("{\"a\":1} and more", "syntax error");
  refused("", "parse error");
  refused("{\"a\":1}{", "syntax error");
  REQUIRE(parse("\n {\"a\":\"\\u0000\"} \n\t") == Json{{"a", "\0"s}});
}

TEST_CASE("json: what is not JSON is refused with the reason") {
  const auto refused = [](const std::string& text, const std::string& words) {
    require_error(kMalformed, words, [&] { parse(text); });
  };
  refused("{\"a\":1e400}", "number overflow parsing '1e400'");
  refused("{\"a\":NaN}", "line 1, column 6");
  refused("{\"a\":\"\xff\"}", "invalid string");
  refused("[1]", "text is a JSON array; expected an object");
}

TEST_CASE("json: a text that is nested without bounds is refused, not a stack overflow") {
  const auto nested = [](int depth) {
    return "{\"a\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  REQUIRE(parse(nested(128)).contains("a"));
  for (const int depth : {129, 3'000'000}) {
    require_error(kMalformed, "nested deeper than 128", [&] { parse(nested(depth)); });
  }
}

TEST_CASE("json: of equal keys the last counts, as in Python") {
  REQUIRE(parse(R"({"a":1,"a":2})") == Json{{"a", 2}});
}

TEST_CASE("json: a zero byte ends none of the engine's files") {
  const std::string rest = std::string(1, '\0') + "and more";
  const auto refused = [&](ErrorCode code, const std::string& name,
                           const std::function<void(const std::filesystem::path&)>& load) {
    const ModelFolder folder;
    folder.write(name, read_file(folder.path() / name) + rest);
    CAPTURE(name);
    require_error(code, name, [&] { load(folder.path()); });
    require_error(code, "is zero", [&] { load(folder.path()); });
  };
  refused(kMalformed, "config.json",
          [](const auto& path) { load_llama_config(path / "config.json"); });
  refused(ErrorCode::kMalformedTokenizer, "tokenizer.json",
          [](const auto& path) { Tokenizer tokenizer(path / "tokenizer.json"); });
  refused(ErrorCode::kInconsistentSafetensors, "model.safetensors.index.json",
          [](const auto& path) { Checkpoint checkpoint(path); });

  const TemporaryFolder folder;
  folder.write("generation_config.json", "{}" + rest);
  require_error(kMalformed, "is zero", [&] { stop_tokens(folder.path(), {}); });
  const auto reference = folder.write("reference.json", "{}" + rest);
  require_error(ErrorCode::kMalformedReference, "is zero", [&] { load_reference(reference); });
  // The format's padding is spaces.
  const auto padded = [&](const std::string& padding) {
    return folder.write("padded.safetensors", safetensors_file("{}" + padding, ""));
  };
  REQUIRE(SafetensorsFile(padded("   ")).entries().empty());
  require_error(ErrorCode::kInconsistentSafetensors, "byte 2 is zero",
                [&] { SafetensorsFile file(padded(std::string(3, '\0'))); });
}

TEST_CASE("json: files that cannot be read are refused") {
  const TemporaryFolder folder;
  for (const auto& path : {folder.path(), folder.path() / "nowhere"}) {
    require_error(ErrorCode::kCannotReadFile, path.string(), [&] { read_file(path); });
  }
}

}  // namespace
}  // namespace llama::test
