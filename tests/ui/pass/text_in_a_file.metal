// Nothing here would lex as Rust.
#define TWICE(value) \
    (0x1p1f * (value))
constant char label[] = R"(it's "twice")";

uint i = thread_position_in_grid.x;
#ifdef GUARD
if (i < uint(N)) {
#else
if (i < 1'000'000u) {
#endif
    y[i] = label[0] == 'it' ? 0.0f : TWICE(x[i]);
}
