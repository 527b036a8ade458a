/// The text that tasks hide things in, and the words that they draw from it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "seeded_draw.hpp"

namespace llama {

class Haystack {
 public:
  /// Errors: kCannotReadFile; kInvalidArgument for a text with fewer than 100 different words of 3
  /// to 12 lowercase letters, which the tasks need.
  static Haystack read(const std::filesystem::path& path);
  /// where: what messages call the text.
  Haystack(std::string text, const std::string& where);

  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  /// What blanks separate, in order.
  [[nodiscard]] const std::vector<std::string_view>& words() const noexcept { return words_; }
  /// The different words of 3 to 12 lowercase letters that no other letter, digit or underscore
  /// touches, in alphabetic order.
  [[nodiscard]] const std::vector<std::string>& vocabulary() const noexcept { return vocabulary_; }

 private:
  std::string text_;
  std::vector<std::string_view> words_;
  std::vector<std::string> vocabulary_;
};

/// Two words of a vocabulary: "brief-lane".
std::string draw_word_pair(const std::vector<std::string>& vocabulary, SeededDraw& draw);

/// Different words without end: the vocabulary in a seeded order, and after it pairs of its words.
/// Word i is the same however many are asked for.
class DistinctWords {
 public:
  DistinctWords(const std::vector<std::string>& vocabulary, SeededDraw draw);
  [[nodiscard]] std::vector<std::string> first(std::int64_t count);

 private:
  const std::vector<std::string>& vocabulary_;
  SeededDraw draw_;
  std::vector<std::string> words_;
  std::set<std::string> pairs_;
};

}  // namespace llama
