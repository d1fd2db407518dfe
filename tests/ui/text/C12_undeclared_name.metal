#define TWICE(value) \
    (2.0f * (value))

uint i = thread_positon_in_grid.x;
if (i >= 1'000'000u) { return; }
	y[i] = scale[0] * TWICE(x[i]);
