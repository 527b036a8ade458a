// Kernels with a thread block for each row.

#include <cfloat>

#include "vector.cuh"

namespace llama {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

/// `combine` over the block's values, in every thread. `shared` is free again after the next
/// __syncthreads().
template <typename Combine>
__device__ float reduce_block(float value, float* shared, Combine combine) {
  for (int lane = 16; lane > 0; lane /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, lane));
  }
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  value = shared[0];
  for (int warp = 1; warp < kWarps; ++warp) value = combine(value, shared[warp]);
  return value;
}

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Max {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

template <typename In, typename Out>
__global__ void gather_rows_kernel(const In* table, const std::int32_t* rows, std::int64_t size,
                                   Out* out) {
  const In* from = table + std::int64_t{rows[blockIdx.x]} * size;
  Out* to = out + blockIdx.x * size;
  for (std::int64_t i = threadIdx.x * kVectorSize; i < size; i += kThreads * kVectorSize) {
    store_vector(to + i, load_vector(from + i));
  }
}

template <typename T>
__global__ void rms_norm_kernel(const float* x, const float* gain, float eps, std::int64_t size,
                                T* y) {
  __shared__ float shared[kWarps];
  x += blockIdx.x * size;
  y += blockIdx.x * size;
  float squares = 0.f;
  for (std::int64_t i = threadIdx.x * kVectorSize; i < size; i += kThreads * kVectorSize) {
    const Vector values = load_vector(x + i);
#pragma unroll
    for (int j = 0; j < kVectorSize; ++j) squares += values.x[j] * values.x[j];
  }
  const float mean = reduce_block(squares, shared, Sum()) / static_cast<float>(size);
  const float scale = 1.f / sqrtf(mean + eps);
  for (std::int64_t i = threadIdx.x * kVectorSize; i < size; i += kThreads * kVectorSize) {
    Vector values = load_vector(x + i);
    const Vector gains = load_vector(gain + i);
#pragma unroll
    for (int j = 0; j < kVectorSize; ++j) values.x[j] *= scale * gains.x[j];
    store_vector(y + i, values);
  }
}

__global__ void score_targets_kernel(const float* logits, const std::int32_t* targets,
                                     std::int64_t size, double* out) {
  __shared__ float shared_max[kWarps];
  __shared__ float shared_sum[kWarps];
  const float* row = logits + blockIdx.x * size;
  float largest = -FLT_MAX;
  for (std::int64_t i = threadIdx.x; i < size; i += kThreads) largest = fmaxf(largest, row[i]);
  largest = reduce_block(largest, shared_max, Max());
  float sum = 0.f;
  for (std::int64_t i = threadIdx.x; i < size; i += kThreads) sum += expf(row[i] - largest);
  sum = reduce_block(sum, shared_sum, Sum());
  if (threadIdx.x == 0) {
    out[blockIdx.x] = log(double{sum}) + largest - row[targets[blockIdx.x]];
  }
}

/// Launches a thread block for each row. No rows, no launch.
template <typename... Parameters, typename... Arguments>
void launch_rows(std::int64_t rows, cudaStream_t stream, void (*kernel)(Parameters...),
                 Arguments... arguments) {
  if (rows == 0) return;
  kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(arguments...);
  LLAMA_CUDA_CALL(cudaGetLastError);
}

}  // namespace

void launch_gather_rows(const Tensor& table, const std::int32_t* rows, const Tensor& out,
                        cudaStream_t stream) {
  check_row_size(out.cols);
  with_type(table.type, [&]<typename In>(In) {
    with_type(out.type, [&]<typename Out>(Out) {
      launch_rows(
          out.rows, stream,
          gather_rows_kernel<typename CudaElement<In>::type, typename CudaElement<Out>::type>,
          cuda_data<In>(table), rows, out.cols, cuda_data<Out>(out));
    });
  });
}

void launch_rms_norm(const Tensor& x, const Tensor& gain, float eps, const Tensor& y,
                     cudaStream_t stream) {
  check_row_size(x.cols);
  with_type(y.type, [&]<typename T>(T) {
    launch_rows(x.rows, stream, rms_norm_kernel<typename CudaElement<T>::type>, x.as<float>(),
                gain.as<float>(), eps, x.cols, cuda_data<T>(y));
  });
}

void launch_score_targets(const Tensor& logits, const std::int32_t* targets, double* out,
                          cudaStream_t stream) {
  launch_rows(logits.rows, stream, score_targets_kernel, logits.as<float>(), targets, logits.cols,
              out);
}

}  // namespace llama
