#include "shared.metal"
uint i = thread_position_in_grid.x;
y[i] = shared(x[i]);
