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
        1026.6,      // attend_products: ns / Gflop
        306.81,      // attend_logits: ns / 10^6 logits
        85.481,      // attend_keys: ns / MB
        1.0489e+05,  // attend_units: ns / 10^3 units
        21475,       // attend_launch: ns / call
        6561.8,      // portable_attend_products: ns / Gflop
        0,           // portable_attend_launch: ns / call
        890.2,       // search_products: ns / Gflop
        118.74,      // search_keys: ns / MB
        48.095,      // search_keys_alone: ns / MB
        13381,       // search_stages: ns / waves of a stage
        16898,       // search_launch: ns / call
        1192.5,      // portable_search_products: ns / Gflop
        167.33,      // portable_search_keys: ns / MB
        0,           // portable_search_stages: ns / waves of a stage
        4085.6,      // workspace_search_products: ns / Gflop
        1776.5,      // dense_search_products: ns / Gflop
        429.64,      // dense_search_logits: ns / 10^6 logits of keys
        2468,        // dense_search_landmarks: ns / 10^6 logits of landmarks
        14140,       // dense_search_stages: ns / waves of a stage
        19078,       // dense_search_launch: ns / call
        14329,       // row_search_logits: ns / 10^6 logits
        4862.2,      // decode_launch: ns / call
        1539.9,      // decode_waves: ns / waves behind the first
        234.34,      // decode_attend_memory: ns / MB
        1616,        // decode_rounds: ns / waits for slots of shared memory, times head dim / 128
        1.3656e+05,  // decode_rows: ns / 10^3 tiles of 16 keys and 8 query rows that no copy hides
        4007.9,      // decode_general: ns / calls with several rows
        2556.3,      // decode_search: ns / waves that search
        2940.8,      // decode_stages: ns / stages
        679.21,      // decode_levels: ns / dependent reads
        161.77,      // decode_search_memory: ns / MB
        4971.4,      // decode_sum_stages: ns / stages with sums
        226.33,      // decode_sum_logits: ns / 10^3 logits of a unit
        5383.3,      // decode_sum_keys: ns / 10^3 rows of a thread block
        2769.2,      // decode_append: ns / call
    }}},
    "h200"};

}  // namespace hip_attn
