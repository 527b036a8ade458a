/// `llama evaluate`: attention mass, top keys, baselines, and tasks that are run.

#include <cmath>
#include <map>

#include "attention_quality.hpp"
#include "baseline_config.hpp"
#include "evaluate_report.hpp"
#include "hip_attn/config.hpp"
#include "ruler_run.hpp"
#include "support.hpp"
#include "text_nll.hpp"
#include "text_quality.hpp"

namespace llama::test {
namespace {

constexpr std::int64_t kTokens = 1024;

hip_attn::HipConfig small_config() {
  hip_attn::HipConfig config;
  config.sink = 64;
  config.window = 128;
  config.stages = {{32, 256, 4}, {8, 128, 1}};
  return config;
}

/// Runs a text and keeps what was sampled, and the sequence that it was sampled from.
struct SampledText {
  explicit SampledText(const AttentionOptions& attention, std::int64_t page_size = 64)
      : engine(bundled_model(), attention, with_pages(page_size)), sequence(engine.new_sequence()) {
    engine.attention().sample_rows(
        positions, [&](AttentionSample sample) { samples.push_back(std::move(sample)); });
    engine.prefill(sequence, haystack_tokens(kTokens), [](auto, auto) {});
  }
  static EngineOptions with_pages(std::int64_t page_size) {
    EngineOptions options = options_for(kTokens);
    options.page_size = page_size;
    options.prefill_rows = 320;
    return options;
  }
  [[nodiscard]] AttentionQuality quality(std::int64_t top_keys = 32) {
    return rate_attention(samples, bundled_model().config(), engine.attention(), sequence,
                          top_keys);
  }

  std::vector<std::int64_t> positions = {300, 511, 512, 800, 1023};
  std::vector<AttentionSample> samples;
  Engine engine;
  Sequence sequence;
};

/// A head's logits for the keys up to a sampled row, in double.
std::vector<double> logits_of(const AttentionSample& sample, std::int64_t head,
                              const std::vector<float>& keys) {
  const LlamaConfig& model = bundled_model().config();
  const std::int64_t kv_head = head * model.num_kv_heads / model.num_q_heads;
  std::vector<double> logits;
  for (std::int64_t key = 0; key <= sample.position; ++key) {
    double sum = 0;
    for (std::int64_t d = 0; d < model.head_dim; ++d) {
      sum += double{sample.q[head * model.head_dim + d]} *
             keys[key * model.kv_size() + kv_head * model.head_dim + d];
    }
    logits.push_back(sum / std::sqrt(static_cast<double>(model.head_dim)));
  }
  return logits;
}

TEST_CASE("quality: mass and top keys are those of the attended keys among all") {
  const LlamaConfig& model = bundled_model().config();
  for (const AttentionMode mode :
       {AttentionMode::kHip, AttentionMode::kWindow, AttentionMode::kRandom}) {
    AttentionOptions attention = hip_attention(small_config());
    attention.mode = mode;
    SampledText text(attention, /*page_size=*/mode == AttentionMode::kHip ? 64 : 24);
    REQUIRE(std::ssize(text.samples) == model.num_layers * std::ssize(text.positions));
    AttentionQuality expected;
    expected.mass.assign(model.num_layers, std::vector<double>(model.num_q_heads));
    expected.top = expected.mass;
    for (const AttentionSample& sample : text.samples) {
      const auto keys = text.engine.attention().keys(sample.layer, text.sequence);
      for (std::int64_t head = 0; head < model.num_q_heads; ++head) {
        const auto& attended = sample.attended[head * model.num_kv_heads / model.num_q_heads];
        const auto logits = logits_of(sample, head, keys);
        auto sorted = logits;
        std::sort(sorted.begin(), sorted.end(), std::greater<>());
        double all = 0;
        double some = 0;
        double found = 0;
        for (std::size_t key = 0; key < logits.size(); ++key) {
          const bool attends = attended.attends(static_cast<std::int64_t>(key));
          all += std::exp(logits[key] - sorted.front());
          some += attends ? std::exp(logits[key] - sorted.front()) : 0;
          found += attends && logits[key] >= sorted[31];
        }
        const auto rows = static_cast<double>(text.positions.size());
        expected.mass[sample.layer][head] += some / all / rows;
        expected.top[sample.layer][head] += found / 32 / rows;
      }
    }
    const AttentionQuality quality = text.quality();
    CAPTURE(to_string(mode));
    double least = 1;
    for (std::int64_t layer = 0; layer < model.num_layers; ++layer) {
      for (std::int64_t head = 0; head < model.num_q_heads; ++head) {
        CAPTURE(layer, head);
        CHECK(std::abs(quality.mass[layer][head] - expected.mass[layer][head]) < 1e-4);
        // Two keys of nearly one logit may change places in fp32.
        CHECK(std::abs(quality.top[layer][head] - expected.top[layer][head]) < 0.02);
        least = std::min(least, quality.mass[layer][head]);
      }
    }
    CHECK(least < 0.98);  // something was left out
    CHECK(least_share(quality.mass).share == least);
    CHECK(mean_share(quality.mass) > least);
  }
}

TEST_CASE("quality: attention that leaves no key out has all mass and all top keys") {
  hip_attn::HipConfig config = small_config();
  config.stages.back().keep = config.stages.front().keep = kTokens;
  for (const AttentionOptions& attention : {hip_attention(config), dense_attention()}) {
    SampledText text(attention);
    const AttentionQuality quality = text.quality();
    CHECK(std::abs(least_share(quality.mass).share - 1) < 1e-5);
    CHECK(least_share(quality.top).share == 1);
  }
}

TEST_CASE("quality: a window alone is sampled too") {
  SampledText text(hip_attention(hip_attn::presets::sliding_window(100, 8)));
  REQUIRE(!text.samples.empty());
  for (const AttentionSample& sample : text.samples) {
    std::int64_t count = 0;
    for (std::int64_t key = 0; key <= sample.position; ++key) {
      count += sample.attended.front().attends(key);
    }
    CHECK(count == 108);
  }
  CHECK(mean_share(text.quality().mass) < 1);
}

TEST_CASE("baselines: the best selection has more mass than any other of its size") {
  const AttentionOptions like = hip_attention(small_config());
  std::map<std::string, double> mass;
  for (const std::string& name : baseline_configs()) {
    AttentionOptions attention = like;
    const BaselineConfig baseline = baseline_config(name, like.config);
    attention.config = baseline.config;
    attention.landmark_spread = baseline.landmark_spread;
    SampledText text(attention);
    mass[name] = mean_share(text.quality().mass);
    // As many keys as the configuration that it is compared with, once there are as many.
    for (const AttentionSample& sample : text.samples) {
      if (sample.position < 400) continue;
      const SelectionEntry& entry = sample.attended.front();
      CHECK(std::ssize(entry.blocks) * entry.block_k == 128);
    }
  }
  for (const AttentionMode mode :
       {AttentionMode::kHip, AttentionMode::kWindow, AttentionMode::kRandom}) {
    AttentionOptions attention = like;
    attention.mode = mode;
    mass[to_string(mode)] = mean_share(SampledText(attention).quality().mass);
  }
  CAPTURE(mass);
  for (const char* other : {"block_means", "quest", "hip", "window", "random"}) {
    CAPTURE(other);
    CHECK(mass.at("best") > mass.at(other));
  }
  CHECK(mass.at("block_means") > mass.at("random"));
  CHECK(mass.at("quest") > mass.at("random"));
}

TEST_CASE("baselines: each is a valid configuration of the size of any preset's layers") {
  using namespace hip_attn::presets;
  hip_attn::ModelConfig like;
  hip_attn::HipConfig odd = infinite_hip();
  odd.sink = 8;
  odd.window = 1;
  odd.stages.back().keep = 1000;
  like.decode_layers = {
      infinite_hip(), landmark_1k(131072), landmark(1 << 20), odd, hip_classic(131072, 2048, 8),
      dense(),        sliding_window(100)};
  like.prefill_layers = {infinite_hip_5k()};
  for (const std::string& name : baseline_configs()) {
    const hip_attn::ModelConfig config = baseline_config(name, like).config;
    REQUIRE(config.decode_layers.size() == like.decode_layers.size());
    CHECK(config.prefill_layers.front().stages.back().keep == 4096);
    for (std::size_t i = 0; i < like.decode_layers.size(); ++i) {
      const hip_attn::HipConfig& layer = config.decode_layers[i];
      const hip_attn::HipConfig& of = like.decode_layers[i];
      CAPTURE(name, i);
      CHECK(hip_attn::validate(layer).ok());
      if (i >= 5) {
        CHECK(layer == of);
        continue;
      }
      CHECK(layer.num_stages() == 1);
      CHECK(layer.sink >= of.sink);
      CHECK(layer.sink < of.sink + 64);
      CHECK(layer.stages.back().keep >= of.stages.back().keep);
      CHECK(layer.stages.back().keep < of.stages.back().keep + 64);
    }
  }
  CHECK(baseline_config("block_means", like).landmark_spread == 0);
  CHECK(baseline_config("quest", like).landmark_spread == 1);
}

TEST_CASE("quality: sampled rows lie in the later three quarters, one in each part") {
  SampleOptions options;
  options.rows = 10;
  const auto positions = sampled_positions(1000, options);
  REQUIRE(positions.size() == 10);
  for (std::int64_t i = 0; i < 10; ++i) {
    CHECK(positions[i] >= 250 + 75 * i);
    CHECK(positions[i] < 250 + 75 * (i + 1));
  }
  options.seed = 1;
  CHECK(positions != sampled_positions(1000, options));
  options.rows = 5000;
  CHECK(sampled_positions(1000, options).size() == 750);
}

TEST_CASE("quality: a text begins where the seed says and has the length that is asked for") {
  const Haystack haystack = Haystack::read(kDataFolder / "haystack.txt");
  const auto text = quality_text(bundled_tokenizer(), haystack, 2048, 1);
  CHECK(text.size() == 2048);
  CHECK(text.front() == 0);
  CHECK(text == quality_text(bundled_tokenizer(), haystack, 2048, 1));
  CHECK(text != quality_text(bundled_tokenizer(), haystack, 2048, 2));
  require_error(ErrorCode::kInvalidArgument, "context is 200000; expected 256 to 149947 tokens",
                [&] { (void)quality_text(bundled_tokenizer(), haystack, 200000, 1); });
}

TEST_CASE("quality: tasks in a batch have the likelihoods and answers that they have alone") {
  const Haystack haystack = Haystack::read(kDataFolder / "haystack.txt");
  std::vector<RulerTask> tasks;
  for (const RulerKind kind : {RulerKind::kVariableTracking, RulerKind::kSingleNeedle}) {
    RulerTask& task =
        tasks.emplace_back(make_ruler_task(kind, bundled_tokenizer(), haystack, 900, 1));
    task.new_tokens = kind == RulerKind::kSingleNeedle ? 12 : 9;
  }
  const AttentionOptions attention = dense_attention();
  const auto run = [&](std::span<const RulerTask> tasks, std::vector<TokenId> ends = {}) {
    return run_ruler_tasks(bundled_model(), bundled_tokenizer(), tasks, ends, attention, {}, "");
  };
  const auto together = run(tasks);
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const auto alone = run({&tasks[i], 1});
    CHECK(together[i].generated == alone.front().generated);
    CHECK(std::abs(together[i].answer_nll - alone.front().answer_nll) < 1e-5);
    CHECK(together[i].answer_right == alone.front().answer_right);

    std::vector<TokenId> whole = tasks[i].tokens;
    whole.insert(whole.end(), tasks[i].answer_tokens.begin(), tasks[i].answer_tokens.end());
    Engine engine(bundled_model(), attention, options_for(1024));
    Sequence sequence = engine.new_sequence();
    const auto nll = text_nll(engine, sequence, whole, [](auto) {});
    CHECK(std::abs(mean(std::span(nll).last(tasks[i].answer_tokens.size())) -
                   together[i].answer_nll) < 1e-4);
    CHECK(bundled_tokenizer().encode(together[i].generated).size() <=
          static_cast<std::size_t>(tasks[i].new_tokens) + 1);
  }
  // What the model generates is what it finds likeliest, token by token.
  RulerTask own = tasks[0];
  own.answer = together[0].generated;
  own.answer_tokens = bundled_tokenizer().encode(own.answer);
  REQUIRE(std::ssize(own.answer_tokens) == own.new_tokens);
  CHECK(run({&own, 1}).front().answer_right == 1);

  // An answer ends with the first token that is to end it.
  const TokenId second = bundled_tokenizer().encode(together[0].generated)[1];
  const auto cut = run({&tasks[0], 1}, {second}).front().generated;
  CHECK(cut.size() < together[0].generated.size());
  CHECK(together[0].generated.rfind(cut, 0) == 0);
}

TEST_CASE("quality: the tables compare with dense") {
  std::vector<RulerTask> tasks(2);
  tasks[0].kind = tasks[1].kind = RulerKind::kVariableTracking;
  const auto series_of = [](const char* label, double nll, double mass, double score) {
    QualitySeries series;
    series.label = label;
    series.is_dense = nll == 2;
    TextQuality& text = series.texts.emplace_back();
    text.nll = nll;
    text.stats.rows = 1;
    text.stats.keys_attended = 1234;
    text.attention.mass = text.attention.top = {{1, 1}, {1, mass}};
    series.results = {{"", {score, 1}, nll + 1, 0.75}, {"", {0, 0}, nll + 1, 0.25}};
    return series;
  };
  const std::vector<QualitySeries> all = {series_of("dense", 2, 1, 1),
                                          series_of("hip x", 2.25, 0.6, 0.5)};
  const std::string quality = format_text_quality(all, 64);
  CAPTURE(quality);
  CHECK(quality.find("+0.2500") != std::string::npos);
  CHECK(quality.find("1234") != std::string::npos);
  CHECK(quality.find("0.9000") != std::string::npos);        // the mean over four heads
  CHECK(quality.find("0.6000 (1.1)") != std::string::npos);  // the least head
  const std::string scores = format_task_scores(all, tasks);
  CAPTURE(scores);
  CHECK(scores.find(" vt ") != std::string::npos);
  CHECK(scores.find("50.0") != std::string::npos);
  CHECK(scores.find("25.0") != std::string::npos);
  CHECK(scores.find("3.2500") != std::string::npos);
  CHECK(scores.find("+0.2500") != std::string::npos);
}

}  // namespace
}  // namespace llama::test
