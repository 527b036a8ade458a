// The file of a trace: it holds what decode selected, and from which chunks.

#include "selection_trace.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "json_file.hpp"
#include "selection_log.hpp"
#include "support.hpp"

namespace llama::test {
namespace {

/// The numbers behind the header.
class Numbers {
 public:
  explicit Numbers(const std::string& file) : file_(file), at_(file.find('\n') + 1) {}

  [[nodiscard]] bool more() const { return at_ < file_.size(); }
  std::int32_t next() {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      REQUIRE(more());
      const auto byte = static_cast<unsigned char>(file_[at_++]);
      value |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return static_cast<std::int32_t>(value);
    }
  }
  std::vector<std::int32_t> list() {
    std::vector<std::int32_t> numbers(static_cast<std::size_t>(next()));
    std::int32_t before = 0;
    for (std::int32_t& number : numbers) number = before += next();
    return numbers;
  }

 private:
  const std::string& file_;
  std::size_t at_;
};

SelectionObserver both(SelectionObserver a, SelectionObserver b) {
  return [a = std::move(a), b = std::move(b)](auto&&... of) {
    a(of...);
    b(of...);
  };
}

TEST_CASE("trace: read back, it is what decode selected, and the chunks hold the blocks") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "trace";
  constexpr std::int64_t kPrompt = 2048;
  constexpr std::int64_t kSteps = 40;
  const auto tokens = haystack_tokens(kPrompt + kSteps);
  hip_attn::HipConfig config = landmark_config();
  config.refresh_interval = {16, 16, 8};
  AttentionOptions options = hip_attention(config);
  options.settling_steps = 4;
  Engine engine(bundled_model(), options, options_for(kPrompt + kSteps));
  Sequence sequence = engine.new_sequence();
  engine.prefill(sequence, std::span(tokens).first(kPrompt), [](auto, auto) {});

  std::vector<SelectionEntry> selected;
  SelectionTrace trace(path, {{"prompt_tokens", kPrompt}}, bundled_model().config(),
                       engine.attention());
  engine.attention().observe_selections(both(trace.observer(), log_selections(selected)));
  for (std::int64_t i = kPrompt; i < kPrompt + kSteps; ++i) {
    const BatchEntry entry{&sequence, std::span(tokens).subspan(i, 1)};
    (void)engine.run(Phase::kDecode, {&entry, 1});
  }
  const std::int64_t bytes = trace.close();
  const std::string file = read_file(path);
  CHECK(std::ssize(file) == bytes);

  const Json header = Json::parse(file.substr(0, file.find('\n')));
  CHECK(header["layers"].size() == 6);
  CHECK(header["kv_heads"] == 2);
  CHECK(header["prompt_tokens"] == kPrompt);
  Numbers numbers(file);
  std::map<std::pair<std::int64_t, std::int64_t>, TracedSearch> now;
  std::int64_t searches = 0;
  for (const SelectionEntry& entry : selected) {
    TracedSearch& search = now[{entry.layer, entry.kv_head}];
    const std::int32_t flags = numbers.next();
    if (flags & 1) {
      ++searches;
      search.window_start = numbers.next();
      search.chunk_shift = numbers.next();
      search.chunks = numbers.list();
    }
    if (flags & 2) search.blocks = numbers.list();
    REQUIRE(search.window_start == entry.window_start);
    REQUIRE(search.blocks == entry.blocks);
    for (const std::int32_t block : search.blocks) {
      const auto behind =
          std::upper_bound(search.chunks.begin(), search.chunks.end(), block * entry.block_k);
      REQUIRE(behind != search.chunks.begin());
      REQUIRE(block * entry.block_k - *std::prev(behind) < 1 << search.chunk_shift);
    }
  }
  CHECK(!numbers.more());
  // What did not change was not written again.
  CHECK(searches == 3 * 12);
}

TEST_CASE("trace: attention that searches nothing has none") {
  const TemporaryFolder folder;
  Engine engine(bundled_model(), dense_attention(), options_for(64));
  require_error(ErrorCode::kInvalidArgument, "nothing to trace", [&] {
    SelectionTrace(folder.path() / "trace", {}, bundled_model().config(), engine.attention());
  });
}

TEST_CASE("trace: a file that cannot be written is an error") {
  Engine engine(bundled_model(), hip_attention(landmark_config()), options_for(64));
  SelectionTrace trace("/nowhere/trace", {}, bundled_model().config(), engine.attention());
  require_error(ErrorCode::kInvalidArgument, "cannot write /nowhere/trace", [&] { trace.close(); });
}

}  // namespace
}  // namespace llama::test
