/// The one error type of the example.
#pragma once

#include <stdexcept>
#include <string>

#include "hip_attn/status.hpp"

namespace llama {

/// What went wrong. The message says where, what was found and what is accepted.
enum class ErrorCode {
  kCannotReadFile,           ///< a file or folder that is missing or unreadable
  kTruncatedSafetensors,     ///< a safetensors file shorter than it says
  kInconsistentSafetensors,  ///< a safetensors header that contradicts itself or its file
  kMissingTensor,            ///< a weight that no shard holds
  kWrongTensorShape,         ///< a weight whose shape is not what config.json implies
  kUnsupportedTensorType,    ///< a used tensor that is neither bf16, f16 nor f32
  kMalformedModelConfig,     ///< config.json or generation_config.json that is not JSON, or has a
                             ///< field that is missing, malformed or contradicts another
  kUnsupportedModel,         ///< a model of another architecture, or with a part not implemented
  kUnsupportedRopeScaling,   ///< a rope_scaling that is not implemented
  kMalformedTokenizer,       ///< tokenizer.json that is not JSON, or contradicts itself
  kUnsupportedTokenizer,     ///< a tokenizer of another kind than byte-level BPE
  kMalformedReference,       ///< data/reference.json that is not what recall and verify need
  kInvalidArgument,          ///< a command line value that cannot be honoured
  kOutOfPages,               ///< more tokens than the KV cache was made for
  kAttention,                ///< hip_attn returned a Status that is not ok
  kCuda,                     ///< CUDA or cuBLAS failed, or there is no GPU to run on
};

/// The name of a code without the leading k: "MissingTensor".
const char* to_string(ErrorCode code) noexcept;

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

/// Throws kAttention unless the status is ok. hip_attn itself never throws.
void check(const hip_attn::Status& status);

}  // namespace llama
