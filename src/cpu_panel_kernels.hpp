// The kernels that work on panels: kLanes query rows side by side, each product along the lanes.
#pragma once

#include "cpu_vector.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"

namespace hip_attn::cpu::HIP_ATTN_CPU_ISA {
namespace {

// Rows of a register tile: kTileRows * kParts accumulators, kParts vectors of the panel and one
// broadcast fit the register file (32, 16, 32 and 16 registers).
#if defined(__AVX512F__)
constexpr int kTileRows = 16;
#elif defined(__AVX__) || defined(__aarch64__)
constexpr int kTileRows = 4;
#else
constexpr int kTileRows = 2;
#endif
constexpr int kParts = kLanes / kWidth;

// c[m][lane] = c[m][lane] * rescale[lane] + sum over k < depth of a(m, k) * b[k][lane], for kRows
// rows, where a(m, k) = a[m * kRowStride + k * kDepthStride]. Without rescale, c starts at 0.
template <int kRows, int kRowStride, int kDepthStride, bool kSkipZero>
inline void multiply_rows(const float* a, const float* b, int depth, const float* rescale,
                          float* c) {
  Vec sum[kRows][kParts];
  HIP_ATTN_UNROLL
  for (int m = 0; m < kRows; ++m) {
    HIP_ATTN_UNROLL
    for (int part = 0; part < kParts; ++part) {
      const int lane = part * kWidth;
      sum[m][part] = rescale ? vec(c + m * kLanes + lane) * vec(rescale + lane) : Vec{};
    }
  }
  for (int k = 0; k < depth; ++k) {
    HIP_ATTN_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const float scalar = a[m * kRowStride + k * kDepthStride];
      HIP_ATTN_UNROLL
      for (int part = 0; part < kParts; ++part) {
        const Vec lanes = vec(b + k * kLanes + part * kWidth);
        const Vec next = sum[m][part] + scalar * lanes;
        sum[m][part] = kSkipZero ? (lanes != 0.f ? next : sum[m][part]) : next;
      }
    }
  }
  HIP_ATTN_UNROLL
  for (int m = 0; m < kRows; ++m) {
    HIP_ATTN_UNROLL
    for (int part = 0; part < kParts; ++part) vec(c + m * kLanes + part * kWidth) = sum[m][part];
  }
}

// multiply_rows for any number of rows: full register tiles, then halves of them.
template <int kRows, int kRowStride, int kDepthStride, bool kSkipZero>
inline void multiply(const float* a, const float* b, int rows, int depth, const float* rescale,
                     float* c) {
  for (; rows >= kRows; rows -= kRows) {
    multiply_rows<kRows, kRowStride, kDepthStride, kSkipZero>(a, b, depth, rescale, c);
    a += kRows * kRowStride;
    c += kRows * kLanes;
  }
  if constexpr (kRows > 1) {
    multiply<kRows / 2, kRowStride, kDepthStride, kSkipZero>(a, b, rows, depth, rescale, c);
  }
}

template <int kHeadDim>
void dot(const float* keys, const float* panel, int num_keys, float* scores) {
  multiply<kTileRows, kHeadDim, 1, false>(keys, panel, num_keys, kHeadDim, nullptr, scores);
}

template <int kHeadDim>
void accumulate(const float* values, const float* p, int num_keys, bool skip_zero,
                const float* rescale, float* out) {
  if (skip_zero) {
    multiply<kTileRows, 1, kHeadDim, true>(values, p, kHeadDim, num_keys, rescale, out);
  } else {
    multiply<kTileRows, 1, kHeadDim, false>(values, p, kHeadDim, num_keys, rescale, out);
  }
}

template <int kHeadDim, typename T>
void load(const T* const* rows, int num_keys, float* keys) {
  constexpr int kLineElements = 64 / static_cast<int>(sizeof(T));
  for (int i = 0; i < num_keys; ++i) {
    // Rows are scattered: ask for all of them before the first one is waited for.
    for (int d = 0; d < kHeadDim; d += kLineElements) __builtin_prefetch(rows[i] + d);
  }
  for (int i = 0; i < num_keys; ++i) {
    for (int d = 0; d < kHeadDim; d += kWidth) vec(keys + i * kHeadDim + d) = widen(rows[i] + d);
  }
}

void lane_max(const float* scores, int num_keys, float* best) {
  for (int i = 0; i < num_keys * kLanes; i += kWidth) {
    vec(best + i) = max_of(vec(scores + i), vec(best + i));
  }
}

void reduce_max(const float* best, int num_keys, float* best_of_all) {
  for (int i = 0; i < num_keys; ++i) {
    Vec lanes = vec(best + i * kLanes);
    for (int part = 1; part < kParts; ++part) {
      lanes = max_of(vec(best + i * kLanes + part * kWidth), lanes);
    }
    best_of_all[i] = largest_of(lanes);
  }
}

void softmax(float* scores, int num_keys, const KeyMask* mask, LogitRule rule, SoftmaxState state) {
  HIP_ATTN_UNROLL
  for (int part = 0; part < kParts; ++part) {
    const int lane = part * kWidth;
    const Vec old_max = vec(state.max + lane);
    Vec new_max = old_max;
    for (int i = 0; i < num_keys; ++i) {
      Vec& logit = vec(scores + i * kLanes + lane);
      logit *= rule.scale;
      if (rule.softcap > 0.f) logit = rule.softcap * tanh_of(logit / rule.softcap);
      if (mask) {
        const IntVec seen = (vec(mask->always + lane) > i) |
                            ((vec(mask->begin + lane) <= i) & (vec(mask->end + lane) > i));
        logit = seen ? logit : splat(-kInfinity);
      }
      new_max = max_of(logit, new_max);
    }
    // A lane that has seen no key yet has max -inf; subtracting 0 keeps exp(-inf) = 0.
    const Vec reference = new_max == -kInfinity ? Vec{} : new_max;
    const Vec rescale = exp_of(old_max - reference);
    Vec sum = vec(state.sum + lane) * rescale;
    for (int i = 0; i < num_keys; ++i) {
      Vec& p = vec(scores + i * kLanes + lane);
      p = exp_of(p - reference);
      sum += p;
    }
    vec(state.max + lane) = new_max;
    vec(state.sum + lane) = sum;
    vec(state.rescale + lane) = rescale;
  }
}

}  // namespace
}  // namespace hip_attn::cpu::HIP_ATTN_CPU_ISA
