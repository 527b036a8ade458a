# The end of configure: what is built, and why.

function(hip_attn_say label text)
  string(LENGTH "${label}" length)
  math(EXPR padding "14 - ${length}")
  string(REPEAT " " ${padding} spaces)
  string(REPLACE ";" " " text "${text}")
  message(STATUS "  ${label}${spaces}${text}")
endfunction()

# "yes: reason" or "no: reason".
function(hip_attn_say_found label has reason)
  if(has)
    hip_attn_say("${label}" "yes: ${reason}")
  else()
    hip_attn_say("${label}" "no: ${reason}")
  endif()
endfunction()

get_target_property(type hip_attn TYPE)
if(type STREQUAL SHARED_LIBRARY)
  message(STATUS "hip_attn ${PROJECT_VERSION}, a shared library:")
else()
  message(STATUS "hip_attn ${PROJECT_VERSION}, a static library:")
endif()
hip_attn_say("types" "${HIP_ATTN_ELEMENT_TYPES}; head dims ${HIP_ATTN_HEAD_DIMS}")
hip_attn_say("CPU kernels" "${HIP_ATTN_CPU_INSTRUCTION_SETS}, chosen when a program runs")
hip_attn_say_found("OpenMP" ${HIP_ATTN_HAS_OPENMP} "${HIP_ATTN_OPENMP_REASON}")
hip_attn_say_found("CUDA" ${HIP_ATTN_HAS_CUDA} "${HIP_ATTN_CUDA_REASON}")
if(HIP_ATTN_HAS_CUDA)
  hip_attn_say("GPUs" "${HIP_ATTN_CUDA_PROPERTY} (${HIP_ATTN_CUDA_PROPERTY_REASON})")
  # Measured on an AMD EPYC with CUDA 13.0 and GCC 12: 330 s of one core with everything, 35 s without CUDA.
  hip_attn_say(
    "build time"
    "about 3 minutes on 2 cores with all types, head dims and three architectures, half of one with HIP_ATTN_CUDA=OFF; HIP_ATTN_ELEMENT_TYPES, HIP_ATTN_HEAD_DIMS and HIP_ATTN_CUDA_ARCHITECTURES shorten it"
  )
endif()
set(install ${HIP_ATTN_INSTALL})
if(NOT PROJECT_IS_TOP_LEVEL AND NOT HIP_ATTN_INSTALL)
  string(APPEND install " (HIP_ATTN_INSTALL=ON for a parent project that exports what links it)")
endif()
hip_attn_say(
  "also"
  "tests ${HIP_ATTN_BUILD_TESTS}, benchmarks ${HIP_ATTN_BUILD_BENCHMARKS}, install rules ${install}"
)
