#include "attention_mass.hpp"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace llama {
namespace {

using hip_attn::float16;

constexpr std::int64_t kCellKeys = 8;  // at most

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::vector<float> to_floats(std::span<const float16> values) {
  std::vector<float> floats(values.size());
  std::transform(values.begin(), values.end(), floats.begin(),
                 [](float16 value) { return hip_attn::to_float(value); });
  return floats;
}

std::vector<float16> to_halves(const std::vector<double>& sums, std::int64_t rows) {
  std::vector<float16> means(sums.size());
  std::transform(sums.begin(), sums.end(), means.begin(), [rows](double sum) {
    return hip_attn::from_float<float16>(static_cast<float>(sum / static_cast<double>(rows)));
  });
  return means;
}

/// Turns a row's logits into its mass, and returns their LSE.
double softmax(std::span<float> row) {
  const float top = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (float& value : row) sum += value = std::exp(value - top);
  for (float& value : row) value = static_cast<float>(value / sum);
  return top + std::log(sum);
}

/// The cells of one query block.
struct BlockCells {
  std::vector<float16> all;
  std::vector<float16> attended;
};

}  // namespace

HeadSelection HeadSelection::dense(std::int64_t tokens) {
  HeadSelection selection;
  const std::int64_t query_blocks = ceil_div(tokens, selection.block_q);
  selection.window_start.resize(query_blocks);
  selection.block_ends.resize(query_blocks);
  return selection;
}

std::span<const std::int32_t> HeadSelection::blocks_of(std::int64_t query_block) const {
  const std::int32_t begin = query_block == 0 ? 0 : block_ends[query_block - 1];
  return std::span(blocks).subspan(begin, block_ends[query_block] - begin);
}

std::vector<KeyRange> HeadSelection::attended(std::int64_t query_block, std::int64_t end) const {
  std::vector<KeyRange> ranges;
  const auto add = [&](std::int64_t first, std::int64_t last) {
    if (first < std::min(last, end)) ranges.push_back({first, std::min(last, end)});
  };
  add(0, sink);
  for (const std::int64_t block : blocks_of(query_block)) {
    add(block * block_k, (block + 1) * block_k);
  }
  add(window_start[query_block], end);
  return ranges;
}

std::int64_t HeadSelection::cell_keys() const noexcept { return std::min(block_k, kCellKeys); }

double HeadMass::mean_covered() const {
  return std::accumulate(covered.begin(), covered.end(), 0.0) / static_cast<double>(covered.size());
}

HeadMass attention_mass(std::span<const float16> q, std::span<const float16> k,
                        std::int64_t head_dim, double scale, const HeadSelection& selection) {
  const std::int64_t tokens = static_cast<std::int64_t>(q.size()) / head_dim;
  const std::int64_t cell = selection.cell_keys();
  const std::vector<float> keys = to_floats(k);
  HeadMass mass;
  mass.lse.resize(tokens);
  mass.covered.resize(tokens);
  std::vector<BlockCells> cells(selection.num_query_blocks());
  openblas_set_num_threads(1);  // each of OpenMP's threads multiplies for itself

#pragma omp parallel
  {
    std::vector<float> logits;
#pragma omp for schedule(dynamic)
    for (std::int64_t i = 0; i < selection.num_query_blocks(); ++i) {
      const std::int64_t n = selection.num_query_blocks() - 1 - i;  // the longest first
      const std::int64_t first = n * selection.block_q;
      const std::int64_t end = std::min(tokens, first + selection.block_q);
      const std::int64_t rows = end - first;
      const std::vector<float> queries = to_floats(q.subspan(first * head_dim, rows * head_dim));
      logits.resize(rows * end);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(rows),
                  static_cast<int>(end), static_cast<int>(head_dim), static_cast<float>(scale),
                  queries.data(), static_cast<int>(head_dim), keys.data(),
                  static_cast<int>(head_dim), 0.f, logits.data(), static_cast<int>(end));

      const std::vector<KeyRange> attended = selection.attended(n, end);
      std::vector<double> all_sums(ceil_div(end, cell));
      std::vector<double> attended_sums;
      for (const KeyRange& range : attended) {
        attended_sums.resize(attended_sums.size() + ceil_div(range.end - range.begin, cell));
      }
      for (std::int64_t p = first; p < end; ++p) {
        const auto row = std::span(logits).subspan((p - first) * end, p + 1);
        mass.lse[p] = static_cast<float>(softmax(row));
        for (std::int64_t j = 0; j <= p; ++j) all_sums[j / cell] += row[j];
        double covered = 0;
        for (const KeyRange& range : attended) {
          for (std::int64_t j = range.begin; j < std::min(range.end, p + 1); ++j) covered += row[j];
        }
        mass.covered[p] = static_cast<float>(covered);
        double* sums = attended_sums.data();
        for (const KeyRange& range : attended) {
          for (std::int64_t j = range.begin; j < std::min(range.end, p + 1); ++j) {
            sums[(j - range.begin) / cell] += row[j] / covered;
          }
          sums += ceil_div(range.end - range.begin, cell);
        }
      }
      cells[n] = {to_halves(all_sums, rows), to_halves(attended_sums, rows)};
    }
  }
  for (const BlockCells& block : cells) {
    mass.cells.insert(mass.cells.end(), block.all.begin(), block.all.end());
    mass.attended.insert(mass.attended.end(), block.attended.begin(), block.attended.end());
  }
  return mass;
}

}  // namespace llama
