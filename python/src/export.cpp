#include "export.hpp"

#include <type_traits>
#include <utility>

namespace hip_attn::python {
namespace {

// Managed: of either DLPack.
template <typename Managed>
struct Export {
  Managed managed{};
  OwnedTensor tensor;

  // Any thread may call it, without the GIL.
  static void destroy(Managed* managed) { delete static_cast<Export*>(managed->manager_ctx); }
};

template <typename Managed>
Managed* managed_tensor(OwnedTensor given) {
  auto made = std::make_unique<Export<Managed>>();
  made->tensor = std::move(given);
  if constexpr (std::is_same_v<Managed, DLManagedTensorVersioned>) {
    made->managed.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
  }
  made->managed.manager_ctx = made.get();
  made->managed.deleter = Export<Managed>::destroy;
  DLTensor& tensor = made->managed.dl_tensor;
  tensor.data = made->tensor.data;
  tensor.device = made->tensor.device;
  tensor.ndim = static_cast<std::int32_t>(made->tensor.shape.size());
  tensor.dtype = made->tensor.dtype;
  tensor.shape = made->tensor.shape.data();
  tensor.strides = made->tensor.strides.data();
  return &made.release()->managed;
}

template <typename Managed>
nb::object capsule_of(OwnedTensor tensor) {
  static constexpr const char* name =
      std::is_same_v<Managed, DLManagedTensorVersioned> ? "dltensor_versioned" : "dltensor";
  Managed* const managed = managed_tensor<Managed>(std::move(tensor));
  // Whoever takes the tensor renames the capsule.
  PyObject* const capsule = PyCapsule_New(managed, name, [](PyObject* self) {
    if (PyCapsule_IsValid(self, name) == 0) return;
    auto* const untaken = static_cast<Managed*>(PyCapsule_GetPointer(self, name));
    untaken->deleter(untaken);
  });
  if (capsule == nullptr) {
    managed->deleter(managed);
    throw nb::python_error();
  }
  return nb::steal(capsule);
}

}  // namespace

DLManagedTensorVersioned* managed_versioned(OwnedTensor tensor) {
  return managed_tensor<DLManagedTensorVersioned>(std::move(tensor));
}

nb::object dlpack_capsule(OwnedTensor tensor, nb::handle max_version, nb::handle dl_device,
                          nb::handle copy) {
  if (copy.is(Py_True)) raise_buffer_error("this memory is not copied");
  const std::tuple<int, int> device{tensor.device.device_type, tensor.device.device_id};
  if (!dl_device.is_none() && !dl_device.equal(nb::cast(device))) {
    raise_buffer_error("this memory is not moved to another device");
  }
  const bool has_versions =
      !max_version.is_none() && std::get<0>(nb::cast<std::tuple<int, int>>(max_version)) >= 1;
  return has_versions ? capsule_of<DLManagedTensorVersioned>(std::move(tensor))
                      : capsule_of<DLManagedTensor>(std::move(tensor));
}

void raise_buffer_error(const char* message) {
  PyErr_SetString(PyExc_BufferError, message);
  throw nb::python_error();
}

}  // namespace hip_attn::python
