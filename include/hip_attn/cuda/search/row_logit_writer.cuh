/// What the products of MmaScorer add to the logits of single rows.
#pragma once

#include <cstdint>
#include <type_traits>

#include "hip_attn/config.hpp"
#include "hip_attn/core/host_device.hpp"
#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/search/row_logits.cuh"
#include "hip_attn/cuda/search/softmax_sum.cuh"

namespace hip_attn::cuda {

/// Logits of products, by tanh(x) = 1 - 2 / (2^(2 x log2(e)) + 1) with a soft cap.
template <int kCount>
__device__ void make_logits(float (&products)[kCount], const LogitScale& logits) {
  constexpr float kTwoLog2e = 2.88539008f;
#pragma unroll
  for (float& each : products) each *= logits.scale_log2;
  if (logits.softcap_log2 == 0.f) return;
#pragma unroll
  for (float& each : products) {
    const float tanh = 1.f - __fdividef(2.f, exp2_fast(each * kTwoLog2e) + 1.f);
    each = logits.softcap_log2 * tanh;
  }
}

/// Writes the logits of a scan by MmaScorer, each always by the same lane of the same warp. Rows
/// have room up to whole tiles of query rows, and chunks up to a multiple of kChunkAlignment.
class RowLogitWriter {
 public:
  static constexpr std::int32_t kChunkAlignment = 32;

  HIP_ATTN_HOST_DEVICE static constexpr std::int64_t padded_chunks(std::int64_t chunks) {
    return (chunks + kChunkAlignment - 1) / kChunkAlignment * kChunkAlignment;
  }

  /// A maximum compares plain products.
  __device__ RowLogitWriter(const RowLogits& logits, const LogitScale& scale, Reduction reduction)
      : logits_(logits), scale_(scale), sums_(reduction == Reduction::kSoftmaxSum) {}

  /// Takes in the products c[column][] of MmaScorer with a warp's chunks from `first` on: kKeys
  /// neighbouring columns of a quad belong to one chunk. `again`: there are logits of these chunks
  /// already. `absent`: the bit of every lane that brought no key.
  template <int kKeys, int kColumns>
  __device__ void take(std::uint32_t absent, const float (&c)[kColumns][4], int row,
                       std::int32_t first, bool again) const {
    add<false, kKeys>(absent, c, row, first, again);
  }

  /// The same of four neighbouring keys of one chunk in each quad, which add up for a sum.
  __device__ void take_all(std::uint32_t absent, const float (&c)[4][4], int row,
                           std::int32_t first, bool again) const {
    if (sums_) {
      add<true, 4>(absent, c, row, first, again);
    } else {
      add<false, 4>(absent, c, row, first, again);
    }
  }

 private:
  /// Lane (g, t) holds rows `row` and row + 8, and the columns of quads 2 t and 2 t + 1.
  template <bool kAddMasses, int kKeys, int kColumns>
  __device__ void add(std::uint32_t absent, const float (&c)[kColumns][4], int row,
                      std::int32_t first, bool again) const {
    constexpr int kChunks = kColumns / kKeys;  // of a quad
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      // Columns of quad 2 t, and then of quad 2 t + 1.
      float logits[2 * kColumns];
#pragma unroll
      for (int i = 0; i < 2 * kColumns; ++i) {
        logits[i] = c[i % kColumns][2 * half + i / kColumns];
      }
      if (sums_) make_logits(logits, scale_);
      float* const at = logits_.at(row + 8 * half, first + 2 * t * kChunks);
      alignas(16) float of_chunks[2 * kChunks];
#pragma unroll
      for (float& each : of_chunks) each = kNoLogit;
      if (again) load(at, of_chunks);
#pragma unroll
      for (int i = 0; i < 2 * kChunks; ++i) {
        float of_keys[kKeys];
#pragma unroll
        for (int key = 0; key < kKeys; ++key) {
          const int column = i * kKeys + key;
          const int lane = t * 8 + column * (4 / kColumns);
          of_keys[key] = absent >> lane & 1u ? kNoLogit : not_nan(logits[column]);
        }
        of_chunks[i] = kAddMasses ? sum(of_chunks[i], of_keys) : largest(of_chunks[i], of_keys);
      }
      store(at, of_chunks);
    }
  }

  template <int kKeys>
  __device__ static float largest(float logit, const float (&of_keys)[kKeys]) {
#pragma unroll
    for (const float each : of_keys) logit = fmaxf(logit, each);
    return logit;
  }

  /// log2(2^logit + the sum of 2^x over the keys), in their order.
  template <int kKeys>
  __device__ static float sum(float logit, const float (&of_keys)[kKeys]) {
    const float max = largest(logit, of_keys);
    if (max == kNoLogit) return max;
    float sum = mass_of(logit, max);
#pragma unroll
    for (const float each : of_keys) sum = __fadd_rn(sum, mass_of(each, max));
    return max + __log2f(sum);
  }

  template <int kCount>
  using Vector = std::conditional_t<kCount == 2, float2, float4>;

  template <int kCount>
  __device__ static void load(const float* from, float (&values)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      *reinterpret_cast<Vector<kCount>*>(values + i) =
          *reinterpret_cast<const Vector<kCount>*>(from + i);
    }
  }
  template <int kCount>
  __device__ static void store(float* to, const float (&values)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      *reinterpret_cast<Vector<kCount>*>(to + i) =
          *reinterpret_cast<const Vector<kCount>*>(values + i);
    }
  }

  RowLogits logits_;
  const LogitScale& scale_;
  bool sums_;
};

}  // namespace hip_attn::cuda
