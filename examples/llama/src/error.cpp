#include "error.hpp"

#include <fmt/format.h>

namespace llama {

const char* to_string(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kCannotReadFile:
      return "CannotReadFile";
    case ErrorCode::kTruncatedSafetensors:
      return "TruncatedSafetensors";
    case ErrorCode::kInconsistentSafetensors:
      return "InconsistentSafetensors";
    case ErrorCode::kMissingTensor:
      return "MissingTensor";
    case ErrorCode::kWrongTensorShape:
      return "WrongTensorShape";
    case ErrorCode::kUnsupportedTensorType:
      return "UnsupportedTensorType";
    case ErrorCode::kMalformedModelConfig:
      return "MalformedModelConfig";
    case ErrorCode::kUnsupportedModel:
      return "UnsupportedModel";
    case ErrorCode::kUnsupportedRopeScaling:
      return "UnsupportedRopeScaling";
    case ErrorCode::kMalformedTokenizer:
      return "MalformedTokenizer";
    case ErrorCode::kUnsupportedTokenizer:
      return "UnsupportedTokenizer";
    case ErrorCode::kMalformedReference:
      return "MalformedReference";
    case ErrorCode::kInvalidArgument:
      return "InvalidArgument";
    case ErrorCode::kOutOfPages:
      return "OutOfPages";
    case ErrorCode::kAttention:
      return "Attention";
    case ErrorCode::kCuda:
      return "Cuda";
  }
  return "Unknown";
}

void check(const hip_attn::Status& status) {
  if (status.ok()) return;
  throw Error(ErrorCode::kAttention,
              fmt::format("{}: {}", hip_attn::to_string(status.code()), status.message()));
}

}  // namespace llama
