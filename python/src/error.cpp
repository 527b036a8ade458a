#include "error.hpp"

namespace hip_attn::python {

void raise(const char* status, const std::string& message) {
  // Defined in Python, where it has a constructor, a docstring and types.
  const nb::object type = nb::module_::import_("hip_attn._error").attr("Error");
  const nb::object error = type(status, message);
  PyErr_SetObject(type.ptr(), error.ptr());
  throw nb::python_error();
}

}  // namespace hip_attn::python
