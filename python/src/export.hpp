/// Memory of this module as arrays of other frameworks, by DLPack.
#pragma once

#include <memory>

#include "array.hpp"

namespace hip_attn::python {

/// A tensor in host memory that its owner keeps.
struct OwnedTensor {
  std::shared_ptr<const void> owner;
  void* data = nullptr;
  DLDevice device = {kDLCPU, 0};
  DLDataType dtype{};
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  ///< in elements
};

/// For the C interface and for DLPack 1.x; the owner lives until its deleter has run.
DLManagedTensorVersioned* managed_versioned(OwnedTensor tensor);

/// The result of __dlpack__ with these arguments. Raises BufferError where they ask for a copy or
/// for another device.
nb::object dlpack_capsule(OwnedTensor tensor, nb::handle max_version, nb::handle dl_device,
                          nb::handle copy);

/// The signature of __dlpack__.
#define HIP_ATTN_DLPACK_SIGNATURE                                                               \
  "def __dlpack__(self, *, stream: object = None, max_version: tuple[int, int] | None = None, " \
  "dl_device: tuple[int, int] | None = None, copy: bool | None = None) -> object"

[[noreturn]] void raise_buffer_error(const char* message);

}  // namespace hip_attn::python
