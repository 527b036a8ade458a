/// Primitives of the CPU backend: small fp32 tile kernels, compiled once per instruction set and
/// chosen when the library is first used.
///
/// Query rows lie side by side in *panels* of kLanes: a panel is [D][kLanes], lane r holding row r.
/// Every product then runs along the lanes, whatever the number of keys, and each lane's sum is
/// taken in the same order wherever its key stands in a tile: results do not depend on how keys are
/// tiled.
#pragma once

#include <cstdint>

#include "hip_attn/export.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cpu {

inline constexpr int kLanes = 16;
/// Keys of one tile. 64 keys and values of D = 128 in fp32 are 64 KB, well inside any L2.
inline constexpr int kTileKeys = 64;
/// Alignment of every buffer that a kernel touches.
inline constexpr std::size_t kTileAlignment = 64;

/// Running softmax of one panel (all [kLanes]): out = sum of p V / sum, lse = max + log(sum).
struct SoftmaxState {
  float* max;      ///< largest logit so far, -inf at first
  float* sum;      ///< sum of exp(logit - max), 0 at first
  float* rescale;  ///< exp(old max - new max) of the last tile: what earlier sums are multiplied by
};

/// How logits are made from dot products: scale * x, then c * tanh(. / c) when softcap = c > 0.
struct LogitRule {
  float scale;
  float softcap;
};

/// The kernels of one head dim D.
struct TileKernels {
  /// keys[i * D + d] = rows[i][d], for up to kTileKeys rows.
  void (*load_float)(const float* const* rows, int num_keys, float* keys);
  void (*load_float16)(const float16* const* rows, int num_keys, float* keys);
  void (*load_bfloat16)(const bfloat16* const* rows, int num_keys, float* keys);

  /// scores[i][lane] = sum over d of keys[i][d] * panel[d][lane].
  void (*dot)(const float* keys, const float* panel, int num_keys, float* scores);

  /// best[i][lane] = max(best[i][lane], scores[i][lane]); a NaN score counts as -inf.
  void (*lane_max)(const float* scores, int num_keys, float* best);
  /// best_of_all[i] = max over lanes of best[i][lane].
  void (*reduce_max)(const float* best, int num_keys, float* best_of_all);

  /// Turns dot products into exp(logit - max) in place and updates `state`. Lane r sees the first
  /// visible[r] keys, or all when visible is null; the rest become exactly 0.
  void (*softmax)(float* scores, int num_keys, const std::int32_t* visible, LogitRule rule,
                  SoftmaxState state);

  /// out[d][lane] = out[d][lane] * rescale[lane] + sum over keys of values[i][d] * p[i][lane].
  /// With skip_zero, keys of probability 0 are left out altogether, so that an infinity or NaN
  /// among the values of masked keys stays away from the lanes that do not see it.
  void (*accumulate)(const float* values, const float* p, int num_keys, bool skip_zero,
                     const float* rescale, float* out);
};

/// The kernels for this machine. head_dim is 64, 128 or 256.
HIP_ATTN_API const TileKernels& tile_kernels(std::int64_t head_dim) noexcept;

inline void load_rows(const TileKernels& kernels, const float* const* rows, int n, float* keys) {
  kernels.load_float(rows, n, keys);
}
inline void load_rows(const TileKernels& kernels, const float16* const* rows, int n, float* keys) {
  kernels.load_float16(rows, n, keys);
}
inline void load_rows(const TileKernels& kernels, const bfloat16* const* rows, int n, float* keys) {
  kernels.load_bfloat16(rows, n, keys);
}

}  // namespace hip_attn::cpu
