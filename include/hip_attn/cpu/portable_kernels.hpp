/// The tile kernels (tile_kernels.hpp) as plain loops: what they say, to be read beside the vector
/// kernels, and what they are where there is no compiled library. Any head dim will do.
///
/// Every sum is taken in the order of the compiled library's baseline kernels, whose vectors have
/// four lanes: where neither is compiled to fused multiply-adds, results are the same to the bit.
/// Infinities and NaN have a meaning: not for -ffast-math.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "hip_attn/cpu/exponential.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cpu {

/// The four partial sums of a product along the head dim, or of a row of probabilities: element i
/// goes to sums[i % 4].
struct QuarterSums {
  float sums[4] = {};

  [[nodiscard]] float total() const noexcept { return (sums[0] + sums[1]) + (sums[2] + sums[3]); }
};

template <int kHeadDim>
struct PortableKernels {
  static constexpr float kInfinity = std::numeric_limits<float>::infinity();

  // ---- Rows of the cache
  // --------------------------------------------------------------------------

  template <typename T>
  static void load(const T* const* rows, int num_keys, float* keys) {
    for (int i = 0; i < num_keys; ++i) {
      for (int d = 0; d < kHeadDim; ++d) keys[i * kHeadDim + d] = to_float(rows[i][d]);
    }
  }

  template <typename T>
  static void dot_rows(const T* const* keys, int num_keys, const float* queries, int num_rows,
                       float* scores) {
    for (int r = 0; r < num_rows; ++r) {
      for (int i = 0; i < num_keys; ++i) {
        QuarterSums product;
        for (int d = 0; d < kHeadDim; ++d) {
          product.sums[d % 4] += queries[r * kHeadDim + d] * to_float(keys[i][d]);
        }
        scores[r * kTileKeys + i] = product.total();
      }
    }
  }

  template <typename T>
  static void accumulate_rows(const T* const* values, const float* p, int num_rows, int num_keys,
                              bool skip_zero, const float* rescale, float* out) {
    for (int r = 0; r < num_rows; ++r) {
      float* const row = out + r * kHeadDim;
      for (int d = 0; d < kHeadDim; ++d) row[d] *= rescale[r];
      for (int i = 0; i < num_keys; ++i) {
        const float weight = p[r * kTileKeys + i];
        if (skip_zero && weight == 0.f) continue;
        for (int d = 0; d < kHeadDim; ++d) row[d] += weight * to_float(values[i][d]);
      }
    }
  }

  template <Element T>
  static constexpr ElementKernels<T> kOf{load<T>, dot_rows<T>, accumulate_rows<T>};

  // ---- Panels -----------------------------------------------------------------------------------

  static void dot(const float* keys, const float* panel, int num_keys, float* scores) {
    for (int i = 0; i < num_keys; ++i) {
      float* const sums = scores + i * kLanes;
      std::fill(sums, sums + kLanes, 0.f);
      for (int d = 0; d < kHeadDim; ++d) {
        const float key = keys[i * kHeadDim + d];
        for (int lane = 0; lane < kLanes; ++lane) sums[lane] += key * panel[d * kLanes + lane];
      }
    }
  }

  static void lane_max(const float* scores, int num_keys, float* best) {
    for (int i = 0; i < num_keys * kLanes; ++i) best[i] = larger(scores[i], best[i]);
  }

  static void reduce_max(const float* best, int num_keys, float* best_of_all) {
    for (int i = 0; i < num_keys; ++i) {
      float largest = -kInfinity;
      for (int lane = 0; lane < kLanes; ++lane) {
        largest = larger(best[i * kLanes + lane], largest);
      }
      best_of_all[i] = largest;
    }
  }

  static void softmax(float* scores, int num_keys, const KeyMask* mask, LogitRule rule,
                      SoftmaxState state) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float largest = make_logits(scores + lane, kLanes, num_keys, mask, lane, rule);
      const float reference = take_maximum(largest, lane, state);
      float sum = state.sum[lane] * state.rescale[lane];
      for (int i = 0; i < num_keys; ++i) {
        float& p = scores[i * kLanes + lane];
        p = exp_of(p - reference);
        sum += p;
      }
      state.sum[lane] = sum;
    }
  }

  static void accumulate(const float* values, const float* p, int num_keys, bool skip_zero,
                         const float* rescale, float* out) {
    for (int d = 0; d < kHeadDim; ++d) {
      float* const lanes = out + d * kLanes;
      for (int lane = 0; lane < kLanes; ++lane) lanes[lane] *= rescale[lane];
      for (int i = 0; i < num_keys; ++i) {
        const float value = values[i * kHeadDim + d];
        for (int lane = 0; lane < kLanes; ++lane) {
          const float weight = p[i * kLanes + lane];
          if (!skip_zero || weight != 0.f) lanes[lane] += value * weight;
        }
      }
    }
  }

  // ---- Few rows ---------------------------------------------------------------------------------

  static void max_of_rows(const float* scores, int num_rows, int num_keys, float* best) {
    for (int i = 0; i < num_keys; ++i) {
      float largest = -kInfinity;
      for (int r = 0; r < num_rows; ++r) largest = larger(scores[r * kTileKeys + i], largest);
      best[i] = largest;
    }
  }

  static void softmax_rows(float* scores, int num_rows, int num_keys, const KeyMask* mask,
                           LogitRule rule, SoftmaxState state) {
    for (int r = 0; r < num_rows; ++r) {
      float* const logits = scores + r * kTileKeys;
      const float largest = make_logits(logits, 1, num_keys, mask, r, rule);
      const float reference = take_maximum(largest, r, state);
      QuarterSums sum;
      for (int i = 0; i < num_keys; ++i) {
        logits[i] = exp_of(logits[i] - reference);
        sum.sums[i % 4] += logits[i];
      }
      state.sum[r] = state.sum[r] * state.rescale[r] + sum.total();
    }
  }

 private:
  /// b where a is NaN.
  static float larger(float a, float b) { return a > b ? a : b; }

  /// Makes logits of the products of a row, of which that with key i is products[i * step], and
  /// returns the largest.
  static float make_logits(float* products, int step, int num_keys, const KeyMask* mask, int row,
                           LogitRule rule) {
    float largest = -kInfinity;
    for (int i = 0; i < num_keys; ++i) {
      float& logit = products[i * step];
      logit *= rule.scale;
      if (rule.softcap > 0.f) logit = rule.softcap * tanh_of(logit / rule.softcap);
      const bool seen =
          !mask || i < mask->always[row] || (mask->begin[row] <= i && i < mask->end[row]);
      if (!seen) logit = -kInfinity;
      largest = larger(logit, largest);
    }
    return largest;
  }

  /// Brings the row's maximum and what earlier sums are multiplied by up to date. Returns what is
  /// subtracted from the logits: 0 where the row has seen no key yet, which keeps exp(-inf) = 0.
  static float take_maximum(float largest, int row, const SoftmaxState& state) {
    const float old_max = state.max[row];
    const float new_max = larger(largest, old_max);
    const float reference = new_max == -kInfinity ? 0.f : new_max;
    state.max[row] = new_max;
    state.rescale[row] = exp_of(old_max - reference);
    return reference;
  }
};

/// For tile_kernels.hpp's users.
template <int kHeadDim>
inline constexpr TileKernels kPortableKernels{PortableKernels<kHeadDim>::template kOf<float>,
                                              PortableKernels<kHeadDim>::template kOf<float16>,
                                              PortableKernels<kHeadDim>::template kOf<bfloat16>,
                                              PortableKernels<kHeadDim>::dot,
                                              PortableKernels<kHeadDim>::lane_max,
                                              PortableKernels<kHeadDim>::reduce_max,
                                              PortableKernels<kHeadDim>::softmax,
                                              PortableKernels<kHeadDim>::accumulate,
                                              PortableKernels<kHeadDim>::max_of_rows,
                                              PortableKernels<kHeadDim>::softmax_rows};

}  // namespace hip_attn::cpu
