/// The one error channel of the library: nothing throws, prints or exits.
#pragma once

#include <string>
#include <utility>

#include "hip_attn/export.hpp"

namespace hip_attn {

/// What went wrong. The message of the Status names the argument, its value and what is accepted.
enum class StatusCode : int {
  kOk = 0,
  kNullPointer,              ///< a required pointer is null
  kMisalignedPointer,        ///< a pointer or a row stride is not a multiple of 16 bytes
  kInvalidStride,            ///< a last-dimension stride other than 1, or a negative stride
  kInvalidShape,             ///< sizes that contradict each other or the plan
  kInvalidConfig,            ///< a HipConfig that breaks a rule of docs/guide/algorithm.md
  kUnsupported,              ///< an element type, head dim or device that this build does not have
  kWorkspaceTooSmall,        ///< the message says how many bytes are needed
  kExceedsPlan,              ///< more requests, rows or keys than the plan was made for
  kInvalidLength,            ///< a negative length, or cu_seqlens_q that does not ascend from 0
  kSeqLenBeyondBlockTable,   ///< seq_len needs more pages than the block table has columns
  kQueryLongerThanSequence,  ///< q_len > seq_len
  kTooManyDecodeRows,  ///< more than kMaxDecodeRows query rows in one request of a decode call
  kInvalidPage,        ///< an entry of a block table, of keys or landmarks, that is not a page
  kInvalidSlot,        ///< a slot mapping entry, or a selection cache slot, out of range
  kInvalidSelection,   ///< a selection given in that is not ascending, in range and causal
  kMalformedJson,      ///< text that is not JSON, or a value of the wrong type
  kUnknownKey,         ///< a JSON key that this library cannot honour
  kCudaError,          ///< a CUDA call failed; the message carries CUDA's own words
  kInvalidScalar,      ///< a scale, soft cap or spread that is not finite or out of range
  kOverlap,            ///< an output that shares memory with an input, an output or the workspace
  /// C interface: a tensor of another dtype, device or rank than the argument takes, a name that is
  /// not known, or a bad struct_size.
  kInvalidArgument,
  kOutOfMemory,     ///< no memory for what the library itself allocates, or none that can be pinned
  kBudgetTooSmall,  ///< the message says how many bytes are needed
  /// C interface: an exception of C++ that is no lack of memory; the message carries its words.
  kInternalError,
};

/// The name of a code as it is written in the source, without the leading k: "InvalidConfig".
HIP_ATTN_API const char* to_string(StatusCode code) noexcept;

/// Result of every operation that can fail. Success carries no message and allocates nothing.
class [[nodiscard]] Status {
 public:
  Status() noexcept = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  [[nodiscard]] bool ok() const noexcept { return code_ == StatusCode::kOk; }
  [[nodiscard]] StatusCode code() const noexcept { return code_; }
  [[nodiscard]] const std::string& message() const noexcept { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

}  // namespace hip_attn
