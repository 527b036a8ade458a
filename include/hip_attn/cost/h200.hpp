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
        785.35,      // attend_products: ns / Gflop
        363.96,      // attend_logits: ns / 10^6 logits
        107.77,      // attend_keys: ns / MB
        70783,       // attend_units: ns / 10^3 units
        25488,       // attend_launch: ns / call
        6436.7,      // portable_attend_products: ns / Gflop
        56258,       // portable_attend_launch: ns / call
        824.42,      // search_products: ns / Gflop
        123.19,      // search_keys: ns / MB
        45.479,      // search_keys_alone: ns / MB
        14190,       // search_stages: ns / waves of a stage
        7760.3,      // search_launch: ns / call
        838.55,      // portable_search_products: ns / Gflop
        245.51,      // portable_search_keys: ns / MB
        0,           // portable_search_stages: ns / waves of a stage
        3378.4,      // workspace_search_products: ns / Gflop
        1939,        // dense_search_products: ns / Gflop
        202.26,      // dense_search_logits: ns / 10^6 logits of keys
        1443.9,      // dense_search_landmarks: ns / 10^6 logits of landmarks
        11066,       // dense_search_stages: ns / waves of a stage
        10443,       // dense_search_launch: ns / call
        14201,       // row_search_logits: ns / 10^6 logits
        4881.5,      // decode_launch: ns / call
        0,           // decode_waves: ns / waves behind the first
        230.98,      // decode_attend_memory: ns / MB
        1574.9,      // decode_rounds: ns / waits for slots of shared memory, times head dim / 128
        1.3402e+05,  // decode_rows: ns / 10^3 tiles of 16 keys and 8 query rows that no copy hides
        4450,        // decode_general: ns / calls with several rows
        3220.4,      // decode_search: ns / waves that search
        1275.8,      // decode_stages: ns / stages
        999.43,      // decode_levels: ns / dependent reads
        143.23,      // decode_search_memory: ns / MB
        6247.4,      // decode_sum_stages: ns / stages with sums
        225.65,      // decode_sum_logits: ns / 10^3 logits of a unit
        6039.5,      // decode_sum_keys: ns / 10^3 rows of a thread block
        2203.8,      // decode_append: ns / call
    }}},
    "h200"};

}  // namespace hip_attn
