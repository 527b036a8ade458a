#include "hip_attn/status.hpp"

#include <string>
#include <type_traits>
#include <utility>

#include "catch.hpp"

namespace hip_attn {
namespace {

TEST_CASE("a default Status is ok and says nothing") {
  const Status status;
  CHECK(status.ok());
  CHECK(status.code() == StatusCode::kOk);
  CHECK(status.message().empty());
}

TEST_CASE("a Status keeps its code and message through copies and moves") {
  Status status(StatusCode::kInvalidPage, "kv.block_table[0][1] is 9; pages are 0 to 3");
  CHECK_FALSE(status.ok());
  const Status copy = status;
  const Status moved = std::move(status);
  for (const Status& each : {copy, moved}) {
    CHECK(each.code() == StatusCode::kInvalidPage);
    CHECK(each.message() == "kv.block_table[0][1] is 9; pages are 0 to 3");
  }
}

TEST_CASE("a Status that is ok needs no memory") {
  static_assert(std::is_nothrow_default_constructible_v<Status>);
  static_assert(std::is_nothrow_move_constructible_v<Status>);
}

TEST_CASE("every status code has its name") {
  const std::pair<StatusCode, std::string> names[] = {
      {StatusCode::kOk, "Ok"},
      {StatusCode::kNullPointer, "NullPointer"},
      {StatusCode::kMisalignedPointer, "MisalignedPointer"},
      {StatusCode::kInvalidStride, "InvalidStride"},
      {StatusCode::kInvalidShape, "InvalidShape"},
      {StatusCode::kInvalidConfig, "InvalidConfig"},
      {StatusCode::kUnsupported, "Unsupported"},
      {StatusCode::kWorkspaceTooSmall, "WorkspaceTooSmall"},
      {StatusCode::kExceedsPlan, "ExceedsPlan"},
      {StatusCode::kInvalidLength, "InvalidLength"},
      {StatusCode::kSeqLenBeyondBlockTable, "SeqLenBeyondBlockTable"},
      {StatusCode::kQueryLongerThanSequence, "QueryLongerThanSequence"},
      {StatusCode::kTooManyDecodeRows, "TooManyDecodeRows"},
      {StatusCode::kInvalidPage, "InvalidPage"},
      {StatusCode::kInvalidSlot, "InvalidSlot"},
      {StatusCode::kInvalidSelection, "InvalidSelection"},
      {StatusCode::kMalformedJson, "MalformedJson"},
      {StatusCode::kUnknownKey, "UnknownKey"},
      {StatusCode::kCudaError, "CudaError"},
      {StatusCode::kInvalidScalar, "InvalidScalar"},
      {StatusCode::kOverlap, "Overlap"},
      {StatusCode::kInvalidArgument, "InvalidArgument"},
      {StatusCode::kOutOfMemory, "OutOfMemory"},
      {StatusCode::kBudgetTooSmall, "BudgetTooSmall"},
      {StatusCode::kInternalError, "InternalError"},
  };
  int code = 0;
  for (const auto& [value, name] : names) {
    CHECK(static_cast<int>(value) == code++);
    CHECK(to_string(value) == name);
  }
  CHECK(to_string(static_cast<StatusCode>(code)) != nullptr);
}

}  // namespace
}  // namespace hip_attn
