// mlx-rs seeds its default random state with this function of macOS' kernel. Any clock in nanoseconds will do.
#include <cstdint>
#include <ctime>

extern "C" uint64_t mach_approximate_time(void) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}
