// What C cannot check: null and odd arguments of every function get a code and a message that names
// the argument, its value and what is accepted. Nothing crashes.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/c/hip_attn.h"
#include "support/same_bits.hpp"
#include "support/spoilt_call.hpp"

namespace hip_attn {
namespace {

using namespace test;

using T = AnyElement;

/// A good call as C has it, to spoil: copies of everything that the arguments point at.
struct CCall {
  explicit CCall(Operator op) : call(op), arguments(kCpu), plan{call.plan} {
    if (op == Operator::kDecode) call.add_cache();
    args = arguments.attention(call.plan, call.args);
    const auto own = [](const DLTensor*& pointer, DLTensor& copy) {
      copy = *pointer;
      pointer = &copy;
    };
    own(args.q, q);
    own(args.out, out);
    own(args.seq_lens, seq_lens);
    own(args.lse, lse);
    own(args.counters, counters);
    kv = *args.kv;
    args.kv = &kv;
    pages = *kv.pages;
    kv.pages = &pages;
    own(pages.k, keys);
    own(kv.block_table, block_table);
    selection_out = *args.selection_out;
    args.selection_out = &selection_out;
    own(selection_out.blocks, blocks);
    if (args.cache != nullptr) {
      cache = *args.cache;
      args.cache = &cache;
      own(cache.data, cache_data);
    }
  }
  [[nodiscard]] Status run() const {
    const auto run = call.plan.op == Operator::kPrefill ? hip_attn_prefill : hip_attn_decode;
    return status_of_c([&](char* message, std::size_t capacity) {
      return run(&plan, &args, call.workspace.data(), call.workspace.size(), nullptr, message,
                 capacity);
    });
  }

  /// q as one request [1, R, Hq, D].
  void add_batch_dimension() {
    sizes = {1, q.shape[0], q.shape[1], q.shape[2]};
    strides = {7, q.strides[0], q.strides[1], q.strides[2]};
    q.ndim = 4;
    q.shape = sizes.data();
    q.strides = strides.data();
  }

  Call call;
  CArguments arguments;
  HipAttnPlan plan;
  HipAttnAttentionArgs args;
  HipAttnPagedKv kv{};
  HipAttnKvPages pages{};
  HipAttnSelection selection_out{};
  HipAttnSelectionCache cache{};
  std::array<std::int64_t, 4> sizes{}, strides{};
  DLTensor q{}, out{}, seq_lens{}, lse{}, counters{}, keys{}, block_table{}, blocks{}, cache_data{};
};

struct CCase {
  StatusCode code;
  std::string message;
  std::function<void(CCall&)> spoil;
};

void check_c_cases(Operator op, const std::vector<CCase>& cases) {
  for (const CCase& each : cases) {
    CAPTURE(op, each.message);
    CCall call(op);
    REQUIRE(call.run().ok());
    each.spoil(call);
    check_refused(call.run(), each.code, {each.message});
  }
}

// Another element type than that of the calls.
DLDataType other_dtype() {
  return kElementType<T> == ElementType::kFloat16 ? DLDataType{kDLBfloat, 16, 1}
                                                  : DLDataType{kDLFloat, 16, 1};
}

TEST_CASE("C: required tensors and structs that are null are refused by name") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const auto null = StatusCode::kNullPointer;
  check_c_cases(
      op,
      {{null, "q is null; it must point at a DLTensor of ", [](CCall& c) { c.args.q = nullptr; }},
       {null, "out is null; it must point at a DLTensor of ",
        [](CCall& c) { c.args.out = nullptr; }},
       {null, "seq_lens is null; it must point at a DLTensor of int32 and 1 dimension",
        [](CCall& c) { c.args.seq_lens = nullptr; }},
       {null, "cu_seqlens_q is null", [](CCall& c) { c.args.cu_seqlens_q = nullptr; }},
       {null, "kv is null; it must point at a struct", [](CCall& c) { c.args.kv = nullptr; }},
       {null, "kv.pages is null", [](CCall& c) { c.kv.pages = nullptr; }},
       {null, "kv.pages.k is null", [](CCall& c) { c.pages.k = nullptr; }},
       {null, "kv.pages.v is null", [](CCall& c) { c.pages.v = nullptr; }},
       {null, "selection_out.blocks is null", [](CCall& c) { c.selection_out.blocks = nullptr; }},
       {null, "q.shape is null; it must point at 3 sizes", [](CCall& c) { c.q.shape = nullptr; }},
       {null, "q.data is null", [](CCall& c) { c.q.data = nullptr; }},
       {null, "kv.block_table.data is null", [](CCall& c) {
          c.block_table.data = nullptr;
          c.block_table.byte_offset = 64;
        }}});
}

TEST_CASE("C: wrong dtypes, ranks, devices and strides are refused by name") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const auto bad = StatusCode::kInvalidArgument;
  check_c_cases(
      op,
      {{bad, "q.dtype is ", [](CCall& c) { c.q.dtype = other_dtype(); }},
       {bad, "out.dtype is ", [](CCall& c) { c.out.dtype = other_dtype(); }},
       {bad, "kv.pages.k.dtype is ", [](CCall& c) { c.keys.dtype = other_dtype(); }},
       {bad, "seq_lens.dtype is int64; it must be int32",
        [](CCall& c) { c.seq_lens.dtype.bits = 64; }},
       {bad, "seq_lens.dtype is uint32; it must be int32",
        [](CCall& c) { c.seq_lens.dtype.code = kDLUInt; }},
       {bad, "lse.dtype is float32 in 4 lanes; it must be float32",
        [](CCall& c) { c.lse.dtype.lanes = 4; }},
       {bad, "counters.dtype is code 77 of 64 bits; it must be int64",
        [](CCall& c) { c.counters.dtype.code = 77; }},
       {bad, "q.ndim is 2; it must be 3, or 4", [](CCall& c) { c.q.ndim = 2; }},
       {StatusCode::kInvalidShape, "q.shape[0] is 1; it must be 2 (size of seq_lens)",
        [](CCall& c) { c.add_batch_dimension(); }},
       {bad, "kv.block_table.ndim is -1; it must be 2", [](CCall& c) { c.block_table.ndim = -1; }},
       {bad, "q.device is CUDA 0; it must be the CPU",
        [](CCall& c) { c.q.device.device_type = kDLCUDA; }},
       {bad, "kv.pages.k.device is DLDeviceType 10; it must be the CPU",
        [](CCall& c) { c.keys.device.device_type = kDLROCM; }},
       {bad, "selection_out.blocks.ndim is 1; it must be 3", [](CCall& c) { c.blocks.ndim = 1; }},
       {StatusCode::kInvalidStride, "q.strides[2] is 2", [](CCall& c) { c.q.strides[2] = 2; }},
       {StatusCode::kInvalidStride, "out.strides[0] is -64",
        [](CCall& c) { c.out.strides[0] = -64; }},
       {StatusCode::kInvalidShape, "q.sizes[0] is -5", [](CCall& c) { c.q.shape[0] = -5; }},
       {StatusCode::kMisalignedPointer, "q.data is ", [](CCall& c) { c.q.byte_offset = 2; }}});
}

TEST_CASE("C: memory of a selection cache that is too small is refused, not overrun") {
  check_c_cases(
      Operator::kDecode,
      {{StatusCode::kInvalidShape, "cache.data.sizes[0] is 7; it must be at least num_slots (2)",
        [](CCall& c) { c.cache_data.shape[0] = 7; }},
       {StatusCode::kInvalidShape, "it must be at least num_slots (9223372036854775807)",
        [](CCall& c) { c.cache.num_slots = INT64_MAX; }},
       {StatusCode::kInvalidShape, "cache.num_slots is -1",
        [](CCall& c) { c.cache.num_slots = -1; }},
       {StatusCode::kInvalidStride, "cache.data.strides[0] is 2; it must be 1",
        [](CCall& c) { c.cache_data.strides[0] = 2; }},
       {StatusCode::kInvalidArgument, "cache.data.dtype is int8; it must be uint8",
        [](CCall& c) { c.cache_data.dtype.code = kDLInt; }}});
}

TEST_CASE("C: tensors that frameworks write otherwise are taken") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  CCall call(op);
  REQUIRE(call.run().ok());
  const auto expected = call.call.memory.read();
  // Pinned memory of CUDA is the CPU's too; an offset counts bytes; a dimension of one element has
  // whatever stride.
  call.q.device.device_type = kDLCUDAHost;
  call.keys.device.device_type = kDLCUDAManaged;
  call.seq_lens.data = static_cast<std::byte*>(call.seq_lens.data) - 12;
  call.seq_lens.byte_offset = 12;
  call.seq_lens.strides = nullptr;
  REQUIRE(call.run().ok());
  CHECK(same_bits(call.call.memory.read().out, expected.out));

  std::int64_t one = 1;
  std::int64_t stride = 77;
  DLTensor length = call.seq_lens;
  length.shape = &one;
  length.strides = &stride;
  TensorView<const std::int32_t, 1> view;
  REQUIRE(c_api::view_of("length", &length, kCpu, view).ok());
  CHECK(view.strides[0] == 1);
}

TEST_CASE("C: strides that are null are those of a compact tensor, also of sizes that overflow") {
  std::array<std::int64_t, 3> sizes{3, 5, 64};
  DLTensor tensor{nullptr, {kDLCPU, 0}, 3, {kDLFloat, 32, 1}, sizes.data(), nullptr, 0};
  TensorView<float, 3> view;
  REQUIRE(c_api::view_of("tensor", &tensor, kCpu, view).ok());
  CHECK(view.strides == std::array<std::int64_t, 3>{320, 64, 1});
  sizes = {INT64_MAX, INT64_MAX, INT64_MAX};
  CHECK(c_api::view_of("tensor", &tensor, kCpu, view).ok());
}

TEST_CASE("C: an operator on CUDA takes memory of its own device, pinned and managed") {
  std::int64_t size = 4;
  DLTensor tensor{nullptr, {kDLCUDA, 1}, 1, {kDLInt, 32, 1}, &size, nullptr, 0};
  TensorView<std::int32_t, 1> view;
  CHECK(c_api::view_of("x", &tensor, cuda_device(1), view).ok());
  check_refused(c_api::view_of("x", &tensor, cuda_device(0), view), StatusCode::kInvalidArgument,
                {"x.device is CUDA 1; it must be CUDA 0"});
  tensor.device = {kDLCPU, 0};
  check_refused(c_api::view_of("x", &tensor, cuda_device(0), view), StatusCode::kInvalidArgument,
                {"x.device is the CPU; it must be CUDA 0"});
  for (const DLDeviceType type : {kDLCUDAHost, kDLCUDAManaged}) {
    tensor.device = {type, 0};
    CHECK(c_api::view_of("x", &tensor, cuda_device(0), view).ok());
  }
}

TEST_CASE("C: every function takes null for every pointer") {
  std::array<char, 64> text{};
  char* const m = text.data();
  const std::size_t n = text.size();
  const DLDevice cpu{kDLCPU, 0};
  HipAttnPlan* plan = nullptr;
  HipAttnConfig* config = nullptr;
  HipAttnKvStorePlan* store_plan = nullptr;
  const HipAttnPlan made{Call(Operator::kDecode).plan};
  HipAttnPlan mutable_plan = made;
  const HipAttnConfig small{small_config(), {}};
  const auto null = HIP_ATTN_NULL_POINTER;
  CHECK(hip_attn_prefill(nullptr, nullptr, nullptr, 0, nullptr, m, n) == null);
  CHECK(hip_attn_decode(&made, nullptr, nullptr, 0, nullptr, m, n) == null);
  CHECK(hip_attn_prefill_part(nullptr, nullptr, nullptr, 0, nullptr, 0, m, n) == null);
  CHECK(hip_attn_decode_part(&made, nullptr, nullptr, 0, nullptr, 0, m, n) == null);
  CHECK(hip_attn_append_kv(cpu, nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_update_landmarks(cpu, nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_merge_states(cpu, nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_host_memory_allocate(cpu, 1, nullptr, m, n) == null);
  CHECK(hip_attn_host_memory_data(nullptr) == nullptr);
  CHECK(hip_attn_host_memory_size(nullptr) == 0);
  CHECK(hip_attn_host_memory_release(nullptr, 1) == 0);
  CHECK(hip_attn_plan_kv_store(nullptr, nullptr, 0, nullptr, m, n) == null);
  CHECK(hip_attn_plan_kv_store(nullptr, nullptr, 0, &store_plan, m, n) == null);
  CHECK(hip_attn_plan_kv_store(&small, nullptr, 0, &store_plan, m, n) == null);
  CHECK(hip_attn_kv_store_plan_info(nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_clear_kv_store(nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_bind_kv_store(nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_admit_kv_store(nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_read_kv_store_counters(nullptr, nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_add_sink_logits(cpu, nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_make_index_selection(nullptr, nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_make_index_selection(&made, nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_plan_prefill(nullptr, nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_plan_prefill(nullptr, nullptr, &plan, m, n) == null);
  CHECK(hip_attn_plan_decode(&small, nullptr, &plan, m, n) == null);
  CHECK(hip_attn_plan_info(nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_plan_info(&made, nullptr, m, n) == null);
  CHECK(hip_attn_plan_set_dense_until(nullptr, 0, m, n) == null);
  CHECK(hip_attn_plan_set_num_threads(nullptr, 1, m, n) == null);
  CHECK(hip_attn_plan_set_num_threads(&mutable_plan, 0, m, n) == HIP_ATTN_INVALID_ARGUMENT);
  CHECK(hip_attn_thread_team_create(2, nullptr, m, n) == null);
  HipAttnThreadTeam* team = nullptr;
  CHECK(hip_attn_thread_team_create(0, &team, m, n) == HIP_ATTN_INVALID_ARGUMENT);
  CHECK(hip_attn_config_create(nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_config_create(nullptr, &config, m, n) == null);
  CHECK(hip_attn_config_from_preset(nullptr, nullptr, &config, m, n) == null);
  CHECK(hip_attn_config_from_preset("dense", nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_config_values(nullptr, nullptr, m, n) == null);
  CHECK(hip_attn_config_values(&small, nullptr, m, n) == null);
  CHECK(hip_attn_config_stage(nullptr, 0, nullptr, m, n) == null);
  CHECK(hip_attn_config_stage(&small, 0, nullptr, m, n) == null);
  CHECK(hip_attn_config_stage(&small, 3, nullptr, m, n) == HIP_ATTN_INVALID_ARGUMENT);
  CHECK(hip_attn_config_refresh_from_at(nullptr, 1) == 0);
  CHECK(hip_attn_config_refresh_ahead_at(nullptr, 1) == 0);
  CHECK(hip_attn_config_window_start(nullptr, 1) == 0);
  CHECK(hip_attn_config_landmark_chunk_sizes(nullptr, nullptr, 3) == 0);
  CHECK(hip_attn_model_config_parse(nullptr, 3, nullptr, m, n) == null);
  CHECK(hip_attn_model_config_decode(nullptr, 0, &config, m, n) == null);
  CHECK(hip_attn_model_config_prefill(nullptr, 0, nullptr, m, n) == null);
  CHECK(hip_attn_model_config_prefill_dense_until(nullptr) == 0);
  CHECK(hip_attn_model_config_dense_layers(nullptr, nullptr, 2) == 0);
  CHECK(hip_attn_model_config_num_notes(nullptr) == 0);
  CHECK(hip_attn_model_config_note(nullptr, 0) == nullptr);
  CHECK(hip_attn_built_head_dims(nullptr, 9) > 0);
  CHECK(hip_attn_built_dtypes(nullptr, 9) > 0);
  CHECK((plan == nullptr && config == nullptr && team == nullptr && store_plan == nullptr));
  hip_attn_plan_destroy(nullptr);
  hip_attn_config_destroy(nullptr);
  hip_attn_model_config_destroy(nullptr);
  hip_attn_thread_team_destroy(nullptr);
  hip_attn_host_memory_destroy(nullptr);
  hip_attn_kv_store_plan_destroy(nullptr);
}

TEST_CASE("C: messages fit the caller's buffer and always end") {
  std::vector<char> text(200, '?');
  const auto refuse = [&](char* message, std::size_t capacity) {
    return hip_attn_check_device({kDLMetal, 0}, message, capacity);
  };
  const std::string whole = "device is DLDeviceType 8; it must be kDLCPU (1) or kDLCUDA (2)";
  REQUIRE(refuse(text.data(), text.size()) == HIP_ATTN_UNSUPPORTED);
  CHECK(std::string(text.data()) == whole);
  for (const std::size_t capacity : {1u, 2u, 10u, 62u, 63u}) {
    text.assign(text.size(), '?');
    CHECK(refuse(text.data(), capacity) == HIP_ATTN_UNSUPPORTED);
    CHECK(std::string(text.data()) == whole.substr(0, capacity - 1));
    CHECK(text[capacity] == '?');
  }
  text.assign(text.size(), '?');
  CHECK(refuse(text.data(), 0) == HIP_ATTN_UNSUPPORTED);
  CHECK(text[0] == '?');
  CHECK(refuse(nullptr, 100) == HIP_ATTN_UNSUPPORTED);
  CHECK(hip_attn_check_device({kDLCPU, 0}, text.data(), 1) == HIP_ATTN_OK);
  CHECK(text[0] == '\0');
}

TEST_CASE("C: an exception leaves no function, and becomes a status with its words") {
  std::array<char, 64> text{};
  const auto guarded = [&](const auto& body) {
    text.fill('?');
    return c_api::guarded({text.data(), text.size()}, body);
  };
  CHECK(guarded([]() -> Status { throw std::bad_alloc(); }) == HIP_ATTN_OUT_OF_MEMORY);
  CHECK(std::string(text.data()) == "there is no memory for a handle or a message");
  CHECK(guarded([]() -> Status { throw std::out_of_range("no such page"); }) ==
        HIP_ATTN_INTERNAL_ERROR);
  CHECK(std::string(text.data()) == "no such page");
  CHECK(guarded([]() -> Status { throw 7; }) == HIP_ATTN_INTERNAL_ERROR);
  CHECK(std::string(text.data()) == "an unknown C++ exception");
}

TEST_CASE("C: data operators refuse dtypes and devices that are none") {
  std::array<char, 256> text{};
  std::int64_t sizes[4] = {1, 1, 1, 64};
  DLTensor tensor{nullptr, {kDLCPU, 0}, 3, {kDLInt, 8, 1}, sizes, nullptr, 0};
  HipAttnAppendKvArgs args{};
  args.struct_size = sizeof(args);
  args.k = &tensor;
  CHECK(hip_attn_append_kv({kDLCPU, 0}, &args, nullptr, text.data(), text.size()) ==
        HIP_ATTN_INVALID_ARGUMENT);
  CHECK(std::string(text.data()) == "k.dtype is int8; it must be float32, float16 or bfloat16");
  CHECK(hip_attn_append_kv({kDLVulkan, 0}, &args, nullptr, text.data(), text.size()) ==
        HIP_ATTN_UNSUPPORTED);
  tensor.dtype = {kDLFloat, 32, 1};
  CHECK(hip_attn_append_kv({kDLCPU, 0}, &args, nullptr, text.data(), text.size()) ==
        HIP_ATTN_NULL_POINTER);
  CHECK(std::string(text.data()) ==
        "v is null; it must point at a DLTensor of float32 and 3 dimensions");
}

}  // namespace
}  // namespace hip_attn
