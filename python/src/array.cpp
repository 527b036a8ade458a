#include "array.hpp"

#include <utility>

#include "error.hpp"

namespace hip_attn::python {
namespace {

// What every import of an array needs, made once. Never freed: the interpreter may be gone by then.
struct Names {
  PyObject* dlpack = PyUnicode_InternFromString("__dlpack__");
  PyObject* max_version = Py_BuildValue("(ii)", 1, 1);
  PyObject* kwnames = Py_BuildValue("(s)", "max_version");
  PyObject* kwnames_stream = Py_BuildValue("(ss)", "max_version", "stream");
};

const Names& names() {
  static const Names* const names = new Names;
  return *names;
}

// The result of object.__dlpack__(max_version=, stream=); null with an exception set.
nb::object export_versioned(nb::handle object, std::optional<std::int64_t> stream) {
  nb::object number;
  if (stream) number = nb::int_(*stream);
  PyObject* const arguments[3] = {object.ptr(), names().max_version, number.ptr()};
  return nb::steal(PyObject_VectorcallMethod(names().dlpack, arguments,
                                             1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                             stream ? names().kwnames_stream : names().kwnames));
}

// The stream to tell the producer: none for memory of the host, whose producers take none.
std::optional<std::int64_t> producer_stream(nb::handle object, const CallStream& stream) {
  if (!stream.dlpack_number || !nb::hasattr(object, "__dlpack_device__")) return {};
  const auto device = nb::cast<std::tuple<int, int>>(object.attr("__dlpack_device__")());
  if (std::get<0>(device) != kDLCUDA) return {};
  return stream.dlpack_number;
}

bool is_bfloat16(nb::handle object) {
  return nb::hasattr(object, "dtype") && nb::hasattr(object.attr("dtype"), "name") &&
         nb::cast<std::string>(nb::str(object.attr("dtype").attr("name"))) == "bfloat16";
}

// torch.Tensor once torch is there, else null.
PyObject* torch_tensor_type() {
  static PyObject* type = nullptr;
  if (type == nullptr) {
    const nb::object torch = nb::steal(PyImport_GetModule(nb::str("torch").ptr()));
    // While torch is being imported it has no Tensor yet.
    if (torch.is_valid() && nb::hasattr(torch, "Tensor")) {
      type = nb::object(torch.attr("Tensor")).release().ptr();
    }
    PyErr_Clear();
  }
  return type;
}

// torch's own exporter: 0.2 µs where Tensor.__dlpack__ takes 3, and it waits for no stream, which
// is right for a call on torch's current one.
nb::object export_torch(nb::handle tensor) {
  static PyObject* const to_dlpack =
      nb::object(nb::module_::import_("torch.utils.dlpack").attr("to_dlpack")).release().ptr();
  return nb::handle(to_dlpack)(tensor);
}

}  // namespace

bool is_torch_tensor(nb::handle object) {
  // The last type that was something else, which saves a look at sys.modules for each array.
  static PyObject* other = nullptr;
  const nb::handle type = object.type();
  if (type.ptr() == other) return false;
  PyObject* const torch = torch_tensor_type();
  if (torch != nullptr && PyObject_IsInstance(object.ptr(), torch) == 1) return true;
  PyErr_Clear();
  if (torch != nullptr || nb::cast<std::string>(type.attr("__module__")) == "numpy") {
    Py_XDECREF(other);
    other = type.inc_ref().ptr();
  }
  return false;
}

Array::Array(const char* name, nb::handle object, Access access, const CallStream& stream) {
  if (object.is_none()) return;
  if (is_torch_tensor(object)) {
    take(export_torch(object));
    return;
  }
  const std::optional<std::int64_t> number = producer_stream(object, stream);
  nb::object capsule = export_versioned(object, number);
  bool bits_of_bfloat16 = false;
  if (!capsule.is_valid()) {
    nb::python_error error;
    if (!nb::hasattr(object, "__dlpack__")) {
      throw nb::type_error((std::string(name) + " is of type " +
                            nb::cast<std::string>(nb::str(object.type().attr("__name__"))) +
                            "; it must be an array with __dlpack__")
                               .c_str());
    }
    if (error.matches(PyExc_TypeError)) {
      // A producer from before DLPack 1.0.
      const nb::object export_unversioned = object.attr("__dlpack__");
      capsule = number ? export_unversioned(nb::arg("stream") = *number) : export_unversioned();
    } else if (is_bfloat16(object) && nb::hasattr(object, "view")) {
      // numpy's bfloat16 is ml_dtypes', which numpy's exporter does not know.
      capsule = export_versioned(object.attr("view")("uint16"), {});
      if (!capsule.is_valid()) throw nb::python_error();
      bits_of_bfloat16 = true;
    } else {
      throw error;
    }
  }
  take(capsule);
  if (bits_of_bfloat16) {
    DLTensor& tensor = versioned_ != nullptr ? versioned_->dl_tensor : unversioned_->dl_tensor;
    tensor.dtype.code = kDLBfloat;
  }
  if (access == Access::kWrite) require_writable(name);
}

void Array::take(nb::handle capsule) {
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    auto* const managed = static_cast<DLManagedTensorVersioned*>(
        PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major != 1) throw nb::type_error("an array of another DLPack than 1.x");
    PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
    versioned_ = managed;
    tensor_ = &managed->dl_tensor;
    return;
  }
  auto* const managed =
      static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (managed == nullptr) throw nb::python_error();
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  unversioned_ = managed;
  tensor_ = &managed->dl_tensor;
}

Array& Array::operator=(Array&& other) noexcept {
  if (this != &other) {
    release();
    tensor_ = std::exchange(other.tensor_, nullptr);
    versioned_ = std::exchange(other.versioned_, nullptr);
    unversioned_ = std::exchange(other.unversioned_, nullptr);
  }
  return *this;
}

void Array::release() noexcept {
  if (versioned_ != nullptr && versioned_->deleter != nullptr) versioned_->deleter(versioned_);
  if (unversioned_ != nullptr && unversioned_->deleter != nullptr) {
    unversioned_->deleter(unversioned_);
  }
}

void Array::require_writable(const char* name) const {
  if (versioned_ == nullptr) return;
  if ((versioned_->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0) {
    raise("InvalidArgument", std::string(name) + " is read-only; it is written");
  }
  if ((versioned_->flags & DLPACK_FLAG_BITMASK_IS_COPIED) != 0) {
    raise("InvalidArgument", std::string(name) + " was copied by its __dlpack__; it is written");
  }
}

DLDevice device_of(nb::handle object) {
  const std::string text = nb::cast<std::string>(nb::str(object));
  if (text == "cpu") return {kDLCPU, 0};
  if (text == "cuda") return {kDLCUDA, 0};
  const std::string prefix = "cuda:";
  const std::string digits = text.starts_with(prefix) ? text.substr(prefix.size()) : "";
  if (digits.empty() || digits.size() > 4 ||
      digits.find_first_not_of("0123456789") != std::string::npos) {
    throw nb::value_error(
        ("device is \"" + text + "\"; it must be \"cpu\", \"cuda\" or \"cuda:N\"").c_str());
  }
  return {kDLCUDA, std::stoi(digits)};
}

DLDataType dtype_of(const char* name, nb::handle object) {
  const nb::object pair =
      nb::module_::import_("hip_attn._dtype").attr("code_and_bits")(name, object);
  const auto [code, bits] = nb::cast<std::tuple<int, int>>(pair);
  return {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits), 1};
}

std::string device_text(DLDevice device) {
  if (device.device_type == kDLCPU) return "cpu";
  return "cuda:" + std::to_string(device.device_id);
}

CallStream stream_of(nb::handle given, nb::handle array, DLDevice device) {
  if (device.device_type != kDLCUDA) return {nullptr, std::nullopt};
  std::uintptr_t number = 0;
  if (given.is_none()) {
    if (is_torch_tensor(array)) {
      const nb::object current =
          nb::module_::import_("torch").attr("cuda").attr("current_stream")(device.device_id);
      number = nb::cast<std::uintptr_t>(current.attr("cuda_stream"));
    }
  } else if (nb::hasattr(given, "cuda_stream")) {
    number = nb::cast<std::uintptr_t>(given.attr("cuda_stream"));
  } else if (nb::hasattr(given, "ptr")) {
    number = nb::cast<std::uintptr_t>(given.attr("ptr"));
  } else if (!nb::try_cast(given, number)) {
    throw nb::type_error("stream must be a number, or a stream of torch or CuPy");
  }
  CallStream stream;
  stream.stream = reinterpret_cast<HipAttnStream>(number);
  stream.dlpack_number = number == 0 ? 1 : static_cast<std::int64_t>(number);
  return stream;
}

}  // namespace hip_attn::python
