# What the library is built with. Nothing here is needed by those who use its headers.

# A parent project may have them as targets of its own build.
if(NOT TARGET fmt::fmt-header-only)
  find_package(fmt 9 REQUIRED)
endif()
if(NOT TARGET nlohmann_json::nlohmann_json)
  find_package(nlohmann_json 3.10 REQUIRED)
endif()
if(HIP_ATTN_HAS_CUDA)
  find_package(CUDAToolkit REQUIRED)
endif()

set(HIP_ATTN_HAS_OPENMP 0)
set(HIP_ATTN_OPENMP_REASON "as HIP_ATTN_OPENMP says")
if(NOT HIP_ATTN_OPENMP STREQUAL OFF)
  find_package(OpenMP COMPONENTS CXX)
  if(OpenMP_CXX_FOUND)
    set(HIP_ATTN_HAS_OPENMP 1)
    set(HIP_ATTN_OPENMP_REASON "${OpenMP_CXX_LIB_NAMES}, OpenMP ${OpenMP_CXX_VERSION}")
    string(REPLACE ";" " " HIP_ATTN_OPENMP_REASON "${HIP_ATTN_OPENMP_REASON}")
  else()
    set(HIP_ATTN_OPENMP_REASON "${CMAKE_CXX_COMPILER} has none (Clang's is in libomp-dev)")
    if(HIP_ATTN_OPENMP STREQUAL ON)
      message(
        FATAL_ERROR
        "HIP_ATTN_OPENMP is ON but ${HIP_ATTN_OPENMP_REASON}; install it or set HIP_ATTN_OPENMP to OFF"
      )
    endif()
  endif()
endif()

# Compiles the C++ sources of `target` with a header-only dependency without linking to it. A
# PRIVATE link of a static library becomes a link requirement of its users in the exported targets:
# every consumer would have to find a package that only our sources include.
function(hip_attn_compile_with target dependency)
  target_include_directories(
    ${target}
    SYSTEM
    PRIVATE $<$<COMPILE_LANGUAGE:CXX>:$<TARGET_PROPERTY:${dependency},INTERFACE_INCLUDE_DIRECTORIES>>
  )
  target_compile_definitions(
    ${target}
    PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:$<TARGET_PROPERTY:${dependency},INTERFACE_COMPILE_DEFINITIONS>>
  )
endfunction()
