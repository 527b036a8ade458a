# The one list of what the compiled library contains: element types and head dims. Everything else
# (dispatch, error messages, tests) reads it from the generated header.

set(HIP_ATTN_SUPPORTED_ELEMENT_TYPES float float16 bfloat16)
set(HIP_ATTN_SUPPORTED_HEAD_DIMS 64 96 128 192 256)

set(HIP_ATTN_ELEMENT_TYPES "${HIP_ATTN_SUPPORTED_ELEMENT_TYPES}" CACHE STRING "Element types to build")
set(HIP_ATTN_HEAD_DIMS 64 128 256 CACHE STRING "Head dims to build")

# Fails unless the list named `chosen` is a non-empty subset of the list named `supported`.
function(hip_attn_check_list chosen supported)
  foreach(value IN LISTS ${chosen})
    if(NOT value IN_LIST ${supported})
      message(FATAL_ERROR "${chosen} contains \"${value}\"; it takes a list of ${${supported}}")
    endif()
  endforeach()
  list(LENGTH ${chosen} length)
  if(length EQUAL 0)
    message(FATAL_ERROR "${chosen} is empty; it takes a list of ${${supported}}")
  endif()
endfunction()

hip_attn_check_list(HIP_ATTN_ELEMENT_TYPES HIP_ATTN_SUPPORTED_ELEMENT_TYPES)
hip_attn_check_list(HIP_ATTN_HEAD_DIMS HIP_ATTN_SUPPORTED_HEAD_DIMS)

# In the order of the supported lists, each value once, whatever the order that was asked for.
foreach(list_name IN ITEMS ELEMENT_TYPES HEAD_DIMS)
  set(HIP_ATTN_FOR_EACH_${list_name} "")
  foreach(value IN LISTS HIP_ATTN_SUPPORTED_${list_name})
    if(value IN_LIST HIP_ATTN_${list_name})
      string(APPEND HIP_ATTN_FOR_EACH_${list_name} " X(${value})")
      set(HIP_ATTN_BUILT_${value} 1)
    else()
      set(HIP_ATTN_BUILT_${value} 0)
    endif()
  endforeach()
endforeach()

set(HIP_ATTN_GENERATED_DIR ${PROJECT_BINARY_DIR}/generated)
configure_file(
  ${PROJECT_SOURCE_DIR}/src/hip_attn_instantiations.hpp.in
  ${HIP_ATTN_GENERATED_DIR}/hip_attn_instantiations.hpp
  @ONLY
)

# The kernels for every 16-bit element type and head dim: one source each, so that they compile in
# parallel.
set(HIP_ATTN_CUDA_INSTANCES "")
if(HIP_ATTN_HAS_CUDA)
  foreach(HIP_ATTN_ELEMENT_TYPE IN LISTS HIP_ATTN_ELEMENT_TYPES)
    foreach(HIP_ATTN_HEAD_DIM IN LISTS HIP_ATTN_HEAD_DIMS)
      if(HIP_ATTN_ELEMENT_TYPE STREQUAL float)
        continue()
      endif()
      foreach(instance IN ITEMS decode_instance prefill_instance attend_sm90_instance)
        set(source ${HIP_ATTN_GENERATED_DIR}/${instance}_${HIP_ATTN_ELEMENT_TYPE}_${HIP_ATTN_HEAD_DIM}.cu)
        configure_file(${PROJECT_SOURCE_DIR}/cuda/${instance}.cu.in ${source} @ONLY)
        list(APPEND HIP_ATTN_CUDA_INSTANCES ${source})
      endforeach()
    endforeach()
  endforeach()
endif()
