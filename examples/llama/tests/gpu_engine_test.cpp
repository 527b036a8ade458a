// The engine on the GPU against the engine on the CPU.

#include <chrono>

#include "recall.hpp"
#include "recall_task.hpp"
#include "support.hpp"
#include "text_nll.hpp"
#include "verify.hpp"

namespace llama::test {
namespace {

using hip_attn::ElementType;

constexpr auto kTypes = {ElementType::kBFloat16, ElementType::kFloat16};

AttentionOptions with_mode(AttentionMode mode) {
  AttentionOptions attention = hip_attention(sparse_config());
  attention.mode = mode;
  return attention;
}

TEST_CASE("gpu: token ids, likelihoods, logits and codes of the bundled model") {
  REQUIRE_GPU();
  for (const auto type : kTypes) {
    CAPTURE(to_string(type));
    for (const Check& check :
         verify(bundled_model_on_gpu(type), bundled_tokenizer(), kDataFolder)) {
      CAPTURE(check.name, check.detail);
      CHECK(check.passed);
    }
  }
}

TEST_CASE("gpu: every kind of attention reads what it reads on the CPU, and predicts alike") {
  REQUIRE_GPU();
  const auto tokens = haystack_tokens(2048);
  for (const auto type : kTypes) {
    for (const auto mode : {AttentionMode::kHip, AttentionMode::kDense, AttentionMode::kWindow,
                            AttentionMode::kRandom}) {
      CAPTURE(to_string(type), to_string(mode));
      const auto run = [&](const Model& model, AttentionStats& stats) {
        Engine engine(model, with_mode(mode), options_for(2048));
        Sequence sequence = engine.new_sequence();
        const auto logits = prompt_logits(engine, sequence, tokens);
        stats = engine.attention().stats();
        return logits;
      };
      AttentionStats on_cpu;
      AttentionStats on_gpu;
      const auto expected = run(bundled_model(), on_cpu);
      const auto found = run(bundled_model_on_gpu(type), on_gpu);
      // Logits reach 18; the model itself was trained in bfloat16.
      CHECK(largest_difference(expected, found) < 0.5);
      CHECK(on_gpu.units == on_cpu.units);
      CHECK(on_gpu.rows == on_cpu.rows);
      CHECK(on_gpu.search_keys_read == on_cpu.search_keys_read);
      CHECK(on_gpu.attention_keys_read == on_cpu.attention_keys_read);
      CHECK(on_gpu.keys_attended == on_cpu.keys_attended);
    }
  }
}

TEST_CASE("gpu: the search by landmarks reads what it reads on the CPU, and predicts alike") {
  REQUIRE_GPU();
  const auto tokens = haystack_tokens(2048);
  for (const std::int64_t page_size : {16, 64}) {
    CAPTURE(page_size);
    EngineOptions options = options_for(2048);
    options.page_size = page_size;
    const auto run = [&](const Model& model, AttentionStats& stats) {
      Engine engine(model, hip_attention(landmark_config()), options);
      Sequence sequence = engine.new_sequence();
      const auto logits = prompt_logits(engine, sequence, tokens);
      stats = engine.attention().stats();
      return logits;
    };
    AttentionStats on_cpu;
    AttentionStats on_gpu;
    const auto expected = run(bundled_model(), on_cpu);
    const auto found = run(bundled_model_on_gpu(ElementType::kBFloat16), on_gpu);
    CHECK(largest_difference(expected, found) < 0.5);
    CHECK(on_gpu.search_keys_read == on_cpu.search_keys_read);
    CHECK(on_gpu.keys_attended == on_cpu.keys_attended);
  }
}

TEST_CASE("gpu: a decode step from a graph is the step without one, bit for bit") {
  REQUIRE_GPU();
  const auto tokens = haystack_tokens(1100);
  const Model& model = bundled_model_on_gpu(ElementType::kBFloat16);
  const hip_attn::HipConfig config =
      GENERATE(as<hip_attn::HipConfig>(), sparse_config(), landmark_config());
  Engine recorded(model, hip_attention(config), options_for(1100));
  Engine observed(model, hip_attention(config), options_for(1100));
  std::int64_t layers_seen = 0;
  std::int64_t blocks_seen = 0;
  const auto observe = [&](std::int64_t, const Batch&, const hip_attn::HipConfig&,
                           const hip_attn::ConstBlockSelection& selection) {
    ++layers_seen;
    blocks_seen += selection.counts(0, 0);
  };
  std::vector<Sequence> sequences;
  for (Engine* engine : {&recorded, &observed}) {
    const Sequence& sequence = sequences.emplace_back(engine->new_sequence());
    engine->prefill(sequences.back(), std::span(tokens).first(1000), [](auto, auto) {});
    REQUIRE(sequence.size() == 1000);
  }
  observed.attention().observe_selections(observe);  // and thereby launched one by one
  for (std::int64_t i = 1000; i < 1100; ++i) {
    const auto step = [&](Engine& engine, Sequence& sequence) {
      const BatchEntry entry{&sequence, std::span(tokens).subspan(i, 1)};
      return engine.run(Phase::kDecode, {&entry, 1});
    };
    CAPTURE(i);
    REQUIRE(step(recorded, sequences[0]) == step(observed, sequences[1]));
  }
  CHECK(layers_seen == 100 * 6);
  CHECK(blocks_seen == 100 * 6 * config.stages.back().keep / 8);
}

TEST_CASE("gpu: a KV cache in host memory gives the logits of one on the GPU, bit for bit") {
  REQUIRE_GPU();
  const auto tokens = haystack_tokens(2100);
  const Model& model = bundled_model_on_gpu(ElementType::kBFloat16);
  EngineOptions options = options_for(2100);
  options.max_sequences = 2;
  options.cache_tokens = 4200;
  options.page_size = 8;
  AttentionOptions attention =
      hip_attention(GENERATE(as<hip_attn::HipConfig>(), sparse_config(), landmark_config()));
  attention.search_ahead = GENERATE(false, true);
  Engine on_gpu(model, attention, options);
  attention.kv_budget = 30 << 20;  // more than a step reads, less than the cache
  Engine at_home(model, attention, options);
  std::vector<Sequence> sequences;
  for (Engine* engine : {&on_gpu, &at_home}) {
    Sequence& first = sequences.emplace_back(engine->new_sequence());
    engine->prefill(first, std::span(tokens).first(1901), [](auto, auto) {});
    sequences.push_back(first.fork(1));  // and goes on with what the first goes on with
  }
  const std::int64_t behind = sequences[0].size() - sequences[1].size();
  for (std::int64_t i = 1901; i < 2100; ++i) {
    CAPTURE(i);
    const auto step = [&](Engine& engine, std::size_t first) {
      const BatchEntry entries[] = {
          {&sequences[first], std::span(tokens).subspan(i, 1)},
          {&sequences[first + 1], std::span(tokens).subspan(i - behind, 1)}};
      return engine.run(Phase::kDecode, entries);
    };
    REQUIRE(step(on_gpu, 0) == step(at_home, 2));
  }
  const auto counters = at_home.attention().store_counters();
  REQUIRE(counters);
  CHECK(counters->hits > 0);
  CHECK_FALSE(on_gpu.attention().store_counters());
}

TEST_CASE("gpu: recall finds what it finds on the CPU, and its selections can be drawn") {
  REQUIRE_GPU();
  const RecallTask task = make_recall_task(bundled_tokenizer(), kDataFolder, 4096, 1);
  const auto recall = [&](const Model& model) {
    hip_attn::HipConfig config = sparse_config();
    config.stages = {{32, 2048, 4}, {8, 512, 1}};
    return run_recall(model, bundled_tokenizer(), task, hip_attention(config), {}, "hip", true);
  };
  const RecallResult expected = recall(bundled_model());
  const RecallResult found = recall(bundled_model_on_gpu(ElementType::kBFloat16));
  CHECK(found.codes_right >= expected.codes_right - 1);
  CHECK(found.nll == Catch::Approx(expected.nll).margin(0.005));
  CHECK(found.text_selections.size() == expected.text_selections.size());
  CHECK(found.question_selections.size() == expected.question_selections.size());
}

TEST_CASE("gpu: the time of every part is counted, in prefill and in recorded steps") {
  REQUIRE_GPU();
  const auto tokens = haystack_tokens(1024);
  const Model& model = bundled_model_on_gpu(ElementType::kBFloat16);
  warm_up(model, 100, 3);
  Engine engine(model, hip_attention(sparse_config()), options_for(1100));
  Sequence sequence = engine.new_sequence();
  const auto start = std::chrono::steady_clock::now();
  const PartTimes before = model.backend().times();
  (void)text_nll(engine, sequence, tokens, [](auto) {});
  const PartTimes prefilled = model.backend().times() - before;
  for (int step = 0; step < 10; ++step) {
    const BatchEntry entry{&sequence, std::span(tokens).first(1)};
    (void)engine.run(Phase::kDecode, {&entry, 1});
  }
  const PartTimes all = model.backend().times() - before;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  for (const auto part : {Part::kEmbedding, Part::kLinear, Part::kElementwise,
                          Part::kPrefillAttention, Part::kLogits}) {
    CHECK(prefilled.of(part) > 0);
  }
  CHECK(prefilled.of(Part::kDecodeAttention) == 0);
  CHECK(all.of(Part::kDecodeAttention) > 0);
  CHECK(all.of(Part::kLinear) > prefilled.of(Part::kLinear));
  CHECK(all.total() < elapsed.count());
}

TEST_CASE("gpu: a KV cache of another type than the activations is refused") {
  REQUIRE_GPU();
  AttentionOptions attention = dense_attention();
  attention.kv_type = ElementType::kFloat32;
  require_error(ErrorCode::kInvalidArgument, "KV cache of float32", [&] {
    Engine engine(bundled_model_on_gpu(ElementType::kBFloat16), attention, options_for(64));
  });
}

}  // namespace
}  // namespace llama::test
