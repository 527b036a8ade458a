// The theorem of the first paper (arXiv 2406.09827) on the bundled model's keys: where keys near
// each other score alike, the half whose centre scores higher is likelier to hold a chunk's best
// key, so that a descent ends at that key more often than a key drawn at random is it.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "hip_attn/cpu/scan.hpp"
#include "model.hpp"
#include "support.hpp"

namespace llama::test {
namespace {

constexpr std::int64_t kTokens = 8192;
constexpr std::int64_t kSink = 256;      // where the candidates of the default configuration begin
constexpr std::int64_t kQueryRows = 32;  // that are looked at, spread over the last kQuerySpan
constexpr std::int64_t kQuerySpan = 512;
constexpr BatchLimits kLimits{1, 2048, kTokens};

/// Keeps the last queries and all keys of every layer, and attends as usual.
class Recorder final : public Attention {
 public:
  Recorder(const LlamaConfig& model, const PagePool& pool)
      : attention_(make_paged_attention(dense_attention(), model, pool, kLimits, cpu())),
        queries(model.num_layers),
        keys(model.num_layers) {}

  void prepare(const Batch& batch) override { attention_->prepare(batch); }
  void attend(std::int64_t layer, const Batch& batch, const Tensor& q, const Tensor& k,
              const Tensor& v, const Tensor& out) override {
    keys[layer].insert(keys[layer].end(), k.as<float>(), k.as<float>() + k.size());
    const std::int64_t first = kTokens - kQuerySpan - batch.first_position(0);
    if (first < batch.total_q()) {
      queries[layer].assign(q.as<float>() + first * q.cols, q.as<float>() + q.size());
    }
    attention_->attend(layer, batch, q, k, v, out);
  }
  [[nodiscard]] std::int64_t prefill_alignment() const override {
    return attention_->prefill_alignment();
  }
  void finish(const Batch& batch) override { attention_->finish(batch); }
  [[nodiscard]] bool recordable() const override { return false; }
  [[nodiscard]] AttentionStats stats() const override { return attention_->stats(); }
  void observe_selections(SelectionObserver) override {}
  void observe_inputs(InputObserver) override {}

 private:
  std::unique_ptr<Attention> attention_;

 public:
  std::vector<std::vector<float>> queries;  // by layer, [rows, Hq, D]
  std::vector<std::vector<float>> keys;     // by layer, [tokens, Hk, D]
};

/// q . k of the query rows that share one KV head, [kQueryRows * group, kTokens].
std::vector<float> key_scores(const Recorder& recorder, const LlamaConfig& model,
                              std::int64_t layer, std::int64_t kv_head) {
  const std::int64_t dim = model.head_dim;
  const std::int64_t group = model.num_q_heads / model.num_kv_heads;
  OwnedTensor keys(cpu(), hip_attn::ElementType::kFloat32, kTokens, dim);
  for (std::int64_t t = 0; t < kTokens; ++t) {
    std::copy_n(recorder.keys[layer].begin() + (t * model.num_kv_heads + kv_head) * dim, dim,
                keys->as<float>() + t * dim);
  }
  OwnedTensor queries(cpu(), hip_attn::ElementType::kFloat32, kQueryRows * group, dim);
  for (std::int64_t row = 0; row < kQueryRows; ++row) {
    const std::int64_t position = row * (kQuerySpan / kQueryRows);
    const auto first =
        recorder.queries[layer].begin() + (position * model.num_q_heads + kv_head * group) * dim;
    std::copy_n(first, group * dim, queries->as<float>() + row * group * dim);
  }
  const OwnedTensor scores(cpu(), hip_attn::ElementType::kFloat32, kQueryRows * group, kTokens);
  cpu().linear(*queries, *keys, *scores);
  return download(cpu(), *scores);
}

/// What the descents through the chunks of one size came to.
struct Tally {
  std::int64_t chunks = 0;
  std::int64_t better_half = 0;  // the half with the better centre holds the best key
  std::int64_t best_read = 0;    // the best key is among those that the descent reads
  std::int64_t best_found = 0;   // the descent ends at the best key

  [[nodiscard]] double rate(std::int64_t count) const {
    return static_cast<double>(count) / static_cast<double>(chunks);
  }
  /// Three standard deviations of the rate of something whose probability is p.
  [[nodiscard]] double margin(double p) const {
    return 3 * std::sqrt(p * (1 - p) / static_cast<double>(chunks));
  }
};

/// The keys that a descent asks for, and the best of them.
struct KeyScores {
  std::span<const float> all;
  float best = -std::numeric_limits<float>::infinity();
  float asked[hip_attn::cpu::kScanBatchKeys] = {};

  template <int kKeys>
  const float* add(const std::int32_t* positions, const int* /*of_chunk*/, int n) {
    for (int i = 0; i < n * kKeys; ++i) {
      asked[i] = all[positions[i]];
      best = std::max(best, asked[i]);
    }
    return asked;
  }
};

/// Descends through every chunk of the candidates of one query.
void descend_all(std::span<const float> a, std::int64_t chunk_size, Tally& tally) {
  const std::int64_t end = kTokens - kQuerySpan;
  for (std::int64_t start = kSink; start + chunk_size <= end; start += chunk_size) {
    const auto chunk = a.subspan(start, chunk_size);
    const std::int64_t best = std::max_element(chunk.begin(), chunk.end()) - chunk.begin();
    hip_attn::cpu::ChunkRange range{static_cast<std::int32_t>(start),
                                    static_cast<std::int32_t>(start + chunk_size)};
    KeyScores scores{.all = a};
    hip_attn::cpu::Descent::read(&range, 1, scores);
    const bool left_is_better = chunk[chunk_size / 4] >= chunk[3 * chunk_size / 4];
    ++tally.chunks;
    tally.better_half += left_is_better == (best < chunk_size / 2);
    tally.best_read += scores.best == chunk[best];
    tally.best_found += range.l == start + best;
  }
}

TEST_CASE("theorem: the descent finds the best key of a chunk more often than chance") {
  const Model& model = bundled_model();
  const LlamaConfig& config = model.config();
  PagePool pool(kTokens / 16, 16);
  Recorder recorder(config, pool);
  Activations activations(config, kLimits.rows(), cpu());
  const auto tokens = haystack_tokens(kTokens);
  Sequence sequence(pool, 0);
  for (std::int64_t first = 0; first < kTokens; first += 2048) {
    const BatchEntry entry{&sequence, std::span(tokens).subspan(first, 2048)};
    const Batch batch = make_batch(Phase::kPrefill, {&entry, 1});
    activations.load(batch);
    recorder.prepare(batch);
    (void)model.forward(batch, activations, recorder);
  }

  for (const std::int64_t chunk_size : {32, 256}) {
    const double found_by_chance = 1.0 / static_cast<double>(chunk_size);
    const double reads = 2 * std::log2(chunk_size);
    fmt::print("chunks of {} keys of {}; by chance: half 50 %, found {:.2f} %, read {:.2f} %\n",
               chunk_size, kTokens, 100 * found_by_chance, 100 * reads * found_by_chance);
    fmt::print("layer  chunks  best key in better half  descent ends at it  descent reads it\n");
    for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
      Tally tally;
      for (std::int64_t kv_head = 0; kv_head < config.num_kv_heads; ++kv_head) {
        const auto scores = key_scores(recorder, config, layer, kv_head);
        for (std::size_t first = 0; first < scores.size(); first += kTokens) {
          descend_all(std::span(scores).subspan(first, kTokens), chunk_size, tally);
        }
      }
      const double half = tally.rate(tally.better_half);
      const double found = tally.rate(tally.best_found);
      fmt::print("{:5}  {:6}  {:21.1f} %  {:16.2f} %  {:14.1f} %\n", layer, tally.chunks,
                 100 * half, 100 * found, 100 * tally.rate(tally.best_read));
      CAPTURE(layer, chunk_size);
      CHECK(half > 0.5);
      CHECK(found > found_by_chance + tally.margin(found_by_chance));
    }
  }
}

}  // namespace
}  // namespace llama::test
