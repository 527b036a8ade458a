#include "engine.hpp"

#include <cmath>
#include <set>

#include "hip_attn/config.hpp"
#include "hip_attn/config_json.hpp"
#include "json_file.hpp"
#include "sampler.hpp"
#include "support.hpp"
#include "text_nll.hpp"

namespace llama::test {
namespace {

using test::prompt_logits;

/// The same from an engine of its own.
std::vector<float> prompt_logits(const AttentionOptions& attention, const EngineOptions& options,
                                 const std::vector<TokenId>& prompt) {
  Engine engine(bundled_model(), attention, options);
  Sequence sequence = engine.new_sequence();
  return prompt_logits(engine, sequence, prompt);
}

TEST_CASE("engine: hip equals dense while the candidates fit in the last stage") {
  // 256 sink + 1024 window + 2048 selected = 3328 keys and the rest of a block.
  const auto tokens = haystack_tokens(3328);
  const auto dense = prompt_logits(dense_attention(), options_for(3328), tokens);
  const auto hip =
      prompt_logits(hip_attention(hip_attn::presets::infinite_hip()), options_for(3328), tokens);
  CHECK(largest_difference(dense, hip) < 1e-3);
}

TEST_CASE("engine: pieces, page size and a 16-bit cache change little or nothing") {
  const auto tokens = haystack_tokens(2048);
  const AttentionOptions attention = hip_attention(sparse_config());
  const auto whole = prompt_logits(attention, options_for(2048), tokens);

  EngineOptions options = options_for(2048);
  options.prefill_rows = 300;  // rounded down to 256, a multiple of block_q
  options.page_size = 7;
  CHECK(largest_difference(whole, prompt_logits(attention, options, tokens)) < 1e-3);

  for (const auto type : {hip_attn::ElementType::kFloat16, hip_attn::ElementType::kBFloat16}) {
    AttentionOptions narrow = attention;
    narrow.kv_type = type;
    const auto logits = prompt_logits(narrow, options_for(2048), tokens);
    // Logits reach 18; the model itself was trained in bfloat16.
    CHECK(largest_difference(whole, logits) < 0.5);
    CHECK(argmax(whole) == argmax(logits));
  }
}

TEST_CASE("engine: a KV cache in host memory changes nothing, and has pages of eight") {
  const auto tokens = haystack_tokens(1500);
  EngineOptions options = options_for(1500);
  options.page_size = 8;
  AttentionOptions attention = hip_attention(landmark_config());
  const auto expected = prompt_logits(attention, options, tokens);
  attention.kv_budget = 1 << 20;
  CHECK(prompt_logits(attention, options, tokens) == expected);
  options.page_size = 64;
  require_error(ErrorCode::kInvalidArgument, "pages of 64 tokens",
                [&] { (void)prompt_logits(attention, options, tokens); });
}

TEST_CASE("engine: the whole program is sparse where it should be") {
  const auto tokens = haystack_tokens(2048);
  const auto stats_of = [&](AttentionMode mode) {
    AttentionOptions attention = hip_attention(sparse_config());
    attention.mode = mode;
    Engine engine(bundled_model(), attention, options_for(2048));
    Sequence sequence = engine.new_sequence();
    engine.prefill(sequence, tokens, [](auto, auto) {});
    return engine.attention().stats();
  };
  const AttentionStats dense = stats_of(AttentionMode::kDense);
  const AttentionStats hip = stats_of(AttentionMode::kHip);
  const AttentionStats window = stats_of(AttentionMode::kWindow);
  const AttentionStats random = stats_of(AttentionMode::kRandom);
  // 2048 rows of 2 KV heads in 6 layers, and 32 query blocks.
  CHECK(dense.rows == 2048 * 2 * 6);
  CHECK(dense.units == 32 * 2 * 6);
  CHECK(dense.keys_attended == 2048 * 2049 / 2 * 2 * 6);
  CHECK(hip.keys_attended < 0.6 * static_cast<double>(dense.keys_attended));
  CHECK(hip.search_keys_read > 0);
  CHECK(dense.search_keys_read + window.search_keys_read + random.search_keys_read == 0);
  CHECK(window.keys_attended == hip.keys_attended);
  CHECK(random.keys_attended == hip.keys_attended);
}

TEST_CASE("engine: query blocks before prefill_dense_until attend to every key in every mode") {
  const auto tokens = haystack_tokens(1024);
  const auto keys_attended = [&](AttentionMode mode, std::int64_t dense_until, std::int64_t count) {
    AttentionOptions attention = hip_attention(sparse_config());
    attention.mode = mode;
    attention.config.prefill_dense_until = dense_until;
    Engine engine(bundled_model(), attention, options_for(1024));
    Sequence sequence = engine.new_sequence();
    engine.prefill(sequence, std::span(tokens).first(count), [](auto, auto) {});
    return engine.attention().stats().keys_attended;
  };
  constexpr std::int64_t kDense = 768 * 769 / 2 * 2 * 6;  // rows of 2 KV heads in 6 layers
  CHECK(keys_attended(AttentionMode::kDense, 0, 768) == kDense);
  for (const auto mode : {AttentionMode::kHip, AttentionMode::kWindow, AttentionMode::kRandom}) {
    CHECK(keys_attended(mode, 705, 768) == kDense);  // the last block begins at 704
    CHECK(keys_attended(mode, 704, 768) < kDense);
    CHECK(keys_attended(mode, 768, 1024) ==
          kDense + keys_attended(mode, 0, 1024) - keys_attended(mode, 0, 768));
  }
}

TEST_CASE("engine: a configuration file with window-only layers and a dense start runs") {
  AttentionOptions attention;
  const hip_attn::Status status =
      hip_attn::parse_model_config(read_file(kConfigFolder / "dense_start.json"), attention.config);
  INFO(status.message());
  REQUIRE(status.ok());
  REQUIRE(attention.config.prefill(1).is_window_only());
  REQUIRE(attention.config.decode(2).num_stages() == 2);

  const auto tokens = haystack_tokens(1024);
  const auto prompt_stats = [&](AttentionMode mode, std::int64_t count) {
    attention.mode = mode;
    Engine engine(bundled_model(), attention, options_for(1024));
    Sequence sequence = engine.new_sequence();
    engine.prefill(sequence, std::span(tokens).first(count), [](auto, auto) {});
    return engine.attention().stats();
  };
  const AttentionStats start = prompt_stats(AttentionMode::kHip, 512);
  // In two layers of 2 KV heads the rows attend to sink and window, in four to every key.
  constexpr std::int64_t kReach = 4 + 128;
  constexpr std::int64_t kWindowOnly = kReach * (kReach + 1) / 2 + (512 - kReach) * kReach;
  CHECK(start.keys_attended == kWindowOnly * 2 * 2 + 512 * 513 / 2 * 2 * 4);
  CHECK(start.search_keys_read == 0);
  const AttentionStats rest = prompt_stats(AttentionMode::kHip, 1024) - start;
  CHECK(rest.search_keys_read > 0);
  CHECK(rest.keys_attended > 512 * kReach * 2 * 2 + 512 * (64 + 256 + 256) * 2 * 4);
  CHECK(rest.keys_attended < 512 * kReach * 2 * 2 + 512 * (64 + 256 + 256 + 71) * 2 * 4);
  for (const auto mode : {AttentionMode::kWindow, AttentionMode::kRandom})
    CHECK(prompt_stats(mode, 1024).keys_attended == rest.keys_attended + start.keys_attended);

  // And it decodes.
  attention.mode = AttentionMode::kHip;
  Engine engine(bundled_model(), attention, options_for(1024));
  Sequence sequence = engine.new_sequence();
  engine.prefill(sequence, std::span(tokens).first(1000), [](auto, auto) {});
  const AttentionStats before = engine.attention().stats();
  const BatchEntry entry{&sequence, std::span(tokens).subspan(1000, 1)};
  engine.run(Phase::kDecode, {&entry, 1});
  const AttentionStats step = engine.attention().stats() - before;
  CHECK(step.rows == 2 * 6);
  CHECK(step.keys_attended > kReach * 2 * 2 + (64 + 256 + 256) * 2 * 4);
  CHECK(step.keys_attended < kReach * 2 * 2 + (64 + 256 + 256 + 8) * 2 * 4);
}

TEST_CASE("engine: decode with reused selections predicts as well as prefill") {
  constexpr std::int64_t kPrompt = 2000;
  constexpr std::int64_t kSteps = 48;
  const auto tokens = haystack_tokens(kPrompt + kSteps + 1);
  const auto prompt = std::span(tokens).first(kPrompt);

  AttentionOptions settled = hip_attention(sparse_config());
  settled.settling_steps = 5;
  AttentionOptions ahead = settled;
  ahead.search_ahead = true;
  std::set<std::vector<double>> all_decoded;
  for (const auto& [attention, tolerance] :
       {std::pair{dense_attention(), 1e-3}, std::pair{hip_attention(sparse_config()), 0.1},
        std::pair{settled, 0.1}, std::pair{ahead, 0.1}}) {
    Engine whole(bundled_model(), attention, options_for(kPrompt + kSteps + 1));
    Sequence prefilled = whole.new_sequence();
    const auto nll = text_nll(whole, prefilled, tokens, [](auto) {});

    Engine engine(bundled_model(), attention, options_for(kPrompt + kSteps + 1));
    Sequence sequence = engine.new_sequence();
    engine.prefill(sequence, prompt, [](auto, auto) {});
    std::vector<double> decoded;
    for (std::int64_t i = kPrompt; i < kPrompt + kSteps; ++i) {
      const BatchEntry entry{&sequence, std::span(tokens).subspan(i, 1)};
      const auto logits = engine.run(Phase::kDecode, {&entry, 1});
      float largest = *std::max_element(logits.begin(), logits.end());
      double sum = 0;
      for (const float logit : logits) sum += std::exp(logit - largest);
      decoded.push_back(std::log(sum) + largest - logits[tokens[i + 1]]);
    }
    CHECK(mean(decoded) ==
          Catch::Approx(mean(std::span(nll).subspan(kPrompt, kSteps))).margin(tolerance));
    // Searches ahead are at other steps.
    CHECK(all_decoded.insert(decoded).second);
  }
}

TEST_CASE("engine: sequences that decode together give what each gives alone") {
  const auto tokens = haystack_tokens(1500);
  const std::int64_t vocab = bundled_model().config().vocab_size;
  EngineOptions options = options_for(1600);
  options.max_sequences = 2;
  options.cache_tokens = 3200;
  Engine engine(bundled_model(), hip_attention(sparse_config()), options);
  const auto prompt_a = std::span(tokens).first(1000);
  const auto prompt_b = std::span(tokens).first(1500);

  const auto greedy = [&](std::vector<Sequence>& sequences, std::vector<TokenId> next) {
    std::vector<std::vector<TokenId>> texts(sequences.size());
    for (int step = 0; step < 20; ++step) {
      std::vector<BatchEntry> entries;
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        entries.push_back({&sequences[i], {&next[i], 1}});
      }
      const auto logits = engine.run(Phase::kDecode, entries);
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        next[i] = argmax(std::span(logits).subspan(i * vocab, vocab));
        texts[i].push_back(next[i]);
      }
    }
    return texts;
  };
  const auto start = [&](std::vector<Sequence>& sequences, std::int32_t slot,
                         std::span<const TokenId> prompt) {
    return argmax(prompt_logits(engine, sequences.emplace_back(engine.new_sequence(slot)), prompt));
  };
  std::vector<std::vector<TokenId>> alone;
  for (const auto prompt : {prompt_a, prompt_b}) {
    std::vector<Sequence> one;
    const TokenId first = start(one, 1, prompt);
    alone.push_back(greedy(one, {first}).front());
  }
  std::vector<Sequence> both;
  both.reserve(2);
  const TokenId first_a = start(both, 0, prompt_a);
  const TokenId first_b = start(both, 1, prompt_b);
  CHECK(greedy(both, {first_a, first_b}) == alone);
}

TEST_CASE("engine: a configuration or an engine size that cannot work is refused") {
  hip_attn::HipConfig config = sparse_config();
  config.window = 0;
  require_error(ErrorCode::kAttention, "InvalidConfig",
                [&] { Engine engine(bundled_model(), hip_attention(config), options_for(64)); });
  Engine engine(bundled_model(), dense_attention(), options_for(64));
  Sequence sequence = engine.new_sequence();
  require_error(ErrorCode::kOutOfPages, "in use",
                [&] { engine.prefill(sequence, haystack_tokens(200), [](auto, auto) {}); });
}

TEST_CASE("sampler: greedy, restricted and seeded") {
  const std::vector<float> logits = {0.f, 3.f, 1.f, 3.f, 2.f};
  REQUIRE(Sampler({})(logits) == 1);

  Sampler top_one({.temperature = 2, .top_k = 1});
  Sampler nucleus({.temperature = 1, .top_p = 0.5});
  std::vector<int> counts(5);
  Sampler top_three({.temperature = 1, .top_k = 3, .seed = 7});
  for (int i = 0; i < 3000; ++i) {
    REQUIRE(top_one(logits) == 1);
    const TokenId token = nucleus(logits);
    REQUIRE((token == 1 || token == 3));
    ++counts[top_three(logits)];
  }
  // exp(3) : exp(3) : exp(2) is 0.422 : 0.422 : 0.155.
  CHECK(counts[1] == Catch::Approx(3000 * 0.422).margin(100));
  CHECK(counts[3] == Catch::Approx(3000 * 0.422).margin(100));
  CHECK(counts[4] == Catch::Approx(3000 * 0.155).margin(80));
  CHECK(counts[0] + counts[2] == 0);

  Sampler one({.temperature = 1, .seed = 3});
  Sampler same({.temperature = 1, .seed = 3});
  for (int i = 0; i < 100; ++i) REQUIRE(one(logits) == same(logits));
}

}  // namespace
}  // namespace llama::test
