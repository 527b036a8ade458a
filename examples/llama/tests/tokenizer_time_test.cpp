#include <algorithm>
#include <ctime>
#include <limits>

#include "json_file.hpp"
#include "tokenizer_support.hpp"

namespace llama::test {
namespace {

/// The shortest of three times, in seconds of this process: what else runs on the machine does not
/// count.
template <typename Action>
double seconds(Action&& action) {
  std::clock_t shortest = std::numeric_limits<std::clock_t>::max();
  for (int i = 0; i < 3; ++i) {
    const std::clock_t start = std::clock();
    [[maybe_unused]] const auto result = action();
    shortest = std::min(shortest, std::clock() - start);
  }
  return static_cast<double>(shortest) / CLOCKS_PER_SEC;
}

std::string added_token(int i) { return "<token " + std::to_string(i) + ">"; }

Json with_many_added(int count) {
  std::vector<NewToken> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back({added_token(i), "normalized"});
  return with_added(bundled_json(), tokens);
}

/// One of `count` added tokens after every 20 bytes. It is valid UTF-8, which is encoded in one
/// piece.
std::string text_with_tokens(std::size_t size, int count) {
  std::string text;
  for (int i = 0; text.size() < size; ++i) text += "words and a number, " + added_token(i % count);
  return text;
}

// Eight times the work takes about eight times as long, and would take 64 times as long if time
// grew with the square. The bound is low, because a square begins as a small part of the time: one
// that takes a seventh of the shorter time already breaks it.
constexpr double kMostFor8Times = 16;

TEST_CASE("tokenizer: time is linear in the text, among added tokens that occur often") {
  const Tokenizer many = tokenizer(with_many_added(256));
  const std::string text = text_with_tokens(800'000, 256);
  const double part = seconds([&] { return many.encode(text.substr(0, 100'000)); });
  const double whole = seconds([&] { return many.encode(text); });
  INFO(part << " s for an eighth, " << whole << " s for the whole");
  CHECK(whole < kMostFor8Times * part);
}

TEST_CASE("tokenizer: time is linear in the text, in white space that added tokens take") {
  const Tokenizer strip = tokenizer(with_added(bundled_json(), {{"  ", "lstrip rstrip"}}));
  const double part = seconds([&] { return strip.encode(std::string(100'000, ' ')); });
  const double whole = seconds([&] { return strip.encode(std::string(800'000, ' ')); });
  INFO(part << " s for an eighth, " << whole << " s for the whole");
  CHECK(whole < kMostFor8Times * part);
}

TEST_CASE("tokenizer: time is linear in the number of added tokens") {
  const TemporaryFolder folder;
  const auto few = folder.write("few.json", with_many_added(10'000).dump());
  const auto all = folder.write("all.json", with_many_added(80'000).dump());
  const double part = seconds([&] { return Tokenizer(few); });
  const double whole = seconds([&] { return Tokenizer(all); });
  INFO(part << " s for 10000, " << whole << " s for 80000");
  CHECK(whole < kMostFor8Times * part);

  // Encoding does not grow with them at all.
  const std::string text = text_with_tokens(200'000, 256);
  const Tokenizer with_few(few);
  const Tokenizer with_all(all);
  CHECK(seconds([&] { return with_all.encode(text); }) <
        4 * seconds([&] { return with_few.encode(text); }));
}

}  // namespace
}  // namespace llama::test
