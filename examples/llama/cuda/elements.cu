// Kernels with a thread for each vector of elements.

#include "vector.cuh"

namespace llama {
namespace {

__device__ std::int64_t thread_index() {
  return blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x;
}

__global__ void rotary_table_kernel(const std::int32_t* positions, const float* frequencies,
                                    std::int64_t rows, std::int64_t half, float* table) {
  const std::int64_t i = thread_index();
  if (i >= rows * half) return;
  const std::int64_t row = i / half;
  const std::int64_t pair = i % half;
  const float angle = static_cast<float>(positions[row]) * frequencies[pair];
  float sine = 0.f;
  float cosine = 0.f;
  sincosf(angle, &sine, &cosine);  // its range reduction is exact: angles reach 10^6
  table[row * 2 * half + pair] = cosine;
  table[row * 2 * half + half + pair] = sine;
}

template <typename T>
__global__ void rotate_kernel(const float* table, std::int64_t rows, std::int64_t heads,
                              std::int64_t half, T* x) {
  const std::int64_t vectors = half / kVectorSize;  // of pairs, in a head
  const std::int64_t i = thread_index();
  if (i >= rows * heads * vectors) return;
  const std::int64_t head = i / vectors;  // of all rows
  const std::int64_t first = i % vectors * kVectorSize;
  const float* cosines = table + head / heads * 2 * half + first;
  T* low = x + head * 2 * half + first;

  const Vector cosine = load_vector(cosines);
  const Vector sine = load_vector(cosines + half);
  const Vector a = load_vector(low);
  const Vector b = load_vector(low + half);
  Vector turned_a;
  Vector turned_b;
#pragma unroll
  for (int j = 0; j < kVectorSize; ++j) {
    turned_a.x[j] = a.x[j] * cosine.x[j] - b.x[j] * sine.x[j];
    turned_b.x[j] = b.x[j] * cosine.x[j] + a.x[j] * sine.x[j];
  }
  store_vector(low, turned_a);
  store_vector(low + half, turned_b);
}

template <typename T>
__global__ void swiglu_kernel(T* gate, const T* up, std::int64_t size) {
  const std::int64_t first = thread_index() * kVectorSize;
  if (first >= size) return;
  Vector g = load_vector(gate + first);
  const Vector u = load_vector(up + first);
#pragma unroll
  for (int j = 0; j < kVectorSize; ++j) g.x[j] *= u.x[j] / (1.f + expf(-g.x[j]));
  store_vector(gate + first, g);
}

}  // namespace

void launch_rotary_table(const std::int32_t* positions, const Tensor& frequencies,
                         const Tensor& table, cudaStream_t stream) {
  launch_for(table.rows * frequencies.cols, stream, rotary_table_kernel, positions,
             frequencies.as<float>(), table.rows, frequencies.cols, table.as<float>());
}

void launch_rotate(const Tensor& table, const Tensor& x, cudaStream_t stream) {
  check_row_size(table.cols / 2);
  with_type(x.type, [&]<typename T>(T) {
    using Element = typename CudaElement<T>::type;
    launch_for(x.size() / 2 / kVectorSize, stream, rotate_kernel<Element>, table.as<float>(),
               x.rows, x.cols / table.cols, table.cols / 2, cuda_data<T>(x));
  });
}

void launch_swiglu(const Tensor& gate, const Tensor& up, cudaStream_t stream) {
  check_row_size(gate.cols);
  with_type(gate.type, [&]<typename T>(T) {
    using Element = typename CudaElement<T>::type;
    launch_for(gate.size() / kVectorSize, stream, swiglu_kernel<Element>, cuda_data<T>(gate),
               cuda_data<T>(up), gate.size());
  });
}

}  // namespace llama
