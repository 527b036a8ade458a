// The kernels for few query rows: rows one after another, each product along the head dim, keys and
// values straight from the cache. With one row a panel would leave fifteen of sixteen lanes idle.
#pragma once

#include "cpu_vector.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"

namespace hip_attn::cpu::HIP_ATTN_CPU_ISA {
namespace {

// A register tile has 16 accumulators of 32 registers, or 8 of 16, and at most so many query rows.
// The fewer rows, the more keys or vectors of a value it takes: fewer accumulators would wait for
// one another.
constexpr int kRowTile = kWidth == 16 ? 4 : 2;
constexpr int kAccumulators = 4 * kRowTile;

// Keys beside `rows` query rows, and vectors of a value that has `vectors`.
constexpr int tile_keys(int rows) {
  const int keys = kAccumulators / rows;
  return keys < kWidth ? keys : kWidth;
}
constexpr int tile_parts(int rows, int vectors) {
  int parts = kAccumulators / rows;
  while (vectors % parts != 0) parts /= 2;
  return parts;
}

// Calls visit.operator()<kRows>(first row) for all rows: full register tiles, then halves of them.
template <int kRows, typename Visit>
inline void for_row_tiles(int first, int num_rows, const Visit& visit) {
  for (; first + kRows <= num_rows; first += kRows) visit.template operator()<kRows>(first);
  if constexpr (kRows > 1) for_row_tiles<kRows / 2>(first, num_rows, visit);
}

// scores[r][i] for kRows rows of queries and all keys. kWidth keys at a time: sums along the head
// dim stay in the lanes of a vector for each row and key, and are folded when kKeys keys are done.
template <int kHeadDim, int kRows, typename T>
inline void dot_tile(const T* const* keys, int num_keys, const float* queries, float* scores) {
  constexpr int kKeys = tile_keys(kRows);
  constexpr int kGroups = kWidth / kKeys;
  for (int first = 0; first < num_keys; first += kWidth) {
    Vec folded[kRows][kGroups];
    for (int group = 0; group < kGroups; ++group) {
      const T* rows[kKeys];
      HIP_ATTN_UNROLL
      for (int i = 0; i < kKeys; ++i) {
        const int key = first + group * kKeys + i;
        rows[i] = keys[key < num_keys ? key : num_keys - 1];
      }
      Vec sums[kRows][kKeys] = {};
      for (int d = 0; d < kHeadDim; d += kWidth) {
        Vec key[kKeys];
        HIP_ATTN_UNROLL
        for (int i = 0; i < kKeys; ++i) key[i] = widen(rows[i] + d);
        HIP_ATTN_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const Vec query = vec(queries + r * kHeadDim + d);
          HIP_ATTN_UNROLL
          for (int i = 0; i < kKeys; ++i) sums[r][i] += query * key[i];
        }
      }
      HIP_ATTN_UNROLL
      for (int r = 0; r < kRows; ++r) folded[r][group] = fold<1, kKeys>(sums[r]);
    }
    HIP_ATTN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      vec(scores + r * kTileKeys + first) = fold<kKeys, kGroups>(folded[r]);
    }
  }
}

template <int kHeadDim, typename T>
void dot_rows(const T* const* keys, int num_keys, const float* queries, int num_rows,
              float* scores) {
  for_row_tiles<kRowTile>(0, num_rows, [&]<int kRows>(int r) {
    dot_tile<kHeadDim, kRows>(keys, num_keys, queries + r * kHeadDim, scores + r * kTileKeys);
  });
}

// out[r][d] for kRows rows and the kParts vectors of a value from d = 0 on.
template <int kHeadDim, int kRows, int kParts, typename T>
inline void add_values(const T* const* values, int d, const float* p, int num_keys,
                       const float* rescale, float* out) {
  Vec sums[kRows][kParts];
  HIP_ATTN_UNROLL
  for (int r = 0; r < kRows; ++r) {
    HIP_ATTN_UNROLL
    for (int part = 0; part < kParts; ++part) {
      sums[r][part] = vec(out + r * kHeadDim + d + part * kWidth) * rescale[r];
    }
  }
  for (int i = 0; i < num_keys; ++i) {
    HIP_ATTN_UNROLL
    for (int part = 0; part < kParts; ++part) {
      const Vec value = widen(values[i] + d + part * kWidth);
      HIP_ATTN_UNROLL
      for (int r = 0; r < kRows; ++r) sums[r][part] += p[r * kTileKeys + i] * value;
    }
  }
  HIP_ATTN_UNROLL
  for (int r = 0; r < kRows; ++r) {
    HIP_ATTN_UNROLL
    for (int part = 0; part < kParts; ++part) {
      vec(out + r * kHeadDim + d + part * kWidth) = sums[r][part];
    }
  }
}

// One row without the keys of probability 0.
template <int kHeadDim, typename T>
inline void add_visible_values(const T* const* values, const float* p, int num_keys, float rescale,
                               float* out) {
  for (int d = 0; d < kHeadDim; d += kWidth) vec(out + d) *= rescale;
  for (int i = 0; i < num_keys; ++i) {
    if (p[i] == 0.f) continue;
    for (int d = 0; d < kHeadDim; d += kWidth) vec(out + d) += p[i] * widen(values[i] + d);
  }
}

template <int kHeadDim, typename T>
void accumulate_rows(const T* const* values, const float* p, int num_rows, int num_keys,
                     bool skip_zero, const float* rescale, float* out) {
  if (skip_zero) {
    for (int r = 0; r < num_rows; ++r) {
      add_visible_values<kHeadDim>(values, p + r * kTileKeys, num_keys, rescale[r],
                                   out + r * kHeadDim);
    }
    return;
  }
  for_row_tiles<kRowTile>(0, num_rows, [&]<int kRows>(int r) {
    constexpr int kTileParts = tile_parts(kRows, kHeadDim / kWidth);
    for (int d = 0; d < kHeadDim; d += kTileParts * kWidth) {
      add_values<kHeadDim, kRows, kTileParts>(values, d, p + r * kTileKeys, num_keys, rescale + r,
                                              out + r * kHeadDim);
    }
  });
}

void max_of_rows(const float* scores, int num_rows, int num_keys, float* best) {
  for (int i = 0; i < num_keys; i += kWidth) {
    Vec largest = splat(-kInfinity);
    for (int r = 0; r < num_rows; ++r) largest = max_of(vec(scores + r * kTileKeys + i), largest);
    const int count = num_keys - i < kWidth ? num_keys - i : kWidth;
    for (int lane = 0; lane < count; ++lane) best[i + lane] = largest[lane];
  }
}

void softmax_rows(float* scores, int num_rows, int num_keys, const KeyMask* mask, LogitRule rule,
                  SoftmaxState state) {
  const IntVec lanes = lane_numbers(Lanes{});
  const Vec hidden = splat(-kInfinity);
  for (int r = 0; r < num_rows; ++r) {
    float* const logits = scores + r * kTileKeys;
    Vec largest = hidden;
    for (int i = 0; i < num_keys; i += kWidth) {
      Vec& logit = vec(logits + i);
      logit *= rule.scale;
      if (rule.softcap > 0.f) logit = rule.softcap * tanh_of(logit / rule.softcap);
      const IntVec key = lanes + i;
      if (mask) {
        const IntVec seen =
            (key < mask->always[r]) | ((key >= mask->begin[r]) & (key < mask->end[r]));
        logit = seen ? logit : hidden;
      }
      if (i + kWidth > num_keys) logit = key < num_keys ? logit : hidden;
      largest = max_of(logit, largest);
    }
    const float old_max = state.max[r];
    const float tile_max = largest_of(largest);
    const float new_max = tile_max > old_max ? tile_max : old_max;
    // A row that has seen no key yet has max -inf; subtracting 0 keeps exp(-inf) = 0.
    const float reference = new_max == -kInfinity ? 0.f : new_max;
    Vec sum{};
    for (int i = 0; i < num_keys; i += kWidth) {
      Vec& p = vec(logits + i);
      p = exp_of(p - reference);
      sum += p;
    }
    const float rescale = exp_of(splat(old_max - reference))[0];
    state.max[r] = new_max;
    state.sum[r] = state.sum[r] * rescale + sum_of(sum);
    state.rescale[r] = rescale;
  }
}

}  // namespace
}  // namespace hip_attn::cpu::HIP_ATTN_CPU_ISA
