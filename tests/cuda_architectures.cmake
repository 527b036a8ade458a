# What becomes of every kind of value that CMAKE_CUDA_ARCHITECTURES may have.
#
#   cmake -DNVCC=nvcc -DWORK_DIR=folder -P cuda_architectures.cmake
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/../cmake/HipAttnCudaArchitectures.cmake)

# Makes a machine whose nvidia-smi prints `capabilities`, or one without nvidia-smi.
function(set_gpus capabilities)
  set(HIP_ATTN_NVIDIA_SMI ${WORK_DIR}/nvidia-smi CACHE FILEPATH "" FORCE)
  if(capabilities)
    string(REPLACE ";" "\n" lines "${capabilities}")
    file(WRITE ${HIP_ATTN_NVIDIA_SMI} "#!/bin/sh\necho '${lines}'\n")
  else()
    file(WRITE ${HIP_ATTN_NVIDIA_SMI} "#!/bin/sh\nexit 9\n")
  endif()
  file(CHMOD ${HIP_ATTN_NVIDIA_SMI} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
endfunction()

function(expect value flags expected_built expected_problem)
  set(built "")
  hip_attn_resolve_cuda_architectures(built problem "${value}" ${NVCC} "${flags}")
  if(NOT built MATCHES "^(${expected_built})$" OR NOT problem MATCHES "${expected_problem}")
    message(
      SEND_ERROR
      "\"${value}\" with the flags \"${flags}\" gives \"${built}\" and the problem \"${problem}\"; "
      "expected \"${expected_built}\" and \"${expected_problem}\""
    )
  endif()
endfunction()

function(expect_built value built)
  expect("${value}" "${ARGN}" "${built}" "^$")
endfunction()

function(expect_refused value problem)
  expect("${value}" "${ARGN}" "" "${problem}")
endfunction()

set_gpus("")
expect_built("80" "80")
expect_built("86-real" "86-real")
expect_built("80-real;90a-real;90-virtual" "80-real;90a-real;90-virtual")
expect_built("90" "90a-real;90-virtual")
expect_built("80;90-real" "80;90a-real")
expect_built("90a" "90a")
expect_built("90-virtual" "90-virtual")
expect_built("all" "80-real;86-real;.*90a-real.*;[0-9]+-virtual")
expect_built("all-major" "80-real;90a-real(;[0-9]+0-real)*;[0-9]+0-virtual")
expect_refused("75" "not run on 75")
expect_refused("80;52-virtual" "not run on 52")
expect_refused("999" "not for 999")
expect_refused("sm_90" "\"sm_90\" is no architecture")

# OFF leaves the choice to CMAKE_CUDA_FLAGS.
expect_built("OFF" "OFF" "-arch=sm_90a")
expect_built("OFF" "OFF" "-gencode arch=compute_80,code=sm_80")
expect_refused("OFF" "names no architecture" "-lineinfo")
expect_refused("OFF" "not run on 75" "-arch=sm_75")

# native, which CMake itself knows only where there is a GPU.
expect_refused("native" "lists no GPU")
set_gpus("9.0;9.0;8.0")
expect_built("native" "90a-real;80-real")
set_gpus("9.0;7.5")
expect_refused("native" "lists no GPU")
