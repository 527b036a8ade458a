// Kernels of the benchmarks themselves: random data, and the memory floor.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "hip_attn/types.hpp"

namespace hip_attn::bench {

// Roughly normal values (a sum of four uniform ones) from a hash of their index.
template <Element T>
cudaError_t fill_random(T* values, std::int64_t count, std::uint32_t seed);

inline constexpr std::uint32_t kRowWords = 16;  // of 16 bytes: bfloat16, head dim 128

// Which rows of kRowWords the memory floor reads.
enum class Rows {
  kInOrder,
  kEveryEighth,  // as one of eight KV heads lies in a page
  kScattered,    // eight keys of one such head, wherever they lie
};

// Rows of the buffer from which `rows` are read.
std::int64_t buffer_rows(Rows which, std::int64_t rows);

// Reads that many and does nothing else.
cudaError_t read_rows(const uint4* data, Rows which, std::int64_t rows, uint4* sink,
                      cudaStream_t stream);

}  // namespace hip_attn::bench
