# Which GPUs the CUDA kernels are compiled for. Functions only: tests/cuda_architectures.cmake calls
# them without a project.

# The architectures that nvcc compiles for and the kernels run on, as numbers. Compute capability 8.0
# is the first with what the kernels use (cp.async, bfloat16, reductions over a warp).
function(hip_attn_list_nvcc_architectures result nvcc)
  execute_process(COMMAND ${nvcc} --list-gpu-arch OUTPUT_VARIABLE output)
  string(REGEX MATCHALL "[0-9]+" known "${output}")
  set(architectures "")
  foreach(architecture IN LISTS known)
    if(architecture GREATER_EQUAL 80)
      list(APPEND architectures ${architecture})
    endif()
  endforeach()
  list(SORT architectures COMPARE NATURAL)
  set(${result} "${architectures}" PARENT_SCOPE)
endfunction()

# The architectures of this machine's GPUs, each once; an empty list without a driver, or when one
# of them is older than the kernels support or newer than nvcc knows. CMake's own `native` fails
# without a GPU.
function(hip_attn_find_gpu_architectures result nvcc)
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
  if(NOT status EQUAL 0)
    return()
  endif()
  string(REGEX MATCHALL "[0-9]+\\.[0-9]" capabilities "${output}")
  list(REMOVE_DUPLICATES capabilities)
  hip_attn_list_nvcc_architectures(known ${nvcc})
  set(architectures "")
  foreach(capability IN LISTS capabilities)
    string(REPLACE "." "" architecture ${capability})
    if(NOT architecture IN_LIST known)
      return()
    endif()
    list(APPEND architectures ${architecture}-real)
  endforeach()
  set(${result} "${architectures}" PARENT_SCOPE)
endfunction()

# Sets `result` to what the property CUDA_ARCHITECTURES of our targets gets for `value`, a value of
# CMAKE_CUDA_ARCHITECTURES: a list of architectures, all, all-major, native or OFF, which leaves the
# choice to `flags`. Where it cannot be built, `problem` becomes the reason.
function(hip_attn_resolve_cuda_architectures result problem value nvcc flags)
  set(${problem} "" PARENT_SCOPE)
  hip_attn_list_nvcc_architectures(known ${nvcc})
  set(asked "${value}")
  string(TOUPPER "${value}" upper_value)
  if(value MATCHES "^(all|all-major)$")
    set(asked ${known})
    if(value STREQUAL "all-major")
      list(FILTER asked INCLUDE REGEX "0$")
    endif()
    list(GET asked -1 newest)
    list(TRANSFORM asked APPEND -real)
    list(APPEND asked ${newest}-virtual)
  elseif(value STREQUAL "native")
    hip_attn_find_gpu_architectures(asked ${nvcc})
    if(NOT asked)
      set(
        ${problem}
        "nvidia-smi lists no GPU here, or one that ${nvcc} or the kernels do not know" PARENT_SCOPE
      )
      return()
    endif()
  elseif(upper_value MATCHES "^(OFF|FALSE|NO)$")
    string(REGEX MATCHALL "(sm|compute)_[0-9]+[af]?" asked "${flags}")
    list(TRANSFORM asked REPLACE "^.*_" "")
    if(NOT asked)
      set(${problem} "CMAKE_CUDA_FLAGS names no architecture either" PARENT_SCOPE)
      return()
    endif()
  endif()

  set(architectures "")
  foreach(architecture IN LISTS asked)
    if(NOT architecture MATCHES "^([0-9]+)([af]?)(-real|-virtual)?$")
      set(${problem} "\"${architecture}\" is no architecture" PARENT_SCOPE)
      return()
    endif()
    set(number ${CMAKE_MATCH_1})
    if(number LESS 80)
      set(${problem} "the kernels do not run on ${number}, but on 80 and newer" PARENT_SCOPE)
      return()
    elseif(NOT number IN_LIST known)
      list(JOIN known " " known)
      set(${problem} "${nvcc} compiles for ${known}, not for ${number}" PARENT_SCOPE)
      return()
    endif()
    # The Hopper kernels' wgmma is in machine code for 90a alone.
    if(architecture STREQUAL "90-real")
      set(architecture 90a-real)
    elseif(architecture STREQUAL "90")
      set(architecture 90a-real 90-virtual)
    endif()
    list(APPEND architectures ${architecture})
  endforeach()
  if(upper_value MATCHES "^(OFF|FALSE|NO)$")
    set(architectures OFF)
  endif()
  set(${result} "${architectures}" PARENT_SCOPE)
endfunction()

# True when CMAKE_CUDA_ARCHITECTURES is what CMake asked nvcc for, since nobody had said anything:
# 52 or 75, in an entry of the cache with the words that CMake gives it.
function(hip_attn_is_default_of_cmake result)
  get_property(help CACHE CMAKE_CUDA_ARCHITECTURES PROPERTY HELPSTRING)
  if(
    help STREQUAL "CUDA architectures"
    AND CMAKE_CUDA_ARCHITECTURES STREQUAL "$CACHE{CMAKE_CUDA_ARCHITECTURES}"
    AND CMAKE_CUDA_ARCHITECTURES MATCHES "^[0-9][0-9]$"
    AND CMAKE_CUDA_ARCHITECTURES LESS 80
    AND NOT DEFINED ENV{CUDAARCHS}
  )
    set(${result} TRUE PARENT_SCOPE)
  else()
    set(${result} FALSE PARENT_SCOPE)
  endif()
endfunction()

# Chooses the architectures of our targets, and says by whose word: our option's, the parent
# project's, the environment's, or, when none of them says anything, by this machine's GPUs.
function(hip_attn_choose_cuda_architectures result reason)
  hip_attn_is_default_of_cmake(is_default)
  if(NOT HIP_ATTN_CUDA_ARCHITECTURES STREQUAL "")
    set(source HIP_ATTN_CUDA_ARCHITECTURES)
    set(value "${HIP_ATTN_CUDA_ARCHITECTURES}")
  elseif(NOT "${CMAKE_CUDA_ARCHITECTURES}" STREQUAL "" AND NOT is_default)
    set(source CMAKE_CUDA_ARCHITECTURES)
    set(value "${CMAKE_CUDA_ARCHITECTURES}")
  elseif(DEFINED ENV{CUDAARCHS})
    set(source "the environment's CUDAARCHS")
    set(value "$ENV{CUDAARCHS}")
  else()
    hip_attn_find_gpu_architectures(value ${CMAKE_CUDA_COMPILER})
    set(source "this machine's GPUs")
    if(NOT value)
      # Machine code for A100 (which 8.6 and 8.9 GPUs run too: no code is specific to them) and for
      # Hopper, and PTX that newer GPUs compile when they load it.
      set(value 80-real 90-real 90-virtual)
      set(source "the default where nvidia-smi finds no GPU")
    endif()
  endif()
  hip_attn_resolve_cuda_architectures(
    architectures problem "${value}" ${CMAKE_CUDA_COMPILER} "${CMAKE_CUDA_FLAGS}"
  )
  if(problem)
    message(
      FATAL_ERROR
      "hip_attn cannot be built for ${source} \"${value}\": ${problem}. Set "
      "HIP_ATTN_CUDA_ARCHITECTURES to the GPUs that it is to run on, such as 80-real;90a-real, or "
      "HIP_ATTN_CUDA to OFF."
    )
  endif()
  set(${result} "${architectures}" PARENT_SCOPE)
  set(${reason} "${source}" PARENT_SCOPE)
endfunction()
