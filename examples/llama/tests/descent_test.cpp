// The theorem of the first paper (arXiv 2406.09827) on the bundled model's keys: where keys near
// each other score alike, the half whose centre scores higher holds a chunk's best key more often
// than not, so that a descent finds it more often than reading as many keys at random would.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "hip_attn/cpu/scan.hpp"
#include "model.hpp"
#include "ops.hpp"
#include "support.hpp"

namespace llama::test {
namespace {

constexpr std::int64_t kTokens = 8192;
constexpr std::int64_t kChunk = 256;  // the first stage of the default configuration
constexpr std::int64_t kStride = 4;   // and its query_stride
constexpr std::int64_t kSink = 256;
constexpr std::int64_t kBlockQ = 64;
constexpr std::int64_t kQueryBlocks = 8;  // that are looked at, the last of the text

/// Keeps the queries of the last blocks and all keys of every layer, and attends as usual.
class Recorder final : public Attention {
 public:
  Recorder(const LlamaConfig& model, const PagePool& pool)
      : model_(model),
        attention_(make_paged_attention(dense_attention(), model, pool, {1, 2048, kTokens})),
        queries(model.num_layers),
        keys(model.num_layers) {}

  void attend(std::int64_t layer, const Batch& batch, std::span<const float> q,
              std::span<const float> k, std::span<const float> v, std::span<float> out) override {
    keys[layer].insert(keys[layer].end(), k.begin(), k.end());
    const std::int64_t first = kTokens - kQueryBlocks * kBlockQ - batch.first_position(0);
    if (first < batch.total_q()) {
      queries[layer].assign(q.begin() + first * model_.q_size(), q.end());
    }
    attention_->attend(layer, batch, q, k, v, out);
  }
  [[nodiscard]] std::int64_t prefill_alignment() const override {
    return attention_->prefill_alignment();
  }
  [[nodiscard]] const AttentionStats& stats() const override { return attention_->stats(); }
  void observe_selections(SelectionObserver) override {}

 private:
  LlamaConfig model_;
  std::unique_ptr<Attention> attention_;

 public:
  std::vector<std::vector<float>> queries;  // by layer, [rows, Hq, D]
  std::vector<std::vector<float>> keys;     // by layer, [tokens, Hk, D]
};

/// a(j) of one unit for every key: the maximum over pooled rows and the query heads of kv_head.
std::vector<float> key_scores(const Recorder& recorder, const LlamaConfig& model,
                              std::int64_t layer, std::int64_t kv_head, std::int64_t query_block) {
  const std::int64_t dim = model.head_dim;
  const std::int64_t group = model.num_q_heads / model.num_kv_heads;
  Matrix keys{kTokens, dim, std::vector<float>(kTokens * dim)};
  for (std::int64_t t = 0; t < kTokens; ++t) {
    std::copy_n(recorder.keys[layer].begin() + (t * model.num_kv_heads + kv_head) * dim, dim,
                keys.data.begin() + t * dim);
  }
  const std::int64_t rows = kBlockQ / kStride * group;
  std::vector<float> pooled(rows * dim);
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t head = kv_head * group + row % group;
    for (std::int64_t i = 0; i < kStride; ++i) {
      const std::int64_t position = query_block * kBlockQ + row / group * kStride + i;
      const float* q = recorder.queries[layer].data() + (position * model.num_q_heads + head) * dim;
      for (std::int64_t d = 0; d < dim; ++d) pooled[row * dim + d] += q[d] / kStride;
    }
  }
  std::vector<float> products(rows * kTokens);
  linear(pooled, keys, products);
  std::vector<float> scores(products.begin(), products.begin() + kTokens);
  for (std::int64_t row = 1; row < rows; ++row) {
    for (std::int64_t t = 0; t < kTokens; ++t) {
      scores[t] = std::max(scores[t], products[row * kTokens + t]);
    }
  }
  return scores;
}

TEST_CASE("theorem: the descent finds the best key of a chunk more often than chance") {
  const Model& model = bundled_model();
  const LlamaConfig& config = model.config();
  PagePool pool(kTokens / 16, 16);
  Recorder recorder(config, pool);
  const auto tokens = haystack_tokens(kTokens);
  Sequence sequence(pool, 0);
  for (std::int64_t first = 0; first < kTokens; first += 2048) {
    const BatchEntry entry{&sequence, std::span(tokens).subspan(first, 2048)};
    (void)model.forward(make_batch(Phase::kPrefill, {&entry, 1}), recorder);
  }

  // A chunk of 256 keys is read at 2 log2(256) = 16 of them.
  const double chance = 2 * std::log2(kChunk) / kChunk;
  const std::int64_t end = kSink + (kTokens - kQueryBlocks * kBlockQ - kSink) / kChunk * kChunk;
  fmt::print("chunks of {} keys, {} query blocks at {} tokens\n", kChunk, kQueryBlocks, kTokens);
  fmt::print("layer  chunks  best key in the better half  best key read by the descent\n");
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    std::int64_t chunks = 0;
    std::int64_t right_half = 0;
    std::int64_t best_read = 0;
    for (std::int64_t kv_head = 0; kv_head < config.num_kv_heads; ++kv_head) {
      for (std::int64_t block = 0; block < kQueryBlocks; ++block) {
        const auto a = key_scores(recorder, config, layer, kv_head, block);
        std::vector<std::int32_t> starts;
        for (std::int64_t start = kSink; start < end; start += kChunk) {
          starts.push_back(static_cast<std::int32_t>(start));
        }
        std::vector<float> scores(starts.size());
        hip_attn::cpu::score_chunks(
            hip_attn::ScanRule::kDescent, starts.data(), static_cast<std::int64_t>(starts.size()),
            kChunk, end,
            [&](const std::int32_t* positions, int n, float* out) {
              for (int i = 0; i < n; ++i) out[i] = a[positions[i]];
            },
            scores.data());
        for (std::size_t i = 0; i < starts.size(); ++i) {
          const auto chunk = a.begin() + starts[i];
          const auto best = std::max_element(chunk, chunk + kChunk);
          const bool left_is_better = chunk[kChunk / 4] >= chunk[3 * kChunk / 4];
          right_half += left_is_better == (best - chunk < kChunk / 2);
          best_read += scores[i] == *best;
          ++chunks;
        }
      }
    }
    const auto n = static_cast<double>(chunks);
    const double half_rate = static_cast<double>(right_half) / n;
    const double read_rate = static_cast<double>(best_read) / n;
    fmt::print("{:5}  {:6}  {:8.1f} % (chance 50 %)      {:8.1f} % (chance {:.2f} %)\n", layer,
               chunks, 100 * half_rate, 100 * read_rate, 100 * chance);
    CAPTURE(layer);
    // Three standard deviations of drawing at random.
    CHECK(half_rate > 0.5 + 3 * std::sqrt(0.25 / n));
    CHECK(read_rate > chance + 3 * std::sqrt(chance * (1 - chance) / n));
  }
}

}  // namespace
}  // namespace llama::test
