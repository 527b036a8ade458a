# The Python package of this build: one test for each file of python/tests, which pytest runs.

if(NOT HIP_ATTN_PYTHON)
  add_test(NAME "python" COMMAND ${CMAKE_COMMAND} -E echo "skipped: HIP_ATTN_PYTHON is OFF")
  set_tests_properties("python" PROPERTIES SKIP_REGULAR_EXPRESSION "skipped: ")
  return()
endif()

find_package(Python 3.10 REQUIRED COMPONENTS Interpreter)
set(run_python ${CMAKE_COMMAND} -E env PYTHONPATH=${PROJECT_BINARY_DIR}/python ${Python_EXECUTABLE} -B)
execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import numpy, pytest"
  RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET
)
if(NOT result EQUAL 0)
  add_test(
    NAME "python" COMMAND ${CMAKE_COMMAND} -E echo "skipped: ${Python_EXECUTABLE} has no numpy or no pytest"
  )
  set_tests_properties("python" PROPERTIES SKIP_REGULAR_EXPRESSION "skipped: ")
  return()
endif()

file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/python/tests/test_*.py)
foreach(file IN LISTS files)
  cmake_path(GET file STEM name)
  string(REPLACE "test_" "" name ${name})
  add_test(NAME "python: ${name}" COMMAND ${run_python} -m pytest -rs ${file})
  set_tests_properties(
    "python: ${name}"
    PROPERTIES
      LABELS python
      TIMEOUT 300
      # No test was run: a file that needs torch, without torch.
      SKIP_RETURN_CODE 5
  )
endforeach()
