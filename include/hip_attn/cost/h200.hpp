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
        650.43,      // attend_products: ns / Gflop
        362.94,      // attend_logits: ns / 10^6 logits
        87.301,      // attend_keys: ns / MB
        51691,       // attend_units: ns / 10^3 units
        29616,       // attend_launch: ns / call
        6500.5,      // portable_attend_products: ns / Gflop
        0,           // portable_attend_launch: ns / call
        901.43,      // search_products: ns / Gflop
        116.22,      // search_keys: ns / MB
        44.352,      // search_keys_alone: ns / MB
        15041,       // search_stages: ns / waves of a stage
        7885.3,      // search_launch: ns / call
        1168.7,      // portable_search_products: ns / Gflop
        175.53,      // portable_search_keys: ns / MB
        0,           // portable_search_stages: ns / waves of a stage
        3352.4,      // workspace_search_products: ns / Gflop
        2031.5,      // dense_search_products: ns / Gflop
        203.45,      // dense_search_logits: ns / 10^6 logits of keys
        1337.7,      // dense_search_landmarks: ns / 10^6 logits of landmarks
        11824,       // dense_search_stages: ns / waves of a stage
        6181.7,      // dense_search_launch: ns / call
        14623,       // row_search_logits: ns / 10^6 logits
        4897.9,      // decode_launch: ns / call
        0,           // decode_waves: ns / waves behind the first
        231.7,       // decode_attend_memory: ns / MB
        1854.7,      // decode_rounds: ns / waits for slots of shared memory, times head dim / 128
        1.4588e+05,  // decode_rows: ns / 10^3 tiles of 16 keys and 8 query rows that no copy hides
        4409.3,      // decode_general: ns / calls with several rows
        2269.3,      // decode_search: ns / waves that search
        1436.2,      // decode_stages: ns / stages
        1012.8,      // decode_levels: ns / dependent reads
        136.78,      // decode_search_memory: ns / MB
        2148.3,      // decode_sum_stages: ns / stages with sums
        3704.7,      // decode_sum_rounds: ns / stages with sums, of kernels with rounds
        323.63,      // decode_sum_logits: ns / 10^3 logits of a unit
        5343.8,      // decode_sum_keys: ns / 10^3 rows of a thread block
        2240.3,      // decode_append: ns / call
    }}},
    "h200"};

}  // namespace hip_attn
