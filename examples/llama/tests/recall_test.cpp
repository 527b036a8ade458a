#include "recall.hpp"

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "hip_attn/config.hpp"
#include "recall_task.hpp"
#include "report.hpp"
#include "selection_picture.hpp"
#include "support.hpp"

namespace llama::test {
namespace {

RecallTask task_of(std::int64_t context, std::uint64_t seed = 1) {
  return make_recall_task(bundled_tokenizer(), kDataFolder, context, seed);
}

TEST_CASE("recall: every code stands in the text where the task says") {
  const RecallTask task = task_of(4096);
  REQUIRE(task.facts.size() == 16);
  std::size_t longest = 0;
  for (const Fact& fact : task.facts) {
    const auto code = std::span(task.text).subspan(fact.code_begin, fact.code.size());
    CHECK(bundled_tokenizer().decode(code) == fact.code);
    const auto sentence = std::span(task.text).subspan(fact.position, fact.size);
    CHECK(bundled_tokenizer().decode(sentence) ==
          "\nThe secret code for " + fact.word + " is " + fact.code + ". Remember it.\n");
    longest = std::max(longest, fact.question.size() + fact.code.size());
  }
  CHECK(task.text.size() + longest == 4096);
  CHECK(task.text.front() == 0);
}

TEST_CASE("recall: the seed decides order and places, and which code a word has") {
  const RecallTask task = task_of(4096, 1);
  CHECK(task.text == task_of(4096, 1).text);
  const RecallTask other = task_of(4096, 2);
  CHECK(task.text != other.text);
  const auto codes = [](const RecallTask& task) {
    std::map<std::string, std::string> codes;
    for (const Fact& fact : task.facts) codes[fact.word] = fact.code;
    return codes;
  };
  CHECK(codes(task) != codes(other));
  std::set<std::string> different;
  for (const auto& [_, code] : codes(task)) different.insert(code);
  CHECK(different.size() == 16);
}

TEST_CASE("recall: a context that the haystack cannot fill is refused") {
  constexpr auto kInvalid = ErrorCode::kInvalidArgument;
  require_error(kInvalid, "context is 100;", [] { task_of(100); });
  require_error(kInvalid, "context is 200000;", [] { task_of(200000); });
  require_error(kInvalid, "context is -5;", [] { task_of(-5); });
}

TEST_CASE("recall: hip finds codes that a window of its size cannot, and the picture shows how") {
  const RecallTask task = task_of(4096);
  hip_attn::HipConfig config;
  config.sink = 64;
  config.window = 256;
  config.stages = {{32, 2048, 4}, {8, 512, 1}};
  AttentionOptions attention = hip_attention(config);
  std::vector<RecallResult> results;
  for (const auto mode : {AttentionMode::kHip, AttentionMode::kWindow, AttentionMode::kRandom}) {
    attention.mode = mode;
    results.push_back(run_recall(bundled_model(), bundled_tokenizer(), task, attention, {},
                                 to_string(mode), mode == AttentionMode::kHip));
  }
  CHECK(results[0].codes_right >= results[1].codes_right + 4);
  CHECK(results[0].codes_right >= results[2].codes_right + 4);

  const RetrievalHead head = find_retrieval_head(task, results[0]);
  CHECK(head.searchable > 8);
  CHECK(head.found > head.searchable / 2);
  const std::string svg = draw_selections(task, results[0], head);
  CHECK(svg.rfind("<svg", 0) == 0);
  CHECK(svg.substr(svg.size() - 7) == "</svg>\n");
  for (const Fact& fact : task.facts) {
    CAPTURE(fact.word);
    CHECK(svg.find(">" + fact.word + "?</text>") != std::string::npos);
  }

  CHECK(results[0].codes == 16);
  CHECK(results[0].digits == 16 * 6);
}

RecallResult result_of(AttentionMode mode, std::int64_t codes_right, double nll, double seconds) {
  RecallResult result;
  result.mode = mode;
  result.run.label = to_string(mode);
  result.run.total = seconds;
  result.codes = 16;
  result.digits = 96;
  result.codes_right = codes_right;
  result.digits_right = 6 * codes_right;
  result.nll = nll;
  result.text_stats.units = 10;
  result.text_stats.search_keys_read = 123 * 10;
  return result;
}

TEST_CASE("recall: the table compares with dense, seed by seed") {
  const std::vector<RecallSeries> one = {{result_of(AttentionMode::kDense, 16, 2, 1)},
                                         {result_of(AttentionMode::kHip, 15, 2.25, 3)}};
  const std::string report = format_report(one);
  CAPTURE(report);
  CHECK(std::count(report.begin(), report.end(), '\n') == 3);
  CHECK(report.find("codes of 16  digits of 96") != std::string::npos);
  CHECK(report.find("+0.2500") != std::string::npos);
  CHECK(report.find(" 123 ") != std::string::npos);

  // 15.5 codes; 0.1 and 0.3 nats above dense, which the means alone would not show.
  const std::vector<RecallSeries> two = {
      {result_of(AttentionMode::kDense, 16, 2, 1), result_of(AttentionMode::kDense, 16, 3, 1)},
      {result_of(AttentionMode::kHip, 15, 2.1, 3), result_of(AttentionMode::kHip, 16, 3.3, 5)}};
  const std::string spread = format_report(two);
  CAPTURE(spread);
  CHECK(spread.find("15.5 (15 to 16)") != std::string::npos);
  CHECK(spread.find("+0.2000 (+0.1000 to +0.3000)") != std::string::npos);
  CHECK(spread.find("4.000") != std::string::npos);
  const std::string times = format_times(two);
  CHECK(times.find("4.000") != std::string::npos);
}

TEST_CASE("recall: a run's results are in the JSON") {
  const RecallTask task = task_of(4096, 7);
  const Json json = to_json(task, result_of(AttentionMode::kHip, 15, 2.25, 3));
  CHECK(json.at("context") == 4096);
  CHECK(json.at("seed") == 7);
  CHECK(json.at("attention") == "hip");
  CHECK(json.at("codes_right") == 15);
  CHECK(json.at("nll") == 2.25);
  CHECK(json.at("search_reads") == 123);
}

}  // namespace
}  // namespace llama::test
