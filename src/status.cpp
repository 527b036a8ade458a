#include "hip_attn/status.hpp"

namespace hip_attn {

const char* to_string(StatusCode code) noexcept {
  switch (code) {
    case StatusCode::kOk:
      return "Ok";
    case StatusCode::kNullPointer:
      return "NullPointer";
    case StatusCode::kMisalignedPointer:
      return "MisalignedPointer";
    case StatusCode::kInvalidStride:
      return "InvalidStride";
    case StatusCode::kInvalidShape:
      return "InvalidShape";
    case StatusCode::kInvalidConfig:
      return "InvalidConfig";
    case StatusCode::kUnsupported:
      return "Unsupported";
    case StatusCode::kWorkspaceTooSmall:
      return "WorkspaceTooSmall";
    case StatusCode::kExceedsPlan:
      return "ExceedsPlan";
    case StatusCode::kInvalidLength:
      return "InvalidLength";
    case StatusCode::kSeqLenBeyondBlockTable:
      return "SeqLenBeyondBlockTable";
    case StatusCode::kQueryLongerThanSequence:
      return "QueryLongerThanSequence";
    case StatusCode::kTooManyDecodeRows:
      return "TooManyDecodeRows";
    case StatusCode::kInvalidPage:
      return "InvalidPage";
    case StatusCode::kInvalidSlot:
      return "InvalidSlot";
    case StatusCode::kInvalidSelection:
      return "InvalidSelection";
    case StatusCode::kMalformedJson:
      return "MalformedJson";
    case StatusCode::kUnknownKey:
      return "UnknownKey";
    case StatusCode::kCudaError:
      return "CudaError";
    case StatusCode::kInvalidScalar:
      return "InvalidScalar";
    case StatusCode::kOverlap:
      return "Overlap";
    case StatusCode::kInvalidArgument:
      return "InvalidArgument";
    case StatusCode::kOutOfMemory:
      return "OutOfMemory";
    case StatusCode::kBudgetTooSmall:
      return "BudgetTooSmall";
    case StatusCode::kInternalError:
      return "InternalError";
  }
  return "Unknown";
}

}  // namespace hip_attn
