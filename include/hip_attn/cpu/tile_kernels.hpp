/// Primitives of the CPU backend: small fp32 tile kernels, compiled once per instruction set and
/// chosen when the library is first used.
///
/// Query rows lie side by side in *panels* of kLanes: a panel is [D][kLanes], lane r holding row r.
/// Every product then runs along the lanes, whatever the number of keys. A unit of up to kFewRows
/// rows, as most of decode's are, would leave most lanes idle: its rows lie one after another,
/// [R][D], and products run along the head dim. Either way each product's sum is taken in the same
/// order wherever its key stands in a tile: results do not depend on how keys are tiled.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/export.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cpu {

inline constexpr int kLanes = 16;
/// Rows of a unit that lie one after another; more lie in panels.
inline constexpr int kFewRows = 8;
/// Keys of one tile. 64 keys and values of D = 128 in fp32 are 64 KB, well inside any L2.
inline constexpr int kTileKeys = 64;
/// Alignment of every buffer that a kernel touches.
inline constexpr std::size_t kTileAlignment = 64;

/// Running softmax of one panel (all [kLanes]) or of R rows (all [R]): out = sum of p V / sum, lse
/// = max + log(sum).
struct SoftmaxState {
  float* max;      ///< largest logit so far, -inf at first
  float* sum;      ///< sum of exp(logit - max), 0 at first
  float* rescale;  ///< exp(old max - new max) of the last tile: what earlier sums are multiplied by
};

/// Which keys of a tile a row sees: the first always[row], and those from begin[row] on that come
/// before end[row]. All [kLanes] or [R].
struct KeyMask {
  const std::int32_t* always;
  const std::int32_t* begin;
  const std::int32_t* end;
};

/// How logits are made from dot products: scale * x, then c * tanh(. / c) when softcap = c > 0.
struct LogitRule {
  float scale;
  float softcap;
};

/// The kernels that read rows of the cache.
template <typename T>
struct ElementKernels {
  /// keys[i * D + d] = rows[i][d], for up to kTileKeys rows.
  void (*load)(const T* const* rows, int num_keys, float* keys);

  /// scores[r * kTileKeys + i] = sum over d of keys[i][d] * queries[r * D + d]; up to kTileKeys
  /// scores of a row are written, whatever num_keys.
  void (*dot_rows)(const T* const* keys, int num_keys, const float* queries, int num_rows,
                   float* scores);

  /// out[r][d] = out[r][d] * rescale[r] + sum over keys of p[r * kTileKeys + i] * values[i][d].
  /// skip_zero: as in TileKernels::accumulate.
  void (*accumulate_rows)(const T* const* values, const float* p, int num_rows, int num_keys,
                          bool skip_zero, const float* rescale, float* out);
};

/// The kernels of one head dim D.
struct TileKernels {
  ElementKernels<float> of_float;
  ElementKernels<float16> of_float16;
  ElementKernels<bfloat16> of_bfloat16;

  /// scores[i][lane] = sum over d of keys[i][d] * panel[d][lane].
  void (*dot)(const float* keys, const float* panel, int num_keys, float* scores);

  /// best[i][lane] = max(best[i][lane], scores[i][lane]); a NaN score counts as -inf.
  void (*lane_max)(const float* scores, int num_keys, float* best);
  /// best_of_all[i] = max over lanes of best[i][lane].
  void (*reduce_max)(const float* best, int num_keys, float* best_of_all);

  /// Turns dot products into exp(logit - max) in place and updates `state`. With a mask, keys that
  /// a lane does not see become exactly 0.
  void (*softmax)(float* scores, int num_keys, const KeyMask* mask, LogitRule rule,
                  SoftmaxState state);

  /// out[d][lane] = out[d][lane] * rescale[lane] + sum over keys of values[i][d] * p[i][lane].
  /// With skip_zero, keys of probability 0 are left out altogether, so that an infinity or NaN
  /// among the values of masked keys stays away from the lanes that do not see it.
  void (*accumulate)(const float* values, const float* p, int num_keys, bool skip_zero,
                     const float* rescale, float* out);

  /// best[i] = max over rows of scores[r * kTileKeys + i]; a NaN score counts as -inf.
  void (*max_of_rows)(const float* scores, int num_rows, int num_keys, float* best);

  /// `softmax` of scores [R][kTileKeys].
  void (*softmax_rows)(float* scores, int num_rows, int num_keys, const KeyMask* mask,
                       LogitRule rule, SoftmaxState state);

  template <Element T>
  [[nodiscard]] constexpr const ElementKernels<T>& of() const noexcept {
    if constexpr (std::same_as<T, float>) {
      return of_float;
    } else if constexpr (std::same_as<T, float16>) {
      return of_float16;
    } else {
      return of_bfloat16;
    }
  }
};

/// The kernels for this machine. head_dim is one of built_head_dims().
HIP_ATTN_API const TileKernels& tile_kernels(std::int64_t head_dim) noexcept;

}  // namespace hip_attn::cpu
