/// How long a tokenizer takes to load and to encode, with the text and the number of added tokens.
/// The complexity at the end of each series is to be N.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "json_file.hpp"
#include "tokenizer.hpp"

namespace llama {
namespace {

const std::filesystem::path kModelFolder = LLAMA_MODEL_FOLDER;
const std::filesystem::path kDataFolder = LLAMA_DATA_FOLDER;

/// A tokenizer.json, removed at the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(const Json& json)
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("tokenizer_bench_{}.json", getpid())) {
    std::ofstream(path_) << json;
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { std::filesystem::remove(path_); }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

std::string added_token(std::int64_t i) { return fmt::format("<token {}>", i); }

/// The bundled tokenizer with more added tokens, half of them normalized.
Json tokenizer_json(std::int64_t added_tokens) {
  Json json = Json::parse(read_file(kModelFolder / "tokenizer.json"));
  const auto size = static_cast<std::int64_t>(json["model"]["vocab"].size());
  for (std::int64_t i = 0; i < added_tokens; ++i) {
    json["added_tokens"].push_back({{"id", size + i},
                                    {"content", added_token(i)},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", i % 2 == 0}});
  }
  return json;
}

/// The haystack, over and over, with an added token every 20 bytes where there are any.
std::string text_of(std::size_t size, std::int64_t added_tokens) {
  constexpr std::size_t kStretch = 20;
  const std::string haystack = read_file(kDataFolder / "haystack.txt");
  std::string text;
  for (std::size_t i = 0; text.size() < size; ++i) {
    text += haystack.substr(kStretch * i % (haystack.size() - kStretch), kStretch);
    if (added_tokens > 0) text += added_token(static_cast<std::int64_t>(i) % added_tokens);
  }
  text.resize(size);
  return text;
}

void load(benchmark::State& state) {
  const TemporaryFile file(tokenizer_json(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(Tokenizer(file.path()));
  state.SetComplexityN(state.range(0));
}

void encode(benchmark::State& state, std::int64_t added_tokens) {
  const TemporaryFile file(tokenizer_json(added_tokens));
  const Tokenizer tokenizer(file.path());
  const std::string text = text_of(static_cast<std::size_t>(state.range(0)), added_tokens);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.encode(text));
  state.SetBytesProcessed(state.iterations() * state.range(0));
  state.SetComplexityN(state.range(0));
}

void sizes_of_text(benchmark::internal::Benchmark* series) {
  for (const int size : {100'000, 200'000, 400'000, 800'000}) series->Arg(size);
  series->Unit(benchmark::kMillisecond)->Complexity(benchmark::oN);
}

BENCHMARK(load)
    ->Arg(256)
    ->Arg(2'500)
    ->Arg(5'000)
    ->Arg(10'000)
    ->Arg(20'000)
    ->Unit(benchmark::kMillisecond)
    ->Complexity(benchmark::oN);
BENCHMARK_CAPTURE(encode, no added tokens, 0)->Apply(sizes_of_text);
BENCHMARK_CAPTURE(encode, 256 added tokens, 256)->Apply(sizes_of_text);
BENCHMARK_CAPTURE(encode, 20000 added tokens, 20'000)->Apply(sizes_of_text);

}  // namespace
}  // namespace llama

BENCHMARK_MAIN();
