// A library that hides its use of hip_attn.
#include "../decode_step.hpp"

bool engine_decodes();
bool engine_decodes() { return decode_finds_the_keys(); }
