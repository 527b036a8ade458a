// From rows to a score per chunk: what the reductions make of row logits, and what a rule writes
// into them, against float64 and straight from the definition.
#include "hip_attn/cpu/reduction.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "hip_attn/cpu/scan.hpp"
#include "support/reference.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

std::vector<float> library_scores(Reduction reduction, std::vector<std::vector<float>> logits) {
  const auto rows = static_cast<std::int64_t>(logits.front().size());
  const auto chunks = static_cast<std::int64_t>(logits.size());
  const std::int64_t stride = chunks + 3;  // nothing behind the chunks is read
  std::vector<float> memory(static_cast<std::size_t>(rows * stride), kNaN);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < chunks; ++i) memory[r * stride + i] = logits[i][r];
  }
  std::vector<float> scores(logits.size(), kNaN);
  cpu::reduce_rows(reduction, {memory.data(), stride, rows}, chunks, scores.data());
  return scores;
}

std::vector<std::vector<double>> widened(const std::vector<std::vector<float>>& logits) {
  std::vector<std::vector<double>> wide;
  for (const auto& rows : logits) wide.emplace_back(rows.begin(), rows.end());
  return wide;
}

TEST_CASE("scores are those of float64, whatever the number of rows and chunks") {
  const Reduction reduction = GENERATE(Reduction::kMaximum, Reduction::kSoftmaxSum);
  Choices choices(31);
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<std::vector<float>> logits(
        static_cast<std::size_t>(choices.between(1, choices.of({5, 64, 700}))),
        std::vector<float>(static_cast<std::size_t>(choices.between(1, 20))));
    const float spread = choices.of({0.1f, 3.f, 30.f});
    for (auto& rows : logits) {
      for (float& logit : rows) {
        logit = spread * gaussian(choices.bits());
        if (choices.one_in(15)) logit = -kInfinity;
      }
    }
    const auto expected = chunk_scores(reduction, widened(logits));
    const auto actual = library_scores(reduction, logits);
    CAPTURE(trial, logits.size(), logits.front().size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double error = std::abs(static_cast<double>(actual[i]) - expected[i]);
      const bool close =
          static_cast<double>(actual[i]) == expected[i] || error <= 2e-5 * expected[i] + 1e-30;
      CHECK(close);
    }
  }
}

TEST_CASE("the masses of a row sum to one, and of a row of -inf to nothing") {
  const std::vector<std::vector<float>> logits = {
      {1.f, -kInfinity}, {2.f, -kInfinity}, {-kInfinity, -kInfinity}};
  const auto scores = library_scores(Reduction::kSoftmaxSum, logits);
  CHECK(scores[0] == Catch::Approx(1 / (1 + std::exp(1.))));
  CHECK(scores[1] == Catch::Approx(1 / (1 + std::exp(-1.))));
  CHECK(scores[2] == 0.f);
  const auto nothing = library_scores(Reduction::kSoftmaxSum, {{-kInfinity}, {-kInfinity}});
  CHECK(nothing == std::vector<float>{0.f, 0.f});
}

TEST_CASE("a logit of +inf takes all of its row's mass, shared with others of +inf") {
  const auto scores =
      library_scores(Reduction::kSoftmaxSum, {{kInfinity}, {5.f}, {kInfinity}, {-kInfinity}});
  CHECK(scores == std::vector<float>{0.5f, 0.f, 0.5f, 0.f});
}

TEST_CASE("the sum and the maximum rank chunks differently") {
  // One row is loud about chunk 0, three are agreed on chunk 1.
  const std::vector<std::vector<float>> logits = {{9.f, 0.f, 0.f, 0.f}, {1.f, 4.f, 4.f, 4.f}};
  const auto largest = library_scores(Reduction::kMaximum, logits);
  const auto sums = library_scores(Reduction::kSoftmaxSum, logits);
  CHECK(largest[0] > largest[1]);
  CHECK(sums[0] < sums[1]);
}

/// Rows whose products with keys are a function of row and position.
struct ManyRows {
  std::int64_t rows;
  std::uint64_t seed;

  [[nodiscard]] std::int64_t num_rows() const { return rows; }
  [[nodiscard]] float product(std::int64_t row, std::int64_t key) const {
    const std::uint64_t hash = mix(mix(seed, row), key);
    return hash % 11 == 0 ? kNaN : 8.f * gaussian(hash);
  }
  void products(const std::int32_t* positions, int n, float* out) const {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (int i = 0; i < n; ++i) {
        out[r * cpu::kScanBatchKeys + i] = product(r, positions[i]);
      }
    }
  }
  void landmark_products(const std::int32_t* first_keys, int n, float* out) const {
    products(first_keys, n, out);
  }
};

/// The same for the reference.
struct ReferenceRows {
  ManyRows rows;
  LogitOptions options;

  [[nodiscard]] std::vector<double> key(int, std::int64_t key) const {
    std::vector<double> products;
    for (std::int64_t r = 0; r < rows.rows; ++r) products.push_back(rows.product(r, key));
    return products;
  }
  [[nodiscard]] std::vector<double> landmark(int, const Chunk& chunk) const {
    return key(0, chunk.begin);
  }
  [[nodiscard]] double logit(double product) const { return options.logit(product, 1); }
};

TEST_CASE("every rule writes the row logits of the definition, NaN as -inf") {
  const auto rule =
      GENERATE(ScanRule::kDescent, ScanRule::kCentre, ScanRule::kLandmark, ScanRule::kEveryKey);
  const Reduction reduction = GENERATE(Reduction::kMaximum, Reduction::kSoftmaxSum);
  const LogitOptions options = GENERATE(LogitOptions{0.3f, {}}, LogitOptions{-0.5f, {}},
                                        LogitOptions{0.f, {}}, LogitOptions{0.4f, 2.f});
  // One batch and several, chunks of one key, and a last chunk that is cut.
  for (const std::int64_t chunk_size : {1, 4, 64, 128}) {
    const ManyRows scorer{5, 77};
    const std::int64_t end = 1000 + 70 * chunk_size - (chunk_size - 1) / 2;
    std::vector<std::int32_t> starts;
    for (std::int64_t start = 1000; start < end; start += chunk_size) {
      starts.push_back(static_cast<std::int32_t>(start));
    }
    const auto count = static_cast<std::int64_t>(starts.size());
    std::vector<float> logits(static_cast<std::size_t>(scorer.rows * count), kNaN);
    std::vector<float> products(static_cast<std::size_t>(scorer.rows) * cpu::kScanBatchKeys);
    const cpu::LogitRule to_logit =
        reduction == Reduction::kSoftmaxSum
            ? cpu::LogitRule{*options.scale, options.softcap.value_or(0.f)}
            : cpu::LogitRule{1.f, 0.f};
    cpu::ChunkRowLogits<ManyRows> written(scorer, {logits.data(), count, scorer.rows},
                                          products.data(), to_logit, reduction);
    const std::int64_t reads = cpu::BuiltRules::visit(rule, [&](auto type) {
      return cpu::scan_chunks(type, starts.data(), count, chunk_size, end, written,
                              [&](std::int64_t first) { written.move_to(first); });
    });

    std::int64_t expected_reads = 0;
    const ScanStage stage{
        .chunk_size = static_cast<std::int32_t>(chunk_size), .rule = rule, .reduction = reduction};
    for (std::int64_t i = 0; i < count; ++i) {
      const Chunk chunk{starts[i], std::min<std::int64_t>(starts[i] + chunk_size, end)};
      const auto expected =
          chunk_logits(0, stage, chunk, ReferenceRows{scorer, options}, expected_reads);
      for (std::int64_t r = 0; r < scorer.rows; ++r) {
        const auto actual = static_cast<double>(logits[r * count + i]);
        CAPTURE(chunk_size, i, r, actual, expected[r]);
        const bool close = actual == expected[r] ||
                           std::abs(actual - expected[r]) <= 2e-6 * (8 + std::abs(actual));
        CHECK(close);
      }
    }
    CHECK(reads == expected_reads);
  }
}

}  // namespace
}  // namespace hip_attn
