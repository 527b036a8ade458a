include(CMakeFindDependencyMacro)
find_dependency(hip_attn)
include(${CMAKE_CURRENT_LIST_DIR}/engine_targets.cmake)
