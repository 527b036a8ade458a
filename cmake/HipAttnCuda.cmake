# Decides whether the CUDA backend is built, sets HIP_ATTN_HAS_CUDA to 0 or 1.

# True when this machine has a GPU that its driver can list.
function(hip_attn_find_gpu result)
  find_program(HIP_ATTN_NVIDIA_SMI nvidia-smi)
  mark_as_advanced(HIP_ATTN_NVIDIA_SMI)
  set(${result} FALSE PARENT_SCOPE)
  if(HIP_ATTN_NVIDIA_SMI)
    execute_process(
      COMMAND ${HIP_ATTN_NVIDIA_SMI} -L
      RESULT_VARIABLE status
      OUTPUT_VARIABLE gpus
      ERROR_QUIET
    )
    if(status EQUAL 0 AND gpus MATCHES "GPU 0")
      set(${result} TRUE PARENT_SCOPE)
    endif()
  endif()
endfunction()

if(NOT HIP_ATTN_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "HIP_ATTN_CUDA is \"${HIP_ATTN_CUDA}\"; it takes AUTO, ON or OFF")
endif()

set(HIP_ATTN_HAS_CUDA 0)
if(NOT HIP_ATTN_CUDA STREQUAL OFF)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(HIP_ATTN_HAS_CUDA 1)
  elseif(HIP_ATTN_CUDA STREQUAL ON)
    message(
      FATAL_ERROR
      "HIP_ATTN_CUDA is ON but no CUDA compiler was found; put nvcc on PATH or set "
      "CMAKE_CUDA_COMPILER, or set HIP_ATTN_CUDA to OFF"
    )
  endif()
endif()

if(HIP_ATTN_HAS_CUDA)
  # Before the language is enabled, which would set a default of its own. A parent project decides
  # for itself.
  if(PROJECT_IS_TOP_LEVEL AND NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
    hip_attn_find_gpu(has_gpu)
    if(has_gpu)
      set(architectures native)
    else()
      # Machine code for A100 (which 8.6 and 8.9 GPUs run too: no code is specific to them) and for
      # Hopper, and PTX that newer GPUs compile when they load it.
      set(architectures 80-real 90a-real 90-virtual)
    endif()
    set(CMAKE_CUDA_ARCHITECTURES "${architectures}" CACHE STRING "CUDA architectures")
  endif()
  enable_language(CUDA)
endif()
message(STATUS "hip_attn: CUDA backend ${HIP_ATTN_CUDA}, built: ${HIP_ATTN_HAS_CUDA}")
