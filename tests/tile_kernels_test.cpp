// The CPU backend's kernels, those of every instruction set that this machine has and the portable
// ones, against float64. What the library chooses here is one of them; users have the others.
#include "hip_attn/cpu/tile_kernels.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "catch.hpp"
#include "hip_attn/build_info.hpp"
#include "hip_attn/cpu/portable_kernels.hpp"
#include "hip_attn_instantiations.hpp"
#include "support/built.hpp"
#include "support/memory.hpp"
#include "support/values.hpp"

namespace hip_attn::cpu {

// The objects are linked into this program.
namespace baseline {
extern const TileKernels kKernels[];
}
#if defined(HIP_ATTN_CPU_X86_LEVELS)
namespace x86_64_v3 {
extern const TileKernels kKernels[];
}
namespace x86_64_v4 {
extern const TileKernels kKernels[];
}
#endif

namespace {

using namespace test;

#define HIP_ATTN_LIST(head_dim) kPortableKernels<head_dim>,
constexpr TileKernels kPortable[] = {HIP_ATTN_FOR_EACH_HEAD_DIM(HIP_ATTN_LIST)};
#undef HIP_ATTN_LIST

struct InstructionSet {
  const char* name;
  const TileKernels* kernels;  // one per built head dim
};

std::vector<InstructionSet> instruction_sets() {
  std::vector<InstructionSet> sets = {{"portable", kPortable}, {"baseline", baseline::kKernels}};
#if defined(HIP_ATTN_CPU_X86_LEVELS)
  const std::string chosen = cpu_instruction_set();
  if (chosen != "baseline") sets.push_back({"x86-64-v3", x86_64_v3::kKernels});
  if (chosen == "x86-64-v4") sets.push_back({"x86-64-v4", x86_64_v4::kKernels});
#endif
  return sets;
}

// Aligned as kernels ask for it.
struct Floats {
  explicit Floats(std::int64_t size, float value = kNaN) : memory(size + 16, value) {
    data = memory.data();
    while (reinterpret_cast<std::uintptr_t>(data) % kTileAlignment != 0) ++data;
  }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  float& operator[](std::int64_t i) { return data[i]; }

  std::vector<float> memory;
  float* data;
};

float uniform(Choices& choices) {
  return static_cast<float>(choices.between(-4096, 4096)) / 4096.f;
}

// Rows of the cache, and the same in fp32.
template <typename T>
struct Rows {
  Rows(Choices& choices, int count, std::int64_t head_dim) : elements(count * head_dim) {
    for (T& element : elements) element = from_float<T>(uniform(choices));
    for (int i = 0; i < count; ++i) pointers.push_back(&elements[i * head_dim]);
    for (const T element : elements) floats.push_back(to_float(element));
  }

  std::vector<T> elements;
  std::vector<const T*> pointers;
  std::vector<float> floats;
};

// Nothing of exp's error, all of the sums'.
constexpr double kTolerance = 1e-5;

HIP_ATTN_TYPED_TEST_CASE("kernels of few rows compute what they say, by every instruction set") {
  Choices choices(1);
  for (const InstructionSet& set : instruction_sets()) {
    for (std::size_t h = 0; h < built_head_dims().size(); ++h) {
      const std::int64_t d = built_head_dims()[h];
      const TileKernels& kernels = set.kernels[h];
      const ElementKernels<TestType>& of_rows = kernels.of<TestType>();
      for (const int rows : {1, 2, 3, 4, 5, 7, 8}) {
        for (const int n : {1, 3, 4, 15, 16, 17, 40, 64}) {
          CAPTURE(set.name, d, rows, n);
          const Rows<TestType> keys(choices, n, d);
          Floats queries(rows * d);
          for (std::int64_t i = 0; i < rows * d; ++i) queries[i] = uniform(choices);
          Floats scores(rows * kTileKeys);
          of_rows.dot_rows(keys.pointers.data(), n, queries.data, rows, scores.data);
          Floats best(kTileKeys);
          kernels.max_of_rows(scores.data, rows, n, best.data);
          bool good = true;
          for (int i = 0; i < n; ++i) {
            float largest = -kInfinity;
            for (int r = 0; r < rows; ++r) {
              double sum = 0;
              for (std::int64_t k = 0; k < d; ++k) {
                sum += double{queries[r * d + k]} * keys.floats[i * d + k];
              }
              good &= std::abs(scores[r * kTileKeys + i] - sum) <= kTolerance;
              largest = std::max(largest, scores[r * kTileKeys + i]);
            }
            good &= best[i] == largest;
          }
          CHECK(good);

          Floats out(rows * d, 1.f);
          Floats rescale(kFewRows);
          for (int r = 0; r < rows; ++r) {
            rescale[r] = uniform(choices);
            for (int i = 0; i < n; ++i)
              scores[r * kTileKeys + i] = i % 3 == 0 ? 0.f : 1.f / (i + 1);
          }
          Floats skipped(rows * d, 1.f);
          of_rows.accumulate_rows(keys.pointers.data(), scores.data, rows, n, false, rescale.data,
                                  out.data);
          of_rows.accumulate_rows(keys.pointers.data(), scores.data, rows, n, true, rescale.data,
                                  skipped.data);
          for (int r = 0; r < rows; ++r) {
            for (std::int64_t k = 0; k < d; ++k) {
              double sum = rescale[r];
              for (int i = 0; i < n; ++i) {
                sum += double{scores[r * kTileKeys + i]} * keys.floats[i * d + k];
              }
              good &= std::abs(out[r * d + k] - sum) <= kTolerance;
              good &= std::abs(skipped[r * d + k] - sum) <= kTolerance;
            }
          }
          CHECK(good);
        }
      }
    }
  }
}

TEST_CASE("softmax of few rows and of panels is the same, by every instruction set") {
  Choices choices(2);
  for (const InstructionSet& set : instruction_sets()) {
    const TileKernels& kernels = set.kernels[0];
    for (const bool masked : {false, true}) {
      for (const float softcap : {0.f, 5.f}) {
        for (const int n : {1, 7, 16, 33, 64}) {
          CAPTURE(set.name, masked, softcap, n);
          constexpr int kRows = 5;
          Floats row_scores(kRows * kTileKeys), panel_scores(kTileKeys * kLanes, 0.f);
          alignas(kTileAlignment) std::int32_t always[kLanes], begin[kLanes], end[kLanes];
          for (int r = 0; r < kLanes; ++r) {
            always[r] = static_cast<std::int32_t>(choices.between(0, n / 3));
            begin[r] = static_cast<std::int32_t>(choices.between(n / 3, n));
            end[r] = static_cast<std::int32_t>(choices.between(n / 3, n));
          }
          const KeyMask mask{always, begin, end};
          for (int r = 0; r < kRows; ++r) {
            for (int i = 0; i < n; ++i) {
              const float score = 20.f * uniform(choices);
              row_scores[r * kTileKeys + i] = panel_scores[i * kLanes + r] = score;
            }
          }
          Floats row_max(kLanes, 1.f), row_sum(kLanes, 3.f), row_rescale(kLanes);
          Floats max(kLanes, 1.f), sum(kLanes, 3.f), rescale(kLanes);
          const LogitRule rule{0.7f, softcap};
          std::vector<float> logits(row_scores.data, row_scores.data + kRows * kTileKeys);
          kernels.softmax_rows(row_scores.data, kRows, n, masked ? &mask : nullptr, rule,
                               {row_max.data, row_sum.data, row_rescale.data});
          kernels.softmax(panel_scores.data, n, masked ? &mask : nullptr, rule,
                          {max.data, sum.data, rescale.data});
          bool good = true;
          for (int r = 0; r < kRows; ++r) {
            double largest = 1;
            std::vector<double> exact(n, -kInfinity);
            for (int i = 0; i < n; ++i) {
              if (masked && !(i < always[r] || (i >= begin[r] && i < end[r]))) continue;
              exact[i] = 0.7 * logits[r * kTileKeys + i];
              if (softcap > 0) exact[i] = softcap * std::tanh(exact[i] / softcap);
              largest = std::max(largest, exact[i]);
            }
            double total = 3 * std::exp(1 - largest);
            for (int i = 0; i < n; ++i) {
              const double p = std::exp(exact[i] - largest);
              total += p;
              good &= std::abs(row_scores[r * kTileKeys + i] - p) <= kTolerance;
              good &= std::abs(panel_scores[i * kLanes + r] - p) <= kTolerance;
              if (p == 0) good &= row_scores[r * kTileKeys + i] == 0.f;
            }
            good &= std::abs(row_max[r] - largest) <= kTolerance && row_max[r] == max[r];
            good &= std::abs(row_sum[r] - total) <= 1e-4 && std::abs(sum[r] - total) <= 1e-4;
            good &= std::abs(row_rescale[r] - std::exp(1 - largest)) <= kTolerance;
          }
          CHECK(good);
        }
      }
    }
  }
}

HIP_ATTN_TYPED_TEST_CASE("loads are exact for every bit pattern, by every instruction set") {
  if constexpr (sizeof(TestType) == 2) {
    const std::int64_t d = built_head_dims()[0];
    for (const InstructionSet& set : instruction_sets()) {
      std::vector<TestType> row(d);
      Floats loaded(d);
      std::int64_t differences = 0;
      for (std::uint32_t first = 0; first < 0x10000; first += static_cast<std::uint32_t>(d)) {
        for (std::int64_t k = 0; k < d; ++k) {
          row[k] = {static_cast<std::uint16_t>(first + static_cast<std::uint32_t>(k))};
        }
        const TestType* pointer = row.data();
        set.kernels[0].template of<TestType>().load(&pointer, 1, loaded.data);
        for (std::int64_t k = 0; k < d; ++k) {
          const float exact = to_float(row[k]);
          // A signalling NaN may have become a quiet one.
          differences += std::isnan(exact) ? !std::isnan(loaded[k])
                                           : std::bit_cast<std::uint32_t>(exact) !=
                                                 std::bit_cast<std::uint32_t>(loaded[k]);
        }
      }
      CAPTURE(set.name);
      CHECK(differences == 0);
    }
  }
}

// ---- The portable kernels are the baseline ones -------------------------------------------------

// Where neither may use fused multiply-adds, which round once where two operations round twice.
#if defined(__x86_64__) && !defined(__FMA__)

/// One kernel's results by the portable kernels and by the baseline ones, from the same memory.
struct TwoResults {
  TwoResults(Choices& choices, std::int64_t size, float scale = 1.f)
      : portable(size), baseline(size) {
    for (std::int64_t i = 0; i < size; ++i) {
      portable[i] = baseline[i] = scale * uniform(choices);
    }
  }
  /// Of `count` elements from each multiple of `stride` on, below `end`.
  [[nodiscard]] bool same(std::int64_t end, std::int64_t stride, std::int64_t count) {
    for (std::int64_t first = 0; first < end; first += stride) {
      if (std::memcmp(portable.data + first, baseline.data + first,
                      static_cast<std::size_t>(count) * sizeof(float)) != 0) {
        return false;
      }
    }
    return true;
  }
  [[nodiscard]] bool same(std::int64_t count) { return same(1, 1, count); }

  Floats portable;
  Floats baseline;
};

HIP_ATTN_TYPED_TEST_CASE("portable kernels of few rows give the bits of the baseline ones") {
  Choices choices(3);
  for (std::size_t h = 0; h < built_head_dims().size(); ++h) {
    const std::int64_t d = built_head_dims()[h];
    const TileKernels& portable = kPortable[h];
    const TileKernels& compiled = baseline::kKernels[h];
    const auto& portable_rows = portable.of<TestType>();
    const auto& compiled_rows = compiled.of<TestType>();
    for (const int rows : {1, 2, 3, 7, 8}) {
      for (const int n : {1, 5, 16, 63, 64}) {
        CAPTURE(d, rows, n);
        const Rows<TestType> keys(choices, n, d);
        Floats queries(rows * d);
        for (std::int64_t i = 0; i < rows * d; ++i) queries[i] = uniform(choices);
        TwoResults scores(choices, rows * kTileKeys);
        portable_rows.dot_rows(keys.pointers.data(), n, queries.data, rows, scores.portable.data);
        compiled_rows.dot_rows(keys.pointers.data(), n, queries.data, rows, scores.baseline.data);
        CHECK(scores.same(rows * kTileKeys, kTileKeys, n));
        TwoResults best(choices, kTileKeys);
        portable.max_of_rows(scores.portable.data, rows, n, best.portable.data);
        compiled.max_of_rows(scores.baseline.data, rows, n, best.baseline.data);
        CHECK(best.same(n));

        TwoResults max(choices, kLanes), sum(choices, kLanes), rescale(choices, kLanes);
        const LogitRule rule{0.3f, n % 2 == 0 ? 2.f : 0.f};
        portable.softmax_rows(scores.portable.data, rows, n, nullptr, rule,
                              {max.portable.data, sum.portable.data, rescale.portable.data});
        compiled.softmax_rows(scores.baseline.data, rows, n, nullptr, rule,
                              {max.baseline.data, sum.baseline.data, rescale.baseline.data});
        CHECK(scores.same(rows * kTileKeys, kTileKeys, n));
        CHECK((max.same(rows) && sum.same(rows) && rescale.same(rows)));

        for (const bool skip_zero : {false, true}) {
          TwoResults out(choices, rows * d);
          portable_rows.accumulate_rows(keys.pointers.data(), scores.portable.data, rows, n,
                                        skip_zero, rescale.portable.data, out.portable.data);
          compiled_rows.accumulate_rows(keys.pointers.data(), scores.baseline.data, rows, n,
                                        skip_zero, rescale.baseline.data, out.baseline.data);
          CHECK(out.same(rows * d));
        }
      }
    }
  }
}

HIP_ATTN_TYPED_TEST_CASE("portable kernels of panels give the bits of the baseline ones") {
  Choices choices(4);
  for (std::size_t h = 0; h < built_head_dims().size(); ++h) {
    const std::int64_t d = built_head_dims()[h];
    const TileKernels& portable = kPortable[h];
    const TileKernels& compiled = baseline::kKernels[h];
    for (const int n : {1, 5, 16, 63, 64}) {
      for (const bool masked : {false, true}) {
        CAPTURE(d, n, masked);
        const Rows<TestType> rows(choices, n, d);
        TwoResults keys(choices, n * d);
        portable.of<TestType>().load(rows.pointers.data(), n, keys.portable.data);
        compiled.of<TestType>().load(rows.pointers.data(), n, keys.baseline.data);
        CHECK(keys.same(n * d));
        Floats panel(d * kLanes);
        for (std::int64_t i = 0; i < d * kLanes; ++i) panel[i] = uniform(choices);
        TwoResults scores(choices, n * kLanes);
        portable.dot(keys.portable.data, panel.data, n, scores.portable.data);
        compiled.dot(keys.baseline.data, panel.data, n, scores.baseline.data);
        CHECK(scores.same(n * kLanes));

        TwoResults best(choices, n * kLanes), best_of_all(choices, n);
        portable.lane_max(scores.portable.data, n, best.portable.data);
        compiled.lane_max(scores.baseline.data, n, best.baseline.data);
        portable.reduce_max(best.portable.data, n, best_of_all.portable.data);
        compiled.reduce_max(best.baseline.data, n, best_of_all.baseline.data);
        CHECK((best.same(n * kLanes) && best_of_all.same(n)));

        alignas(kTileAlignment) std::int32_t always[kLanes], begin[kLanes], end[kLanes];
        for (int lane = 0; lane < kLanes; ++lane) {
          always[lane] = static_cast<std::int32_t>(choices.between(0, n / 3));
          begin[lane] = static_cast<std::int32_t>(choices.between(n / 3, n));
          end[lane] = static_cast<std::int32_t>(choices.between(n / 3, n));
        }
        const KeyMask mask{always, begin, end};
        TwoResults max(choices, kLanes), sum(choices, kLanes), rescale(choices, kLanes);
        const LogitRule rule{0.3f, n % 2 == 0 ? 2.f : 0.f};
        portable.softmax(scores.portable.data, n, masked ? &mask : nullptr, rule,
                         {max.portable.data, sum.portable.data, rescale.portable.data});
        compiled.softmax(scores.baseline.data, n, masked ? &mask : nullptr, rule,
                         {max.baseline.data, sum.baseline.data, rescale.baseline.data});
        CHECK(scores.same(n * kLanes));
        CHECK((max.same(kLanes) && sum.same(kLanes) && rescale.same(kLanes)));

        TwoResults out(choices, d * kLanes);
        portable.accumulate(keys.portable.data, scores.portable.data, n, masked,
                            rescale.portable.data, out.portable.data);
        compiled.accumulate(keys.baseline.data, scores.baseline.data, n, masked,
                            rescale.baseline.data, out.baseline.data);
        CHECK(out.same(d * kLanes));
      }
    }
  }
}

#endif

}  // namespace
}  // namespace hip_attn::cpu
