/// Arrays of Python as tensors of the C interface, by DLPack and without copies.
#pragma once

// The copy that comes with the library, which has versioned tensors, whatever the system has.
#include "hip_attn/c/dlpack.h"
#include "hip_attn/c/tensor.h"
#include "nanobind_all.hpp"

namespace hip_attn::python {

enum class Access { kRead, kWrite };

/// The stream on which a call runs, as a producer of CUDA memory has to know it.
struct CallStream {
  HipAttnStream stream = nullptr;
  /// DLPack's number for it: 1 is CUDA's default stream, which objects that are made apart from a
  /// call ask for: JAX takes DLPack's -1, no synchronisation, for a stream. Absent: a call on the
  /// CPU.
  std::optional<std::int64_t> dlpack_number = 1;
};

/// An array that a Python object lends for as long as this lives; empty for None. Lives and dies
/// with the GIL held.
class Array {
 public:
  Array() = default;
  /// `name` is the argument's, for messages. Raises TypeError where the object is no array, and
  /// hip_attn.Error where it is read-only and `access` is to write.
  Array(const char* name, nb::handle object, Access access, const CallStream& stream = {});
  /// Of a tensor whose deleter runs when this goes.
  explicit Array(DLManagedTensorVersioned* managed)
      : tensor_(&managed->dl_tensor), versioned_(managed) {}
  Array(Array&& other) noexcept { *this = std::move(other); }
  Array& operator=(Array&& other) noexcept;
  ~Array() { release(); }

  /// Null when empty.
  [[nodiscard]] const DLTensor* get() const noexcept { return tensor_; }
  /// Raises hip_attn.Error where the array is not to be written.
  void require_writable(const char* name) const;

 private:
  void take(nb::handle capsule);
  void release() noexcept;

  const DLTensor* tensor_ = nullptr;
  DLManagedTensorVersioned* versioned_ = nullptr;
  DLManagedTensor* unversioned_ = nullptr;
};

/// True for an instance of torch.Tensor. Does not import torch.
bool is_torch_tensor(nb::handle object);

/// "cpu", "cuda", "cuda:1", or an object whose str() is one of these, such as a torch.device.
DLDevice device_of(nb::handle object);

/// "float16", or an object whose name or str() is it, such as a torch.dtype.
DLDataType dtype_of(const char* name, nb::handle object);

/// "cpu" or "cuda:1".
std::string device_text(DLDevice device);

/// The stream of a call on `device`. `given`: None, a number, or an object with cuda_stream (torch)
/// or ptr (CuPy). None: torch's current stream where `array` is of torch, else the default one.
CallStream stream_of(nb::handle given, nb::handle array, DLDevice device);

}  // namespace hip_attn::python
