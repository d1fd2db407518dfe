uint i = thread_position_in_grid.x;
#ifdef SLOW
for (uint k = 0; k < 2; ++k) {
#else
{
#endif
    y[i] += 2.0f * x[i];
}
