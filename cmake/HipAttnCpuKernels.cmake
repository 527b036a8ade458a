# The CPU backend's tile kernels: one source, compiled once per instruction set, chosen at run time
# in src/cpu_dispatch.cpp.

set(HIP_ATTN_CPU_INSTRUCTION_SETS "")

# isa is the namespace that the kernels live in; the rest are the compiler options that select it.
function(hip_attn_add_cpu_kernels isa)
  set(target hip_attn_cpu_${isa})
  add_library(${target} OBJECT src/cpu_tile_kernels.cpp)
  target_link_libraries(${target} PRIVATE hip_attn_headers)
  hip_attn_configure_target(${target})
  target_compile_definitions(${target} PRIVATE HIP_ATTN_CPU_ISA=${isa})
  # Optimised and inlined whatever the configuration and CMAKE_CXX_FLAGS say, which stand before it:
  # the kernels are what a program waits for. An inline function that is kept out of line would be a
  # weak symbol that uses this instruction set, and the linker might choose it for everyone.
  # Each begins on a cache line: with its place among other code, the time of a search varied by 4 %.
  target_compile_options(
    ${target}
    PRIVATE
      ${ARGN}
      -O3
      -finline
      -finline-functions
      -falign-functions=64
      $<$<CXX_COMPILER_ID:GNU>:-fno-keep-inline-functions>
  )
  target_sources(hip_attn PRIVATE $<TARGET_OBJECTS:${target}>)
  set(HIP_ATTN_CPU_INSTRUCTION_SETS ${HIP_ATTN_CPU_INSTRUCTION_SETS} ${isa} PARENT_SCOPE)
endfunction()

hip_attn_add_cpu_kernels(baseline)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  hip_attn_add_cpu_kernels(x86_64_v3 -march=x86-64-v3)
  hip_attn_add_cpu_kernels(x86_64_v4 -march=x86-64-v4 -mprefer-vector-width=512)
  set_property(
    SOURCE src/cpu_dispatch.cpp APPEND PROPERTY COMPILE_DEFINITIONS HIP_ATTN_CPU_X86_LEVELS=1
  )
endif()
