/// Functions that the host's compiler and nvcc both compile.
#pragma once

#include "hip_attn/language.hpp"

#if defined(__CUDACC__)
#define HIP_ATTN_HOST_DEVICE __host__ __device__
#else
#define HIP_ATTN_HOST_DEVICE
#endif
