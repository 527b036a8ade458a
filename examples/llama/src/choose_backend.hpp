/// The command line's --device and --kv-type.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "backend.hpp"

namespace llama {

/// device: "cpu", "gpu", or "auto": the GPU when there is one that this program and hip_attn were
/// built for. On a GPU, weights, activations and KV cache have the type kv_type, bfloat16 unless
/// said otherwise; on the CPU only the cache has it.
/// Errors: kCuda without a GPU to run on, kInvalidArgument for a type that it does not take.
std::unique_ptr<Backend> choose_backend(const std::string& device,
                                        std::optional<hip_attn::ElementType> kv_type);

}  // namespace llama
