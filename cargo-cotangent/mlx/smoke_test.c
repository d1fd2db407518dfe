// Proves that what was set up loads and computes: prints MLX's version if a matrix product (BLAS) and a Cholesky factor
// (LAPACK) come out right.
#include <math.h>
#include <stdio.h>

#include "mlx/c/mlx.h"

static int differs(mlx_array array, const float expected[4]) {
  const float *values = mlx_array_eval(array) == 0 ? mlx_array_data_float32(array) : NULL;
  if (values == NULL) return 1;
  for (int i = 0; i < 4; i++) {
    if (!(fabsf(values[i] - expected[i]) < 1e-5f)) return 1;
  }
  return 0;
}

int main(void) {
  const float matrix[4] = {4, 2, 2, 5}, product[4] = {20, 18, 18, 29}, factor[4] = {2, 0, 1, 2};
  const int shape[2] = {2, 2};
  mlx_stream cpu = mlx_default_cpu_stream_new();
  mlx_array a = mlx_array_new_data(matrix, shape, 2, MLX_FLOAT32);
  mlx_array result = mlx_array_new();

  if (mlx_matmul(&result, a, a, cpu) != 0 || differs(result, product)) {
    fprintf(stderr, "a matrix product of MLX is wrong\n");
    return 1;
  }
  if (mlx_linalg_cholesky(&result, a, false, cpu) != 0 || differs(result, factor)) {
    fprintf(stderr, "a Cholesky factor of MLX is wrong\n");
    return 1;
  }
  mlx_string version = mlx_string_new();
  if (mlx_version(&version) != 0) return 1;
  puts(mlx_string_data(version));
  return 0;
}
