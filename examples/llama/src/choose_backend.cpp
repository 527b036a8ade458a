#include "choose_backend.hpp"

#include <fmt/format.h>

#include "cpu_backend.hpp"
#include "cuda_backend.hpp"
#include "error.hpp"

namespace llama {
namespace {

constexpr auto kDefaultGpuType = hip_attn::ElementType::kBFloat16;

}  // namespace

std::unique_ptr<Backend> choose_backend(const std::string& device,
                                        std::optional<hip_attn::ElementType> kv_type) {
  std::unique_ptr<Backend> backend;
  std::string reason;
  if (device != "cpu") {
    const hip_attn::Status status = check_cuda();
    const auto type = kv_type.value_or(kDefaultGpuType);
    const bool has_type = type != hip_attn::ElementType::kFloat32;
    if (device == "gpu" && !has_type) {
      throw Error(ErrorCode::kInvalidArgument,
                  "--kv-type is float32; on a GPU it is bfloat16 or float16");
    }
    if (device == "gpu" && !status.ok()) throw Error(ErrorCode::kCuda, status.message());
    if (!has_type) {
      reason = ": a GPU does not take --kv-type float32";
    } else if (!status.ok()) {
      reason = ": " + status.message();
    } else {
      backend = make_cuda_backend(type);
    }
  }
  if (!backend) backend = make_cpu_backend();
  fmt::print(stderr, "on the {}{}\n", backend->description(), reason);
  return backend;
}

}  // namespace llama
