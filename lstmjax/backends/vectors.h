// Vectors of the machine's width, as GCC and Clang vector extensions, and functions of each of their numbers.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

template <typename T>
constexpr int kLanes = kBytes / sizeof(T);

template <typename T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float Type __attribute__((vector_size(kBytes)));
};
template <>
struct VectorOf<double> {
  typedef double Type __attribute__((vector_size(kBytes)));
};
template <typename T>
using Vector = typename VectorOf<T>::Type;
typedef int32_t Integers __attribute__((vector_size(kBytes)));

template <typename T>
inline Vector<T> Load(const T* from) {
  Vector<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <typename T>
inline Vector<T> Load(const T* from, int lanes) {
  if (lanes == kLanes<T>) return Load(from);
  Vector<T> v = {};
  std::memcpy(&v, from, lanes * sizeof(T));
  return v;
}

template <typename T>
inline void Store(T* to, Vector<T> v) {
  std::memcpy(to, &v, sizeof v);
}

template <typename T>
inline void Store(T* to, Vector<T> v, int lanes) {
  if (lanes == kLanes<T>) return Store(to, v);
  std::memcpy(to, &v, lanes * sizeof(T));
}

inline Vector<float> Clamp(Vector<float> x, float low, float high) {  // NaN stays NaN
  const Vector<float> lows = Vector<float>{} + low, highs = Vector<float>{} + high;
  x = x < lows ? lows : x;
  return x > highs ? highs : x;
}

// e^x = 2^n e^r with n the integer nearest to x / ln 2, and e^r by its Taylor polynomial, |r| <= ln(2) / 2.
inline Vector<float> Exp(Vector<float> x) {
  x = Clamp(x, -87.0f, 88.0f);
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vector<float> n = (x * 1.44269504088896341f + kRound) - kRound;
  const Vector<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vector<float> p = Vector<float>{} + 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Integers power = (__builtin_convertvector(n, Integers) + 127) << 23;
  return p * (Vector<float>)power;
}

inline Vector<float> Sigmoid(Vector<float> x) {
  return 1.0f / (1.0f + Exp(-x));
}

// Rational minimax approximation of degree 13 over 6, accurate to a few units in the last place.
inline Vector<float> Tanh(Vector<float> all) {
  const Vector<float> x = Clamp(all, -7.90531110763549805f, 7.90531110763549805f);
  const Vector<float> s = x * x;
  Vector<float> p = Vector<float>{} - 2.76076847742355e-16f;
  p = p * s + 2.00018790482477e-13f;
  p = p * s - 8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  Vector<float> q = Vector<float>{} + 1.19825839466702e-06f;
  q = q * s + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  // Beyond 9.02 the nearest float is 1 itself. It must be reached, for the slope 1 - tanh^2 to vanish.
  const Vector<float> one = Vector<float>{} + 1.0f, limit = Vector<float>{} + 9.02f;
  const Vector<float> within = all > limit ? one : x * p / q;
  return all < -limit ? -one : within;
}

// In float64, which is used for checks rather than for speed, the C library's.
inline Vector<double> Sigmoid(Vector<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = 1 / (1 + std::exp(-x[lane]));
  return x;
}

inline Vector<double> Tanh(Vector<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = std::tanh(x[lane]);
  return x;
}

// Functions without a form of their own: number by number, as the C library has them.
#define NUMBER_BY_NUMBER(Name, expression)                             \
  template <typename V>                                                \
  inline V Name(V all) {                                               \
    for (size_t lane = 0; lane < sizeof(V) / sizeof(all[0]); ++lane) { \
      const auto x = all[lane];                                        \
      all[lane] = expression;                                          \
    }                                                                  \
    return all;                                                        \
  }

inline Vector<double> Exp(Vector<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = std::exp(x[lane]);
  return x;
}

NUMBER_BY_NUMBER(Log, std::log(x))
NUMBER_BY_NUMBER(Log1p, std::log1p(x))
NUMBER_BY_NUMBER(Sqrt, std::sqrt(x))
NUMBER_BY_NUMBER(Abs, std::fabs(x))
NUMBER_BY_NUMBER(Sign, (x > 0) - (x < 0))

template <typename V>
inline V Max(V a, V b) {  // NaN if either is
  return (a != a) | (a > b) ? a : b;
}

template <typename V>
inline V Min(V a, V b) {
  return (a != a) | (a < b) ? a : b;
}

}  // namespace
