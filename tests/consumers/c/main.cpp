// The same in C++17, without exceptions and type information.
#include "decode_step.h"

int main() { return decode_finds_the_keys() || cells_are_in_order(); }
