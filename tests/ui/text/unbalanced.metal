uint i = thread_position_in_grid.x;
if (i < uint(N) {
    y[i] = "2.0f * x[i];
}
#if FAST
