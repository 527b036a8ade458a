# What cannot work is refused in a sentence that says what to do.

set(refused ${CMAKE_CURRENT_SOURCE_DIR}/refused)
set(subproject ${CMAKE_CURRENT_SOURCE_DIR}/subproject)
set(from_source -DHIP_ATTN_SOURCE=${PROJECT_SOURCE_DIR})

add_configure_test(
  "refused: add_subdirectory in a project without C++" ${refused}
  SENTENCE "hip_attn is a C\\+\\+ library: enable C\\+\\+ in the project that adds it"
  OPTIONS ${from_source} -DENGINE_LANGUAGES=C
)
add_configure_test(
  "refused: find_package in a project without C++ and C" ${refused}
  SENTENCE "Reason given by package: hip_attn is used from C\\+\\+ or C: enable one of them"
  OPTIONS -Dhip_attn_DIR=${PROJECT_BINARY_DIR} -DENGINE_LANGUAGES=NONE
)
add_configure_test(
  "refused: find_package with a component" ${refused}
  SENTENCE "Reason given by package: hip_attn has no component \"cuda\""
  OPTIONS -Dhip_attn_DIR=${PROJECT_BINARY_DIR} -DENGINE_LANGUAGES=CXX -DENGINE_COMPONENTS=cuda
)
# The refusal is CMake's; the option that it wants is the last thing said before it.
add_configure_test(
  "refused: an engine that exports without the library's install rules" ${subproject}
  SENTENCE
    "OpenMP no: as HIP_ATTN_OPENMP says.*install rules OFF \\(HIP_ATTN_INSTALL=ON for a parent project.*not in any export set"
  OPTIONS ${from_source} -DENGINE_INSTALL=ON -DHIP_ATTN_CUDA=OFF -DHIP_ATTN_OPENMP=OFF
)
add_configure_test(
  "refused: OpenMP that is not there" ${subproject}
  SENTENCE "HIP_ATTN_OPENMP is ON but .* has none"
  OPTIONS
    ${from_source} -DHIP_ATTN_CUDA=OFF -DHIP_ATTN_OPENMP=ON -DCMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON
)
add_configure_test(
  "refused: CUDA that is not there" ${subproject}
  SENTENCE "HIP_ATTN_CUDA is ON but CMake found no working CUDA compiler"
  OPTIONS ${from_source} -DHIP_ATTN_CUDA=ON
)
set_tests_properties("refused: CUDA that is not there" PROPERTIES ${hide_cuda})

if(HIP_ATTN_HAS_CUDA)
  add_configure_test(
    "refused: a GPU that is too old" ${subproject}
    SENTENCE
      "hip_attn cannot be built for CMAKE_CUDA_ARCHITECTURES \"75;80\": the kernels do not run on 75.* Set HIP_ATTN_CUDA_ARCHITECTURES"
    OPTIONS ${from_source} "-DCMAKE_CUDA_ARCHITECTURES=75;80"
  )
  add_configure_test(
    "refused: a GPU of the environment that is too old" ${subproject}
    SENTENCE "hip_attn cannot be built for the environment's CUDAARCHS \"75\""
    OPTIONS ${from_source}
  )
  set_tests_properties(
    "refused: a GPU of the environment that is too old" PROPERTIES ENVIRONMENT CUDAARCHS=75
  )
  add_configure_test(
    "package: an engine for older GPUs gives the library others" ${subproject}
    SENTENCE "GPUs 80-real \\(HIP_ATTN_CUDA_ARCHITECTURES\\)"
    OPTIONS
      ${from_source} "-DCMAKE_CUDA_ARCHITECTURES=75" "-DHIP_ATTN_CUDA_ARCHITECTURES=80-real"
  )
  # Where the engine enabled CUDA and said no more, CMake has set 52 or 75 for it.
  add_configure_test(
    "package: the architectures that CMake sets by default are not ours" ${subproject}
    SENTENCE "GPUs [^\n]*90a-real|GPUs [^\n]*this machine's GPUs"
    OPTIONS ${from_source} -DENGINE_CUDA=ON
  )
endif()
