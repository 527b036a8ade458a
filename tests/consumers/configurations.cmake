# Compiles the CPU kernels in configurations that ask for no optimisation, for size and for nothing,
# in one multi-configuration build, and checks that the objects are the same in all of them and have
# internal linkage.
#
#   cmake -DSOURCE=. -DWORK_DIR=folder -DCOMPILER=c++ -DNINJA=ninja -DNM=nm -DKERNELS=baseline
#     -P configurations.cmake
cmake_minimum_required(VERSION 3.25)

set(configurations Unoptimised Small Plain)
execute_process(
  COMMAND
    ${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK_DIR} -G "Ninja Multi-Config"
    -DCMAKE_MAKE_PROGRAM=${NINJA} -DCMAKE_CXX_COMPILER=${COMPILER}
    "-DCMAKE_CONFIGURATION_TYPES=${configurations}"
    "-DCMAKE_CXX_FLAGS_UNOPTIMISED=-O0 -fno-inline" -DCMAKE_CXX_FLAGS_SMALL=-Os
    -DCMAKE_CXX_FLAGS_PLAIN=
    -DHIP_ATTN_CUDA=OFF -DHIP_ATTN_BUILD_TESTS=OFF -DHIP_ATTN_BUILD_BENCHMARKS=OFF
    --log-level=WARNING
  OUTPUT_QUIET
  COMMAND_ERROR_IS_FATAL ANY
)
list(TRANSFORM KERNELS PREPEND hip_attn_cpu_ OUTPUT_VARIABLE targets)
set(all_objects "")
foreach(configuration IN LISTS configurations)
  execute_process(
    COMMAND ${CMAKE_COMMAND} --build ${WORK_DIR} --config ${configuration} --target ${targets}
    OUTPUT_QUIET
    COMMAND_ERROR_IS_FATAL ANY
  )
endforeach()
foreach(target IN LISTS targets)
  file(GLOB_RECURSE objects ${WORK_DIR}/CMakeFiles/${target}.dir/*/cpu_tile_kernels.cpp.o)
  list(LENGTH objects count)
  if(NOT count EQUAL 3)
    message(FATAL_ERROR "${target} has the objects ${objects}; there must be one per configuration")
  endif()
  list(POP_FRONT objects first)
  foreach(object IN LISTS objects)
    execute_process(
      COMMAND ${CMAKE_COMMAND} -E compare_files ${first} ${object}
      RESULT_VARIABLE differs
    )
    if(differs)
      message(SEND_ERROR "${first} and ${object} are not the same code")
    endif()
  endforeach()
  list(APPEND all_objects ${first})
endforeach()
execute_process(
  COMMAND
    ${CMAKE_COMMAND} -DNM=${NM} -DCHECK=kernels "-DFILES=${all_objects}"
    -P ${CMAKE_CURRENT_LIST_DIR}/../check_symbols.cmake
  COMMAND_ERROR_IS_FATAL ANY
)
