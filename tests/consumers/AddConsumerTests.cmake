# Functions that add the tests of this folder.

# A test that configures and builds `source` with the CMake options that follow OPTIONS and then
# runs the command that follows RUN in the build folder.
function(add_build_test name source)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "OPTIONS;RUN")
  string(MAKE_C_IDENTIFIER ${name} folder)
  add_test(
    NAME "${name}"
    COMMAND
      ${CMAKE_CTEST_COMMAND}
      --build-and-test ${source} ${work_dir}/${folder}
      --build-generator ${CMAKE_GENERATOR}
      --build-makeprogram ${CMAKE_MAKE_PROGRAM}
      --build-noclean
      --build-options
        -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}
        -DCMAKE_BUILD_TYPE=$<CONFIG>
        ${sanitizer_flags}
        ${arg_OPTIONS}
      --test-command ${arg_RUN}
  )
  # They take longest: a high cost makes ctest start them first.
  set_tests_properties("${name}" PROPERTIES LABELS package COST 1000 TIMEOUT 900)
endfunction()

# A test that configures `source` with the CMake options that follow OPTIONS. It passes when the
# output has SENTENCE, a regular expression in which a space stands for any white space: CMake wraps
# lines.
function(add_configure_test name source)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "SENTENCE" "OPTIONS")
  string(MAKE_C_IDENTIFIER ${name} folder)
  add_test(
    NAME "${name}"
    COMMAND
      ${CMAKE_COMMAND} -S ${source} -B ${work_dir}/${folder} --fresh -G ${CMAKE_GENERATOR}
      -DCMAKE_MAKE_PROGRAM=${CMAKE_MAKE_PROGRAM} -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}
      ${arg_OPTIONS}
  )
  string(REPLACE " " "[ \n]+" expression "${arg_SENTENCE}")
  set_tests_properties(
    "${name}" PROPERTIES LABELS package TIMEOUT 300 PASS_REGULAR_EXPRESSION "${expression}"
  )
endfunction()
