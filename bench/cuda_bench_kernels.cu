#include <bit>

#include "cuda_bench_kernels.hpp"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/global_memory.cuh"

namespace hip_attn::bench {
namespace {

template <typename T>
__global__ void fill_kernel(T* values, std::int64_t count, std::uint32_t seed) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    std::uint64_t x = static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15u + seed;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    float sum = 0.f;
    for (int part = 0; part < 4; ++part) {
      sum += static_cast<float>(x >> 16 * part & 0xffff) * 0x1p-15f - 1.f;
    }
    values[i] = cuda::narrow<T>(sum * 0.8660254f);
  }
}

constexpr std::uint32_t kHeads = 8;
constexpr std::uint32_t kBlockKeys = 8;

// Blocks among which kScattered chooses: few are read twice.
std::uint32_t scattered_blocks(std::int64_t rows) {
  return std::bit_ceil(static_cast<std::uint32_t>(4 * rows / kBlockKeys));
}

// Of the i-th row that is read; `blocks` is a power of two.
__device__ std::uint32_t row_number(Rows which, std::uint32_t i, std::uint32_t blocks) {
  if (which == Rows::kInOrder) return i;
  if (which == Rows::kEveryEighth) return i * kHeads;
  std::uint32_t x = i / kBlockKeys * 0x9e3779b9u;
  x = (x ^ x >> 15) * 0x2c1b3c6du;
  x = (x ^ x >> 12) * 0x297a2d39u;
  x ^= x >> 15;
  const std::uint32_t head = x % kHeads;
  const std::uint32_t block = x / kHeads & (blocks - 1);
  return (block * kBlockKeys + i % kBlockKeys) * kHeads + head;
}

__global__ void read_kernel(const uint4* data, Rows which, std::uint32_t rows, std::uint32_t blocks,
                            uint4* sink) {
  uint4 sum{};
  const std::uint32_t step = gridDim.x * blockDim.x;
  for (std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < rows * kRowWords; i += step) {
    const std::uint64_t row = row_number(which, i / kRowWords, blocks);
    const uint4 x = cuda::read_streaming_16(data + row * kRowWords + i % kRowWords);
    sum.x ^= x.x;
    sum.y ^= x.y;
    sum.z ^= x.z;
    sum.w ^= x.w;
  }
  if (sum.x == 1 && sum.y == 2 && sum.z == 3) *sink = sum;  // never, but the compiler cannot know
}

}  // namespace

template <Element T>
cudaError_t fill_random(T* values, std::int64_t count, std::uint32_t seed) {
  fill_kernel<<<2048, 256>>>(values, count, seed);
  return cudaGetLastError();
}
template cudaError_t fill_random(float16*, std::int64_t, std::uint32_t);
template cudaError_t fill_random(bfloat16*, std::int64_t, std::uint32_t);

std::int64_t buffer_rows(Rows which, std::int64_t rows) {
  switch (which) {
    case Rows::kInOrder:
      return rows;
    case Rows::kEveryEighth:
      return rows * kHeads;
    case Rows::kScattered:
      return std::int64_t{scattered_blocks(rows)} * kBlockKeys * kHeads;
  }
  return 0;
}

cudaError_t read_rows(const uint4* data, Rows which, std::int64_t rows, uint4* sink,
                      cudaStream_t stream) {
  read_kernel<<<132 * 4, 512, 0, stream>>>(data, which, static_cast<std::uint32_t>(rows),
                                           scattered_blocks(rows), sink);
  return cudaGetLastError();
}

}  // namespace hip_attn::bench
