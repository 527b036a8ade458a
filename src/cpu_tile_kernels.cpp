// The kernels of hip_attn/cpu/tile_kernels.hpp. CMake compiles this file once per instruction set,
// each time with its own HIP_ATTN_CPU_ISA. Everything but the table has internal linkage.
#include "cpu_panel_kernels.hpp"
#include "cpu_row_kernels.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"
#include "hip_attn_instantiations.hpp"

namespace hip_attn::cpu::HIP_ATTN_CPU_ISA {
namespace {

template <int kHeadDim, typename T>
constexpr ElementKernels<T> kElementKernels{load<kHeadDim, T>, dot_rows<kHeadDim, T>,
                                            accumulate_rows<kHeadDim, T>};

template <int kHeadDim>
constexpr TileKernels kTileKernels{{kElementKernels<kHeadDim, float>},
                                   {kElementKernels<kHeadDim, float16>},
                                   {kElementKernels<kHeadDim, bfloat16>},
                                   dot<kHeadDim>,
                                   lane_max,
                                   reduce_max,
                                   softmax,
                                   accumulate<kHeadDim>,
                                   max_of_rows,
                                   softmax_rows};

}  // namespace

// In the order of built_head_dims().
extern const TileKernels kKernels[];
#define HIP_ATTN_LIST(head_dim) kTileKernels<head_dim>,
const TileKernels kKernels[] = {HIP_ATTN_FOR_EACH_HEAD_DIM(HIP_ATTN_LIST)};
#undef HIP_ATTN_LIST

}  // namespace hip_attn::cpu::HIP_ATTN_CPU_ISA
