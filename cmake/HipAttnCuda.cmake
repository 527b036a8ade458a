# Decides whether the CUDA backend is built, sets HIP_ATTN_HAS_CUDA to 0 or 1.

# The architectures of this machine's GPUs, each once; an empty list without a driver, or when one
# is older than the kernels support. CMake's `native` is not it: it fails without a GPU, and means 90
# where the Hopper kernels need 90a.
function(hip_attn_find_gpu_architectures result)
  set(${result} "" PARENT_SCOPE)
  find_program(HIP_ATTN_NVIDIA_SMI nvidia-smi)
  mark_as_advanced(HIP_ATTN_NVIDIA_SMI)
  if(NOT HIP_ATTN_NVIDIA_SMI)
    return()
  endif()
  execute_process(
    COMMAND ${HIP_ATTN_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
    RESULT_VARIABLE status
    OUTPUT_VARIABLE output
    ERROR_QUIET
  )
  string(REGEX MATCHALL "[0-9]+\\.[0-9]" capabilities "${output}")
  if(NOT status EQUAL 0)
    return()
  endif()
  list(REMOVE_DUPLICATES capabilities)
  set(architectures "")
  foreach(capability IN LISTS capabilities)
    if(capability VERSION_LESS 8.0)
      return()
    endif()
    string(REPLACE "." "" architecture ${capability})
    if(architecture EQUAL 90)
      set(architecture 90a)
    endif()
    list(APPEND architectures ${architecture}-real)
  endforeach()
  set(${result} "${architectures}" PARENT_SCOPE)
endfunction()

if(NOT HIP_ATTN_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "HIP_ATTN_CUDA is \"${HIP_ATTN_CUDA}\"; it takes AUTO, ON or OFF")
endif()

set(HIP_ATTN_HAS_CUDA 0)
if(NOT HIP_ATTN_CUDA STREQUAL OFF)
  include(CheckLanguage)
  check_language(CUDA)
  set(problem "no CUDA compiler was found; put nvcc on PATH or set CMAKE_CUDA_COMPILER")
  if(CMAKE_CUDA_COMPILER)
    # The first with C++20 and sm_90a. Asked for here because enabling the language with an older one
    # would fail in words of its own.
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE nvcc_version)
    if(nvcc_version MATCHES "release ([0-9.]+)" AND CMAKE_MATCH_1 VERSION_LESS 12.0)
      set(problem "${CMAKE_CUDA_COMPILER} is of CUDA ${CMAKE_MATCH_1}; it takes 12.0 or newer")
    else()
      set(HIP_ATTN_HAS_CUDA 1)
    endif()
  endif()
  if(HIP_ATTN_CUDA STREQUAL ON AND NOT HIP_ATTN_HAS_CUDA)
    message(FATAL_ERROR "HIP_ATTN_CUDA is ON but ${problem}, or set HIP_ATTN_CUDA to OFF")
  endif()
endif()

if(HIP_ATTN_HAS_CUDA)
  # Before the language is enabled, which would set a default of its own. A parent project decides
  # for itself.
  if(PROJECT_IS_TOP_LEVEL AND NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
    hip_attn_find_gpu_architectures(architectures)
    if(NOT architectures)
      # Machine code for A100 (which 8.6 and 8.9 GPUs run too: no code is specific to them) and for
      # Hopper, and PTX that newer GPUs compile when they load it.
      set(architectures 80-real 90a-real 90-virtual)
    endif()
    set(CMAKE_CUDA_ARCHITECTURES "${architectures}" CACHE STRING "CUDA architectures")
  endif()
  enable_language(CUDA)
endif()
# wgmma is in machine code for 90a alone; code for plain 90 runs the generic kernels.
set(HIP_ATTN_BUILT_sm_90a 0)
if("${CMAKE_CUDA_ARCHITECTURES}" MATCHES "90a")
  set(HIP_ATTN_BUILT_sm_90a 1)
endif()
message(STATUS "hip_attn: CUDA backend ${HIP_ATTN_CUDA}, built: ${HIP_ATTN_HAS_CUDA}")
