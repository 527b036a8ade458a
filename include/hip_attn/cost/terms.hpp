/// What the cost model counts: the terms of a time, and work as so much of each.
#pragma once

#include <array>
#include <cstddef>

#include "hip_attn/language.hpp"

namespace hip_attn {

/// Each has a rate, in nanoseconds of the whole GPU for one of its unit (kCostTerms).
enum class CostTerm : int {
  // Attention of prefill, kernels for compute capability 9.0.
  kAttendProducts,
  kAttendLogits,
  kAttendKeys,
  kAttendUnits,
  kAttendLaunch,
  // The same by the kernels for any GPU.
  kPortableAttendProducts,
  kPortableAttendLaunch,
  // The search of descents and centre keys for compute capability 9.0.
  kSearchProducts,
  kSearchKeys,
  kSearchKeysAlone,
  kSearchStages,
  kSearchLaunch,
  // The same by the kernel for any GPU, in shared memory and in the workspace.
  kPortableSearchProducts,
  kPortableSearchKeys,
  kPortableSearchStages,
  kWorkspaceSearchProducts,
  // The dense search of landmarks and every key.
  kDenseSearchProducts,
  kDenseSearchLogits,
  kDenseSearchLandmarks,
  kDenseSearchStages,
  kDenseSearchLaunch,
  // The search that keeps every row's logits, by the kernel for any GPU.
  kRowSearchLogits,
  // Decode.
  kDecodeLaunch,
  kDecodeWaves,
  kDecodeAttendMemory,
  kDecodeRounds,
  kDecodeRows,
  kDecodeGeneral,
  kDecodeSearch,
  kDecodeStages,
  kDecodeLevels,
  kDecodeSearchMemory,
  kDecodeSumStages,
  kDecodeSumRounds,
  kDecodeSumLogits,
  kDecodeSumKeys,
  kDecodeAppend,
  kCount,
};
inline constexpr int kNumCostTerms = static_cast<int>(CostTerm::kCount);

/// What a rate shrinks with on another GPU.
enum class CostScaling : int {
  kMemory,   ///< bytes per second of the GPU's memory
  kCompute,  ///< multiprocessors times clock
  kClock,    ///< the clock alone: a chain of dependent steps
};

struct CostTermInfo {
  const char* name;
  const char* unit;  ///< of a quantity; the rate is nanoseconds for one
  CostScaling scaling;
};

/// In the order of CostTerm.
inline constexpr std::array<CostTermInfo, kNumCostTerms> kCostTerms = {{
    {"attend_products", "Gflop", CostScaling::kCompute},
    {"attend_logits", "10^6 logits", CostScaling::kCompute},
    {"attend_keys", "MB", CostScaling::kCompute},
    {"attend_units", "10^3 units", CostScaling::kCompute},
    {"attend_launch", "call", CostScaling::kClock},
    {"portable_attend_products", "Gflop", CostScaling::kCompute},
    {"portable_attend_launch", "call", CostScaling::kClock},
    {"search_products", "Gflop", CostScaling::kCompute},
    {"search_keys", "MB", CostScaling::kCompute},
    {"search_keys_alone", "MB", CostScaling::kCompute},
    {"search_stages", "waves of a stage", CostScaling::kClock},
    {"search_launch", "call", CostScaling::kClock},
    {"portable_search_products", "Gflop", CostScaling::kCompute},
    {"portable_search_keys", "MB", CostScaling::kCompute},
    {"portable_search_stages", "waves of a stage", CostScaling::kClock},
    {"workspace_search_products", "Gflop", CostScaling::kCompute},
    {"dense_search_products", "Gflop", CostScaling::kCompute},
    {"dense_search_logits", "10^6 logits of keys", CostScaling::kCompute},
    {"dense_search_landmarks", "10^6 logits of landmarks", CostScaling::kCompute},
    {"dense_search_stages", "waves of a stage", CostScaling::kClock},
    {"dense_search_launch", "call", CostScaling::kClock},
    {"row_search_logits", "10^6 logits", CostScaling::kCompute},
    {"decode_launch", "call", CostScaling::kClock},
    {"decode_waves", "waves behind the first", CostScaling::kClock},
    {"decode_attend_memory", "MB", CostScaling::kMemory},
    {"decode_rounds", "waits for slots of shared memory, times head dim / 128",
     CostScaling::kClock},
    {"decode_rows", "10^3 tiles of 16 keys and 8 query rows that no copy hides",
     CostScaling::kClock},
    {"decode_general", "calls with several rows", CostScaling::kClock},
    {"decode_search", "waves that search", CostScaling::kClock},
    {"decode_stages", "stages", CostScaling::kClock},
    {"decode_levels", "dependent reads", CostScaling::kClock},
    {"decode_search_memory", "MB", CostScaling::kMemory},
    {"decode_sum_stages", "stages with sums", CostScaling::kClock},
    {"decode_sum_rounds", "stages with sums, of kernels with rounds", CostScaling::kClock},
    {"decode_sum_logits", "10^3 logits of a unit", CostScaling::kClock},
    {"decode_sum_keys", "10^3 rows of a thread block", CostScaling::kClock},
    {"decode_append", "call", CostScaling::kClock},
}};

/// So much of every term.
class CostWork {
 public:
  double& operator[](CostTerm term) { return quantities_[static_cast<std::size_t>(term)]; }
  double operator[](CostTerm term) const { return quantities_[static_cast<std::size_t>(term)]; }
  CostWork& add(const CostWork& other, double times = 1.) {
    for (std::size_t i = 0; i < quantities_.size(); ++i)
      quantities_[i] += times * other.quantities_[i];
    return *this;
  }

 private:
  std::array<double, std::size_t{kNumCostTerms}> quantities_{};
};

/// Nanoseconds for one of each term's unit.
struct CostRates {
  std::array<double, std::size_t{kNumCostTerms}> ns{};

  [[nodiscard]] double seconds(const CostWork& work) const {
    double sum = 0.;
    for (int i = 0; i < kNumCostTerms; ++i) {
      const auto at = static_cast<std::size_t>(i);
      sum += ns[at] * work[static_cast<CostTerm>(i)];
    }
    return sum * 1e-9;
  }
};

}  // namespace hip_attn
