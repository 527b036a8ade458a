// Kernels of the benchmarks themselves: random data, and the memory floor.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "hip_attn/types.hpp"

namespace hip_attn::bench {

// Roughly normal values (a sum of four uniform ones) from a hash of their index.
template <Element T>
cudaError_t fill_random(T* values, std::int64_t count, std::uint32_t seed);

inline constexpr std::int64_t kRowWords = 16;  // of 16 bytes: bfloat16, head dim 128

// Reads `count` words and nothing else: rows of kRowWords, of every `apart` rows the first.
cudaError_t stream(const uint4* data, std::int64_t count, std::int64_t apart, uint4* sink,
                   cudaStream_t stream);

}  // namespace hip_attn::bench
