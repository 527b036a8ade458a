// SwizzledTile: every piece has a place of its own, from which matrix loads and wgmma read the rows
// that were written, for every head dim.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "device/device_test.cuh"
#include "device/matrix.cuh"
#include "hip_attn/cuda/ptx/barrier.cuh"
#include "hip_attn/cuda/ptx/mma.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/ptx/wgmma.cuh"
#include "hip_attn/cuda/rows/swizzled_tile.cuh"

namespace hip_attn {
namespace {

using namespace test;

/// Two elements that lie together.
__device__ std::uint32_t pair_at(const bfloat16* p) {
  return *reinterpret_cast<const std::uint32_t*>(p);
}

template <int kRows, int kHeadDim>
__global__ void offsets_kernel(std::uint32_t* out) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kHeadDim / 8; i += 32) {
    out[i] =
        cuda::sm90::SwizzledTile<kRows, kHeadDim>::offset(i / (kHeadDim / 8), i % (kHeadDim / 8));
  }
}

template <int kRows, int kHeadDim>
void check_offsets() {
  CAPTURE(kRows, kHeadDim);
  constexpr int kPieces = kHeadDim / 8;
  const DeviceBuffer<std::uint32_t> out(cuda_device(), kRows * kPieces, 0xffffffffu);
  run_kernel(offsets_kernel<kRows, kHeadDim>, 1, 32, 0, out.data());
  const std::vector<std::uint32_t> offsets = out.read();
  const std::set<std::uint32_t> distinct(offsets.begin(), offsets.end());
  CHECK(distinct.size() == offsets.size());
  CHECK(*distinct.rbegin() + 16 <= cuda::sm90::SwizzledTile<kRows, kHeadDim>::kBytes);
  CHECK(std::all_of(offsets.begin(), offsets.end(), [](std::uint32_t at) { return at % 16 == 0; }));
  // Eight pieces of a row, or one piece of eight rows, lie in different banks.
  for (int row = 0; row < kRows; ++row) {
    for (int piece = 0; piece < kPieces; ++piece) {
      std::set<std::uint32_t> of_row;
      std::set<std::uint32_t> of_rows;
      for (int i = 0; i < 8; ++i) {
        if (piece / 8 * 8 + 8 <= kPieces)
          of_row.insert(offsets[row * kPieces + piece / 8 * 8 + i] % 128);
        of_rows.insert(offsets[(row / 8 * 8 + i) * kPieces + piece] % 128);
      }
      REQUIRE((of_row.empty() || of_row.size() == 8));
      REQUIRE(of_rows.size() == 8);
    }
  }
}

TEST_CASE("SwizzledTile gives every piece a place, without conflicts of banks", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  check_offsets<16, 64>();
  check_offsets<16, 96>();
  check_offsets<64, 128>();
  check_offsets<64, 192>();
  check_offsets<64, 256>();
}

/// Writes rows [kRows][kHeadDim] into a tile, by the whole block.
template <int kRows, int kHeadDim>
__device__ void fill_tile(std::uint32_t tile, const bfloat16* rows) {
  constexpr int kPieces = kHeadDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPieces;
       i += static_cast<int>(blockDim.x)) {
    cuda::store_shared_16(
        tile + cuda::sm90::SwizzledTile<kRows, kHeadDim>::offset(i / kPieces, i % kPieces),
        *reinterpret_cast<const uint4*>(rows + i * 8));
  }
}

/// The sixteen rows from `first` on of all columns, as the left factor of products.
template <int kRows, int kHeadDim>
__device__ void load_rows(std::uint32_t tile, int first, std::uint32_t (&a)[kHeadDim / 16][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < kHeadDim / 16; ++i) {
    cuda::load_matrices(a[i], tile + cuda::sm90::SwizzledTile<kRows, kHeadDim>::offset(
                                         first + lane % 16, 2 * i + lane / 16));
  }
}

/// out [16][8] = rows [16][kHeadDim] times queries [8][kHeadDim].
template <int kHeadDim>
__global__ void matrix_loads_kernel(const bfloat16* rows, const bfloat16* queries, float* out) {
  __shared__ __align__(1024) std::byte memory[cuda::sm90::SwizzledTile<16, kHeadDim>::kBytes];
  const std::uint32_t tile = cuda::shared_address(memory);
  fill_tile<16, kHeadDim>(tile, rows);
  __syncwarp();
  std::uint32_t a[kHeadDim / 16][4];
  load_rows<16, kHeadDim>(tile, 0, a);
  const int lane = static_cast<int>(threadIdx.x);
  const bfloat16* const query = queries + lane / 4 * kHeadDim + lane % 4 * 2;
  float c[4] = {};
#pragma unroll
  for (int i = 0; i < kHeadDim / 16; ++i) {
    cuda::mma_16x8x16<bfloat16>(c, a[i][0], a[i][1], a[i][2], a[i][3], pair_at(query + 16 * i),
                                pair_at(query + 16 * i + 8));
  }
  for (int i = 0; i < 4; ++i) {
    out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = c[i];
  }
}

template <int kHeadDim>
void check_matrix_loads() {
  CAPTURE(kHeadDim);
  const Matrix rows(16, kHeadDim, 4);
  const Matrix queries(8, kHeadDim, 5);
  const DeviceBuffer<float> product = output(16, 8);
  run_kernel(matrix_loads_kernel<kHeadDim>, 1, 32, 0, rows.data(), queries.data(), product.data());
  check_matrix(product, 16, 8, [&](int row, int query) {
    double sum = 0;
    for (int d = 0; d < kHeadDim; ++d) sum += rows(row, d) * queries(query, d);
    return sum;
  });
}

TEST_CASE("SwizzledTile is read by matrix loads", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  check_matrix_loads<64>();
  check_matrix_loads<96>();
  check_matrix_loads<128>();
  check_matrix_loads<256>();
}

__global__ void sm90a_kernel(int* has_code) { *has_code = HIP_ATTN_SM90A; }

bool runs_sm90a_code() {
  const DeviceBuffer<int> has_code(cuda_device(), 1, 0);
  run_kernel(sm90a_kernel, 1, 1, 0, has_code.data());
  return has_code.read().front() != 0;
}

#define REQUIRE_SM90A()  \
  REQUIRE_CUDA_DEVICE(); \
  if (!runs_sm90a_code()) HIP_ATTN_SKIP("this build has no sm_90a code for this GPU")

constexpr int kWarpgroup = 128;
constexpr std::size_t kTileAlignment = 1024;

/// Where the swizzled tiles of a block begin.
[[maybe_unused]] __device__ std::uint32_t first_tile(const std::byte* memory) {
  constexpr std::uint32_t kAlignment = kTileAlignment;
  return (cuda::shared_address(memory) + kAlignment - 1) / kAlignment * kAlignment;
}

/// Writes a product of a warpgroup, kColumns wide.
template <int kColumns>
__device__ void write_product(const float (&d)[kColumns / 2], float* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[(row + i / 2 * 8) * kColumns + n * 8 + lane % 4 * 2 + i % 2] = d[4 * n + i];
    }
  }
}

/// out [64][64] = a [64][kHeadDim] times b [64][kHeadDim], a from registers or from a tile.
template <int kHeadDim, bool kFromRegisters>
__global__ void __launch_bounds__(kWarpgroup)
    wgmma_columns_kernel(const bfloat16* a, const bfloat16* b, float* out) {
#if HIP_ATTN_SM90A
  using Tile = cuda::sm90::SwizzledTile<64, kHeadDim>;
  extern __shared__ __align__(128) std::byte memory[];
  const std::uint32_t tile = first_tile(memory);
  fill_tile<64, kHeadDim>(tile, a);
  fill_tile<64, kHeadDim>(tile + Tile::kBytes, b);
  cuda::sm90::fence_for_tensor_cores();
  __syncthreads();
  std::uint32_t registers[kHeadDim / 16][4];
  if constexpr (kFromRegisters) {
    load_rows<64, kHeadDim>(tile, static_cast<int>(threadIdx.x) / 32 * 16, registers);
  }
  const std::uint32_t a_columns = Tile::columns_of(tile);
  const std::uint32_t b_columns = a_columns + Tile::step(Tile::kBytes);
  float d[32];
  cuda::sm90::wgmma_begin();
#pragma unroll
  for (int i = 0; i < kHeadDim / 16; ++i) {
    if constexpr (kFromRegisters) {
      cuda::sm90::wgmma_64x64<bfloat16>(d, registers[i], Tile::columns(b_columns, i), i > 0);
    } else {
      cuda::sm90::wgmma_64x64<bfloat16>(d, Tile::columns(a_columns, i), Tile::columns(b_columns, i),
                                        i > 0);
    }
  }
  cuda::sm90::wgmma_commit();
  cuda::sm90::wgmma_wait<0>();
#pragma unroll
  for (float& each : d) asm volatile("" : "+f"(each)::"memory");
  write_product<64>(d, out);
#endif
}

/// out [64][kHeadDim] = weights [64][64] times values [64][kHeadDim].
template <int kHeadDim>
__global__ void __launch_bounds__(kWarpgroup)
    wgmma_rows_kernel(const bfloat16* weights, const bfloat16* values, float* out) {
#if HIP_ATTN_SM90A
  using Tile = cuda::sm90::SwizzledTile<64, kHeadDim>;
  extern __shared__ __align__(128) std::byte memory[];
  const std::uint32_t tile = first_tile(memory);
  fill_tile<64, kHeadDim>(tile, values);
  cuda::sm90::fence_for_tensor_cores();
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
  const bfloat16* const upper = weights + row * 64 + lane % 4 * 2;
  std::uint32_t a[4][4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) a[i][j] = pair_at(upper + 16 * i + j % 2 * 8 * 64 + j / 2 * 8);
  }
  float d[kHeadDim / 2] = {};
  cuda::sm90::wgmma_begin();
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    cuda::sm90::wgmma_64xN<bfloat16>(d, a[i], Tile::rows(Tile::rows_of(tile), i));
  }
  cuda::sm90::wgmma_commit();
  cuda::sm90::wgmma_wait<0>();
#pragma unroll
  for (float& each : d) asm volatile("" : "+f"(each)::"memory");
  write_product<kHeadDim>(d, out);
#endif
}

template <int kHeadDim>
void check_wgmma() {
  CAPTURE(kHeadDim);
  constexpr std::size_t kTile = cuda::sm90::SwizzledTile<64, kHeadDim>::kBytes;
  const Matrix a(64, kHeadDim, 6);
  const Matrix b(64, kHeadDim, 7);
  for (const bool from_registers : {false, true}) {
    CAPTURE(from_registers);
    const DeviceBuffer<float> product = output(64, 64);
    run_kernel(from_registers ? wgmma_columns_kernel<kHeadDim, true>
                              : wgmma_columns_kernel<kHeadDim, false>,
               1, kWarpgroup, 2 * kTile + kTileAlignment, a.data(), b.data(), product.data());
    check_matrix(product, 64, 64, [&](int row, int column) {
      double sum = 0;
      for (int d = 0; d < kHeadDim; ++d) sum += a(row, d) * b(column, d);
      return sum;
    });
  }
  const Matrix weights(64, 64, 8);
  const DeviceBuffer<float> product = output(64, kHeadDim);
  run_kernel(wgmma_rows_kernel<kHeadDim>, 1, kWarpgroup, kTile + kTileAlignment, weights.data(),
             b.data(), product.data());
  check_matrix(product, 64, kHeadDim, [&](int row, int d) {
    double sum = 0;
    for (int key = 0; key < 64; ++key) sum += weights(row, key) * b(key, d);
    return sum;
  });
}

TEST_CASE("SwizzledTile is read by wgmma, by columns and by rows", "[cuda][device]") {
  REQUIRE_SM90A();
  check_wgmma<64>();
  check_wgmma<96>();
  check_wgmma<128>();
  check_wgmma<192>();
  check_wgmma<256>();
}

}  // namespace
}  // namespace hip_attn
