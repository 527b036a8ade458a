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
        763.73,      // attend_products: ns / Gflop
        376.21,      // attend_logits: ns / 10^6 logits
        102.79,      // attend_keys: ns / MB
        66895,       // attend_units: ns / 10^3 units
        22797,       // attend_launch: ns / call
        6398.4,      // portable_attend_products: ns / Gflop
        0,           // portable_attend_launch: ns / call
        800.65,      // search_products: ns / Gflop
        121.12,      // search_keys: ns / MB
        48.309,      // search_keys_alone: ns / MB
        14734,       // search_stages: ns / waves of a stage
        6178.2,      // search_launch: ns / call
        1092.6,      // portable_search_products: ns / Gflop
        191.96,      // portable_search_keys: ns / MB
        0,           // portable_search_stages: ns / waves of a stage
        3366.5,      // workspace_search_products: ns / Gflop
        1920.7,      // dense_search_products: ns / Gflop
        293.44,      // dense_search_logits: ns / 10^6 logits of keys
        1342.5,      // dense_search_landmarks: ns / 10^6 logits of landmarks
        10620,       // dense_search_stages: ns / waves of a stage
        12165,       // dense_search_launch: ns / call
        14167,       // row_search_logits: ns / 10^6 logits
        4951.9,      // decode_launch: ns / call
        0,           // decode_waves: ns / waves behind the first
        228.37,      // decode_attend_memory: ns / MB
        1678.3,      // decode_rounds: ns / waits for slots of shared memory, times head dim / 128
        1.3565e+05,  // decode_rows: ns / 10^3 tiles of 16 keys and 8 query rows that no copy hides
        4226.4,      // decode_general: ns / calls with several rows
        3175.4,      // decode_search: ns / waves that search
        1296.2,      // decode_stages: ns / stages
        1020.4,      // decode_levels: ns / dependent reads
        136.19,      // decode_search_memory: ns / MB
        6365.5,      // decode_sum_stages: ns / stages with sums
        223.13,      // decode_sum_logits: ns / 10^3 logits of a unit
        5873.3,      // decode_sum_keys: ns / 10^3 rows of a thread block
        3033.6,      // decode_append: ns / call
    }}},
    "h200"};

}  // namespace hip_attn
