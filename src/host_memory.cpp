// HostMemory: one mapping, pinned and given back in pieces.
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "hip_attn/build_info.hpp"
#include "hip_attn/checks/views.hpp"
#include "hip_attn/offload.hpp"
#include "hip_attn_instantiations.hpp"

#if HIP_ATTN_HAS_CUDA
#include "cuda_backend.hpp"
#endif

namespace hip_attn {

Status HostMemory::allocate(Device device, std::size_t bytes, HostMemory& memory) {
  HIP_ATTN_RETURN_IF_ERROR(check_device(device));
  HostMemory result;
  result.device_ = device;
  if (bytes > 0) {
    void* const data =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
      return {StatusCode::kOutOfMemory, fmt::format("the system has no {} bytes of memory", bytes)};
    }
    result.data_ = static_cast<std::byte*>(data);
    result.reserved_ = bytes;
  }
  // What is pinned so far is given back where a piece fails.
  while (result.size_ < bytes) {
    const std::size_t piece = std::min(kPieceBytes, bytes - result.size_);
#if HIP_ATTN_HAS_CUDA
    if (device.type == DeviceType::kCuda) {
      const Status status = cuda::pin_host_memory(device, result.data_ + result.size_, piece);
      if (!status.ok()) {
        return {StatusCode::kOutOfMemory, fmt::format("{} of {} bytes can be pinned: {}",
                                                      result.size_, bytes, status.message())};
      }
    }
#endif
    result.size_ += piece;
  }
  memory = std::move(result);
  return {};
}

std::size_t HostMemory::release(std::size_t bytes) noexcept {
  const std::size_t keep = size_ > bytes ? size_ - bytes : 0;
  while (size_ > keep) {
    const std::size_t piece = (size_ - 1) % kPieceBytes + 1;
    size_ -= piece;
#if HIP_ATTN_HAS_CUDA
    if (device_.type == DeviceType::kCuda) cuda::unpin_host_memory(data_ + size_);
#endif
    static_cast<void>(madvise(data_ + size_, piece, MADV_DONTNEED));
  }
  if (size_ == 0 && reserved_ > 0) {
    static_cast<void>(munmap(data_, reserved_));
    data_ = nullptr;
    reserved_ = 0;
  }
  return size_;
}

void HostMemory::swap(HostMemory& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(reserved_, other.reserved_);
}

}  // namespace hip_attn
