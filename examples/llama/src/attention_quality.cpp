#include "attention_quality.hpp"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "text_nll.hpp"

namespace llama {
namespace {

/// The share of the `top` largest of `logits`, of keys 0, 1, ..., that are attended.
double recall_of_top(std::span<const float> logits, std::int64_t top,
                     const SelectionEntry& attended) {
  const std::int64_t count = std::min(top, static_cast<std::int64_t>(logits.size()));
  std::vector<float> sorted(logits.begin(), logits.end());
  std::nth_element(sorted.begin(), sorted.begin() + (count - 1), sorted.end(),
                   std::greater<float>());
  const float least = sorted[count - 1];
  std::int64_t found = 0;
  for (std::size_t key = 0; key < logits.size(); ++key) {
    found += logits[key] >= least && attended.attends(static_cast<std::int64_t>(key));
  }
  return static_cast<double>(std::min(found, count)) / static_cast<double>(count);
}

/// Logits that are in memory at once, of a few rows: 64 MB.
constexpr std::int64_t kLogits = std::int64_t{1} << 24;

/// Adds the recall of a KV head's query heads, over samples of one layer in ascending position, to
/// `sums`.
void add_recall(std::span<const AttentionSample* const> samples, std::int64_t kv_head,
                std::span<const float> keys, const LlamaConfig& model, std::int64_t top_keys,
                std::vector<double>& sums) {
  const std::int64_t head_dim = model.head_dim;
  const std::int64_t group = model.num_q_heads / model.num_kv_heads;
  const std::int64_t first_head = kv_head * group;
  const std::int64_t num_keys = samples.back()->position + 1;
  const std::int64_t rows = std::ssize(samples) * group;
  std::vector<float> q;
  for (const AttentionSample* sample : samples) {
    const auto begin = sample->q.begin() + first_head * head_dim;
    q.insert(q.end(), begin, begin + group * head_dim);
  }
  std::vector<float> logits(rows * num_keys);
  // The scale is left out: it would not change which logits are the largest.
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(rows),
              static_cast<int>(num_keys), static_cast<int>(head_dim), 1.0f, q.data(),
              static_cast<int>(head_dim), keys.data() + kv_head * head_dim,
              static_cast<int>(model.kv_size()), 0.0f, logits.data(), static_cast<int>(num_keys));
  std::vector<double> recall(rows);
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t row = 0; row < rows; ++row) {
    const AttentionSample& sample = *samples[row / group];
    const std::span<const float> of_row(logits.data() + row * num_keys, sample.position + 1);
    recall[row] = recall_of_top(of_row, top_keys, sample.attended[kv_head]);
  }
  for (std::int64_t row = 0; row < rows; ++row) sums[first_head + row % group] += recall[row];
}

}  // namespace

double mean_share(const AttentionQuality::ByHead& shares) {
  std::vector<double> means;
  for (const auto& heads : shares) means.push_back(mean(heads));
  return mean(means);
}

HeadShare least_share(const AttentionQuality::ByHead& shares) {
  HeadShare least{0, 0, shares.front().front()};
  for (std::size_t layer = 0; layer < shares.size(); ++layer) {
    for (std::size_t head = 0; head < shares[layer].size(); ++head) {
      if (shares[layer][head] < least.share) {
        least = {static_cast<std::int64_t>(layer), static_cast<std::int64_t>(head),
                 shares[layer][head]};
      }
    }
  }
  return least;
}

AttentionQuality rate_attention(std::span<const AttentionSample> samples, const LlamaConfig& model,
                                Attention& attention, const Sequence& sequence,
                                std::int64_t top_keys) {
  const std::vector<double> whole(model.num_q_heads, 1.0);
  AttentionQuality quality;
  quality.mass.assign(model.num_layers, whole);
  quality.top = quality.mass;
  for (std::int64_t layer = 0; layer < model.num_layers; ++layer) {
    std::vector<const AttentionSample*> of_layer;
    for (const AttentionSample& sample : samples) {
      if (sample.layer == layer) of_layer.push_back(&sample);
    }
    if (of_layer.empty()) continue;
    std::vector<double> mass(model.num_q_heads);
    for (const AttentionSample* sample : of_layer) {
      for (std::size_t head = 0; head < mass.size(); ++head) {
        mass[head] += std::exp(static_cast<double>(sample->lse[head]) -
                               static_cast<double>(sample->dense_lse[head]));
      }
    }
    std::vector<double> top(model.num_q_heads);
    const std::vector<float> keys = attention.keys(layer, sequence);
    const std::int64_t group = model.num_q_heads / model.num_kv_heads;
    const std::int64_t at_once = std::max<std::int64_t>(1, kLogits / (group * sequence.size()));
    for (std::int64_t first = 0; first < std::ssize(of_layer); first += at_once) {
      const auto some = std::span<const AttentionSample* const>(of_layer).subspan(
          first, std::min(at_once, std::ssize(of_layer) - first));
      for (std::int64_t head = 0; head < model.num_kv_heads; ++head) {
        add_recall(some, head, keys, model, top_keys, top);
      }
    }
    const auto count = static_cast<double>(of_layer.size());
    for (std::size_t head = 0; head < mass.size(); ++head) {
      quality.mass[layer][head] = mass[head] / count;
      quality.top[layer][head] = top[head] / count;
    }
  }
  return quality;
}

}  // namespace llama
