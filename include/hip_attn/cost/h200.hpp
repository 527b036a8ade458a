#pragma once
#include "hip_attn/cost/gpu.hpp"
namespace hip_attn {
inline const Gpu kH200 = {{"h200", 132, 90, 1.98, 4.8, 141., 55., 233472, 60 << 20, 18}, {}, "h200"};
}
