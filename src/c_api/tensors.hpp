// DLPack's tensors as the library's views.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <type_traits>

#include "c_api/boundary.hpp"
#include "hip_attn/c/tensor.h"
#include "hip_attn/types.hpp"

namespace hip_attn::c_api {

// The dtype of a view's elements.
template <typename T>
constexpr DLDataType dtype_of() {
  using Value = std::remove_const_t<T>;
  if constexpr (std::is_same_v<Value, bfloat16>) {
    return {kDLBfloat, 16, 1};
  } else if constexpr (std::is_same_v<Value, float> || std::is_same_v<Value, float16>) {
    return {kDLFloat, 8 * sizeof(T), 1};
  } else if constexpr (std::is_same_v<Value, std::byte>) {
    return {kDLUInt, 8, 1};
  } else {
    static_assert(std::is_signed_v<Value>);
    return {kDLInt, 8 * sizeof(T), 1};
  }
}

constexpr bool is_same(DLDataType a, DLDataType b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

// The element type of a tensor that may have any; kInvalidArgument where the dtype is of none.
Status element_type_of(Name name, DLDataType dtype, ElementType& type);

// kUnsupported unless it is kDLCPU or kDLCUDA.
Status device_of(Name name, const DLDevice& given, Device& device);

// A DLDeviceType as the number that the caller wrote, which may be none of the enumeration.
inline std::int32_t device_type_of(const DLDevice& device) {
  std::int32_t type = 0;
  static_assert(sizeof(type) == sizeof(device.device_type));
  std::memcpy(&type, &device.device_type, sizeof(type));
  return type;
}

// Whether the operator on `device` reads memory there.
inline bool is_on(const DLDevice& memory, Device device) {
  const std::int32_t type = device_type_of(memory);
  if (type == kDLCUDAHost || type == kDLCUDAManaged) return true;
  if (device.type == DeviceType::kCpu) return type == kDLCPU;
  return type == kDLCUDA && memory.device_id == device.index;
}

// Why a tensor is not of the dtype, on the device and of the rank that an argument takes.
Status refuse_tensor(Name name, const DLTensor* tensor, DLDataType dtype, Device device, int rank);

// What the argument of a null tensor would take.
template <typename T, int Rank>
Status view_of(Name name, const DLTensor* tensor, Device device, TensorView<T, Rank>& view) {
  if (tensor == nullptr || !is_same(tensor->dtype, dtype_of<T>()) || tensor->ndim != Rank ||
      tensor->shape == nullptr || !is_on(tensor->device, device)) {
    return refuse_tensor(name, tensor, dtype_of<T>(), device, Rank);
  }
  constexpr std::size_t kLast = Rank - 1;
  for (std::size_t i = 0; i <= kLast; ++i) view.sizes[i] = tensor->shape[i];
  if (tensor->strides != nullptr) {
    for (std::size_t i = 0; i <= kLast; ++i) view.strides[i] = tensor->strides[i];
    // What is a row of one element has no stride; frameworks write what they like.
    if (view.sizes[kLast] == 1) view.strides[kLast] = 1;
  } else {
    // Sizes are checked later. Of those that do not hold the product may be any.
    std::uint64_t stride = 1;
    for (std::size_t i = kLast + 1; i-- > 0;) {
      view.strides[i] = static_cast<std::int64_t>(stride);
      stride *= static_cast<std::uint64_t>(view.sizes[i]);
    }
  }
  if (tensor->data != nullptr) {
    view.data = reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(tensor->data) +
                                     static_cast<std::uintptr_t>(tensor->byte_offset));
  } else {
    view.data = nullptr;
  }
  return {};
}

// The same for an argument that may be absent.
template <typename T, int Rank>
Status view_of(Name name, const DLTensor* tensor, Device device,
               std::optional<TensorView<T, Rank>>& view) {
  if (tensor == nullptr) return {};
  return view_of(name, tensor, device, view.emplace());
}

}  // namespace hip_attn::c_api
