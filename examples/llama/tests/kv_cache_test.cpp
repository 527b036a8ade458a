#include "kv_cache.hpp"

#include <vector>

#include "batch.hpp"
#include "support.hpp"

namespace llama::test {
namespace {

TEST_CASE("kv cache: sequences take pages as they grow and give them back") {
  PagePool pool(4, 16);
  {
    Sequence sequence(pool, 0);
    sequence.grow(16);
    REQUIRE(sequence.pages().size() == 1);
    sequence.grow(1);
    REQUIRE(sequence.pages().size() == 2);
    REQUIRE(sequence.cache_slot(16) == sequence.pages()[1] * 16);
    Sequence other(pool, 1);
    other.grow(32);
    require_error(ErrorCode::kOutOfPages, "all 4 pages of 16 tokens", [&] { other.grow(1); });
    REQUIRE(other.size() == 32);
  }
  Sequence all(pool, 0);
  all.grow(64);
  REQUIRE(all.pages().size() == 4);
}

TEST_CASE("kv cache: a fork shares full pages and owns what follows") {
  PagePool pool(5, 16);
  auto parent = std::make_unique<Sequence>(pool, 0);
  parent->grow(40);
  Sequence child = parent->fork(1);
  REQUIRE(child.size() == 32);
  child.grow(8);
  REQUIRE(child.pages()[0] == parent->pages()[0]);
  REQUIRE(child.pages()[1] == parent->pages()[1]);
  REQUIRE(child.pages()[2] != parent->pages()[2]);

  parent.reset();  // leaves the shared pages to the child: two of five are free
  Sequence other(pool, 2);
  other.grow(32);
  require_error(ErrorCode::kOutOfPages, "pages", [&] { other.grow(1); });
}

TEST_CASE("batch: describes sequences of different lengths") {
  PagePool pool(8, 4);
  Sequence a(pool, 3);
  Sequence b(pool, 5);
  a.grow(6);
  const std::vector<TokenId> tokens = {10, 11, 12};
  const BatchEntry entries[] = {{&a, std::span(tokens).first(1)}, {&b, tokens}};
  const Batch batch = make_batch(Phase::kPrefill, entries);
  REQUIRE(batch.tokens == std::vector<TokenId>{10, 10, 11, 12});
  REQUIRE(batch.positions == std::vector<std::int32_t>{6, 0, 1, 2});
  REQUIRE(batch.seq_lens == std::vector<std::int32_t>{7, 3});
  REQUIRE(batch.cu_seqlens_q == std::vector<std::int32_t>{0, 1, 4});
  REQUIRE(batch.slots == std::vector<std::int32_t>{3, 5});
  REQUIRE(batch.max_pages == 2);
  REQUIRE(batch.block_table[0] == a.pages()[0]);
  REQUIRE(batch.block_table[2] == b.pages()[0]);
  REQUIRE(batch.slot_mapping[0] == a.pages()[1] * 4 + 2);
  REQUIRE(batch.first_position(0) == 6);
  REQUIRE(a.decode_steps == 0);

  (void)make_batch(Phase::kDecode, {entries, 1});
  REQUIRE(a.decode_steps == 1);
}

}  // namespace
}  // namespace llama::test
