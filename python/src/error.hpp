/// From status codes of the C interface to exceptions of Python.
#pragma once

#include "hip_attn/c/status.h"
#include "nanobind_all.hpp"

namespace hip_attn::python {

/// Raises hip_attn.Error. `status` is the name of a HipAttnStatus.
[[noreturn]] void raise(const char* status, const std::string& message);

/// Calls function(message, capacity) of the C interface, and raises hip_attn.Error unless it
/// returns HIP_ATTN_OK.
template <typename Function>
void check(const Function& function) {
  char message[1024];
  const HipAttnStatus status = function(message, sizeof(message));
  if (status != HIP_ATTN_OK) raise(hip_attn_status_name(status), message);
}

/// The same without the GIL.
template <typename Function>
void check_without_gil(const Function& function) {
  check([&](char* message, std::size_t capacity) {
    const nb::gil_scoped_release release;
    return function(message, capacity);
  });
}

}  // namespace hip_attn::python
