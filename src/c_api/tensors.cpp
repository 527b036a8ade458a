#include "c_api/tensors.hpp"

#include <string>

namespace hip_attn::c_api {
namespace {

// "bfloat16"; numbers where there is no word.
std::string dtype_text(DLDataType dtype) {
  const char* word = nullptr;
  if (dtype.code == kDLInt) word = "int";
  if (dtype.code == kDLUInt) word = "uint";
  if (dtype.code == kDLFloat) word = "float";
  if (dtype.code == kDLBfloat) word = "bfloat";
  if (dtype.code == kDLComplex) word = "complex";
  std::string text =
      word ? message(word, dtype.bits) : message("code ", dtype.code, " of ", dtype.bits, " bits");
  if (dtype.lanes != 1) text += message(" in ", dtype.lanes, " lanes");
  return text;
}

std::string device_text(const DLDevice& device) {
  const std::int32_t type = device_type_of(device);
  if (type == kDLCPU) return "the CPU";
  if (type == kDLCUDA) return message("CUDA ", device.device_id);
  return message("DLDeviceType ", type);
}

std::string tensor_text(DLDataType dtype, int rank) {
  return message("a DLTensor of ", dtype_text(dtype), " and ", rank,
                 rank == 1 ? " dimension" : " dimensions");
}

}  // namespace

Status element_type_of(Name name, DLDataType dtype, ElementType& type) {
  if (is_same(dtype, dtype_of<float>())) {
    type = ElementType::kFloat32;
  } else if (is_same(dtype, dtype_of<float16>())) {
    type = ElementType::kFloat16;
  } else if (is_same(dtype, dtype_of<bfloat16>())) {
    type = ElementType::kBFloat16;
  } else {
    return {StatusCode::kInvalidArgument, message(name.str(), " is ", dtype_text(dtype),
                                                  "; it must be float32, float16 or bfloat16")};
  }
  return {};
}

Status device_of(Name name, const DLDevice& given, Device& device) {
  const std::int32_t type = device_type_of(given);
  if (type == kDLCPU) {
    device = kCpu;
  } else if (type == kDLCUDA) {
    device = cuda_device(given.device_id);
  } else {
    return {StatusCode::kUnsupported, message(name.str(), " is ", device_text(given),
                                              "; it must be kDLCPU (1) or kDLCUDA (2)")};
  }
  return {};
}

Status refuse_tensor(Name name, const DLTensor* tensor, DLDataType dtype, Device device, int rank) {
  if (tensor == nullptr) return null_pointer(name, tensor_text(dtype, rank));
  const auto refuse = [&](const auto&... words) {
    return Status{StatusCode::kInvalidArgument, message(name.str(), words...)};
  };
  if (tensor->ndim != rank) return refuse(".ndim is ", tensor->ndim, "; it must be ", rank);
  if (!is_same(tensor->dtype, dtype)) {
    return refuse(".dtype is ", dtype_text(tensor->dtype), "; it must be ", dtype_text(dtype));
  }
  if (tensor->shape == nullptr) {
    return {StatusCode::kNullPointer,
            message(name.str(), ".shape is null; it must point at ", rank, " sizes")};
  }
  const bool on_cpu = device.type == DeviceType::kCpu;
  return refuse(".device is ", device_text(tensor->device), "; it must be ",
                on_cpu ? "the CPU" : message("CUDA ", device.index),
                ", where the operator runs, or pinned or managed memory of CUDA");
}

}  // namespace hip_attn::c_api
