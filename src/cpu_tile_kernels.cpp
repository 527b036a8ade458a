// The kernels of hip_attn/cpu/tile_kernels.hpp. CMake compiles this file once per instruction set,
// each time with its own HIP_ATTN_CPU_ISA. Everything but the three tables has internal linkage and
// nothing of the standard library is instantiated here: a weak symbol compiled for AVX-512 must
// never be the one that the linker keeps for a machine without it.
#include "hip_attn/cpu/tile_kernels.hpp"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#define HIP_ATTN_UNROLL _Pragma("GCC unroll 16")
#else
#define HIP_ATTN_UNROLL _Pragma("unroll")
#endif

namespace hip_attn::cpu::HIP_ATTN_CPU_ISA {
namespace {

// Vector width in floats, and the rows of a register tile: kTileRows * kParts accumulators, kParts
// vectors of the panel and one broadcast fit the register file (32, 16, 32 and 16 registers).
#if defined(__AVX512F__)
constexpr int kWidth = 16;
constexpr int kTileRows = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
constexpr int kTileRows = 4;
#elif defined(__aarch64__)
constexpr int kWidth = 4;
constexpr int kTileRows = 4;
#else
constexpr int kWidth = 4;
constexpr int kTileRows = 2;
#endif
constexpr int kParts = kLanes / kWidth;
constexpr float kInfinity = __builtin_inff();

using Vec = float __attribute__((vector_size(kWidth * 4), may_alias));
using IntVec = std::int32_t __attribute__((vector_size(kWidth * 4), may_alias));

inline Vec& vec(float* p) { return *reinterpret_cast<Vec*>(p); }
inline const Vec& vec(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline const IntVec& vec(const std::int32_t* p) { return *reinterpret_cast<const IntVec*>(p); }
inline Vec splat(float x) { return x - Vec{}; }

// The result keeps b where a is NaN.
inline Vec max_of(Vec a, Vec b) { return a > b ? a : b; }

// exp(x) for x <= 88, within 2 ulp; 0 below -87.3 (exp's smallest normal result), NaN for NaN.
// x = n log 2 + r with |r| <= log(2) / 2 and exp(r) by its Taylor series.
inline Vec exp_of(Vec x) {
  const Vec lowest = splat(-87.3f);
  const Vec clamped = x < lowest ? lowest : x;
  constexpr float kRound = 12582912.f;  // 1.5 * 2^23: adding it leaves the nearest integer
  const Vec shifted = clamped * 1.44269504f + kRound;
  const Vec n = shifted - kRound;
  const Vec r = (clamped - n * 0.693145752f) - n * 1.42860677e-6f;
  Vec p = splat(1.f / 5040);
  p = p * r + 1.f / 720;
  p = p * r + 1.f / 120;
  p = p * r + 1.f / 24;
  p = p * r + 1.f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  const IntVec exponent = (IntVec)shifted << 23;  // the integer sits in the low mantissa bits
  const Vec result = (Vec)((IntVec)p + exponent);
  const Vec finite = x < lowest ? Vec{} : result;
  return x != x ? x : finite;
}

// tanh(y): an odd polynomial where 1 - 2 / (exp(2y) + 1) would cancel.
inline Vec tanh_of(Vec y) {
  const Vec magnitude = y < 0.f ? -y : y;
  const Vec bounded = magnitude > 10.f ? splat(10.f) : magnitude;
  const Vec z = bounded * bounded;
  Vec p = splat(-5.70498872745e-3f);
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const Vec small = bounded + bounded * z * p;
  const Vec large = 1.f - 2.f / (exp_of(bounded + bounded) + 1.f);
  const Vec result = bounded < 0.625f ? small : large;
  return y != y ? y : (y < 0.f ? -result : result);
}

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
    for (int d = 0; d < kHeadDim; ++d) keys[i * kHeadDim + d] = to_float(rows[i][d]);
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
    float result = lanes[0];
    for (int lane = 1; lane < kWidth; ++lane) result = lanes[lane] > result ? lanes[lane] : result;
    best_of_all[i] = result;
  }
}

void softmax(float* scores, int num_keys, const std::int32_t* visible, LogitRule rule,
             SoftmaxState state) {
  HIP_ATTN_UNROLL
  for (int part = 0; part < kParts; ++part) {
    const int lane = part * kWidth;
    const Vec old_max = vec(state.max + lane);
    Vec new_max = old_max;
    for (int i = 0; i < num_keys; ++i) {
      Vec& logit = vec(scores + i * kLanes + lane);
      logit *= rule.scale;
      if (rule.softcap > 0.f) logit = rule.softcap * tanh_of(logit / rule.softcap);
      if (visible) logit = vec(visible + lane) > i ? logit : splat(-kInfinity);
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

template <int kHeadDim>
constexpr TileKernels kKernels{load<kHeadDim, float>,
                               load<kHeadDim, float16>,
                               load<kHeadDim, bfloat16>,
                               dot<kHeadDim>,
                               lane_max,
                               reduce_max,
                               softmax,
                               accumulate<kHeadDim>};

}  // namespace

extern const TileKernels kKernels64;
extern const TileKernels kKernels128;
extern const TileKernels kKernels256;
const TileKernels kKernels64 = kKernels<64>;
const TileKernels kKernels128 = kKernels<128>;
const TileKernels kKernels256 = kKernels<256>;

}  // namespace hip_attn::cpu::HIP_ATTN_CPU_ISA
