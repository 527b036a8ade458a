# Projects that use the C interface: in C with every compiler that is installed, in C++17, and by
# pkg-config, of either linkage. The library is also loaded by name where it is shared.

foreach(variant IN ITEMS ${linkage} ${other_linkage})
  set(prefix ${work_dir}/${variant})
  foreach(compiler IN ITEMS gcc clang)
    find_program(HIP_ATTN_C_${compiler} ${compiler})
    mark_as_advanced(HIP_ATTN_C_${compiler})
    set(name "package: a project in C, ${compiler}, ${variant}")
    if(HIP_ATTN_C_${compiler})
      add_build_test(
        "${name}" ${CMAKE_CURRENT_SOURCE_DIR}/c
        OPTIONS -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_C_COMPILER=${HIP_ATTN_C_${compiler}}
        RUN consumer
      )
    else()
      add_test(NAME "${name}" COMMAND ${CMAKE_COMMAND} -E echo "skipped: there is no ${compiler}")
      set_tests_properties("${name}" PROPERTIES SKIP_REGULAR_EXPRESSION "skipped: ")
    endif()
    set_tests_properties("${name}" PROPERTIES FIXTURES_REQUIRED installed_${variant})
  endforeach()

  set(name "package: a project in C++17 without exceptions, ${variant}")
  add_build_test(
    "${name}" ${CMAKE_CURRENT_SOURCE_DIR}/c_from_cxx17
    OPTIONS -DCMAKE_PREFIX_PATH=${prefix}
    RUN consumer
  )
  set_tests_properties("${name}" PROPERTIES FIXTURES_REQUIRED installed_${variant})

  if(HIP_ATTN_C_gcc)
    set(name "package: pkg-config from C, ${variant}")
    add_test(
      NAME "${name}"
      COMMAND
        ${CMAKE_CURRENT_SOURCE_DIR}/pkg_config/build_and_run_c
        ${prefix} ${work_dir}/pkg_config_c_${variant} ${HIP_ATTN_C_gcc}
    )
    set_tests_properties(
      "${name}" PROPERTIES LABELS package TIMEOUT 300 FIXTURES_REQUIRED installed_${variant}
    )
  endif()
endforeach()
