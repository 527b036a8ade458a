# What compilers say of the installed headers, and of the kernels under other flags than ours.

set(include_dir ${work_dir}/${linkage}/include)

# Every compiler of the two that the headers are written for, where it is installed.
file(
  GLOB_RECURSE headers
  RELATIVE ${PROJECT_SOURCE_DIR}/include
  CONFIGURE_DEPENDS
  ${PROJECT_SOURCE_DIR}/include/*.hpp
)
list(FILTER headers EXCLUDE REGEX "^hip_attn/cuda/")
list(TRANSFORM headers REPLACE "(.+)" "#include \"\\1\"")
list(JOIN headers "\n" headers)
file(CONFIGURE OUTPUT strict/all_headers.hpp CONTENT "${headers}\n")
foreach(compiler IN ITEMS g++ clang++)
  find_program(HIP_ATTN_STRICT_${compiler} ${compiler})
  mark_as_advanced(HIP_ATTN_STRICT_${compiler})
  # What GCC warns of depends on what its optimiser sees.
  foreach(level IN ITEMS -O0 -O2)
    set(name "headers: strict warnings of ${compiler} ${level}")
    if(HIP_ATTN_STRICT_${compiler})
      add_test(
        NAME "${name}"
        COMMAND
          ${HIP_ATTN_STRICT_${compiler}} ${level} -std=c++20
          -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
          -I ${include_dir} -I ${CMAKE_CURRENT_BINARY_DIR}/strict
          -c ${CMAKE_CURRENT_SOURCE_DIR}/strict/instantiations.cpp
          -o ${CMAKE_CURRENT_BINARY_DIR}/strict/${compiler}${level}.o
      )
    else()
      add_test(NAME "${name}" COMMAND ${CMAKE_COMMAND} -E echo "skipped: there is no ${compiler}")
      set_tests_properties("${name}" PROPERTIES SKIP_REGULAR_EXPRESSION "skipped: ")
    endif()
    set_tests_properties(
      "${name}" PROPERTIES LABELS package TIMEOUT 300 FIXTURES_REQUIRED installed_${linkage}
    )
  endforeach()
endforeach()

add_test(
  NAME "headers: a compiler set to C++17 says so in a sentence"
  COMMAND
    ${CMAKE_COMMAND} -DCOMPILER=${CMAKE_CXX_COMPILER} -DINCLUDE=${include_dir}
    -P ${CMAKE_CURRENT_SOURCE_DIR}/cxx17.cmake
)
set_tests_properties(
  "headers: a compiler set to C++17 says so in a sentence"
  PROPERTIES LABELS package TIMEOUT 300 FIXTURES_REQUIRED installed_${linkage}
)

foreach(compiler IN ITEMS gcc clang)
  if(HIP_ATTN_C_${compiler})
    set(name "headers: those of C compile alone as C99 and C++17, ${compiler}")
    add_test(
      NAME "${name}"
      COMMAND
        ${CMAKE_COMMAND} -DCOMPILER=${HIP_ATTN_C_${compiler}} -DINCLUDE=${include_dir}
        -P ${CMAKE_CURRENT_SOURCE_DIR}/c_headers.cmake
    )
    set_tests_properties(
      "${name}" PROPERTIES LABELS package TIMEOUT 300 FIXTURES_REQUIRED installed_${linkage}
    )
  endif()
endforeach()

find_program(HIP_ATTN_NINJA ninja)
mark_as_advanced(HIP_ATTN_NINJA)
if(HIP_ATTN_NINJA AND CMAKE_NM)
  add_test(
    NAME "symbols: kernels are the same code in every configuration, of internal linkage"
    COMMAND
      ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR} -DWORK_DIR=${work_dir}/configurations
      -DCOMPILER=${CMAKE_CXX_COMPILER} -DNINJA=${HIP_ATTN_NINJA} -DNM=${CMAKE_NM}
      "-DKERNELS=${HIP_ATTN_CPU_INSTRUCTION_SETS}"
      -P ${CMAKE_CURRENT_SOURCE_DIR}/configurations.cmake
  )
  set_tests_properties(
    "symbols: kernels are the same code in every configuration, of internal linkage"
    PROPERTIES LABELS package TIMEOUT 300
  )
endif()
if(other_linkage STREQUAL "shared" AND CMAKE_NM AND UNIX)
  add_test(
    NAME "symbols: only the interface is exported, other linkage"
    COMMAND
      ${CMAKE_COMMAND} -DNM=${CMAKE_NM} -DCHECK=exported -DHEADERS=${PROJECT_SOURCE_DIR}/include
      -DFILES=${work_dir}/shared/${CMAKE_INSTALL_LIBDIR}/libhip_attn.so
      -P ${PROJECT_SOURCE_DIR}/tests/check_symbols.cmake
  )
  set_tests_properties(
    "symbols: only the interface is exported, other linkage"
    PROPERTIES LABELS package FIXTURES_REQUIRED installed_shared
  )
endif()
