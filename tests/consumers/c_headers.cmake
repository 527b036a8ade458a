# Every header of the C interface compiles alone, with strict warnings, as C99 and as C++17.
#
#   cmake -DCOMPILER=gcc -DINCLUDE=folder -P c_headers.cmake
cmake_minimum_required(VERSION 3.25)

file(GLOB headers RELATIVE ${INCLUDE} ${INCLUDE}/hip_attn/c/*.h)
# Macros alone, and C has no empty files.
list(REMOVE_ITEM headers hip_attn/c/export.h)
if(NOT "hip_attn/c/hip_attn.h" IN_LIST headers)
  message(FATAL_ERROR "${INCLUDE} has the headers \"${headers}\"")
endif()
foreach(header IN LISTS headers)
  foreach(language IN ITEMS "c;c99" "c++;c++17")
    list(GET language 0 name)
    list(GET language 1 standard)
    execute_process(
      COMMAND
        ${COMPILER} -std=${standard} -Wall -Wextra -Wpedantic -Wconversion -Werror
        -I ${INCLUDE} -include ${header} -x ${name} -fsyntax-only /dev/null
      RESULT_VARIABLE status
      ERROR_VARIABLE output
    )
    if(NOT status EQUAL 0)
      message(SEND_ERROR "${header} as ${standard} gives ${status} and\n${output}")
    endif()
  endforeach()
endforeach()
