# A project that instantiates kernels from the installed headers, for one architecture: that of the
# GPU here, else one that this build has, with all kernels if there is such a one.

hip_attn_resolve_cuda_architectures(own_architecture no_gpu native ${CMAKE_CUDA_COMPILER} "")
if(no_gpu)
  if(90a-real IN_LIST HIP_ATTN_CUDA_PROPERTY)
    set(own_architecture 90a-real)
  else()
    list(GET HIP_ATTN_CUDA_PROPERTY 0 own_architecture)
  endif()
endif()
list(GET own_architecture 0 own_architecture)

set(own_kernels "package: find_package, kernels for a head dim and with a rule of the project's own")
add_build_test(
  "${own_kernels}" ${CMAKE_CURRENT_SOURCE_DIR}/own_kernels
  OPTIONS
    -DCMAKE_PREFIX_PATH=${work_dir}/${linkage}
    -DCMAKE_CUDA_COMPILER=${CMAKE_CUDA_COMPILER}
    -DCMAKE_CUDA_ARCHITECTURES=${own_architecture}
    "-DCMAKE_CUDA_FLAGS=${CMAKE_CUDA_FLAGS}"
  RUN own_kernels
)
set_tests_properties(
  "${own_kernels}"
  PROPERTIES
    FIXTURES_REQUIRED installed_${linkage}
    # What it says where there is no GPU.
    SKIP_REGULAR_EXPRESSION "skipped: "
)
