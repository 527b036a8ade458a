// Times one node of ggml's flash attention beside the call of hip_attn that reads the same keys and
// values: a row of decode over 4096 keys, with every key.   node THREADS
//
// Prints a line of JSON for each shape: seconds of the fastest of 70 calls, made in turns.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "ggml-cpu.h"
#include "ggml.h"
#include "hip_attn/c/hip_attn.h"

namespace {

constexpr int64_t kKeys = 4096, kHeadDim = 128;
constexpr int kCalls = 70;

void require(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "node: %s\n", what);
  std::exit(1);
}

DLTensor tensor(void* data, DLDataType dtype, int ndim, int64_t* shape) {
  return {data, {kDLCPU, 0}, ndim, dtype, shape, nullptr, 0};
}

void fill(ggml_tensor* tensor, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(ggml_nelements(tensor));
  for (float& value : values) value = normal(random);
  const ggml_from_float_t convert = ggml_get_type_traits_cpu(tensor->type)->from_float;
  convert(values.data(), tensor->data, ggml_nelements(tensor));
}

// The call of hip_attn over the tensors of a node.
class Decode {
 public:
  Decode(int64_t heads, int64_t kv_heads, const ggml_tensor* q, const ggml_tensor* k,
         const ggml_tensor* v, int threads)
      : out(heads * kHeadDim), rows_{1, heads, kHeadDim}, pages_{1, kKeys, kv_heads, kHeadDim} {
    const bool bfloat = k->type == GGML_TYPE_BF16;
    const DLDataType cache{static_cast<uint8_t>(bfloat ? kDLBfloat : kDLFloat),
                           static_cast<uint8_t>(8 * ggml_type_size(k->type)), 1};
    HipAttnConfig* config = nullptr;
    check(hip_attn_config_from_preset("dense", nullptr, &config, message_, sizeof(message_)));
    HipAttnShape shape{};
    shape.struct_size = sizeof(shape);
    shape.device = {kDLCPU, 0};
    shape.dtype = kFloat;
    shape.cache_dtype = cache;
    shape.batch = shape.total_q = 1;
    shape.max_seq_len = kKeys;
    shape.num_q_heads = heads;
    shape.num_kv_heads = kv_heads;
    shape.head_dim = kHeadDim;
    shape.num_threads = threads;
    check(hip_attn_plan_decode(config, &shape, &plan_, message_, sizeof(message_)));
    hip_attn_config_destroy(config);
    HipAttnPlanInfo info{};
    info.struct_size = sizeof(info);
    check(hip_attn_plan_info(plan_, &info, message_, sizeof(message_)));
    workspace_.resize(info.workspace_bytes);
    q_ = tensor(q->data, kFloat, 3, rows_);
    out_ = tensor(out.data(), kFloat, 3, rows_);
    k_ = tensor(k->data, cache, 4, pages_);
    v_ = tensor(v->data, cache, 4, pages_);
  }
  Decode(const Decode&) = delete;
  Decode& operator=(const Decode&) = delete;
  ~Decode() { hip_attn_plan_destroy(plan_); }

  void operator()() {
    const HipAttnKvPages pages{sizeof(pages), &k_, &v_};
    const HipAttnPagedKv kv{sizeof(kv), &pages, nullptr};
    HipAttnAttentionArgs args{};
    args.struct_size = sizeof(args);
    args.q = &q_;
    args.kv = &kv;
    args.seq_lens = &seq_lens_;
    args.cu_seqlens_q = &cu_seqlens_q_;
    args.out = &out_;
    check(hip_attn_decode(plan_, &args, workspace_.data(), workspace_.size(), nullptr, message_,
                          sizeof(message_)));
  }

  std::vector<float> out;

 private:
  static constexpr DLDataType kFloat{kDLFloat, 32, 1}, kInt32{kDLInt, 32, 1};

  void check(HipAttnStatus status) { require(status == HIP_ATTN_OK, message_); }

  char message_[256] = "";
  HipAttnPlan* plan_ = nullptr;
  std::vector<char> workspace_;
  int64_t rows_[3], pages_[4], one_[1] = {1}, two_[1] = {2};
  int32_t seq_len_ = kKeys, starts_[2] = {0, 1};
  DLTensor q_, k_, v_, out_;
  DLTensor seq_lens_ = tensor(&seq_len_, kInt32, 1, one_);
  DLTensor cu_seqlens_q_ = tensor(starts_, kInt32, 1, two_);
};

template <class Call>
double seconds_of(Call&& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void measure(int64_t heads, int64_t kv_heads, ggml_type type, int threads) {
  const ggml_init_params params{static_cast<size_t>(256) << 20, nullptr, false};
  ggml_context* context = ggml_init(params);
  std::mt19937 random(1);
  ggml_tensor* q = ggml_new_tensor_3d(context, GGML_TYPE_F32, kHeadDim, 1, heads);
  ggml_tensor* k = ggml_new_tensor_3d(context, type, kHeadDim, kv_heads, kKeys);
  ggml_tensor* v = ggml_new_tensor_3d(context, type, kHeadDim, kv_heads, kKeys);
  for (ggml_tensor* tensor : {q, k, v}) fill(tensor, random);
  ggml_tensor* node = ggml_flash_attn_ext(context, q, ggml_permute(context, k, 0, 2, 1, 3),
                                          ggml_permute(context, v, 0, 2, 1, 3), nullptr,
                                          1 / std::sqrt(static_cast<float>(kHeadDim)), 0, 0);
  ggml_prec_set_acc(node, GGML_PREC_F32);
  ggml_cgraph* graph = ggml_new_graph(context);
  ggml_build_forward_expand(graph, node);
  ggml_threadpool_params pool_params = ggml_threadpool_params_default(threads);
  ggml_threadpool* pool = ggml_threadpool_new(&pool_params);
  ggml_cplan plan = ggml_graph_plan(graph, threads, pool);
  std::vector<uint8_t> work(plan.work_size);
  plan.work_data = work.data();
  Decode decode(heads, kv_heads, q, k, v, threads);

  double of_ggml = 1e9, of_hip_attn = 1e9;
  for (int call = 0; call < kCalls; ++call) {
    of_ggml = std::min(of_ggml, seconds_of([&] {
                         require(ggml_graph_compute(graph, &plan) == GGML_STATUS_SUCCESS, "ggml");
                       }));
    of_hip_attn = std::min(of_hip_attn, seconds_of(decode));
  }
  const auto* expected = static_cast<const float*>(node->data);
  double difference = 0, size = 0;
  for (size_t i = 0; i < decode.out.size(); ++i) {
    difference += std::pow(decode.out[i] - expected[i], 2);
    size += std::pow(expected[i], 2);
  }
  require(difference <= 1e-4 * size, "the two attend to something else");
  std::printf(
      "{\"name\": \"node/%s/q%dk%d\", \"ggml_seconds\": %.4g, \"hip_attn_seconds\": %.4g}\n",
      ggml_type_name(type), static_cast<int>(heads), static_cast<int>(kv_heads), of_ggml,
      of_hip_attn);
  ggml_threadpool_free(pool);
  ggml_free(context);
}

}  // namespace

int main(int argc, char** argv) {
  require(argc == 2, "usage: node THREADS");
  const int threads = std::atoi(argv[1]);
  ggml_cpu_init();
  for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_F32}) {
    measure(8, 2, type, threads);
    measure(32, 8, type, threads);
    measure(32, 32, type, threads);
  }
}
