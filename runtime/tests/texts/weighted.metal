// The sum of each row, weighted by powers of a half. Everything that Rust's lexer would not accept is here on purpose.
#define TERM(value, power)                                                                                             \
    ((value) *                                                                                                         \
     (power))

uint row = thread_position_in_grid.x;
float sum = 0.0f;
float power = 0x1p0f;
#ifdef COUNT_DOWN
for (int column = D - 1; column >= 0; --column) {
#else
for (int column = 0; column < D; ++column) {
#endif
    sum += TERM(x[row * D + column], power);
    power *= 0x1.0p-1f;
}
/* A number out of reach,
   over two lines. */
y[row] = sum < 1'000'000.0f ? sum : INFINITY;
