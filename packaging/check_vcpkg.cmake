# The vcpkg port without vcpkg: its manifest keeps vcpkg's rules and agrees with the library, and its
# script runs with stand-ins for vcpkg's functions, which configure the library and check what the
# script hands them.
#
#   cmake -DPORT_DIR=folder -DVERSION=0.2.0 -DWORK_DIR=folder -P check_vcpkg.cmake
cmake_minimum_required(VERSION 3.25)

file(READ ${PORT_DIR}/vcpkg.json manifest)
function(expect_member member pattern)
  string(JSON value GET "${manifest}" ${member})
  if(NOT value MATCHES "^(${pattern})$")
    message(SEND_ERROR "vcpkg.json: ${member} is \"${value}\"; expected ${pattern}")
  endif()
endfunction()
expect_member(name "[a-z0-9]+(-[a-z0-9]+)*")
expect_member(version "${VERSION}")
expect_member(license "Apache-2\\.0")
get_filename_component(folder ${PORT_DIR} NAME)
expect_member(name "${folder}")

# The members that a manifest of a port can have, of those that this one needs.
set(known $schema name version description license supports dependencies default-features features)
string(JSON count LENGTH "${manifest}")
math(EXPR last "${count} - 1")
foreach(i RANGE ${last})
  string(JSON member MEMBER "${manifest}" ${i})
  if(NOT member IN_LIST known)
    message(SEND_ERROR "vcpkg.json has the member ${member}")
  endif()
endforeach()
set(declared_features "")
string(JSON count LENGTH "${manifest}" features)
math(EXPR last "${count} - 1")
foreach(i RANGE ${last})
  string(JSON feature MEMBER "${manifest}" features ${i})
  string(JSON description GET "${manifest}" features ${feature} description)
  list(APPEND declared_features ${feature})
endforeach()
string(JSON default_feature GET "${manifest}" default-features 0)
if(NOT default_feature IN_LIST declared_features)
  message(SEND_ERROR "vcpkg.json has no feature ${default_feature}, which is a default")
endif()

# ---- Stand-ins ----------------------------------------------------------------------------------

set(PORT ${folder})
set(FEATURES core)
set(CURRENT_PACKAGES_DIR ${WORK_DIR}/packages)
file(REMOVE_RECURSE ${WORK_DIR})
set(called "")

macro(vcpkg_extract_source_archive result)
  cmake_parse_arguments(arg "" "ARCHIVE" "" ${ARGN})
  file(ARCHIVE_EXTRACT INPUT "${arg_ARCHIVE}" DESTINATION ${WORK_DIR}/source)
  file(GLOB ${result} ${WORK_DIR}/source/*)
  list(APPEND called extract)
endmacro()

macro(vcpkg_check_features)
  cmake_parse_arguments(arg "" "OUT_FEATURE_OPTIONS" "FEATURES" ${ARGN})
  set(${arg_OUT_FEATURE_OPTIONS} "")
  set(features_of_port "${arg_FEATURES}")
  while(features_of_port)
    list(POP_FRONT features_of_port feature option)
    if(NOT feature IN_LIST declared_features)
      message(SEND_ERROR "vcpkg.json does not declare the feature ${feature}")
    endif()
    list(APPEND ${arg_OUT_FEATURE_OPTIONS} -D${option}=OFF)
  endwhile()
endmacro()

macro(vcpkg_cmake_configure)
  cmake_parse_arguments(arg "" "SOURCE_PATH" "OPTIONS" ${ARGN})
  execute_process(
    COMMAND ${CMAKE_COMMAND} -S ${arg_SOURCE_PATH} -B ${WORK_DIR}/build ${arg_OPTIONS}
    OUTPUT_VARIABLE output ERROR_VARIABLE output COMMAND_ERROR_IS_FATAL ANY
  )
  if(output MATCHES "not used by the project")
    message(SEND_ERROR "the port sets options that the library does not have:\n${output}")
  endif()
  list(APPEND called configure)
endmacro()

macro(vcpkg_cmake_install)
  list(APPEND called install)
endmacro()

macro(vcpkg_cmake_config_fixup)
  cmake_parse_arguments(arg "" "PACKAGE_NAME;CONFIG_PATH" "" ${ARGN})
  file(READ ${WORK_DIR}/build/cmake_install.cmake install_script)
  if(NOT install_script MATCHES "/${arg_CONFIG_PATH}\"")
    message(SEND_ERROR "the library installs no CMake package in ${arg_CONFIG_PATH}")
  endif()
  list(APPEND called fixup_${arg_PACKAGE_NAME})
endmacro()

macro(vcpkg_fixup_pkgconfig)
  list(APPEND called pkgconfig)
endmacro()

macro(vcpkg_install_copyright)
  cmake_parse_arguments(arg "" "" "FILE_LIST" ${ARGN})
  foreach(licence IN LISTS arg_FILE_LIST)
    if(NOT EXISTS ${licence})
      message(SEND_ERROR "there is no licence ${licence}")
    endif()
  endforeach()
  list(APPEND called copyright)
endmacro()

include(${PORT_DIR}/portfile.cmake)

if(NOT called STREQUAL "extract;configure;install;fixup_hip_attn;pkgconfig;copyright")
  message(SEND_ERROR "the port called ${called}")
endif()
if(NOT EXISTS ${CURRENT_PACKAGES_DIR}/share/${PORT}/usage)
  message(SEND_ERROR "the port installs no usage")
endif()
