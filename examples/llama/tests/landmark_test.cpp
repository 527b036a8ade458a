// Landmarks in the engine: where they lie, and that the search finds those of its own sequence.

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "batch_arrays.hpp"
#include "hip_attn/config.hpp"
#include "hip_attn/landmarks.hpp"
#include "landmark_places.hpp"
#include "selection_log.hpp"
#include "support.hpp"

namespace llama::test {
namespace {

/// What the search selects for every query block of a prefill.
std::vector<SelectionEntry> selections_of(const AttentionOptions& attention,
                                          const EngineOptions& options,
                                          const std::vector<TokenId>& tokens) {
  Engine engine(bundled_model(), attention, options);
  std::vector<SelectionEntry> selections;
  engine.attention().observe_selections(log_selections(selections));
  Sequence sequence = engine.new_sequence();
  engine.prefill(sequence, tokens, [](auto, auto) {});
  return selections;
}

TEST_CASE("landmarks: every chunk has a place of its own, with the page of its last token") {
  const std::vector<std::int32_t> pages = {7, 2, 5, 0, 9, 4, 1, 8, 3, 6, 11, 10};
  for (const std::int64_t page_size : {1, 3, 7, 16, 48, 64, 100, 128}) {
    for (const std::int64_t chunk_size : {8, 16, 64}) {
      CAPTURE(page_size, chunk_size);
      const LandmarkPlaces places(chunk_size, page_size);
      const std::int64_t chunks = std::ssize(pages) * page_size / chunk_size;
      REQUIRE(places.columns(std::ssize(pages)) == chunks);
      const std::int64_t num_pages = places.num_pages(std::ssize(pages));
      if (places.in_pages_of_keys()) {
        // The keys' own table: chunk j is on page j / landmarks_per_page.
        CHECK(num_pages == std::ssize(pages));
        CHECK(places.landmarks_per_page() * chunk_size == page_size);
        continue;
      }
      CHECK(places.landmarks_per_page() == 1);
      const std::vector<std::int32_t> row = places.row(pages);
      REQUIRE(std::ssize(row) == chunks);
      std::set<std::int32_t> taken;
      for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
        CHECK(row[chunk] >= 0);
        CHECK(row[chunk] < num_pages);
        CHECK(row[chunk] / places.per_page_of_keys() ==
              pages[((chunk + 1) * chunk_size - 1) / page_size]);
        taken.insert(row[chunk]);
      }
      CHECK(std::ssize(taken) == chunks);
    }
  }
}

TEST_CASE("landmarks: a page that a request does not have is none of its landmarks' either") {
  const LandmarkPlaces places(64, 16);
  CHECK(places.row(std::vector<std::int32_t>{3, 1, 0, 2, 6, 5, 4, -1, -1}) ==
        std::vector<std::int32_t>{2, -1});
}

TEST_CASE("landmarks: a batch has a table of its own where chunks cross pages") {
  const BatchLimits limits{.sequences = 2, .prefill_rows = 200, .seq_len = 160};
  PagePool pool(24, 16);
  BatchArrays arrays(limits, 16, std::vector<std::int64_t>{16, 64}, cpu());
  Sequence a(pool, 0);
  Sequence b(pool, 1);
  const std::vector<TokenId> tokens(130);
  const BatchEntry entries[] = {{&a, std::span(tokens).first(70)}, {&b, tokens}};
  arrays.load(make_batch(Phase::kPrefill, entries));
  CHECK(arrays.landmark_table(16).data == arrays.block_table().data);
  const auto table = arrays.landmark_table(64);
  REQUIRE(table.sizes[0] == 2);
  CHECK(table(0, 0) == a.pages()[3]);
  CHECK(table(1, 0) == b.pages()[3]);
  CHECK(table(1, 1) == b.pages()[7]);
}

TEST_CASE("engine: the search by landmarks selects what it does in pages of any size and pieces") {
  const auto tokens = haystack_tokens(2048);
  const AttentionOptions attention = hip_attention(landmark_config());
  const auto whole = selections_of(attention, options_for(2048), tokens);
  // It leaves out most candidates, and not always the same.
  const auto last_units = std::span(whole).last(2);
  CHECK(last_units[0].blocks.size() == 128 / 8);
  std::set<std::vector<std::int32_t>> different;
  for (const SelectionEntry& entry : whole) different.insert(entry.blocks);
  CHECK(different.size() > 100);

  for (const std::int64_t page_size : {7, 16, 48, 256}) {
    CAPTURE(page_size);
    EngineOptions options = options_for(2048);
    options.page_size = page_size;
    options.prefill_rows = 320;
    // Pieces visit the layers in another order.
    std::set<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::vector<std::int32_t>>> a, b;
    for (const SelectionEntry& entry : whole) {
      a.insert({entry.layer, entry.kv_head, entry.p0, entry.blocks});
    }
    for (const SelectionEntry& entry : selections_of(attention, options, tokens)) {
      b.insert({entry.layer, entry.kv_head, entry.p0, entry.blocks});
    }
    // Sums of other shapes differ in the last bit, which decides between chunks of equal score.
    std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::vector<std::int32_t>>>
        changed;
    std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(changed));
    CHECK(changed.size() < a.size() / 50);
  }
}

TEST_CASE("engine: landmarks that leave nothing out change nothing") {
  const auto tokens = haystack_tokens(1600);
  hip_attn::HipConfig config = landmark_config();
  config.stages[0].keep = config.stages[1].keep = 2048;
  hip_attn::HipConfig every_key = config;
  every_key.stages.erase(every_key.stages.begin(), every_key.stages.begin() + 2);
  Engine with(bundled_model(), hip_attention(config), options_for(1600));
  Engine without(bundled_model(), hip_attention(every_key), options_for(1600));
  Sequence a = with.new_sequence();
  Sequence b = without.new_sequence();
  CHECK(largest_difference(prompt_logits(with, a, tokens), prompt_logits(without, b, tokens)) <
        1e-4);
}

/// What one decode step selects in the first layer, by KV head and sequence. Queries and keys of
/// that layer depend on the tokens alone, however they came into the cache.
std::map<std::pair<std::int64_t, std::int64_t>, std::vector<std::int32_t>> first_layer_step(
    Engine& engine, std::span<const BatchEntry> entries) {
  std::vector<SelectionEntry> selections;
  engine.attention().observe_selections(log_selections(selections));
  (void)engine.run(Phase::kDecode, entries);
  engine.attention().observe_selections({});
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<std::int32_t>> blocks;
  for (const SelectionEntry& entry : selections) {
    if (entry.layer == 0) blocks[{entry.sequence, entry.kv_head}] = entry.blocks;
  }
  return blocks;
}

/// The same after a prompt that was fed whole.
std::vector<std::vector<std::int32_t>> first_layer_after(
    const std::vector<TokenId>& tokens, const hip_attn::HipConfig& config = landmark_config()) {
  const auto length = std::ssize(tokens);
  Engine engine(bundled_model(), hip_attention(config), options_for(length));
  Sequence sequence = engine.new_sequence();
  engine.prefill(sequence, std::span(tokens).first(length - 1), [](auto, auto) {});
  const BatchEntry last{&sequence, std::span(tokens).last(1)};
  auto blocks = first_layer_step(engine, {&last, 1});
  return {blocks[{0, 0}], blocks[{0, 1}]};
}

TEST_CASE("engine: forks select by the landmarks of their own prefix") {
  constexpr std::int64_t kPrefix = 1500;
  constexpr std::int64_t kLength = 2040;
  const auto tokens = haystack_tokens(kLength);
  auto other = tokens;
  std::reverse(other.begin() + kPrefix, other.end());
  for (const std::int64_t page_size : {16, 64}) {
    CAPTURE(page_size);
    EngineOptions options = options_for(kLength);
    options.page_size = page_size;
    options.max_sequences = 2;
    options.cache_tokens = 3 * kLength;
    Engine engine(bundled_model(), hip_attention(landmark_config()), options);
    Sequence prefix = engine.new_sequence();
    engine.prefill(prefix, std::span(tokens).first(kPrefix), [](auto, auto) {});
    std::vector<Sequence> forks;
    forks.push_back(prefix.fork(0));
    forks.push_back(prefix.fork(1));
    const auto rest = [&](const std::vector<TokenId>& text, std::size_t i) {
      return std::span(text).subspan(forks[i].size(), kLength - 1 - forks[i].size());
    };
    const BatchEntry prompts[] = {{&forks[0], rest(tokens, 0)}, {&forks[1], rest(other, 1)}};
    engine.run(Phase::kPrefill, prompts);
    const BatchEntry last[] = {{&forks[0], std::span(tokens).last(1)},
                               {&forks[1], std::span(other).last(1)}};
    auto found = first_layer_step(engine, last);
    const auto expected = first_layer_after(tokens);
    const auto expected_other = first_layer_after(other);
    CHECK(expected != expected_other);
    CHECK(std::vector{found[{0, 0}], found[{0, 1}]} == expected);
    CHECK(std::vector{found[{1, 0}], found[{1, 1}]} == expected_other);
  }
}

TEST_CASE("engine: decode steps complete landmarks that later ones select by") {
  constexpr std::int64_t kPrompt = 1100;
  constexpr std::int64_t kLength = 1300;
  const auto tokens = haystack_tokens(kLength);
  hip_attn::HipConfig config = landmark_config();
  config.window = 64;  // so that what is decoded soon is searched
  Engine engine(bundled_model(), hip_attention(config), options_for(kLength));
  Sequence sequence = engine.new_sequence();
  engine.prefill(sequence, std::span(tokens).first(kPrompt), [](auto, auto) {});
  for (std::int64_t i = kPrompt; i < kLength - 1; ++i) {
    const BatchEntry entry{&sequence, std::span(tokens).subspan(i, 1)};
    (void)engine.run(Phase::kDecode, {&entry, 1});
  }
  const BatchEntry last{&sequence, std::span(tokens).last(1)};
  auto found = first_layer_step(engine, {&last, 1});
  const std::vector selected = {found[{0, 0}], found[{0, 1}]};
  CHECK(selected == first_layer_after(tokens, config));
  // Some of it lies in what was decoded.
  CHECK(std::max(selected[0].back(), selected[1].back()) * 8 > kPrompt);
}

TEST_CASE("engine: the search counts a landmark as two keys") {
  const auto tokens = haystack_tokens(1664);
  const auto reads = [&](const hip_attn::HipConfig& config) {
    Engine engine(bundled_model(), hip_attention(config), options_for(1664));
    Sequence sequence = engine.new_sequence();
    engine.prefill(sequence, std::span(tokens).first(1600), [](auto, auto) {});
    const AttentionStats before = engine.attention().stats();
    engine.prefill(sequence, std::span(tokens).subspan(1600), [](auto, auto) {});
    const AttentionStats stats = engine.attention().stats() - before;
    return static_cast<double>(stats.search_keys_read) / static_cast<double>(stats.units);
  };
  hip_attn::HipConfig config = landmark_config();
  // Positions 64 to 1344 are candidates of the block at 1600.
  constexpr double kCandidates = 1344 - 64;
  CHECK(reads(config) == 2 * kCandidates / 64 + 2 * 512.0 / 16 + 256);
}

TEST_CASE("engine: landmarks of more chunk sizes than a cache can have are refused") {
  const auto stages_of = [](std::int32_t first, std::int32_t last) {
    hip_attn::HipConfig config;
    config.sink = config.window = 4096;
    for (std::int32_t chunk_size = first; chunk_size >= last; chunk_size /= 2) {
      config.stages.push_back({chunk_size, 4096, 1, hip_attn::ScanRule::kLandmark});
    }
    return config;
  };
  AttentionOptions attention;
  attention.config.prefill_layers = {stages_of(2048, 16)};
  attention.config.decode_layers = {stages_of(2048, 16)};
  Engine engine(bundled_model(), attention, options_for(64));
  attention.config.decode_layers = {stages_of(4096, 4096)};
  require_error(ErrorCode::kAttention, "landmarks of 9 chunk sizes; at most 8",
                [&] { Engine engine(bundled_model(), attention, options_for(64)); });
}

TEST_CASE("engine: a text longer than a landmark preset was made for is refused by name") {
  hip_attn::HipConfig config = hip_attn::presets::landmark(1 << 12);
  config.max_first_chunks = 128;
  require_error(ErrorCode::kAttention, "landmark", [&] {
    Engine engine(bundled_model(), hip_attention(config), options_for(1 << 14));
  });
}

}  // namespace
}  // namespace llama::test
