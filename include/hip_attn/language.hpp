/// The language that the headers are written in: every header has this one, so that a compiler that
/// is set to an older language says so and stops.
#pragma once

#if __cplusplus < 202002L && !(defined(_MSVC_LANG) && _MSVC_LANG >= 202002L)
#error "hip_attn is C++20: compile with -std=c++20 or newer"
// An error lets a compiler go on, to pages of others. A file that is not there stops it.
#include "hip_attn/needs_cxx20"
#endif
