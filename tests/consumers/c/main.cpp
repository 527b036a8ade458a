// The same in C++17, without exceptions and type information.
#include "store_step.h"

int main() { return decode_finds_the_keys() || store_step_finds_the_key() || cells_are_in_order(); }
