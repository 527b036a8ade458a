/// Partial softmax states of one row, merged by lanes of a warp.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/ptx/convert.cuh"

namespace hip_attn::cuda {

/// Softmax states of one row merged in fixed order, for four dims. 1 << lane_shift lanes of a warp,
/// 32 >> lane_shift apart, share the parts out and all have the result; all lanes of the warp call.
struct MergedState {
  float max = -INFINITY;
  float sum = 0.f;
  float4 value{};

  /// read(i, wanted, state, value) reads {max, sum} of part i and its output where wanted; max
  /// -inf, sum 0: none.
  template <typename Read>
  __device__ MergedState(int parts, int lane_shift, Read&& read) {
    const int first = static_cast<int>(threadIdx.x % 32) >> (5 - lane_shift);
    const int step = 1 << lane_shift;
    // As many as a lane mostly has, so that all are read before one is waited for.
#pragma unroll 1
    for (int i = first; i < parts; i += kPartsTogether * step) {
      float2 state[kPartsTogether];
      float4 part[kPartsTogether];
#pragma unroll
      for (int j = 0; j < kPartsTogether; ++j) {
        state[j] = make_float2(-INFINITY, 0.f);
        part[j] = {};
        read(i + j * step, i + j * step < parts, state[j], part[j]);
      }
      float new_max = max;
#pragma unroll
      for (int j = 0; j < kPartsTogether; ++j) new_max = fmaxf(new_max, state[j].x);
      rescale(new_max);
#pragma unroll
      for (int j = 0; j < kPartsTogether; ++j) add(weight(state[j].x), state[j].y, part[j]);
    }
    float of_all = max;
    if (lane_shift == 2) {
      of_all = fmaxf(of_all, shuffled(of_all, 16));
      of_all = fmaxf(of_all, shuffled(of_all, 8));
      rescale(of_all);
      add_shuffled(16);
      add_shuffled(8);
    } else if (lane_shift == 1) {
      rescale(fmaxf(of_all, shuffled(of_all, 16)));
      add_shuffled(16);
    }
  }

 private:
  static constexpr int kPartsTogether = 4;

  __device__ static float shuffled(float x, int lanes) {
    return __shfl_xor_sync(0xffffffffu, x, lanes);
  }

  /// Of a part with this maximum, none larger than `max`.
  __device__ float weight(float part_max) const {
    return exp2_fast(part_max - (max == -INFINITY ? 0.f : max));
  }

  __device__ void rescale(float new_max) {
    const float old_max = max;
    max = new_max;
    const float w = weight(old_max);
    sum *= w;
    value.x *= w;
    value.y *= w;
    value.z *= w;
    value.w *= w;
  }

  __device__ void add(float w, float part_sum, const float4& part) {
    sum += w * part_sum;
    value.x += w * part.x;
    value.y += w * part.y;
    value.z += w * part.z;
    value.w += w * part.w;
  }

  __device__ void add_shuffled(int lanes) {
    sum += shuffled(sum, lanes);
    value.x += shuffled(value.x, lanes);
    value.y += shuffled(value.y, lanes);
    value.z += shuffled(value.z, lanes);
    value.w += shuffled(value.w, lanes);
  }
};

}  // namespace hip_attn::cuda
