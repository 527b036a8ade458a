// Compares llama.cpp with hip_attn in it (HIP_ATTN_PRESET=dense) to llama.cpp itself: the logits of
// the same calls, for caches whose cells several sequences share, that were shifted, and that have
// holes.   check MODEL.gguf TEXT
//
// Prints a line of JSON for each: the root mean square of the differences of all logits, and the
// largest. Fails where hip_attn is farther off, or does not leave a quantised cache to ggml.
//
// What is right is llama.cpp without flash attention, whose products are summed in float32.
// hip_attn has to be as near to it as ggml's flash attention is.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "llama.h"

namespace {

struct Token {
  llama_token id;
  llama_pos pos;
  std::vector<llama_seq_id> sequences;
};

class Run {
 public:
  Run(llama_model* model, const std::vector<llama_token>& text, llama_context_params params)
      : text(text), model_(model), context_(llama_init_from_model(model, params)) {
    if (context_ == nullptr) std::exit(2);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() { llama_free(context_); }

  // Keeps the logits of all tokens.
  void decode(const std::vector<Token>& tokens) {
    llama_batch batch = llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 4);
    for (const Token& token : tokens) {
      const int32_t i = batch.n_tokens++;
      batch.token[i] = token.id;
      batch.pos[i] = token.pos;
      batch.n_seq_id[i] = static_cast<int32_t>(token.sequences.size());
      std::copy(token.sequences.begin(), token.sequences.end(), batch.seq_id[i]);
      batch.logits[i] = 1;
    }
    if (llama_decode(context_, batch) != 0) std::exit(3);
    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model_));
    for (int32_t i = 0; i < batch.n_tokens; ++i) {
      const float* row = llama_get_logits_ith(context_, i);
      logits.insert(logits.end(), row, row + n_vocab);
    }
    llama_batch_free(batch);
  }
  // Tokens [first, first + count) of the text at positions from `pos` on.
  [[nodiscard]] std::vector<Token> some(int first, int count, llama_pos pos,
                                        std::vector<llama_seq_id> sequences) const {
    std::vector<Token> tokens;
    for (int i = 0; i < count; ++i) tokens.push_back({text[first + i], pos + i, sequences});
    return tokens;
  }
  [[nodiscard]] llama_memory_t memory() const { return llama_get_memory(context_); }

  const std::vector<llama_token>& text;
  std::vector<float> logits;

 private:
  llama_model* model_;
  llama_context* context_;
};

std::vector<Token> alternating(const std::vector<Token>& a, const std::vector<Token>& b) {
  std::vector<Token> tokens;
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    if (i < a.size()) tokens.push_back(a[i]);
    if (i < b.size()) tokens.push_back(b[i]);
  }
  return tokens;
}

void prompt_and_steps(Run& run) {
  run.decode(run.some(0, 700, 0, {0}));
  for (int i = 700; i < 716; ++i) run.decode(run.some(i, 1, i, {0}));
}

void several_sequences(Run& run) {
  for (int seq = 0; seq < 3; ++seq) run.decode(run.some(1000 * seq, 200 + 90 * seq, 0, {seq}));
  for (int step = 0; step < 8; ++step) {
    std::vector<Token> tokens;
    for (int seq = 0; seq < 3; ++seq) {
      tokens.push_back(run.some(400 + step, 1, 200 + 90 * seq + step, {seq})[0]);
    }
    run.decode(tokens);
  }
  run.decode(alternating(run.some(50, 40, 208, {0}), run.some(90, 30, 298, {1})));
}

// A prompt that three sequences share, by one cell for each token.
void shared_prompt(Run& run) {
  run.decode(run.some(0, 300, 0, {0, 1}));
  llama_memory_seq_cp(run.memory(), 0, 2, 0, 250);
  run.decode(run.some(500, 100, 300, {1}));
  run.decode(alternating(run.some(700, 50, 250, {2}), run.some(900, 50, 300, {0})));
  for (int step = 0; step < 4; ++step) {
    run.decode({run.some(30 + step, 1, 350 + step, {0})[0],
                run.some(60 + step, 1, 400 + step, {1})[0],
                run.some(90 + step, 1, 300 + step, {2})[0]});
  }
}

// As an engine does when the context is full: what follows the first 8 tokens goes, the rest moves.
void context_shift(Run& run) {
  run.decode(run.some(0, 600, 0, {0}));
  for (int round = 0; round < 3; ++round) {
    llama_memory_seq_rm(run.memory(), 0, 8, 208);
    llama_memory_seq_add(run.memory(), 0, 208, -1, -200);
    for (int i = 0; i < 6; ++i) run.decode(run.some(600 + i, 1, 400 + i, {0}));
    run.decode(run.some(700 + 200 * round, 194, 406, {0}));
  }
}

// Holes in all sequences, which later tokens fill in no order.
void fragmented(Run& run) {
  for (int seq = 0; seq < 2; ++seq) run.decode(run.some(500 * seq, 400, 0, {seq}));
  for (int first = 20; first < 380; first += 30) {
    llama_memory_seq_rm(run.memory(), first / 30 % 2, first, first + 11);
  }
  run.decode(run.some(2000, 120, 0, {2}));
  run.decode(run.some(3000, 60, 400, {1}));
  llama_memory_seq_rm(run.memory(), 1, 0, 150);
  for (int step = 0; step < 6; ++step) {
    run.decode({run.some(30 + step, 1, 400 + step, {0})[0],
                run.some(60 + step, 1, 460 + step, {1})[0],
                run.some(90 + step, 1, 120 + step, {2})[0]});
  }
}

// The largest difference of two logits, and the root of the mean of its square.
double largest(const std::vector<float>& a, const std::vector<float>& b) {
  double most = a.size() == b.size() ? 0 : 1e9;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= most)) most = difference;  // NaN counts
  }
  return most;
}

double rms(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum / a.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == nullptr) return 2;
  std::ifstream file(argv[2]);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  std::vector<llama_token> tokens(text.size());
  tokens.resize(llama_tokenize(llama_model_get_vocab(model), text.data(),
                               static_cast<int32_t>(text.size()), tokens.data(),
                               static_cast<int32_t>(tokens.size()), true, false));

  struct Scenario {
    const char* name;
    void (*run)(Run&);
    bool unified_only;
  };
  const Scenario scenarios[] = {{"prompt and steps", prompt_and_steps, false},
                                {"several sequences", several_sequences, false},
                                {"shared prompt", shared_prompt, true},
                                {"context shift", context_shift, false},
                                {"fragmented", fragmented, false}};
  const auto logits_of = [&](void (*scenario)(Run&), const char* preset, bool flash, bool unified,
                             ggml_type type) {
    if (preset != nullptr) {
      setenv("HIP_ATTN_PRESET", preset, 1);
    } else {
      unsetenv("HIP_ATTN_PRESET");
    }
    llama_context_params params = llama_context_default_params();
    params.n_ctx = unified ? 1024 : 3 * 1024;
    params.n_batch = 1024;
    params.n_ubatch = 256;
    params.n_seq_max = 3;
    params.n_threads = params.n_threads_batch = 2;
    params.kv_unified = unified;
    params.type_k = params.type_v = type;
    params.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    Run run(model, tokens, params);
    scenario(run);
    return run.logits;
  };
  bool right = true;
  for (const bool unified : {true, false}) {
    for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_F32}) {
      for (const Scenario& scenario : scenarios) {
        if (scenario.unified_only && !unified) continue;
        // llama.cpp cannot rotate keys of BF16 anew.
        if (scenario.run == context_shift && type == GGML_TYPE_BF16) continue;
        const std::vector<float> exact = logits_of(scenario.run, nullptr, false, unified, type);
        const std::vector<float> flash = logits_of(scenario.run, nullptr, true, unified, type);
        const std::vector<float> hip = logits_of(scenario.run, "dense", true, unified, type);
        const bool near = rms(hip, exact) <= 1.25 * rms(flash, exact) + 1e-5;
        right &= near;
        if (!near) std::fprintf(stderr, "hip_attn is farther off than ggml's flash attention:\n");
        std::printf(
            "{\"name\": \"logits/%s/%s/%s\", \"ggml_rms\": %.6g, \"ggml_largest\": %.6g, "
            "\"hip_attn_rms\": %.6g, \"hip_attn_largest\": %.6g}\n",
            unified ? "unified" : "streams", ggml_type_name(type), scenario.name, rms(flash, exact),
            largest(flash, exact), rms(hip, exact), largest(hip, exact));
      }
    }
  }
  // A quantised cache stays with ggml.
  const bool falls_back = logits_of(fragmented, "dense", true, true, GGML_TYPE_Q8_0) ==
                          logits_of(fragmented, nullptr, true, true, GGML_TYPE_Q8_0);
  right &= falls_back;
  if (!falls_back) std::fprintf(stderr, "a cache of q8_0 does not fall back\n");
  llama_model_free(model);
  return right ? 0 : 1;
}
