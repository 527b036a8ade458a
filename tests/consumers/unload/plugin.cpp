// What a program loads, calls and unloads.
#include "../decode_step.hpp"

extern "C" int run_plugin() { return decode_finds_the_keys() ? 0 : 1; }
