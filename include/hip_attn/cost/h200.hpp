/// Written by bench/fit_cost.py: the rates of the GPU h200 that fit 479 measured times.
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
        875.45,      // attend_products: ns / Gflop
        362.77,      // attend_logits: ns / 10^6 logits
        95.999,      // attend_keys: ns / MB
        1.0482e+05,  // attend_units: ns / 10^3 units
        21941,       // attend_launch: ns / call
        6361.6,      // portable_attend_products: ns / Gflop
        0,           // portable_attend_launch: ns / call
        959.72,      // search_products: ns / Gflop
        109.23,      // search_keys: ns / MB
        45.177,      // search_keys_alone: ns / MB
        14192,       // search_stages: ns / waves of a stage
        10495,       // search_launch: ns / call
        2041.1,      // portable_search_products: ns / Gflop
        62.941,      // portable_search_keys: ns / MB
        2598.9,      // portable_search_stages: ns / waves of a stage
        4279.8,      // workspace_search_products: ns / Gflop
        2003.6,      // dense_search_products: ns / Gflop
        91.881,      // dense_search_logits: ns / 10^6 logits
        2284.8,      // dense_search_masses: ns / 10^6 masses
        14276,       // dense_search_stages: ns / waves of a stage
        15139,       // dense_search_launch: ns / call
        4273.5,      // row_search_products: ns / Gflop
        10111,       // row_search_logits: ns / 10^6 logits
        4551.1,      // decode_launch: ns / call
        0,           // decode_waves: ns / waves behind the first
        237.54,      // decode_attend_memory: ns / MB
        6613.3,      // decode_rounds: ns / slots of shared memory filled again, as a part
        1.6e+05,     // decode_rows: ns / 10^3 tiles of keys for each further 8 query rows
        1500,        // decode_general: ns / calls with several rows
        3289.1,      // decode_search: ns / waves that search
        1249.4,      // decode_stages: ns / stages
        945.35,      // decode_levels: ns / dependent reads
        156.3,       // decode_search_memory: ns / MB
        3571.2,      // decode_sum_stages: ns / stages with sums
        827.24,      // decode_sum_logits: ns / 10^3 logits of a unit
        5101.9,      // decode_sum_keys: ns / 10^3 rows of a thread block
        2200,        // decode_append: ns / call
    }}},
    "h200"};

}  // namespace hip_attn
