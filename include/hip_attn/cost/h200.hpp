/// Written by bench/fit_cost.py: the rates of the GPU h200 that fit 986 measured times.
#pragma once

#include "hip_attn/cost/gpu.hpp"

namespace hip_attn {

inline constexpr Gpu kH200 = {
    {.name = "h200",
     .multiprocessors = 132,
     .compute_capability = 90,
     .clock_ghz = 1.98,
     .memory_tb_per_s = 4.8,
     .memory_gb = 141.0,
     .link_gb_per_s = 55.0,
     .shared_bytes = 233472,
     .l2_bytes = 62914560,
     .cluster_multiprocessors = 18},
    {{{
        1060,        // attend_products: ns / Gflop
        294.59,      // attend_logits: ns / 10^6 logits
        84.221,      // attend_keys: ns / MB
        1.062e+05,   // attend_units: ns / 10^3 units
        21496,       // attend_launch: ns / call
        6465.4,      // portable_attend_products: ns / Gflop
        0,           // portable_attend_launch: ns / call
        830.53,      // search_products: ns / Gflop
        121.22,      // search_keys: ns / MB
        50.334,      // search_keys_alone: ns / MB
        13918,       // search_stages: ns / waves of a stage
        11118,       // search_launch: ns / call
        907.78,      // portable_search_products: ns / Gflop
        216.46,      // portable_search_keys: ns / MB
        0,           // portable_search_stages: ns / waves of a stage
        4070.7,      // workspace_search_products: ns / Gflop
        1800.6,      // dense_search_products: ns / Gflop
        440.5,       // dense_search_logits: ns / 10^6 logits of keys
        2555.4,      // dense_search_landmarks: ns / 10^6 logits of landmarks
        12129,       // dense_search_stages: ns / waves of a stage
        21116,       // dense_search_launch: ns / call
        14270,       // row_search_logits: ns / 10^6 logits
        4905.6,      // decode_launch: ns / call
        674.49,      // decode_waves: ns / waves behind the first
        231.5,       // decode_attend_memory: ns / MB
        1618.8,      // decode_rounds: ns / waits for slots of shared memory, times head dim / 128
        1.3334e+05,  // decode_rows: ns / 10^3 tiles of 16 keys and 8 query rows that no copy hides
        4073.2,      // decode_general: ns / calls with several rows
        3229,        // decode_search: ns / waves that search
        1339.3,      // decode_stages: ns / stages
        984.18,      // decode_levels: ns / dependent reads
        140.98,      // decode_search_memory: ns / MB
        6261,        // decode_sum_stages: ns / stages with sums
        220.66,      // decode_sum_logits: ns / 10^3 logits of a unit
        5903,        // decode_sum_keys: ns / 10^3 rows of a thread block
        2931.6,      // decode_append: ns / call
    }}},
    "h200"};

}  // namespace hip_attn
