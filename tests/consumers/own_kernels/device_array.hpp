// Memory of the GPU. A CUDA call that fails ends the program.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace own {

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& contents) : size_(contents.size()) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, size_ * sizeof(T)));
    data_ = static_cast<T*>(memory);
    check(cudaMemcpy(data_, contents.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  DeviceArray(std::size_t size, T fill) : DeviceArray(std::vector<T>(size, fill)) {}
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { static_cast<void>(cudaFree(data_)); }

  [[nodiscard]] T* data() const { return data_; }
  /// Waits for what was launched before.
  [[nodiscard]] std::vector<T> read() const {
    std::vector<T> contents(size_);
    check(cudaMemcpy(contents.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return contents;
  }

 private:
  std::size_t size_;
  T* data_ = nullptr;
};

}  // namespace own
