/// Memory on any device, between guards: what an operator must not touch stays as it was.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <stdexcept>
#include <vector>

#include "hip_attn/types.hpp"
#include "hip_attn_instantiations.hpp"

#if HIP_ATTN_HAS_CUDA
#include <cuda_runtime_api.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define HIP_ATTN_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HIP_ATTN_TEST_ASAN 1
#endif
#endif
#if defined(HIP_ATTN_TEST_ASAN)
#include <sanitizer/asan_interface.h>
#endif

namespace hip_attn::test {

/// Raw memory of one device; the only place that knows how each device allocates and copies.
class DeviceBytes {
 public:
  DeviceBytes(Device device, std::size_t size) : device_(device) {
    if (device_.type == DeviceType::kCpu) {
      data_ = static_cast<std::byte*>(::operator new(size, kAlignment));
      return;
    }
#if HIP_ATTN_HAS_CUDA
    void* memory = nullptr;
    check(cudaSetDevice(device_.index));
    check(cudaMalloc(&memory, size));
    data_ = static_cast<std::byte*>(memory);
#else
    throw std::runtime_error("this build has no CUDA");
#endif
  }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  ~DeviceBytes() {
    if (device_.type == DeviceType::kCpu) {
      ::operator delete(data_, kAlignment);
      return;
    }
#if HIP_ATTN_HAS_CUDA
    static_cast<void>(cudaFree(data_));
#endif
  }

  [[nodiscard]] std::byte* data() const { return data_; }

  void write(std::size_t offset, const void* from, std::size_t size) {
    if (size == 0) return;
    if (device_.type == DeviceType::kCpu) std::memcpy(data_ + offset, from, size);
#if HIP_ATTN_HAS_CUDA
    else
      check(cudaMemcpy(data_ + offset, from, size, cudaMemcpyHostToDevice));
#endif
  }

  /// Waits for what was launched before.
  void read(std::size_t offset, void* to, std::size_t size) const {
    if (size == 0) return;
    if (device_.type == DeviceType::kCpu) std::memcpy(to, data_ + offset, size);
#if HIP_ATTN_HAS_CUDA
    else
      check(cudaMemcpy(to, data_ + offset, size, cudaMemcpyDeviceToHost));
#endif
  }

 private:
  static constexpr std::align_val_t kAlignment{64};

#if HIP_ATTN_HAS_CUDA
  static void check(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
  }
#endif

  Device device_;
  std::byte* data_ = nullptr;
};

/// Copies `count` elements from memory of a device, whoever owns it, to the host's.
template <typename T>
void read_elements(Device device, const T* from, std::int64_t count, T* to) {
#if HIP_ATTN_HAS_CUDA
  if (device.type == DeviceType::kCuda) {
    const cudaError_t error =
        cudaMemcpy(to, from, static_cast<std::size_t>(count) * sizeof(T), cudaMemcpyDeviceToHost);
    if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
    return;
  }
#endif
  static_cast<void>(device);
  std::copy_n(from, count, to);
}

/// `size` elements between two guards. Aligned to 16 bytes, which is all that operators may ask
/// for, and to no more. AddressSanitizer also reports reads of the guards.
template <typename T>
class DeviceBuffer {
 public:
  DeviceBuffer(Device device, std::span<const T> contents)
      : device_(device), size_(contents.size()), bytes_(device, total_bytes()) {
    const std::vector<std::byte> guard(kGuardBytes, kGuardByte);
    bytes_.write(0, guard.data(), kGuardBytes);
    bytes_.write(kGuardBytes + payload_bytes(), guard.data(), kGuardBytes);
    write(contents);
    set_guards_readable(false);
  }
  DeviceBuffer(Device device, const std::vector<T>& contents)
      : DeviceBuffer(device, std::span<const T>(contents)) {}
  DeviceBuffer(Device device, std::int64_t size, T fill)
      : DeviceBuffer(device, std::vector<T>(static_cast<std::size_t>(size), fill)) {}
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer() { set_guards_readable(true); }

  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(bytes_.data() + kGuardBytes); }
  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(size_); }

  void write(std::span<const T> contents) {
    bytes_.write(kGuardBytes, contents.data(), contents.size_bytes());
  }

  [[nodiscard]] std::vector<T> read() const {
    std::vector<T> contents(size_);
    bytes_.read(kGuardBytes, contents.data(), payload_bytes());
    return contents;
  }

  [[nodiscard]] bool guards_intact() const {
    set_guards_readable(true);
    std::vector<std::byte> guards(2 * kGuardBytes);
    bytes_.read(0, guards.data(), kGuardBytes);
    bytes_.read(kGuardBytes + payload_bytes(), guards.data() + kGuardBytes, kGuardBytes);
    set_guards_readable(false);
    return std::all_of(guards.begin(), guards.end(), [](std::byte b) { return b == kGuardByte; });
  }

 private:
  static constexpr std::size_t kGuardBytes = 80;  // 64 and then some, so that 32 does not divide it
  static constexpr std::byte kGuardByte{0xc5};

  [[nodiscard]] std::size_t payload_bytes() const { return size_ * sizeof(T); }
  [[nodiscard]] std::size_t total_bytes() const { return payload_bytes() + 2 * kGuardBytes; }

  void set_guards_readable([[maybe_unused]] bool readable) const {
#if defined(HIP_ATTN_TEST_ASAN)
    if (device_.type != DeviceType::kCpu) return;
    std::byte* const end = bytes_.data() + kGuardBytes + payload_bytes();
    if (readable) {
      ASAN_UNPOISON_MEMORY_REGION(bytes_.data(), kGuardBytes);
      ASAN_UNPOISON_MEMORY_REGION(end, kGuardBytes);
    } else {
      ASAN_POISON_MEMORY_REGION(bytes_.data(), kGuardBytes);
      ASAN_POISON_MEMORY_REGION(end, kGuardBytes);
    }
#endif
  }

  Device device_;
  std::size_t size_;
  DeviceBytes bytes_;
};

}  // namespace hip_attn::test
