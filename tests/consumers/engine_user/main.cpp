bool engine_decodes();

int main() { return engine_decodes() ? 0 : 1; }
