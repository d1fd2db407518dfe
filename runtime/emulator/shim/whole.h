// The arguments of a kernel function of a whole file: memory and positions that become what its parameters are.
namespace metal {

template <class T> using remove_cv_t = typename remove_const<T>::type;
template <class T> using remove_addrspace_t = T;
template <class... T> struct _disjunction : false_type {};
template <class T, class... Others> struct _disjunction<T, Others...> : bool_constant<T::value || _disjunction<Others...>::value> {};
template <class T> T&& declval();
template <class From, class To> struct is_convertible {
  static void take(To);
  template <class F> static auto test(int) -> decltype(take(declval<F>()), true_type());
  template <class F> static false_type test(...);
  static constexpr bool value = decltype(test<From>(0))::value;
};
template <class From, class To> constexpr bool is_convertible_v = is_convertible<From, To>::value;

struct bound_pointer {
  void* at;
  template <class T> METAL_INLINE METAL_UNWATCHED operator T*() const { return (T*)at; }
};
struct bound_reference {
  void* at;
  template <class T> METAL_INLINE METAL_UNWATCHED operator T&() const { return *(T*)at; }
};

// Memory of `[[threadgroup(n)]]` is one array for the whole threadgroup.
struct threadgroup_memory {
  unsigned id;
  unsigned long bytes;
  const char* name;
  template <class T> METAL_INLINE METAL_UNWATCHED void* of() const {
    typedef component_of_t<remove_cv_t<typename element_of<T>::type>> scalar;
    emulator::Context* c = emulator::context();
    return c->threadgroup_array(c, id, bytes, sizeof(scalar), dtype_number<scalar>::value, name);
  }
};
struct threadgroup_pointer : threadgroup_memory {
  template <class T> METAL_INLINE METAL_UNWATCHED operator T*() const { return (T*)of<T>(); }
};
struct threadgroup_reference : threadgroup_memory {
  template <class T> METAL_INLINE METAL_UNWATCHED operator T&() const { return *(T*)of<T>(); }
};

struct position {
  uint3 xyz;
  METAL_INLINE METAL_UNWATCHED operator uint() const { return xyz.x; }
  METAL_INLINE METAL_UNWATCHED operator int() const { return int(xyz.x); }
  METAL_INLINE METAL_UNWATCHED operator ushort() const { return ushort(xyz.x); }
  METAL_INLINE METAL_UNWATCHED operator uint2() const { return uint2(xyz.x, xyz.y); }
  METAL_INLINE METAL_UNWATCHED operator ushort2() const { return ushort2(xyz.x, xyz.y); }
  METAL_INLINE METAL_UNWATCHED operator uint3() const { return xyz; }
  METAL_INLINE METAL_UNWATCHED operator ushort3() const { return ushort3(xyz.x, xyz.y, xyz.z); }
};
METAL_INLINE METAL_UNWATCHED position position_of(uint3 xyz) { return position{xyz}; }
METAL_INLINE METAL_UNWATCHED uint position_of(uint index) { return index; }

} // namespace metal
