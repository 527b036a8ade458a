# What a build contains: every option of the project.

# An option that looks for what it needs. HIP_ATTN_SUMMARY_<name> later says what AUTO found.
function(hip_attn_auto_option name help)
  set(${name} AUTO CACHE STRING "${help}: AUTO (if it is found), ON or OFF")
  set_property(CACHE ${name} PROPERTY STRINGS AUTO ON OFF)
  if(NOT ${name} MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "${name} is \"${${name}}\"; it takes AUTO, ON or OFF")
  endif()
endfunction()

# A parent project's own option is not ours to declare: it would get our default.
if(PROJECT_IS_TOP_LEVEL)
  option(BUILD_SHARED_LIBS "Build a shared library" OFF)
endif()
hip_attn_auto_option(HIP_ATTN_CUDA "The CUDA backend")
set(
  HIP_ATTN_CUDA_ARCHITECTURES "" CACHE STRING
  "GPUs to build for, as CMAKE_CUDA_ARCHITECTURES has them; empty: as that says, or this machine's GPUs, or Ampere and newer"
)
hip_attn_auto_option(HIP_ATTN_OPENMP "Several threads in the CPU backend, by OpenMP")
option(HIP_ATTN_SANITIZE "Build with AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
option(HIP_ATTN_WERROR "Treat warnings as errors" ${PROJECT_IS_TOP_LEVEL})
option(HIP_ATTN_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(HIP_ATTN_BUILD_BENCHMARKS "Build the benchmarks" ${PROJECT_IS_TOP_LEVEL})
if(PROJECT_IS_TOP_LEVEL)
  hip_attn_auto_option(HIP_ATTN_BUILD_TOOLS "hip_attn-info, with CLI11")
else()
  option(HIP_ATTN_BUILD_TOOLS "Build hip_attn-info, with CLI11" OFF)
endif()
option(HIP_ATTN_PYTHON "Build the Python package, which takes nanobind" OFF)
option(HIP_ATTN_INSTALL "Generate install rules" ${PROJECT_IS_TOP_LEVEL})
