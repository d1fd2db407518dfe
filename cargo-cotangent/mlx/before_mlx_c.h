// Included before every mlx-c source (`-include`): what mlx-c takes for granted on macOS.
#pragma once

#include <version>

// mlx-c defines its half types on Arm only. Elsewhere MLX's own stand in, so that the functions that take them exist on
// every machine and the bindings are the same everywhere.
#if !defined(__aarch64__)
#include "mlx/types/half_types.h"

using float16_t = mlx::core::float16_t;
using bfloat16_t = mlx::core::bfloat16_t;

#define HAS_FLOAT16
#define HAS_BFLOAT16
#endif

// mlx-c composes a few error messages with `std::format`, with plain `{}` placeholders only. g++ has it from version 13.
#if defined(__cpp_lib_format)
#include <format>
#else
#include <sstream>
#include <string>
#include <string_view>

namespace std {

template <typename... Args>
string format(string_view pattern, const Args&... args) {
  ostringstream text;
  [[maybe_unused]] auto until_placeholder = [&] {
    auto end = pattern.find("{}");
    text << pattern.substr(0, end);
    pattern.remove_prefix(end == string_view::npos ? pattern.size() : end + 2);
  };
  ((until_placeholder(), text << args), ...);
  text << pattern;
  return text.str();
}

} // namespace std
#endif
