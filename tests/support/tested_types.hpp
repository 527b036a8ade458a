/// The types that a test of the operators runs over: of queries and outputs, and of the cache.
#pragma once

#include <type_traits>

#include "hip_attn/attention.hpp"

namespace hip_attn::test {

/// What HIP_ATTN_OPERATOR_TEST_CASE calls TestType. A single element type stands for both.
template <Element T, StoredFor<T> C>
struct TypePair {
  using Query = T;
  using Cache = C;
};

template <typename P>
struct PairOf {
  using Type = P;
};
template <Element T>
struct PairOf<T> {
  using Type = TypePair<T, T>;
};

template <typename P>
using QueryType = typename PairOf<P>::Type::Query;
template <typename P>
using CacheType = typename PairOf<P>::Type::Cache;

template <typename P>
concept TestedTypes = StoredFor<CacheType<P>, QueryType<P>>;

template <TestedTypes P>
using ArgumentsOf = AttentionArgs<QueryType<P>, CacheType<P>>;

}  // namespace hip_attn::test
