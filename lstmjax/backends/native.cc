// The recurrence of an LSTM over whole sequences, forward and backward, as two XLA custom calls on CPU.
//
// XLA does products of large matrices well, so they stay with XLA: the input projection before the loop, the
// kernels' gradients after it. Only the recurrence is here. Compared with a loop in XLA this saves the calls
// per operation and the memory traffic of the gates, and it uses all cores: recurrent weights are packed once
// per call for the product's inner loop, and a tile of gates goes from the product's registers through the
// nonlinearities without leaving the first-level cache.
//
// Arrays are float32 or float64, row-major and batch-major: [models, rows, time, ...], weights [models, ...].
// Gates have the order i, f, g, o. A row's step is skipped where `valid` is false, and starts from zero where
// `fresh` is true; either may be empty. Every value is computed by the same operations in the same order for any
// number of threads.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// Vectors of the machine's width, as GCC and Clang vector extensions.

#if defined(__AVX512F__)
constexpr int kBytes = 64, kRows = 6;
#elif defined(__AVX__)
constexpr int kBytes = 32, kRows = 3;
#else
constexpr int kBytes = 16, kRows = 6;
#endif
constexpr int kVectors = 4;  // a tile is kRows rows by kVectors vectors of columns

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

// tile = a[R, depth] b[depth, V vectors], with b packed: the V vectors of each k are contiguous.
template <int R, int V, typename T>
inline __attribute__((always_inline)) void Multiply(int64_t depth, const T* a, int64_t stride, const T* b,
                                                    Vector<T> (&tile)[R][V]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) tile[r][v] = Vector<T>{};
  for (int64_t k = 0; k < depth; ++k, b += V * kLanes<T>) {
    Vector<T> column[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) column[v] = Load(b + v * kLanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const T factor = a[r * stride + k];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) tile[r][v] += factor * column[v];
    }
  }
}

inline int64_t CeilDiv(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Uninitialized memory aligned to a cache line.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size)
      : data_(static_cast<T*>(::operator new(size * sizeof(T) + 1, std::align_val_t(64)))) {}
  ~Buffer() { ::operator delete(data_, std::align_val_t(64)); }
  Buffer(const Buffer&) = delete;
  T* data() { return data_; }

 private:
  T* const data_;
};

// Work in phases, each a number of chunks; a phase begins when all chunks of the previous phase are done.
//
// A thread takes free chunks, starting with its own, so that caches stay warm. Only the caller's thread is
// required: a helper that the pool starts late, or never, is not waited for.
class Phases : public std::enable_shared_from_this<Phases> {
 public:
  explicit Phases(int64_t phases, int64_t chunks)
      : phases_(phases), chunks_(chunks), taken_(phases * chunks), done_(phases) {}
  virtual ~Phases() = default;

  void Run(ffi::ThreadPool& pool) {
    const int64_t helpers = std::min<int64_t>(pool.num_threads(), chunks_) - 1;
    for (int64_t i = 1; i <= helpers; ++i)
      pool.Schedule([self = shared_from_this(), i] { self->Work(i, false); });
    Work(0, true);
  }

  void RunAlone() {
    for (int64_t phase = 0; phase < phases_; ++phase)
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) Do(phase, chunk);
  }

 protected:
  virtual void Do(int64_t phase, int64_t chunk) = 0;
  int64_t chunks() const { return chunks_; }

 private:
  void Work(int64_t worker, bool caller) {
    for (;;) {
      const int64_t phase = phase_.load(std::memory_order_acquire);
      if (phase >= phases_) return;
      for (int64_t i = 0; i < chunks_; ++i) {
        const int64_t chunk = (worker + i) % chunks_;
        if (taken_[phase * chunks_ + chunk].exchange(true, std::memory_order_acq_rel)) continue;
        Do(phase, chunk);
        if (done_[phase].fetch_add(1, std::memory_order_acq_rel) + 1 == chunks_)
          phase_.store(phase + 1, std::memory_order_release);
      }
      for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
        if (spins > 4096) std::this_thread::yield();
      }
    }
  }

  const int64_t phases_, chunks_;
  std::vector<std::atomic<bool>> taken_;
  std::vector<std::atomic<int64_t>> done_;
  std::atomic<int64_t> phase_{0};
};

struct Shape {
  int64_t rows, time, hidden;
  bool reverse;

  int64_t At(int64_t step) const { return reverse ? time - 1 - step : step; }
};

// The masks of the steps; see the head of this file.
struct Masks {
  const bool* valid;
  const bool* fresh;
  int64_t time;

  bool Valid(int64_t row, int64_t t) const { return !valid || valid[row * time + t]; }
  bool Fresh(int64_t row, int64_t t) const { return fresh && Valid(row, t) && fresh[row * time + t]; }
};

// How a recurrence is divided among threads: by rows, with each thread running all steps without waiting, if
// the weights fit into a core's own cache; else by hidden units, with all threads in step.
struct Division {
  bool by_rows;
  int64_t chunks;

  Division(const Shape& shape, int64_t bytes, int64_t threads) {
    const double weights = 4.0 * shape.hidden * shape.hidden;
    if (threads < 2 || weights * shape.rows < 1 << 17) {
      by_rows = true, chunks = 1;
    } else if (shape.rows >= 2 * threads && weights * bytes <= 1 << 20) {
      by_rows = true, chunks = threads;
    } else {
      by_rows = false, chunks = 2 * threads;
    }
  }
};

// A recurrence, in either direction: phase 0 packs the weights; then there is one phase per step and a final
// one, or a single phase if rows are divided.
class Recurrence : public Phases {
 public:
  Recurrence(const Shape& shape, const Masks& masks, const Division& division, int64_t panels)
      : Phases(division.by_rows ? 2 : shape.time + 2, division.chunks),
        shape_(shape),
        masks_(masks),
        by_rows_(division.by_rows),
        panels_(panels) {}

 protected:
  virtual void Pack(int64_t panel) = 0;
  virtual void Start(int64_t row, int64_t rows) = 0;
  // Step number `step` in the order of work, for the given rows and panels of the weights.
  virtual void Step(int64_t step, int64_t row, int64_t rows, int64_t panel, int64_t panels) = 0;
  // The work after the last step.
  virtual void Finish(int64_t row, int64_t rows, int64_t panel, int64_t panels) = 0;

  const Shape shape_;
  const Masks masks_;

 private:
  void Do(int64_t phase, int64_t chunk) final {
    const int64_t first = panels_ * chunk / chunks(), last = panels_ * (chunk + 1) / chunks();
    if (phase == 0) {
      for (int64_t panel = first; panel < last; ++panel) Pack(panel);
      const int64_t row = shape_.rows * chunk / chunks();
      Start(row, shape_.rows * (chunk + 1) / chunks() - row);
    } else if (by_rows_) {
      const int64_t row = shape_.rows * chunk / chunks();
      const int64_t rows = shape_.rows * (chunk + 1) / chunks() - row;
      for (int64_t step = 0; step < shape_.time; ++step) Step(step, row, rows, 0, panels_);
      Finish(row, rows, 0, panels_);
    } else if (phase <= shape_.time) {
      Step(phase - 1, 0, shape_.rows, first, last - first);
    } else {
      Finish(0, shape_.rows, first, last - first);
    }
  }

  const bool by_rows_;
  const int64_t panels_;
};

// Call function.template operator()<R>(row) for tiles of at most kRows rows, as even as possible.
template <typename Function>
inline void ForTiles(int64_t row, int64_t rows, Function function) {
  const int64_t end = row + rows;
  for (int64_t tiles = CeilDiv(rows, kRows); tiles > 0; --tiles) {
    const int64_t size = CeilDiv(end - row, tiles);
    switch (size) {
      case 1:
        function.template operator()<1>(row);
        break;
      case 2:
        function.template operator()<2>(row);
        break;
      case 3:
        function.template operator()<3>(row);
        break;
#if !defined(__AVX__) || defined(__AVX512F__)
      case 4:
        function.template operator()<4>(row);
        break;
      case 5:
        function.template operator()<5>(row);
        break;
      case 6:
        function.template operator()<6>(row);
        break;
#endif
    }
    row += size;
  }
}

// Several models, each run by one thread.
template <typename Make>
class Models final : public Phases {
 public:
  Models(int64_t models, Make make) : Phases(1, models), make_(make) {}

 private:
  void Do(int64_t, int64_t model) override { make_(model, 1)->RunAlone(); }

  const Make make_;
};

// Run the recurrences of all models; `make` makes that of a model for a number of threads.
template <typename Make>
void RunModels(int64_t models, ffi::ThreadPool& pool, Make make) {
  if (models == 1) return make(0, pool.num_threads())->Run(pool);
  std::make_shared<Models<Make>>(models, make)->Run(pool);
}

// Residuals of each step for the backward pass; null if none are needed.
template <typename T>
struct Kept {
  T* gates;   // [rows, time, 4 hidden]
  T* cell;    // [rows, time, hidden], before the step
  T* hidden;  // [rows, time, hidden], before the step
};

template <typename T>
class Forward final : public Recurrence {
 public:
  Forward(const Shape& shape, const Masks& masks, const Division& division, const T* kernel, const T* bias,
          const T* projected, const T* hidden, const T* cell, T* last_hidden, T* last_cell, T* outputs,
          T* shown, Kept<T> kept)
      : Recurrence(shape, masks, division, CeilDiv(shape.hidden, kLanes<T>)),
        stride_(CeilDiv(shape.hidden, kLanes<T>) * kLanes<T>),
        kernel_(kernel),
        bias_(bias),
        projected_(projected),
        hidden_(hidden),
        cell_(cell),
        last_hidden_(last_hidden),
        last_cell_(last_cell),
        outputs_(outputs),
        shown_(shown),
        kept_(kept),
        packed_(4 * stride_ * shape.hidden),
        states_{Buffer<T>(shape.rows * stride_), Buffer<T>(shape.rows * stride_)},
        cells_(shape.rows * stride_) {}

 private:
  // A panel holds, for each k, the columns of kLanes<T> hidden units: i, f, g, o.
  void Pack(int64_t panel) override {
    const int64_t hidden = shape_.hidden, unit = panel * kLanes<T>;
    const int lanes = std::min<int64_t>(kLanes<T>, hidden - unit);
    T* to = packed_.data() + panel * hidden * 4 * kLanes<T>;
    for (int64_t k = 0; k < hidden; ++k)
      for (int gate = 0; gate < 4; ++gate, to += kLanes<T>)
        Store(to, Load(kernel_ + (k * 4 + gate) * hidden + unit, lanes));
  }

  void Start(int64_t row, int64_t rows) override {
    for (int64_t r = row; r < row + rows; ++r) {
      const bool fresh = shape_.time > 0 && masks_.Fresh(r, shape_.At(0));
      Fill(states_[0].data() + r * stride_, hidden_ + r * shape_.hidden, fresh);
      Fill(cells_.data() + r * stride_, cell_ + r * shape_.hidden, fresh);
    }
  }

  void Fill(T* to, const T* from, bool zero) {
    std::memset(to, 0, stride_ * sizeof(T));
    if (!zero) std::memcpy(to, from, shape_.hidden * sizeof(T));
  }

  void Step(int64_t step, int64_t row, int64_t rows, int64_t panel, int64_t panels) override {
    for (int64_t p = panel; p < panel + panels; ++p)
      ForTiles(row, rows, [&]<int R>(int64_t r) { this->template Tile<R>(step, r, p); });
  }

  template <int R>
  void Tile(int64_t step, int64_t row, int64_t panel) {
    const int64_t hidden = shape_.hidden, t = shape_.At(step), unit = panel * kLanes<T>;
    const int lanes = std::min<int64_t>(kLanes<T>, hidden - unit);
    const bool last = step + 1 == shape_.time;
    const T* before = states_[step % 2].data();
    T* after = states_[(step + 1) % 2].data();
    Vector<T> tile[R][4] = {};
    bool any = false;
    for (int r = 0; r < R; ++r) any |= masks_.Valid(row + r, t);
    if (any)
      Multiply<R, 4>(hidden, before + row * stride_, stride_, packed_.data() + panel * hidden * 4 * kLanes<T>,
                     tile);
    Vector<T> bias[4];
    for (int gate = 0; gate < 4; ++gate) bias[gate] = Load(bias_ + gate * hidden + unit, lanes);
    for (int r = 0; r < R; ++r) {
      const int64_t local = (row + r) * stride_ + unit, place = (row + r) * shape_.time + t;
      const Vector<T> h = Load(before + local), c = Load(cells_.data() + local);
      Vector<T> new_h = h, new_c = c, output = {};
      Vector<T> i = {}, f = {}, g = {}, o = {};
      if (masks_.Valid(row + r, t)) {
        const T* z = projected_ + place * 4 * hidden + unit;
        i = Sigmoid(tile[r][0] + (Load(z, lanes) + bias[0]));
        f = Sigmoid(tile[r][1] + (Load(z + hidden, lanes) + bias[1]));
        g = Tanh(tile[r][2] + (Load(z + 2 * hidden, lanes) + bias[2]));
        o = Sigmoid(tile[r][3] + (Load(z + 3 * hidden, lanes) + bias[3]));
        new_c = f * c + i * g;
        output = new_h = o * Tanh(new_c);
      }
      Store(outputs_ + place * hidden + unit, output, lanes);
      if (shown_) {
        const Vector<T> shown = masks_.Valid(row + r, t) ? new_c : Vector<T>{};
        Store(shown_ + place * hidden + unit, shown, lanes);
      }
      if (kept_.gates) {
        T* gates = kept_.gates + place * 4 * hidden + unit;
        Store(gates, i, lanes);
        Store(gates + hidden, f, lanes);
        Store(gates + 2 * hidden, g, lanes);
        Store(gates + 3 * hidden, o, lanes);
        Store(kept_.cell + place * hidden + unit, c, lanes);
        Store(kept_.hidden + place * hidden + unit, h, lanes);
      }
      if (!last && masks_.Fresh(row + r, shape_.At(step + 1))) new_h = new_c = Vector<T>{};
      Store(after + local, new_h);
      Store(cells_.data() + local, new_c);
    }
  }

  void Finish(int64_t row, int64_t rows, int64_t panel, int64_t panels) override {
    const int64_t unit = panel * kLanes<T>, size = std::min(shape_.hidden - unit, panels * kLanes<T>);
    const T* state = states_[shape_.time % 2].data();
    for (int64_t r = row; r < row + rows; ++r) {
      std::memcpy(last_hidden_ + r * shape_.hidden + unit, state + r * stride_ + unit, size * sizeof(T));
      std::memcpy(last_cell_ + r * shape_.hidden + unit, cells_.data() + r * stride_ + unit,
                  size * sizeof(T));
    }
  }

  const int64_t stride_;
  const T *kernel_, *bias_, *projected_, *hidden_, *cell_;
  T *last_hidden_, *last_cell_, *outputs_;
  T* const shown_;  // cell states after each step; null if not asked for
  const Kept<T> kept_;
  Buffer<T> packed_;
  Buffer<T> states_[2];
  Buffer<T> cells_;
};

// The transpose of the linearized recurrence: from gradients of outputs and final state to those of the
// pre-activations and the initial state. Steps are taken against the direction of the forward pass.
template <typename T>
class Backward final : public Recurrence {
 public:
  Backward(const Shape& shape, const Masks& masks, const Division& division, Kept<T> kept, const T* kernel,
           const T* d_last_hidden, const T* d_last_cell, const T* d_outputs, const T* d_shown, T* d_gates,
           T* d_hidden, T* d_cell)
      : Recurrence(shape, masks, division, CeilDiv(shape.hidden, kVectors * kLanes<T>)),
        stride_(CeilDiv(shape.hidden, kLanes<T>) * kLanes<T>),
        kept_(kept),
        kernel_(kernel),
        d_last_hidden_(d_last_hidden),
        d_last_cell_(d_last_cell),
        d_outputs_(d_outputs),
        d_shown_(d_shown),
        d_gates_(d_gates),
        d_hidden_(d_hidden),
        d_cell_(d_cell),
        packed_(4 * stride_ * shape.hidden),
        states_{Buffer<T>(shape.rows * 4 * shape.hidden), Buffer<T>(shape.rows * 4 * shape.hidden)},
        passed_(shape.rows * stride_),
        cells_(shape.rows * stride_) {}

 private:
  int64_t Vectors(int64_t panel) const {
    return std::min<int64_t>(kVectors, stride_ / kLanes<T> - panel * kVectors);
  }
  T* Packed(int64_t panel) { return packed_.data() + panel * kVectors * kLanes<T> * 4 * shape_.hidden; }

  // A panel holds, for each gate and unit k, the weights to up to kVectors * kLanes<T> hidden units.
  void Pack(int64_t panel) override {
    const int64_t depth = 4 * shape_.hidden, unit = panel * kVectors * kLanes<T>;
    const int64_t width = Vectors(panel) * kLanes<T>, size = std::min(width, shape_.hidden - unit);
    T* to = Packed(panel);
    constexpr int64_t kBlock = 16;
    for (int64_t block = 0; block < depth; block += kBlock)
      for (int64_t u = 0; u < width; ++u)
        for (int64_t k = block; k < std::min(block + kBlock, depth); ++k)
          to[k * width + u] = u < size ? kernel_[(unit + u) * depth + k] : T{};
  }

  void Start(int64_t row, int64_t rows) override {
    std::memset(states_[0].data() + row * 4 * shape_.hidden, 0, rows * 4 * shape_.hidden * sizeof(T));
    for (int64_t r = row; r < row + rows; ++r) {
      Fill(passed_.data() + r * stride_, d_last_hidden_ + r * shape_.hidden);
      Fill(cells_.data() + r * stride_, d_last_cell_ + r * shape_.hidden);
    }
  }

  void Fill(T* to, const T* from) {
    std::memset(to, 0, stride_ * sizeof(T));
    std::memcpy(to, from, shape_.hidden * sizeof(T));
  }

  void Step(int64_t step, int64_t row, int64_t rows, int64_t panel, int64_t panels) override {
    for (int64_t p = panel; p < panel + panels; ++p)
      ForTiles(row, rows, [&]<int R>(int64_t r) {
        switch (Vectors(p)) {
          case 1:
            return this->template Tile<R, 1>(step, r, p);
          case 2:
            return this->template Tile<R, 2>(step, r, p);
          case 3:
            return this->template Tile<R, 3>(step, r, p);
          case 4:
            return this->template Tile<R, 4>(step, r, p);
        }
      });
  }

  template <int R, int V>
  void Tile(int64_t step, int64_t row, int64_t panel) {
    const int64_t hidden = shape_.hidden, t = shape_.At(shape_.time - 1 - step);
    const T* after = states_[step % 2].data();
    T* before = states_[(step + 1) % 2].data();
    Vector<T> tile[R][V];
    // The next step contributes nothing if there is none, if it started from zero, or if it was skipped.
    bool any = false;
    if (step > 0)
      for (int r = 0; r < R; ++r) any |= masks_.Valid(row + r, shape_.At(shape_.time - step));
    if (any) {
      Multiply<R, V>(4 * hidden, after + row * 4 * hidden, 4 * hidden, Packed(panel), tile);
    } else {
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) tile[r][v] = Vector<T>{};
    }
    for (int r = 0; r < R; ++r) {
      const bool valid = masks_.Valid(row + r, t), fresh = masks_.Fresh(row + r, t);
      const int64_t place = (row + r) * shape_.time + t;
      for (int v = 0; v < V; ++v) {
        const int64_t unit = (panel * kVectors + v) * kLanes<T>, local = (row + r) * stride_ + unit;
        const int lanes = std::min<int64_t>(kLanes<T>, hidden - unit);
        Vector<T> d_h = tile[r][v] + Load(passed_.data() + local), d_c = Load(cells_.data() + local);
        Vector<T> d_i = {}, d_f = {}, d_g = {}, d_o = {};
        if (valid) {
          const T* gates = kept_.gates + place * 4 * hidden + unit;
          const Vector<T> i = Load(gates, lanes), f = Load(gates + hidden, lanes);
          const Vector<T> g = Load(gates + 2 * hidden, lanes), o = Load(gates + 3 * hidden, lanes);
          const Vector<T> c = Load(kept_.cell + place * hidden + unit, lanes);
          const Vector<T> squashed = Tanh(f * c + i * g);
          d_h += Load(d_outputs_ + place * hidden + unit, lanes);
          d_c += d_h * o * (1 - squashed * squashed);
          if (d_shown_) d_c += Load(d_shown_ + place * hidden + unit, lanes);
          d_i = d_c * g * i * (1 - i);
          d_f = d_c * c * f * (1 - f);
          d_g = d_c * i * (1 - g * g);
          d_o = d_h * squashed * o * (1 - o);
          d_c = fresh ? Vector<T>{} : d_c * f;
          d_h = Vector<T>{};
        }
        Store(passed_.data() + local, d_h);
        Store(cells_.data() + local, d_c);
        const Vector<T> each[4] = {d_i, d_f, d_g, d_o};
        for (int gate = 0; gate < 4; ++gate) {
          Store(d_gates_ + (place * 4 + gate) * hidden + unit, each[gate], lanes);
          Store(before + ((row + r) * 4 + gate) * hidden + unit, fresh ? Vector<T>{} : each[gate], lanes);
        }
      }
    }
  }

  void Finish(int64_t row, int64_t rows, int64_t panel, int64_t panels) override {
    for (int64_t p = panel; p < panel + panels; ++p)
      ForTiles(row, rows, [&]<int R>(int64_t r) {
        switch (Vectors(p)) {
          case 1:
            return this->template LastTile<R, 1>(r, p);
          case 2:
            return this->template LastTile<R, 2>(r, p);
          case 3:
            return this->template LastTile<R, 3>(r, p);
          case 4:
            return this->template LastTile<R, 4>(r, p);
        }
      });
  }

  template <int R, int V>
  void LastTile(int64_t row, int64_t panel) {
    const int64_t hidden = shape_.hidden;
    Vector<T> tile[R][V];
    Multiply<R, V>(4 * hidden, states_[shape_.time % 2].data() + row * 4 * hidden, 4 * hidden, Packed(panel),
                   tile);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) {
        const int64_t unit = (panel * kVectors + v) * kLanes<T>, local = (row + r) * stride_ + unit;
        const int lanes = std::min<int64_t>(kLanes<T>, hidden - unit);
        Store(d_hidden_ + (row + r) * hidden + unit, tile[r][v] + Load(passed_.data() + local), lanes);
        Store(d_cell_ + (row + r) * hidden + unit, Load(cells_.data() + local), lanes);
      }
  }

  const int64_t stride_;
  const Kept<T> kept_;
  const T *kernel_, *d_last_hidden_, *d_last_cell_, *d_outputs_, *d_shown_;
  T *d_gates_, *d_hidden_, *d_cell_;
  Buffer<T> packed_;
  Buffer<T> states_[2];  // gradients of the pre-activations of the next step, [rows, 4 hidden]
  Buffer<T> passed_;     // gradient of the hidden state, passed on by skipped steps
  Buffer<T> cells_;      // gradient of the cell state
};

template <ffi::DataType type>
using Array = ffi::Buffer<type>;
template <ffi::DataType type>
using Result = ffi::Result<Array<type>>;
using Flags = ffi::Buffer<ffi::PRED>;

template <ffi::DataType type>
Shape ShapeOf(const Array<type>& gates, bool reverse) {
  const auto sizes = gates.dimensions();
  return {sizes[1], sizes[2], sizes[3] / 4, reverse};
}

// The part of an array that belongs to a model; null if the array is empty.
template <typename Array>
auto* PartOf(const Array& array, int64_t model) {
  const int64_t size = array.element_count() / std::max<int64_t>(1, array.dimensions()[0]);
  return size ? array.typed_data() + model * size : nullptr;
}

Masks MasksOf(const Flags& valid, const Flags& fresh, int64_t time, int64_t model) {
  return {PartOf(valid, model), PartOf(fresh, model), time};
}

template <ffi::DataType type>
ffi::Error RunForwardWith(Kept<ffi::NativeType<type>> kept, ffi::ThreadPool pool, const Array<type>& kernel,
                          const Array<type>& bias, const Array<type>& projected, const Array<type>& hidden,
                          const Array<type>& cell, const Flags& valid, const Flags& fresh, bool reverse,
                          const Array<type>& last_hidden, const Array<type>& last_cell,
                          const Array<type>& outputs, const Array<type>& shown) {
  using T = ffi::NativeType<type>;
  const Shape shape = ShapeOf<type>(projected, reverse);
  RunModels(projected.dimensions()[0], pool, [=](int64_t model, int64_t threads) {
    const int64_t size = model * shape.rows * shape.time * shape.hidden;
    const Kept<T> own = kept.gates ? Kept<T>{kept.gates + 4 * size, kept.cell + size, kept.hidden + size} : kept;
    return std::make_shared<Forward<T>>(
        shape, MasksOf(valid, fresh, shape.time, model), Division(shape, sizeof(T), threads),
        PartOf(kernel, model), PartOf(bias, model), PartOf(projected, model), PartOf(hidden, model),
        PartOf(cell, model), PartOf(last_hidden, model), PartOf(last_cell, model), PartOf(outputs, model),
        PartOf(shown, model), own);
  });
  return ffi::Error::Success();
}

template <ffi::DataType type>
ffi::Error RunForward(ffi::ThreadPool pool, Array<type> kernel, Array<type> bias, Array<type> projected,
                      Array<type> hidden, Array<type> cell, Flags valid, Flags fresh, bool reverse,
                      Result<type> last_hidden, Result<type> last_cell, Result<type> outputs,
                      Result<type> shown) {
  return RunForwardWith<type>({}, pool, kernel, bias, projected, hidden, cell, valid, fresh, reverse,
                              *last_hidden, *last_cell, *outputs, *shown);
}

template <ffi::DataType type>
ffi::Error RunForwardKeeping(ffi::ThreadPool pool, Array<type> kernel, Array<type> bias,
                             Array<type> projected, Array<type> hidden, Array<type> cell, Flags valid,
                             Flags fresh, bool reverse, Result<type> last_hidden, Result<type> last_cell,
                             Result<type> outputs, Result<type> shown, Result<type> gates,
                             Result<type> cell_before, Result<type> hidden_before) {
  return RunForwardWith<type>({gates->typed_data(), cell_before->typed_data(), hidden_before->typed_data()},
                              pool, kernel, bias, projected, hidden, cell, valid, fresh, reverse,
                              *last_hidden, *last_cell, *outputs, *shown);
}

template <ffi::DataType type>
ffi::Error RunBackward(ffi::ThreadPool pool, Array<type> kernel, Array<type> gates, Array<type> cell,
                       Array<type> d_last_hidden, Array<type> d_last_cell, Array<type> d_outputs,
                       Array<type> d_shown, Flags valid, Flags fresh, bool reverse, Result<type> d_gates,
                       Result<type> d_hidden, Result<type> d_cell) {
  using T = ffi::NativeType<type>;
  const Shape shape = ShapeOf<type>(gates, reverse);
  const Array<type> to_gates = *d_gates, to_hidden = *d_hidden, to_cell = *d_cell;
  RunModels(gates.dimensions()[0], pool, [=](int64_t model, int64_t threads) {
    return std::make_shared<Backward<T>>(
        shape, MasksOf(valid, fresh, shape.time, model), Division(shape, sizeof(T), threads),
        Kept<T>{PartOf(gates, model), PartOf(cell, model), nullptr}, PartOf(kernel, model),
        PartOf(d_last_hidden, model), PartOf(d_last_cell, model), PartOf(d_outputs, model),
        PartOf(d_shown, model), PartOf(to_gates, model), PartOf(to_hidden, model), PartOf(to_cell, model));
  });
  return ffi::Error::Success();
}

}  // namespace

#define LSTM_FORWARD(Type)    \
  ffi::Ffi::Bind()            \
      .Ctx<ffi::ThreadPool>() \
      .Arg<Array<Type>>()     \
      .Arg<Array<Type>>()     \
      .Arg<Array<Type>>()     \
      .Arg<Array<Type>>()     \
      .Arg<Array<Type>>()     \
      .Arg<Flags>()           \
      .Arg<Flags>()           \
      .Attr<bool>("reverse")  \
      .Ret<Array<Type>>()     \
      .Ret<Array<Type>>()     \
      .Ret<Array<Type>>()     \
      .Ret<Array<Type>>()

#define LSTM_HANDLERS(name, Type)                                                           \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_forward_##name, RunForward<Type>, LSTM_FORWARD(Type)); \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                            \
      lstm_forward_keeping_##name, RunForwardKeeping<Type>,                                 \
      LSTM_FORWARD(Type).Ret<Array<Type>>().Ret<Array<Type>>().Ret<Array<Type>>());         \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_backward_##name, RunBackward<Type>,                    \
                                ffi::Ffi::Bind()                                            \
                                    .Ctx<ffi::ThreadPool>()                                 \
                                    .Arg<Array<Type>>()                                     \
                                    .Arg<Array<Type>>()                                     \
                                    .Arg<Array<Type>>()                                     \
                                    .Arg<Array<Type>>()                                     \
                                    .Arg<Array<Type>>()                                     \
                                    .Arg<Array<Type>>()                                     \
                                    .Arg<Array<Type>>()                                     \
                                    .Arg<Flags>()                                           \
                                    .Arg<Flags>()                                           \
                                    .Attr<bool>("reverse")                                  \
                                    .Ret<Array<Type>>()                                     \
                                    .Ret<Array<Type>>()                                     \
                                    .Ret<Array<Type>>())

LSTM_HANDLERS(float32, ffi::F32);
LSTM_HANDLERS(float64, ffi::F64);
