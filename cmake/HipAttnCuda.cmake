# Decides whether the CUDA backend is built: sets HIP_ATTN_HAS_CUDA to 0 or 1, HIP_ATTN_CUDA_REASON
# to why, and HIP_ATTN_CUDA_PROPERTY to the CUDA_ARCHITECTURES of our targets.

include(cmake/HipAttnCudaArchitectures.cmake)
include(CheckLanguage)

set(HIP_ATTN_HAS_CUDA 0)
if(HIP_ATTN_CUDA STREQUAL OFF)
  set(HIP_ATTN_CUDA_REASON "as HIP_ATTN_CUDA says")
  return()
endif()

check_language(CUDA)
set(problem "")
if(CMAKE_CUDA_COMPILER)
  # Asked for here because enabling the language with another one would fail in words of its own.
  # CUDA 12.0 is the first with C++20 and sm_90a.
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE nvcc_version)
  if(NOT nvcc_version MATCHES "NVIDIA.*release ([0-9.]+)")
    set(problem "${CMAKE_CUDA_COMPILER} is not NVIDIA's nvcc")
  elseif(CMAKE_MATCH_1 VERSION_LESS 12.0)
    set(problem "${CMAKE_CUDA_COMPILER} is of CUDA ${CMAKE_MATCH_1}; it takes 12.0 or newer")
  endif()
else()
  set(problem "CMake found no working CUDA compiler; put nvcc on PATH or set CMAKE_CUDA_COMPILER")
endif()
if(problem)
  if(HIP_ATTN_CUDA STREQUAL ON)
    message(FATAL_ERROR "HIP_ATTN_CUDA is ON but ${problem}, or set HIP_ATTN_CUDA to OFF")
  endif()
  set(HIP_ATTN_CUDA_REASON "${problem}")
  return()
endif()

set(HIP_ATTN_HAS_CUDA 1)
set(HIP_ATTN_CUDA_REASON "${CMAKE_CUDA_COMPILER} of CUDA ${CMAKE_MATCH_1}")
# Before the language is enabled: CMake tries CMAKE_CUDA_ARCHITECTURES then, and says in words of its
# own what does not work. That variable stays what it is, here and in a parent project.
hip_attn_choose_cuda_architectures(HIP_ATTN_CUDA_PROPERTY HIP_ATTN_CUDA_PROPERTY_REASON)
enable_language(CUDA)
