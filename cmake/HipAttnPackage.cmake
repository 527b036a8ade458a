# Install rules in two components, runtime and development, the CMake package of the install tree and of the build tree, and pkg-config.

if(NOT HIP_ATTN_INSTALL)
  return()
endif()

include(CMakePackageConfigHelpers)

set(HIP_ATTN_CONFIG_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/hip_attn)

install(
  TARGETS hip_attn hip_attn_headers
  EXPORT hip_attn_targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime
)
set(without_cuda "")
if(NOT HIP_ATTN_HAS_CUDA)
  set(without_cuda REGEX "/hip_attn/cuda$" EXCLUDE)
endif()
install(
  DIRECTORY include/hip_attn
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  COMPONENT development
  FILES_MATCHING
  PATTERN "*.h"
  PATTERN "*.hpp"
  PATTERN "*.cuh"
  # Of DLPack's header.
  PATTERN "*.LICENSE"
  ${without_cuda}
)
# Whoever gets either component gets the licence.
foreach(component IN ITEMS runtime development)
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT ${component})
endforeach()

# What a static library leaves to whoever links it. A shared one has it inside or loads it itself.
set(HIP_ATTN_FIND_DEPENDENCIES "")
set(HIP_ATTN_PKG_CONFIG_CFLAGS "")
set(HIP_ATTN_PKG_CONFIG_LIBS "")
set(HIP_ATTN_OPENMP_LIBS "")
set(HIP_ATTN_CXX_RUNTIME "")
if(NOT BUILD_SHARED_LIBS)
  # A C compiler links no C++ runtime by itself. The names that are left are those of the runtime.
  set(HIP_ATTN_CXX_RUNTIME ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
  list(FILTER HIP_ATTN_CXX_RUNTIME INCLUDE REGEX "^(stdc\\+\\+|c\\+\\+|c\\+\\+abi|m)$")
  list(REMOVE_DUPLICATES HIP_ATTN_CXX_RUNTIME)
  set(HIP_ATTN_PKG_CONFIG_CFLAGS " -DHIP_ATTN_STATIC")
  if(HIP_ATTN_HAS_OPENMP)
    string(
      APPEND HIP_ATTN_FIND_DEPENDENCIES
      "if(CXX IN_LIST languages)\n  find_dependency(OpenMP COMPONENTS CXX)\nendif()\n"
    )
    set(HIP_ATTN_OPENMP_LIBS ${OpenMP_CXX_LIB_NAMES} ${CMAKE_DL_LIBS})
  endif()
  foreach(lib IN LISTS HIP_ATTN_OPENMP_LIBS HIP_ATTN_CXX_RUNTIME)
    string(APPEND HIP_ATTN_PKG_CONFIG_LIBS " -l${lib}")
  endforeach()
  if(HIP_ATTN_HAS_CUDA)
    string(APPEND HIP_ATTN_FIND_DEPENDENCIES "find_dependency(CUDAToolkit)\n")
    string(
      APPEND HIP_ATTN_PKG_CONFIG_LIBS
      " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -ldl -lrt -lpthread"
    )
  endif()
endif()

# The CMake package.
configure_package_config_file(
  cmake/hip_attn-config.cmake.in ${PROJECT_BINARY_DIR}/hip_attn-config.cmake
  INSTALL_DESTINATION ${HIP_ATTN_CONFIG_DIR}
)
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/hip_attn-config-version.cmake
  # Before 1.0 a minor version may change the interface.
  COMPATIBILITY SameMinorVersion
)
install(
  FILES
    ${PROJECT_BINARY_DIR}/hip_attn-config.cmake
    ${PROJECT_BINARY_DIR}/hip_attn-config-version.cmake
  DESTINATION ${HIP_ATTN_CONFIG_DIR}
  COMPONENT development
)
install(
  EXPORT hip_attn_targets
  FILE hip_attn-targets.cmake
  NAMESPACE hip_attn::
  DESTINATION ${HIP_ATTN_CONFIG_DIR}
  COMPONENT development
)
export(
  EXPORT hip_attn_targets
  FILE ${PROJECT_BINARY_DIR}/hip_attn-targets.cmake
  NAMESPACE hip_attn::
)

# pkg-config. Its prefix follows the file, so that the install tree can be moved.
file(
  RELATIVE_PATH HIP_ATTN_PKG_CONFIG_PREFIX
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX}
)
string(REGEX REPLACE "/$" "" HIP_ATTN_PKG_CONFIG_PREFIX ${HIP_ATTN_PKG_CONFIG_PREFIX})
foreach(dir IN ITEMS LIBDIR INCLUDEDIR)
  set(HIP_ATTN_PKG_CONFIG_${dir} ${CMAKE_INSTALL_${dir}})
  cmake_path(
    ABSOLUTE_PATH HIP_ATTN_PKG_CONFIG_${dir}
    BASE_DIRECTORY "\${prefix}"
  )
endforeach()
configure_file(cmake/hip_attn.pc.in ${PROJECT_BINARY_DIR}/hip_attn.pc @ONLY)
install(
  FILES ${PROJECT_BINARY_DIR}/hip_attn.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
  COMPONENT development
)

if(PROJECT_IS_TOP_LEVEL)
  set(CPACK_GENERATOR TGZ)
  set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
  include(CPack)
endif()
