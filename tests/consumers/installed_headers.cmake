# An install tree holds the CUDA headers when the library has the CUDA backend, and not otherwise.
#
#   cmake -DPREFIX=folder -DBACKEND=cuda|no-cuda -P installed_headers.cmake
cmake_minimum_required(VERSION 3.25)

file(GLOB_RECURSE headers ${PREFIX}/include/*)
set(cuda_headers ${headers})
list(FILTER cuda_headers INCLUDE REGEX "/hip_attn/cuda/|\\.cuh$")
if(NOT "${PREFIX}/include/hip_attn/hip_attn.hpp" IN_LIST headers)
  message(FATAL_ERROR "${PREFIX} has no headers")
elseif(BACKEND STREQUAL "cuda" AND NOT cuda_headers)
  message(FATAL_ERROR "${PREFIX} has no CUDA headers")
elseif(BACKEND STREQUAL "no-cuda" AND (cuda_headers OR EXISTS ${PREFIX}/include/hip_attn/cuda))
  message(FATAL_ERROR "${PREFIX} has no CUDA backend, but the headers ${cuda_headers}")
endif()
