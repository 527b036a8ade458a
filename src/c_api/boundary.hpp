// What lies between a C caller and C++: no exception leaves, and a Status becomes a code and a
// message in the caller's buffer.
#pragma once

#include <cstddef>
#include <exception>
#include <new>
#include <string_view>

#include "hip_attn/c/status.h"
#include "hip_attn/checks/message.hpp"
#include "hip_attn/checks/views.hpp"
#include "hip_attn/status.hpp"

namespace hip_attn::c_api {

using detail::message;
using detail::Name;

// The buffer that a caller gives for a message.
struct MessageBuffer {
  char* text;
  std::size_t capacity;
};

// Copies what fits; the text always ends with a zero.
void copy_message(std::string_view text, MessageBuffer buffer) noexcept;

// A body that is ok costs a call, a branch and a byte.
template <typename Body>
HipAttnStatus guarded(MessageBuffer buffer, const Body& body) noexcept {
  try {
    if (const Status status = body(); !status.ok()) {
      copy_message(status.message(), buffer);
      return static_cast<HipAttnStatus>(status.code());
    }
    copy_message({}, buffer);
    return HIP_ATTN_OK;
  } catch (const std::bad_alloc&) {
    copy_message("there is no memory for a handle or a message", buffer);
    return HIP_ATTN_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    copy_message(error.what(), buffer);
  } catch (...) {
    copy_message("an unknown C++ exception", buffer);
  }
  return HIP_ATTN_INTERNAL_ERROR;
}

inline Status null_pointer(Name name, std::string_view what) {
  return {StatusCode::kNullPointer, message(name.str(), " is null; it must point at ", what)};
}

inline Status check_given(Name name, const void* pointer, const char* what) {
  return pointer != nullptr ? Status{} : null_pointer(name, what);
}

}  // namespace hip_attn::c_api
