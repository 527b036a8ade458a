/// Everything in the C interface of hip_attn, C99: what the C++ headers have, without exceptions,
/// templates or a C++ compiler. Link the library as from C++. docs/guide/c-api.md goes by task.
#pragma once

#include "hip_attn/c/attention.h"
#include "hip_attn/c/build_info.h"
#include "hip_attn/c/cells.h"
#include "hip_attn/c/config.h"
#include "hip_attn/c/kv.h"
#include "hip_attn/c/model_config.h"
#include "hip_attn/c/offload.h"
#include "hip_attn/c/selection.h"
#include "hip_attn/c/status.h"
#include "hip_attn/c/tensor.h"
