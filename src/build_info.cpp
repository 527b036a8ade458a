#include "hip_attn/build_info.hpp"

#include <array>
#include <string>

#include "hip_attn/version.hpp"
#include "hip_attn_instantiations.hpp"

#if HIP_ATTN_HAS_CUDA
#include "cuda_backend.hpp"
#endif

#define HIP_ATTN_STRING_(x) #x
#define HIP_ATTN_STRING(x) HIP_ATTN_STRING_(x)

namespace hip_attn {

const char* version() noexcept {
  return HIP_ATTN_STRING(HIP_ATTN_VERSION_MAJOR) "." HIP_ATTN_STRING(
      HIP_ATTN_VERSION_MINOR) "." HIP_ATTN_STRING(HIP_ATTN_VERSION_PATCH);
}

std::span<const std::int64_t> built_head_dims() noexcept {
#define HIP_ATTN_LIST(head_dim) head_dim,
  static constexpr auto kHeadDims =
      std::to_array<std::int64_t>({HIP_ATTN_FOR_EACH_HEAD_DIM(HIP_ATTN_LIST)});
#undef HIP_ATTN_LIST
  return kHeadDims;
}

std::span<const ElementType> built_element_types() noexcept {
#define HIP_ATTN_LIST(T) kElementType<T>,
  static constexpr auto kTypes =
      std::to_array<ElementType>({HIP_ATTN_FOR_EACH_ELEMENT_TYPE(HIP_ATTN_LIST)});
#undef HIP_ATTN_LIST
  return kTypes;
}

bool built_with_cuda() noexcept { return HIP_ATTN_HAS_CUDA != 0; }

Status check_device(Device device) {
  switch (device.type) {
    case DeviceType::kCpu:
      return {};
    case DeviceType::kCuda:
#if HIP_ATTN_HAS_CUDA
      return cuda::check_device(device);
#else
      return {StatusCode::kUnsupported,
              "device is CUDA " + std::to_string(device.index) +
                  "; this build has the CPU backend only (configure with HIP_ATTN_CUDA=ON)"};
#endif
  }
  return {StatusCode::kUnsupported, "device.type is " +
                                        std::to_string(static_cast<int>(device.type)) +
                                        "; it must be DeviceType::kCpu or DeviceType::kCuda"};
}

}  // namespace hip_attn
