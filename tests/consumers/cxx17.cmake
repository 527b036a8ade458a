# A compiler that is set to C++17 says one sentence about every public header, and stops.
#
#   cmake -DCOMPILER=c++ -DINCLUDE=folder -P cxx17.cmake
cmake_minimum_required(VERSION 3.25)

file(GLOB_RECURSE headers RELATIVE ${INCLUDE} ${INCLUDE}/hip_attn/*.hpp)
# Macros for the preprocessor of any language.
list(REMOVE_ITEM headers hip_attn/version.hpp)
list(FILTER headers EXCLUDE REGEX "^hip_attn/cuda/")
if(NOT "hip_attn/hip_attn.hpp" IN_LIST headers)
  message(FATAL_ERROR "${INCLUDE} has the headers \"${headers}\"")
endif()
foreach(header IN LISTS headers)
  execute_process(
    COMMAND
      ${COMPILER} -std=c++17 -I ${INCLUDE} -include ${header} -x c++ -fsyntax-only /dev/null
    RESULT_VARIABLE status
    ERROR_VARIABLE output
  )
  string(REGEX MATCHALL "error:" errors "${output}")
  list(LENGTH errors count)
  # The second one is the file that is not there.
  if(
    status EQUAL 0
    OR NOT output MATCHES "error: [^\n]*hip_attn is C\\+\\+20: compile with -std=c\\+\\+20"
    OR count GREATER 2
  )
    message(SEND_ERROR "${header} in C++17 gives ${status} and\n${output}")
  endif()
endforeach()
