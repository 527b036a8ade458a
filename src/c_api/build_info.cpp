// Status codes and build information of the C interface.
#include "hip_attn/build_info.hpp"

#include <algorithm>

#include "c_api/boundary.hpp"
#include "c_api/element_types.hpp"
#include "c_api/handles.hpp"
#include "c_api/tensors.hpp"
#include "hip_attn/c/build_info.h"

using namespace hip_attn;
using namespace hip_attn::c_api;

// The codes of both interfaces are the same numbers.
#define HIP_ATTN_SAME_CODE_(c, cpp) static_assert(HIP_ATTN_##c == static_cast<int>(StatusCode::cpp))
HIP_ATTN_SAME_CODE_(OK, kOk);
HIP_ATTN_SAME_CODE_(NULL_POINTER, kNullPointer);
HIP_ATTN_SAME_CODE_(MISALIGNED_POINTER, kMisalignedPointer);
HIP_ATTN_SAME_CODE_(INVALID_STRIDE, kInvalidStride);
HIP_ATTN_SAME_CODE_(INVALID_SHAPE, kInvalidShape);
HIP_ATTN_SAME_CODE_(INVALID_CONFIG, kInvalidConfig);
HIP_ATTN_SAME_CODE_(UNSUPPORTED, kUnsupported);
HIP_ATTN_SAME_CODE_(WORKSPACE_TOO_SMALL, kWorkspaceTooSmall);
HIP_ATTN_SAME_CODE_(EXCEEDS_PLAN, kExceedsPlan);
HIP_ATTN_SAME_CODE_(INVALID_LENGTH, kInvalidLength);
HIP_ATTN_SAME_CODE_(SEQ_LEN_BEYOND_BLOCK_TABLE, kSeqLenBeyondBlockTable);
HIP_ATTN_SAME_CODE_(QUERY_LONGER_THAN_SEQUENCE, kQueryLongerThanSequence);
HIP_ATTN_SAME_CODE_(TOO_MANY_DECODE_ROWS, kTooManyDecodeRows);
HIP_ATTN_SAME_CODE_(INVALID_PAGE, kInvalidPage);
HIP_ATTN_SAME_CODE_(INVALID_SLOT, kInvalidSlot);
HIP_ATTN_SAME_CODE_(INVALID_SELECTION, kInvalidSelection);
HIP_ATTN_SAME_CODE_(MALFORMED_JSON, kMalformedJson);
HIP_ATTN_SAME_CODE_(UNKNOWN_KEY, kUnknownKey);
HIP_ATTN_SAME_CODE_(CUDA_ERROR, kCudaError);
HIP_ATTN_SAME_CODE_(INVALID_SCALAR, kInvalidScalar);
HIP_ATTN_SAME_CODE_(OVERLAP, kOverlap);
HIP_ATTN_SAME_CODE_(INVALID_ARGUMENT, kInvalidArgument);
HIP_ATTN_SAME_CODE_(OUT_OF_MEMORY, kOutOfMemory);
HIP_ATTN_SAME_CODE_(BUDGET_TOO_SMALL, kBudgetTooSmall);
HIP_ATTN_SAME_CODE_(INTERNAL_ERROR, kInternalError);
#undef HIP_ATTN_SAME_CODE_

const char* hip_attn_status_name(HipAttnStatus status) {
  return to_string(static_cast<StatusCode>(status));
}

const char* hip_attn_version(void) { return version(); }

size_t hip_attn_built_head_dims(int64_t* head_dims, size_t capacity) {
  return copy_list(built_head_dims(), head_dims, capacity);
}

size_t hip_attn_built_dtypes(DLDataType* dtypes, size_t capacity) {
  const auto types = built_element_types();
  for (size_t i = 0; dtypes != nullptr && i < std::min(capacity, types.size()); ++i) {
    static_cast<void>(visit_type(types[i], [&]<Element T>() -> Status {
      dtypes[i] = dtype_of<T>();
      return {};
    }));
  }
  return types.size();
}

int hip_attn_built_with_cuda(void) { return built_with_cuda() ? 1 : 0; }

const char* hip_attn_cpu_instruction_set(void) { return cpu_instruction_set(); }

HipAttnStatus hip_attn_check_device(DLDevice device, char* message, size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    Device known;
    HIP_ATTN_RETURN_IF_ERROR(device_of("device", device, known));
    return check_device(known);
  });
}
