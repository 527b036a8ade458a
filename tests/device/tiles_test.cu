// Tiles in shared memory: what is copied into them is what products and single reads find, for
// every head dim. Elements are small integers, so that products are exact in any order.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "device/device_test.cuh"
#include "hip_attn/cuda/decode/layout.cuh"
#include "hip_attn/cuda/ptx/barrier.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/mma.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/ptx/wgmma.cuh"
#include "hip_attn/cuda/rows/shared_tile.cuh"
#include "hip_attn/cuda/rows/swizzled_tile.cuh"
#include "support/device_buffer.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

/// A matrix on the host as doubles and on the device as bfloat16, its rows `stride` apart.
class Matrix {
 public:
  Matrix(int rows, int columns, int stride, std::uint64_t seed)
      : columns_(columns), values_(static_cast<std::size_t>(rows * columns)) {
    std::vector<bfloat16> host(static_cast<std::size_t>(rows * stride), from_float<bfloat16>(kNaN));
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < columns; ++column) {
        const int at = row * columns + column;
        const int value = small_integer(mix(seed, static_cast<std::uint64_t>(at)));
        values_[at] = value;
        host[row * stride + column] = from_float<bfloat16>(static_cast<float>(value));
      }
    }
    device_.emplace(cuda_device(), host);
  }
  Matrix(int rows, int columns, std::uint64_t seed) : Matrix(rows, columns, columns, seed) {}

  double operator()(int row, int column) const { return values_[row * columns_ + column]; }
  [[nodiscard]] const bfloat16* data() const { return device_->data(); }

 private:
  int columns_;
  std::vector<double> values_;
  std::optional<DeviceBuffer<bfloat16>> device_;
};

/// expected(row, column) for all of `rows` rows.
template <typename Expected>
void check_matrix(const DeviceBuffer<float>& actual, int rows, int columns, Expected&& expected) {
  std::vector<float> all;
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      all.push_back(static_cast<float>(expected(row, column)));
    }
  }
  CHECK(actual.read() == all);
  CHECK(actual.guards_intact());
}

DeviceBuffer<float> output(int rows, int columns) {
  return {cuda_device(), std::int64_t{rows} * columns, kNaN};
}

/// Two elements that lie together.
__device__ std::uint32_t pair_at(const bfloat16* p) {
  return *reinterpret_cast<const std::uint32_t*>(p);
}

// ---- SharedTile ---------------------------------------------------------------------------------

constexpr int kTileRows = cuda::kKeysPerTile;

template <int kHeadDim>
using TileOf = cuda::SharedTile<cuda::AttentionTraits<bfloat16, kHeadDim>>;

/// Row i of a tile is row row_of(i) in memory, `shift` bytes further.
__host__ __device__ constexpr int row_of(int i) { return i * 5 % kTileRows; }

struct TileSource {
  const bfloat16* rows;
  int stride;
  std::ptrdiff_t shift = 0;
  int count = -1;       ///< negative: copy() without a count
  bool listed = false;  ///< lanes find their rows in a list in shared memory
};

/// Fills a tile by one warp, where there was NaN before.
template <int kHeadDim>
__device__ TileOf<kHeadDim> load_tile(std::byte* memory, const TileSource& from) {
  using Tile = TileOf<kHeadDim>;
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < cuda::kTileBytes<kHeadDim> / 4; i += 32) {
    reinterpret_cast<std::uint32_t*>(memory)[i] = 0x7fff7fffu;
  }
  __syncwarp();
  const auto row = [&](int i) { return from.rows + row_of(i) * from.stride; };
  const int m = lane / 8;
  typename Tile::Rows rows{{row(2 * m), row(2 * m + 1), row(2 * m + 8), row(2 * m + 9)}};
  if (from.listed) {
    const std::uint32_t list = cuda::shared_address(memory);  // where the copies will go
    if (lane < kTileRows) cuda::store_shared_8(list + lane * 8, row(lane));
    __syncwarp();
    rows = Tile::Rows::from_list(list);
    __syncwarp();
  }
  const Tile tile(memory);
  if (from.count < 0) {
    tile.copy(rows + from.shift);
  } else {
    tile.copy(rows + from.shift, from.count);
  }
  cuda::commit_copies();
  cuda::wait_for_copies();
  __syncwarp();
  return tile;
}

/// out [16][kHeadDim]: the elements after the rows in `cleared`, a bit each, were made zeros.
template <int kHeadDim>
__global__ void elements_kernel(TileSource from, std::uint32_t cleared, float* out) {
  __shared__ __align__(128) std::byte memory[cuda::kTileBytes<kHeadDim>];
  const auto tile = load_tile<kHeadDim>(memory, from);
  for (int row = 0; row < kTileRows; ++row) {
    if (cleared >> row & 1u) tile.clear_row(row);
  }
  __syncwarp();
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows * kHeadDim; i += 32) {
    out[i] = tile.element(i / kHeadDim, i % kHeadDim);
  }
}

/// out [16][8] = the tile's rows times the query rows [8][kHeadDim].
template <int kHeadDim>
__global__ void multiply_kernel(TileSource from, const bfloat16* queries, bool from_shared,
                                float* out) {
  using Tile = TileOf<kHeadDim>;
  constexpr int kPitch = cuda::query_pitch(kHeadDim);
  __shared__ __align__(128) std::byte memory[cuda::kTileBytes<kHeadDim>];
  __shared__ __align__(16) bfloat16 shared_queries[8 * kPitch];
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 8 * kHeadDim; i += 32) {
    shared_queries[i / kHeadDim * kPitch + i % kHeadDim] = queries[i];
  }
  const auto tile = load_tile<kHeadDim>(memory, from);
  const auto read = [&](int d) {
    return *reinterpret_cast<const uint4*>(queries + lane / 4 * kHeadDim + d);
  };
  float c[4];
  if (from_shared) {
    tile.multiply(typename Tile::Queries(shared_queries, kPitch), c);
  } else {
    tile.multiply(typename Tile::Queries(read), c);
  }
  for (int i = 0; i < 4; ++i) {
    out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = c[i];
  }
}

/// out [kHeadDim][8] = the tile, transposed, times weights [16][8].
template <int kHeadDim>
__global__ void transposed_kernel(TileSource from, const bfloat16* weights, float* out) {
  __shared__ __align__(128) std::byte memory[cuda::kTileBytes<kHeadDim>];
  const auto tile = load_tile<kHeadDim>(memory, from);
  const int lane = static_cast<int>(threadIdx.x);
  const int g = lane / 4;
  const int t = lane % 4;
  const auto weight_pair = [&](int row) {
    return weights[row * 8 + g].bits | std::uint32_t{weights[(row + 1) * 8 + g].bits} << 16;
  };
  for (int m = 0; m < kHeadDim / 16; ++m) {
    std::uint32_t a[4];
    tile.load_transposed(m, a);
    float c[4] = {};
    cuda::mma_16x8x16<bfloat16>(c, a[0], a[1], a[2], a[3], weight_pair(2 * t),
                                weight_pair(2 * t + 8));
    for (int i = 0; i < 4; ++i) {
      out[(16 * m + g + i / 2 * 8) * 8 + t * 2 + i % 2] = c[i];
    }
  }
}

template <int kHeadDim>
void check_shared_tile() {
  CAPTURE(kHeadDim);
  constexpr int kStride = kHeadDim + 8;
  const Matrix rows(2 * kTileRows, kHeadDim, kStride, 1);  // keys, then values
  const std::ptrdiff_t to_values = std::ptrdiff_t{kTileRows} * kStride * 2;
  for (const bool values : {false, true}) {
    for (const bool listed : {false, true}) {
      for (const int count : {-1, 0, 1, 7, 8, 9, 15, 16}) {
        CAPTURE(values, listed, count);
        const TileSource from{rows.data(), kStride, values ? to_values : 0, count, listed};
        const auto element = [&](int row, int column) {
          if (count >= 0 && row >= count) return 0.;
          return rows(row_of(row) + (values ? kTileRows : 0), column);
        };
        const DeviceBuffer<float> elements = output(kTileRows, kHeadDim);
        run_kernel(elements_kernel<kHeadDim>, 1, 32, 0, from, 0u, elements.data());
        check_matrix(elements, kTileRows, kHeadDim, element);
      }
    }
  }

  const TileSource from{rows.data(), kStride};
  const auto key = [&](int row, int column) { return rows(row_of(row), column); };
  for (const std::uint32_t cleared : {0x0001u, 0x8000u, 0x5a24u, 0xffffu}) {
    CAPTURE(cleared);
    const DeviceBuffer<float> elements = output(kTileRows, kHeadDim);
    run_kernel(elements_kernel<kHeadDim>, 1, 32, 0, from, cleared, elements.data());
    check_matrix(elements, kTileRows, kHeadDim,
                 [&](int row, int column) { return cleared >> row & 1u ? 0. : key(row, column); });
  }

  const Matrix queries(8, kHeadDim, 2);
  for (const bool from_shared : {false, true}) {
    const DeviceBuffer<float> product = output(kTileRows, 8);
    run_kernel(multiply_kernel<kHeadDim>, 1, 32, 0, from, queries.data(), from_shared,
               product.data());
    check_matrix(product, kTileRows, 8, [&](int row, int query) {
      double sum = 0;
      for (int d = 0; d < kHeadDim; ++d) sum += key(row, d) * queries(query, d);
      return sum;
    });
  }

  const Matrix weights(kTileRows, 8, 3);
  const DeviceBuffer<float> product = output(kHeadDim, 8);
  run_kernel(transposed_kernel<kHeadDim>, 1, 32, 0, from, weights.data(), product.data());
  check_matrix(product, kHeadDim, 8, [&](int d, int query) {
    double sum = 0;
    for (int row = 0; row < kTileRows; ++row) sum += key(row, d) * weights(row, query);
    return sum;
  });
}

TEST_CASE("SharedTile holds the rows that were copied, for single reads and both products",
          "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  check_shared_tile<64>();
  check_shared_tile<96>();
  check_shared_tile<128>();
  check_shared_tile<192>();
  check_shared_tile<256>();
}

// ---- SwizzledTile -------------------------------------------------------------------------------

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
