// The viewer's page: the mass of a head, and a file that holds what a prefill attended with.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "attention_mass.hpp"
#include "base64.hpp"
#include "json_file.hpp"
#include "selection_log.hpp"
#include "support.hpp"
#include "view_capture.hpp"
#include "view_file.hpp"

namespace llama::test {
namespace {

using hip_attn::float16;

std::vector<float16> random_rows(std::int64_t tokens, std::int64_t dim, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float16> rows(tokens * dim);
  for (float16& value : rows) {
    const auto uniform = static_cast<float>(random()) * 0x1p-32f;
    value = hip_attn::from_float<float16>(4.f * uniform - 2.f);
  }
  return rows;
}

/// [tokens, tokens] true attention mass in double, key by key.
std::vector<std::vector<double>> plain_mass(const std::vector<float16>& q,
                                            const std::vector<float16>& k, std::int64_t dim,
                                            double scale, std::vector<double>& lse) {
  const auto tokens = static_cast<std::int64_t>(q.size()) / dim;
  std::vector<std::vector<double>> mass(tokens);
  for (std::int64_t p = 0; p < tokens; ++p) {
    double sum = 0;
    for (std::int64_t j = 0; j <= p; ++j) {
      double logit = 0;
      for (std::int64_t d = 0; d < dim; ++d) {
        logit += static_cast<double>(hip_attn::to_float(q[p * dim + d])) *
                 hip_attn::to_float(k[j * dim + d]);
      }
      mass[p].push_back(std::exp(scale * logit));
      sum += mass[p].back();
    }
    for (double& share : mass[p]) share /= sum;
    lse.push_back(std::log(sum));
  }
  return mass;
}

/// Three selected blocks of each query block that has them between sink and window.
HeadSelection some_selection(std::int64_t tokens, std::int64_t block_k) {
  HeadSelection selection;
  selection.block_q = 16;
  selection.block_k = block_k;
  selection.sink = 32;
  for (std::int64_t first = 0; first < tokens; first += selection.block_q) {
    const std::int64_t start = std::max(selection.sink, (first - 40) / block_k * block_k);
    for (std::int64_t block = selection.sink / block_k; (block + 1) * block_k <= start;
         block += 3) {
      selection.blocks.push_back(static_cast<std::int32_t>(block));
    }
    selection.block_ends.push_back(static_cast<std::int32_t>(selection.blocks.size()));
    selection.window_start.push_back(static_cast<std::int32_t>(start));
  }
  return selection;
}

TEST_CASE("view: masses, shares and cells are those of attention in double") {
  constexpr std::int64_t kTokens = 250;
  constexpr std::int64_t kDim = 64;
  const double scale = 0.2;
  const auto q = random_rows(kTokens, kDim, 1);
  const auto k = random_rows(kTokens, kDim, 2);
  std::vector<double> lse;
  const auto mass = plain_mass(q, k, kDim, scale, lse);
  for (const std::int64_t block_k : {1, 4, 8, 32}) {
    CAPTURE(block_k);
    const HeadSelection selection = some_selection(kTokens, block_k);
    const std::int64_t cell = selection.cell_keys();
    CHECK(cell == std::min<std::int64_t>(block_k, 8));
    const HeadMass found = attention_mass(q, k, kDim, scale, selection);
    std::size_t next_cell = 0;
    std::size_t next_attended = 0;
    for (std::int64_t n = 0; n < selection.num_query_blocks(); ++n) {
      const std::int64_t first = n * selection.block_q;
      const std::int64_t end = std::min(kTokens, first + selection.block_q);
      std::vector<bool> seen(end);
      for (const KeyRange& range : selection.attended(n, end)) {
        for (std::int64_t j = range.begin; j < range.end; ++j) {
          REQUIRE(!seen[j]);
          seen[j] = true;
        }
      }
      std::vector<double> covered;
      for (std::int64_t p = first; p < end; ++p) {
        double sum = 0;
        for (std::int64_t j = 0; j <= p; ++j) sum += seen[j] ? mass[p][j] : 0;
        covered.push_back(sum);
        REQUIRE(std::abs(found.covered[p] - sum) < 1e-5);
        REQUIRE(std::abs(found.lse[p] - lse[p]) < 1e-4);
      }
      for (std::int64_t left = 0; left < end; left += cell) {
        double all = 0;
        double attended = 0;
        for (std::int64_t p = first; p < end; ++p) {
          for (std::int64_t j = left; j < std::min({left + cell, p + 1}); ++j) {
            all += mass[p][j] / static_cast<double>(end - first);
            attended += mass[p][j] / covered[p - first] / static_cast<double>(end - first);
          }
        }
        REQUIRE(std::abs(hip_attn::to_float(found.cells.at(next_cell++)) - all) <
                1e-6 + 1e-3 * all);
        if (!seen[left]) continue;
        REQUIRE(std::abs(hip_attn::to_float(found.attended.at(next_attended++)) - attended) <
                1e-6 + 1e-3 * attended);
      }
    }
    CHECK(next_cell == found.cells.size());
    CHECK(next_attended == found.attended.size());
    CHECK(found.mean_covered() < 0.9);
  }
}

TEST_CASE("view: dense attention covers everything") {
  const auto q = random_rows(100, 64, 1);
  const auto k = random_rows(100, 64, 2);
  const HeadMass mass = attention_mass(q, k, 64, 0.125, HeadSelection::dense(100));
  for (const float share : mass.covered) REQUIRE(std::abs(share - 1) < 1e-6);
}

TEST_CASE("view: base64 is that of RFC 4648") {
  const auto encoded = [](const std::string& text) {
    return base64(std::as_bytes(std::span(text)));
  };
  CHECK(encoded("") == "");
  CHECK(encoded("f") == "Zg==");
  CHECK(encoded("fo") == "Zm8=");
  CHECK(encoded("foo") == "Zm9v");
  CHECK(encoded("foobar") == "Zm9vYmFy");
  CHECK(encoded("\xff\xfb\xef") == "//vv");
}

/// The text of an element of the page, the last with this id: the page's comment has one too.
std::string element(const std::string& page, const std::string& id) {
  const std::size_t tag = page.rfind("id=\"" + id + "\"");
  REQUIRE(tag != std::string::npos);
  const std::size_t begin = page.find('>', tag) + 1;
  return page.substr(begin, page.find("</script>", begin) - begin);
}

template <typename T>
std::string encoded(const std::vector<T>& values) {
  return base64(std::as_bytes(std::span(values)));
}

TEST_CASE("view: the page holds the queries, keys and selections of a prefill") {
  constexpr std::int64_t kTokens = 1500;
  const TemporaryFolder folder;
  const LlamaConfig& model = bundled_model().config();
  const auto tokens = haystack_tokens(kTokens);
  Engine engine(bundled_model(), hip_attention(sparse_config()), options_for(kTokens));
  ViewCapture capture({1, 4}, model, cpu());
  capture.observe(engine.attention());
  Sequence sequence = engine.new_sequence();
  engine.prefill(sequence, tokens, [](auto, auto) {});
  const auto& layers = capture.layers();

  // The same prefill, of which the log says what was selected.
  std::vector<SelectionEntry> log;
  Engine again(bundled_model(), hip_attention(sparse_config()), options_for(kTokens));
  again.attention().observe_selections(log_selections(log));
  Sequence other = again.new_sequence();
  again.prefill(other, tokens, [](auto, auto) {});
  std::int64_t compared = 0;
  for (const SelectionEntry& entry : log) {
    if (!layers.contains(entry.layer)) continue;
    const HeadSelection& of = layers.at(entry.layer).selections[entry.kv_head];
    const std::int64_t n = entry.p0 / of.block_q;
    const auto blocks = of.blocks_of(n);
    REQUIRE(std::vector(blocks.begin(), blocks.end()) == entry.blocks);
    REQUIRE(of.window_start[n] == entry.window_start);
    ++compared;
  }
  CHECK(compared == 2 * 2 * ((kTokens + 63) / 64));

  const ViewDescription view{"</script> title",
                             "hip",
                             std::vector<std::string>(kTokens, "a"),
                             {{"a place", 9, 3}},
                             {1, 6}};
  std::int64_t heads = 0;
  const ViewFileSummary summary =
      write_view(folder.path() / "view.html", view, model, layers, [&] { ++heads; });
  CHECK(heads == 2 * model.num_q_heads);
  const std::string page = read_file(folder.path() / "view.html");
  CHECK(std::ssize(page) == summary.bytes);
  const std::int64_t estimate = view_file_bytes(kTokens, 2, 2, 2, model.head_dim);
  CHECK(static_cast<double>(summary.bytes - std::ssize(view_template())) /
            static_cast<double>(estimate) <
        1.25);
  CHECK(page.starts_with(view_template().substr(0, 2000)));

  const Json data = Json::parse(element(page, "view-data"));
  const auto array = [&](const Json& number) {
    return element(page, "array-" + std::to_string(number.get<int>()));
  };
  CHECK(data["title"] == "</script> title");
  CHECK(data["marks"][0] == Json{{"label", "a place"}, {"query", 9}, {"key", 3}});
  REQUIRE(data["layers"].size() == 2);
  for (const Json& layer : data["layers"]) {
    const CapturedLayer& captured = layers.at(layer["layer"]);
    CHECK(layer["covered"].get<std::vector<double>>() == summary.covered.at(layer["layer"]));
    REQUIRE(layer["heads"].size() == 2);
    REQUIRE(layer["kv_heads"].size() == 2);
    for (const Json& head : layer["heads"]) {
      const std::int64_t number = head["head"];
      CHECK(head["kv_head"] == number / 4);
      CHECK(array(head["queries"]) == encoded(captured.queries[number]));
      CHECK(summary.covered.at(layer["layer"])[number] < 1);
    }
    for (const Json& kv_head : layer["kv_heads"]) {
      CHECK(array(kv_head["keys"]) == encoded(captured.keys[kv_head["kv_head"]]));
      CHECK(array(kv_head["blocks"]) == encoded(captured.selections[kv_head["kv_head"]].blocks));
    }
  }
}

TEST_CASE("view: a pass that begins inside of a query block is refused") {
  Engine engine(bundled_model(), hip_attention(sparse_config()), [] {
    EngineOptions options = options_for(256);
    options.prefill_rows = 48;
    return options;
  }());
  ViewCapture capture({0}, bundled_model().config(), cpu());
  capture.observe(engine.attention());
  Sequence sequence = engine.new_sequence();
  require_error(ErrorCode::kInvalidArgument, "expected --prefill-rows of 64 or more",
                [&] { engine.prefill(sequence, haystack_tokens(256), [](auto, auto) {}); });
}

TEST_CASE("view: a page that cannot be written is an error") {
  CapturedLayer layer;
  const LlamaConfig& model = bundled_model().config();
  layer.queries.assign(model.num_q_heads, random_rows(10, model.head_dim, 1));
  layer.keys.assign(model.num_kv_heads, random_rows(10, model.head_dim, 2));
  layer.selections.assign(model.num_kv_heads, HeadSelection::dense(10));
  const ViewDescription view{"title", "dense", std::vector<std::string>(10, "a"), {}, {0}};
  require_error(ErrorCode::kInvalidArgument, "cannot write /nowhere/view.html", [&] {
    write_view("/nowhere/view.html", view, model, {{0, layer}}, [] {});
  });
}

}  // namespace
}  // namespace llama::test
