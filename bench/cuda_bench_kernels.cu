#include "cuda_bench_kernels.hpp"
#include "hip_attn/cuda/mma.cuh"

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

__global__ void stream_kernel(const uint4* data, std::int64_t count, std::int64_t apart,
                              uint4* sink) {
  uint4 sum{};
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    const std::int64_t at = i / kRowWords * apart * kRowWords + i % kRowWords;
    const uint4 x = cuda::read_streaming_16(data + at);
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

cudaError_t stream(const uint4* data, std::int64_t count, std::int64_t apart, uint4* sink,
                   cudaStream_t stream) {
  stream_kernel<<<132 * 4, 512, 0, stream>>>(data, count, apart, sink);
  return cudaGetLastError();
}

}  // namespace hip_attn::bench
