// The documents tell the truth: their C++ and C are code of a test, their links lead somewhere, and
// the documents and sections that comments refer to exist. bench/report checks their
// tables.
//
// After a change of a snippet:  hip_attn_tests '[update-docs]'  writes it into the documents.
#include <algorithm>
#include <cctype>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

namespace {

namespace fs = std::filesystem;
using Lines = std::vector<std::string>;

fs::path source_dir() {
#if defined(HIP_ATTN_SOURCE_DIR)
  return HIP_ATTN_SOURCE_DIR;
#else
  return fs::path(__FILE__).parent_path().parent_path();
#endif
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  INFO(path.string());
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

Lines lines_of(const std::string& text) {
  Lines lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::string joined(const Lines& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + '\n';
  return text;
}

std::vector<fs::path> files_in(const std::string& dir, const std::set<std::string>& extensions) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(source_dir() / dir)) {
    if (entry.is_regular_file() && extensions.contains(entry.path().extension().string())) {
      files.push_back(entry.path());
    }
  }
  std::ranges::sort(files);
  return files;
}

std::vector<fs::path> documents() {
  std::vector<fs::path> files = files_in("docs", {".md"});
  for (const char* name : {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}) {
    files.push_back(source_dir() / name);
  }
  return files;
}

// (std::regex would say all of this shorter, but trips a warning of GCC 12 under sanitizers.)
bool is_name(std::string_view text) {
  return !text.empty() &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string_view::npos;
}

// "name" of prefix + "name" + suffix; empty when `line` is something else.
std::string name_between(std::string_view line, std::string_view prefix, std::string_view suffix) {
  if (line.size() < prefix.size() + suffix.size() || !line.starts_with(prefix) ||
      !line.ends_with(suffix)) {
    return {};
  }
  line.remove_prefix(prefix.size());
  line.remove_suffix(suffix.size());
  return is_name(line) ? std::string(line) : std::string();
}

// Takes the indentation that all lines share away.
Lines dedented(Lines lines) {
  std::size_t indent = std::string::npos;
  for (const std::string& line : lines) indent = std::min(indent, line.find_first_not_of(' '));
  for (std::string& line : lines) line.erase(0, std::min(indent, line.size()));
  return lines;
}

// What stands between two lines "// [name]" of a test, by name.
std::map<std::string, Lines> snippets() {
  std::map<std::string, Lines> found;
  for (const fs::path& path : files_in("tests", {".cpp", ".hpp", ".cu", ".cuh", ".h"})) {
    std::optional<std::string> open;
    for (const std::string& line : lines_of(read_text(path))) {
      const std::size_t indent = std::min(line.find_first_not_of(' '), line.size());
      const std::string name = name_between(line.substr(indent), "// [", "]");
      if (!name.empty()) {
        INFO(path.string() << ", snippet " << name);
        if (open) {
          REQUIRE(*open == name);  // snippets do not overlap
          found[name] = dedented(found[name]);
          open.reset();
        } else {
          REQUIRE(found.emplace(name, Lines{}).second);  // a name is used once
          open = name;
        }
      } else if (open) {
        found[*open].push_back(line);
      }
    }
    INFO(path.string());
    REQUIRE_FALSE(open);
  }
  return found;
}

// Calls use(name, first, last) for every block of C++ or C: lines [first, last) of `lines`, and the
// snippet that the comment above it names ("" when there is none). use may change the lines of the
// block.
template <typename Use>
void for_each_code_block(Lines& lines, const Use& use) {
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i] != "```cpp" && lines[i] != "```c") continue;
    const std::string name = name_between(i > 0 ? lines[i - 1] : "", "<!-- snippet: ", " -->");
    const auto first = lines.begin() + static_cast<std::ptrdiff_t>(i) + 1;
    const auto last = std::find(first, lines.end(), "```");
    REQUIRE(last != lines.end());
    use(name, first, last);
  }
}

// The anchors that GitHub gives to the headings of a document.
std::set<std::string> anchors_of(const fs::path& document) {
  std::set<std::string> anchors;
  for (const std::string& line : lines_of(read_text(document))) {
    if (line.empty() || line[0] != '#') continue;
    std::string anchor;
    for (const char c : line.substr(std::min(line.find(' ') + 1, line.size()))) {
      const auto byte = static_cast<unsigned char>(c);
      if (std::isalnum(byte) || c == '-' || c == '_') {
        anchor += static_cast<char>(std::tolower(byte));
      }
      if (c == ' ') anchor += '-';
    }
    anchors.insert(anchor);
  }
  return anchors;
}

TEST_CASE("every block of C++ or C in the documents is code of a test") {
  const std::map<std::string, Lines> code = snippets();
  std::size_t blocks = 0;
  for (const fs::path& document : documents()) {
    Lines lines = lines_of(read_text(document));
    for_each_code_block(lines, [&](const std::string& name, auto first, auto last) {
      INFO(document.filename().string() << ", block before line " << last - lines.begin() + 1);
      INFO("a block of code needs the line <!-- snippet: name --> above it, and code of that name");
      REQUIRE(code.contains(name));
      CHECK(joined({first, last}) == joined(code.at(name)));
      ++blocks;
    });
  }
  CHECK(blocks > 20);
}

// Hidden: it writes.
TEST_CASE("the snippets go into the documents", "[.][update-docs]") {
  const std::map<std::string, Lines> code = snippets();
  for (const fs::path& document : documents()) {
    const std::string before = read_text(document);
    Lines lines = lines_of(before);
    Lines updated;
    auto copied = lines.begin();
    for_each_code_block(lines, [&](const std::string& name, auto first, auto last) {
      if (!code.contains(name)) return;
      updated.insert(updated.end(), copied, first);
      updated.insert(updated.end(), code.at(name).begin(), code.at(name).end());
      copied = last;
    });
    updated.insert(updated.end(), copied, lines.end());
    if (joined(updated) != before) std::ofstream(document, std::ios::binary) << joined(updated);
  }
  SUCCEED();
}

std::string prose_of(const fs::path& document) {
  std::string prose;
  bool code = false;
  for (const std::string& line : lines_of(read_text(document))) {
    if (line.starts_with("```")) code = !code;
    if (!code) prose += line + '\n';
  }
  return prose;
}

TEST_CASE("links of the documents lead to files and headings") {
  std::vector<fs::path> linking = documents();
  for (const fs::path& document : files_in("examples", {".md"})) linking.push_back(document);
  for (const fs::path& document : linking) {
    const std::string text = prose_of(document);
    for (std::size_t at = text.find("]("); at != std::string::npos; at = text.find("](", at + 2)) {
      const std::string link = text.substr(at + 2, text.find(')', at) - at - 2);
      if (link.starts_with("http")) continue;
      const std::size_t hash = std::min(link.find('#'), link.size());
      const fs::path path = hash == 0 ? document : document.parent_path() / link.substr(0, hash);
      INFO(document.filename().string() << " links to " << link);
      REQUIRE(fs::exists(path));
      if (hash < link.size()) CHECK(anchors_of(path).contains(link.substr(hash + 1)));
    }
  }
}

// Everything in the repository that may name a document.
std::vector<fs::path> files_that_name_documents() {
  std::vector<fs::path> files = documents();
  const auto add = [&](const std::string& dir, const std::set<std::string>& extensions) {
    const std::vector<fs::path> found = files_in(dir, extensions);
    files.insert(files.end(), found.begin(), found.end());
  };
  for (const char* dir :
       {"include", "src", "cuda", "bench", "tests", "examples", "cmake", "python"}) {
    add(dir, {".h", ".hpp", ".cpp", ".cuh", ".cu", ".in", ".cmake", ".py", ".md"});
  }
  add("scripts", {"", ".sh"});
  add("docs/images", {".py"});
  return files;
}

// A file as one line, without what begins the lines of its comments.
std::string unwrapped(const fs::path& path) {
  std::string text;
  for (const std::string& line : lines_of(read_text(path))) {
    text += line.substr(std::min(line.find_first_not_of(" /#"), line.size())) + ' ';
  }
  return text;
}

struct Mention {
  std::string path;     // from the root of the repository
  std::string heading;  // of the document; "" when none is named
};

// Calls use for every path in docs/ that a text names, with the section that it names behind it:
// the path, a comma and the heading in quotation marks.
template <typename Use>
void for_each_mention(const std::string& text, const Use& use) {
  const std::string folder = "docs/";
  const auto is_of_path = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.' ||
           c == '/';
  };
  for (std::size_t at = text.find(folder); at != std::string::npos;
       at = text.find(folder, at + folder.size())) {
    std::size_t word = at;
    while (word > 0 && (is_of_path(text[word - 1]) || text[word - 1] == ':')) --word;
    const std::string_view before = std::string_view(text).substr(word, at - word);
    if (before.find("://") != std::string_view::npos) continue;  // of another site
    if (!before.empty() && before.back() != '/') continue;       // "some-docs/"
    std::size_t end = at;
    while (end < text.size() && is_of_path(text[end])) ++end;
    while (text[end - 1] == '.') --end;  // of the sentence
    Mention mention{text.substr(at, end - at), {}};
    const std::string separator = ", \"";
    if (text.compare(end, separator.size(), separator) == 0) {
      const std::size_t title = end + separator.size();
      mention.heading = text.substr(title, text.find('"', title) - title);
    }
    use(mention);
  }
}

TEST_CASE("what is taken for a mention of a document") {
  std::vector<std::string> found;
  for_each_mention(
      "see docs/a/b.md, \"Title\", ../../docs/c.md. Not https://x.org/docs/d.md, my-docs/e.md",
      [&](const Mention& mention) { found.push_back(mention.path + '#' + mention.heading); });
  CHECK(found == std::vector<std::string>{"docs/a/b.md#Title", "docs/c.md#"});
}

TEST_CASE("documents and sections that the repository names exist") {
  std::size_t mentions = 0;
  for (const fs::path& path : files_that_name_documents()) {
    if (path.filename() == "docs_test.cpp") continue;  // the examples above
    for_each_mention(unwrapped(path), [&](const Mention& mention) {
      INFO(path.string() << " names " << mention.path << ' ' << mention.heading);
      CHECK(fs::exists(source_dir() / mention.path));
      if (!mention.heading.empty() && fs::is_regular_file(source_dir() / mention.path)) {
        const Lines lines = lines_of(read_text(source_dir() / mention.path));
        CHECK(std::ranges::find(lines, "## " + mention.heading) != lines.end());
      }
      ++mentions;
    });
  }
  CHECK(mentions > 50);
}

}  // namespace
