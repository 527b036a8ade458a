/// The version of hip_attn. CMake reads it from here; nothing else states it.
#pragma once

#define HIP_ATTN_VERSION_MAJOR 0
#define HIP_ATTN_VERSION_MINOR 2
#define HIP_ATTN_VERSION_PATCH 0
