/// HIP_ATTN_API, for the C++ headers.
#pragma once

#include "hip_attn/c/export.h"
#include "hip_attn/language.hpp"
