# What the library is built with. Nothing here is needed by those who use its headers.

find_package(fmt 9 REQUIRED)
find_package(nlohmann_json 3.10 REQUIRED)
if(HIP_ATTN_OPENMP)
  find_package(OpenMP REQUIRED COMPONENTS CXX)
endif()
if(HIP_ATTN_HAS_CUDA)
  find_package(CUDAToolkit REQUIRED)
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
