/// hip_attn._core: the C interface as functions and objects of Python.
#include "handles.hpp"

namespace hip_attn::python {
namespace {

std::vector<std::int64_t> built_head_dims() {
  std::vector<std::int64_t> head_dims(hip_attn_built_head_dims(nullptr, 0));
  hip_attn_built_head_dims(head_dims.data(), head_dims.size());
  return head_dims;
}

std::vector<std::string> built_dtypes() {
  std::vector<DLDataType> dtypes(hip_attn_built_dtypes(nullptr, 0));
  hip_attn_built_dtypes(dtypes.data(), dtypes.size());
  std::vector<std::string> names;
  for (const DLDataType dtype : dtypes) {
    names.push_back((dtype.code == kDLBfloat ? "bfloat" : "float") + std::to_string(dtype.bits));
  }
  return names;
}

void check_device(nb::handle device) {
  check([&](char* message, std::size_t capacity) {
    return hip_attn_check_device(device_of(device), message, capacity);
  });
}

}  // namespace
}  // namespace hip_attn::python

NB_MODULE(_core, module) {
  using namespace hip_attn::python;
  // What lives until the interpreter ends, such as a compiled graph of torch, is no mistake.
  nb::set_leak_warnings(false);
  bind_config(module);
  bind_plan(module);
  bind_memory(module);
  bind_offload(module);
  bind_attention(module);
  bind_kv(module);
  bind_cells(module);
  module.attr("MAX_DECODE_ROWS") = static_cast<int>(HIP_ATTN_MAX_DECODE_ROWS);
  module.def("version", hip_attn_version, "That of the library.");
  module.def("built_head_dims", built_head_dims, "The head dims that this build has.");
  module.def("built_dtypes", built_dtypes, "The dtypes that this build has, by their names.");
  module.def(
      "built_with_cuda", [] { return hip_attn_built_with_cuda() != 0; },
      "Whether the CUDA backend was compiled in, GPU or not.");
  module.def("cpu_instruction_set", hip_attn_cpu_instruction_set,
             "What the CPU backend runs on: \"x86-64-v4\", \"x86-64-v3\" or \"baseline\".");
  module.def("check_device", check_device, nb::arg("device"),
             nb::sig("def check_device(device: object) -> None"),
             "Raises hip_attn.Error where the library cannot run on \"cpu\" or \"cuda:N\" here.");
}
