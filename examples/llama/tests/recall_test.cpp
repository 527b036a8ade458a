#include "recall.hpp"

#include <nlohmann/json.hpp>

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

TEST_CASE("recall: the seed decides order and places") {
  const RecallTask task = task_of(4096, 1);
  CHECK(task.text == task_of(4096, 1).text);
  CHECK(task.text != task_of(4096, 2).text);
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

  const std::string report = format_report(task, results);
  CHECK(std::count(report.begin(), report.end(), '\n') == 2 + 3);
  CHECK(report.find("window") != std::string::npos);
}

}  // namespace
}  // namespace llama::test
