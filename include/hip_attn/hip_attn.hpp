/// Everything in the public interface of hip_attn.
#pragma once

#include "hip_attn/attention.hpp"
#include "hip_attn/build_info.hpp"
#include "hip_attn/cells.hpp"
#include "hip_attn/config.hpp"
#include "hip_attn/config_json.hpp"
#include "hip_attn/decode.hpp"
#include "hip_attn/kv.hpp"
#include "hip_attn/landmarks.hpp"
#include "hip_attn/merge.hpp"
#include "hip_attn/offload.hpp"
#include "hip_attn/prefill.hpp"
#include "hip_attn/selection.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/threads.hpp"
#include "hip_attn/types.hpp"
#include "hip_attn/version.hpp"
