/// As much of ggml's interface as the code of docs/guide/ggml.md uses, so that the same code
/// compiles with ggml and is tested without it. Names and fields are ggml's, the rest is written
/// for these tests.
#pragma once

#include <barrier>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <thread>
#include <vector>

#include "hip_attn/types.hpp"

namespace hip_attn::test {

enum ggml_type { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0 };

inline constexpr int GGML_N_TASKS_MAX = -1;

/// Bytes of an element, or of a block of a quantised type.
inline std::size_t ggml_type_size(ggml_type type) {
  return type == GGML_TYPE_F32 ? 4 : type == GGML_TYPE_Q8_0 ? 34 : 2;
}

struct ggml_tensor {
  ggml_type type = GGML_TYPE_F32;
  std::int64_t ne[4] = {1, 1, 1, 1};  ///< sizes, from the fastest dimension on
  std::size_t nb[4] = {};             ///< strides in bytes
  ggml_tensor* src[10] = {};
  void* data = nullptr;
};

using ggml_custom_op_t = void (*)(ggml_tensor* dst, int ith, int nth, void* userdata);

/// A graph and its memory.
struct ggml_context {
  struct Node {
    ggml_tensor* dst;
    ggml_custom_op_t fun;
    void* userdata;
  };
  std::deque<ggml_tensor> tensors;
  std::deque<std::vector<std::byte>> memory;
  std::vector<Node> nodes;
};

inline ggml_tensor* ggml_custom_4d(ggml_context* ctx, ggml_type type, std::int64_t ne0,
                                   std::int64_t ne1, std::int64_t ne2, std::int64_t ne3,
                                   ggml_tensor** args, int n_args, ggml_custom_op_t fun,
                                   int /*n_tasks*/, void* userdata) {
  ggml_tensor& dst = ctx->tensors.emplace_back();
  dst.type = type;
  std::size_t bytes = ggml_type_size(type);
  const std::int64_t sizes[] = {ne0, ne1, ne2, ne3};
  for (int i = 0; i < 4; ++i) {
    dst.ne[i] = sizes[i];
    dst.nb[i] = bytes;
    bytes *= static_cast<std::size_t>(sizes[i]);
  }
  // All bits set is a NaN of every type: what is not written shows.
  dst.data = ctx->memory.emplace_back(bytes, std::byte{0xff}).data();
  for (int i = 0; i < n_args; ++i) dst.src[i] = args[i];
  ctx->nodes.push_back({&dst, fun, userdata});
  return &dst;
}

/// Runs the nodes as ggml's thread pool does: all threads in every node, a barrier behind each.
inline void compute(const ggml_context& ctx, int nth) {
  std::barrier node_is_done(nth);
  std::vector<std::thread> threads;
  for (int ith = 0; ith < nth; ++ith) {
    threads.emplace_back([&, ith] {
      for (const ggml_context::Node& node : ctx.nodes) {
        node.fun(node.dst, ith, nth, node.userdata);
        node_is_done.arrive_and_wait();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace hip_attn::test
