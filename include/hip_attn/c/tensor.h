/// DLPack's tensors: the system's header where it has one, else the copy that comes with hip_attn.
#pragma once

#ifndef DLPACK_DLPACK_H_
#ifdef __has_include
#if __has_include(<dlpack/dlpack.h>)
#include <dlpack/dlpack.h>
#endif
#endif
#endif
#ifndef DLPACK_DLPACK_H_
#include "hip_attn/c/dlpack.h"
#endif
#if defined(DLPACK_VERSION) && DLPACK_VERSION < 60
#error "hip_attn takes DLPack 0.6 or newer"
#endif

// CUDA's stream type, declared rather than included: this header needs no CUDA.
struct CUstream_st;

/// A cudaStream_t (the same type); null: CUDA's default stream. Ignored by the CPU backend.
typedef struct CUstream_st* HipAttnStream;
