/// What the tests run over: the element types, head dims and devices that this build and this
/// machine have.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <tuple>
#include <vector>

#include "catch.hpp"
#include "hip_attn/build_info.hpp"
#include "hip_attn_instantiations.hpp"
#include "tested_types.hpp"

/// A TEMPLATE_TEST_CASE over every element type of this build; inside namespace hip_attn.
#define HIP_ATTN_TYPED_TEST_CASE(name) \
  HIP_ATTN_TYPED_TEST_CASE_(name, "" HIP_ATTN_FOR_EACH_ELEMENT_TYPE(HIP_ATTN_NEXT_TYPE_))
#define HIP_ATTN_TYPED_TEST_CASE_(...) TEMPLATE_TEST_CASE(__VA_ARGS__)
#define HIP_ATTN_NEXT_TYPE_(T) , T

/// A TEMPLATE_TEST_CASE over every pair of types that prefill and decode take in this build, each a
/// TypePair; inside namespace hip_attn.
#define HIP_ATTN_OPERATOR_TEST_CASE(name) \
  HIP_ATTN_TYPED_TEST_CASE_(name, "" HIP_ATTN_FOR_EACH_TYPE_PAIR(HIP_ATTN_NEXT_PAIR_))
#define HIP_ATTN_NEXT_PAIR_(T, C) HIP_ATTN_NEXT_PAIR_IF_(HIP_ATTN_BUILT_##C, T, C)
#define HIP_ATTN_NEXT_PAIR_IF_(built, T, C) HIP_ATTN_NEXT_PAIR_IF__(built, T, C)
#define HIP_ATTN_NEXT_PAIR_IF__(built, T, C) HIP_ATTN_NEXT_PAIR_##built(T, C)
#define HIP_ATTN_NEXT_PAIR_0(T, C)
#define HIP_ATTN_NEXT_PAIR_1(T, C) , (test::TypePair<T, C>)

namespace hip_attn::test {

/// Some element type of this build, for what does not depend on the type.
using AnyElement =
    std::tuple_element_t<1, std::tuple<void HIP_ATTN_FOR_EACH_ELEMENT_TYPE(HIP_ATTN_NEXT_TYPE_)>>;

inline std::vector<std::int64_t> head_dims() {
  return {built_head_dims().begin(), built_head_dims().end()};
}

/// Float queries over a 16-bit cache do not need float built, but merge_states of floats does.
template <Element T>
bool is_built() {
  const auto built = built_element_types();
  return std::find(built.begin(), built.end(), kElementType<T>) != built.end();
}

/// For properties that do not depend on the head dim.
inline std::int64_t least_head_dim() { return built_head_dims().front(); }

inline bool has_cuda_device() { return check_device(cuda_device()).ok(); }

/// Devices that prefill and decode run on with these types.
template <TestedTypes P>
std::vector<Device> attention_devices() {
  const bool one_type = std::same_as<QueryType<P>, CacheType<P>>;
  if (one_type && !std::same_as<QueryType<P>, float> && has_cuda_device()) {
    return {kCpu, cuda_device()};
  }
  return {kCpu};
}

/// Devices that append_kv and merge_states run on.
inline std::vector<Device> data_devices() {
  if (has_cuda_device()) return {kCpu, cuda_device()};
  return {kCpu};
}

}  // namespace hip_attn::test
