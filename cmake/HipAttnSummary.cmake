# The end of configure: what is built, and why.

function(hip_attn_say label text)
  string(LENGTH "${label}" length)
  math(EXPR padding "14 - ${length}")
  string(REPEAT " " ${padding} spaces)
  message(STATUS "  ${label}${spaces}${text}")
endfunction()

function(hip_attn_say_found label has reason)
  if(has)
    hip_attn_say("${label}" "yes: ${reason}")
  else()
    hip_attn_say("${label}" "no: ${reason}")
  endif()
endfunction()

if(BUILD_SHARED_LIBS)
  message(STATUS "hip_attn ${PROJECT_VERSION}, a shared library:")
else()
  message(STATUS "hip_attn ${PROJECT_VERSION}, a static library:")
endif()
list(JOIN HIP_ATTN_ELEMENT_TYPES " " types)
list(JOIN HIP_ATTN_HEAD_DIMS " " head_dims)
hip_attn_say("types" "${types}; head dims ${head_dims}")
list(JOIN HIP_ATTN_CPU_INSTRUCTION_SETS " " instruction_sets)
hip_attn_say("CPU kernels" "${instruction_sets}; a program chooses when it runs")
hip_attn_say_found("OpenMP" ${HIP_ATTN_HAS_OPENMP} "${HIP_ATTN_OPENMP_REASON}")
hip_attn_say_found("CUDA" ${HIP_ATTN_HAS_CUDA} "${HIP_ATTN_CUDA_REASON}")
if(HIP_ATTN_HAS_CUDA)
  list(JOIN HIP_ATTN_CUDA_PROPERTY " " architectures)
  hip_attn_say("GPUs" "${architectures} (${HIP_ATTN_CUDA_PROPERTY_REASON})")
  # Of the library alone, by CUDA 13.0 and GCC 12 on an AMD EPYC that others share: 165 s of one core
  # without CUDA, and about 1540 s with it, estimated from the sources of one element type and head dim.
  hip_attn_say("build time" "with everything about 10 minutes on 2 cores, without CUDA (HIP_ATTN_CUDA=OFF) one.")
  hip_attn_say("" "HIP_ATTN_ELEMENT_TYPES, HIP_ATTN_HEAD_DIMS and HIP_ATTN_CUDA_ARCHITECTURES shorten it.")
endif()
set(install ${HIP_ATTN_INSTALL})
if(NOT PROJECT_IS_TOP_LEVEL AND NOT HIP_ATTN_INSTALL)
  string(APPEND install " (HIP_ATTN_INSTALL=ON for a parent project that exports what links it)")
endif()
hip_attn_say(
  "also"
  "tools ${HIP_ATTN_HAS_TOOLS}, tests ${HIP_ATTN_BUILD_TESTS}, benchmarks ${HIP_ATTN_BUILD_BENCHMARKS}, Python ${HIP_ATTN_PYTHON}, install rules ${install}"
)
