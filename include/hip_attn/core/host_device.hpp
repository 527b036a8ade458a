/// Functions that host and device share.
#pragma once

#include "hip_attn/language.hpp"

/// Before a function: nvcc compiles it for both.
#if defined(__CUDACC__)
#define HIP_ATTN_HOST_DEVICE __host__ __device__
#else
#define HIP_ATTN_HOST_DEVICE
#endif
