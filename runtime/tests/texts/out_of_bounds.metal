uint i = thread_position_in_grid.x;
y[i] = x[i];

y[i] += x[i + 1];
