# The components runtime and development of a build are all of its install tree: a shared library and
# what is needed to build with it, hip_attn-info included. Both hold the licence.
#
#   cmake -DBUILD=folder -DWORK_DIR=folder -DLINKAGE=shared|static -DTOOLS=ON|OFF -P components.cmake
cmake_minimum_required(VERSION 3.25)

# Sets `result` to the files that `cmake --install` writes with the options that follow.
function(list_installed result name)
  file(REMOVE_RECURSE ${WORK_DIR}/${name})
  execute_process(
    COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK_DIR}/${name} ${ARGN}
    OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY
  )
  file(GLOB_RECURSE files RELATIVE ${WORK_DIR}/${name} ${WORK_DIR}/${name}/*)
  set(${result} ${files} PARENT_SCOPE)
endfunction()

list_installed(all all)
list_installed(runtime runtime --component runtime)
list_installed(development development --component development)

# An engine that installs the library with itself has files of its own.
set(other_files ${all})
list(FILTER other_files INCLUDE REGEX "hip_attn")
list(REMOVE_ITEM other_files ${runtime} ${development})
if(other_files)
  message(SEND_ERROR "in no component: ${other_files}")
endif()

foreach(component IN ITEMS runtime development)
  set(licences ${${component}})
  list(FILTER licences INCLUDE REGEX "doc/[^/]+/LICENSE$")
  list(LENGTH licences count)
  if(NOT count EQUAL 1)
    message(SEND_ERROR "component ${component} has the licences \"${licences}\"")
  endif()
  list(REMOVE_ITEM ${component} ${licences})
endforeach()

set(libraries ${runtime})
list(FILTER libraries INCLUDE REGEX "^lib[^/]*/(.+/)?libhip_attn\\.so\\.[0-9.]+$")
if(NOT "${runtime}" STREQUAL "${libraries}")
  message(SEND_ERROR "component runtime has more than the shared library: ${runtime}")
elseif(LINKAGE STREQUAL "shared" AND NOT libraries)
  message(SEND_ERROR "component runtime has no shared library")
elseif(LINKAGE STREQUAL "static" AND libraries)
  message(SEND_ERROR "component runtime of a static library has ${libraries}")
endif()

if(LINKAGE STREQUAL "shared")
  set(library "libhip_attn\\.so")
else()
  set(library "libhip_attn\\.a")
endif()
foreach(needed IN ITEMS
  "include/hip_attn/hip_attn\\.hpp" "include/hip_attn/c/hip_attn\\.h" "hip_attn-config\\.cmake"
  "hip_attn-targets\\.cmake" "hip_attn\\.pc" "${library}"
)
  if(NOT "${development}" MATCHES "${needed}(;|$)")
    message(SEND_ERROR "component development lacks ${needed}")
  endif()
endforeach()
string(FIND "${development}" "bin/hip_attn-info" place)
if(TOOLS AND place EQUAL -1)
  message(SEND_ERROR "component development lacks hip_attn-info")
elseif(NOT TOOLS AND NOT place EQUAL -1)
  message(SEND_ERROR "component development has a hip_attn-info that was not asked for")
endif()
if("${development}" MATCHES "libhip_attn\\.so\\.")
  message(SEND_ERROR "component development has the shared library itself")
endif()
