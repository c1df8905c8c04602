// The recurrence of a cell over whole sequences, forward and backward, as XLA custom calls on CPU.
//
// The cell's step is made of stages, mostly one: a product of the first leaf of the state with a kernel, and
// then a function of each hidden unit by itself, which codegen.py writes in C++ from the cell's own
// definition. XLA does products of large matrices well, so they stay with XLA: the input projection before
// the loop, the kernels' gradients after it. Only the recurrence is here. Compared with a loop in XLA this
// saves the calls per operation and memory traffic, and it uses all cores; recurrent weights are packed once
// per call for the product's inner loop.
//
// Arrays are float32 or float64, row-major and batch-major: [models, rows, time, ...], weights [models, ...].
// A row's step is skipped where `valid` is false, and starts from zero where `fresh` is true; either may be
// empty. Every value is computed by the same operations in the same order for any number of threads.

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "vectors.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// Products are computed in tiles of up to kRows rows by kVectors vectors of columns: as much as the registers
// hold, of which AVX has 16 and AVX-512 and NEON have 32.
constexpr int kRows = 6;
#if defined(__AVX__) && !defined(__AVX512F__)
constexpr int kVectors = 2;
#else
constexpr int kVectors = 4;
#endif

// Strips of columns that are taken at once. A few rows leave room for a second strip, and without it an
// addition would wait for the one before it.
template <int R>
constexpr int kStrips = 2 * R * kVectors <= 12 ? 2 : 1;

// tile = a[R, depth] b[depth, S strips of V vectors], with b packed: the V vectors of each k are contiguous,
// and strips are `strip` numbers apart.
template <int R, int S, int V, typename T>
inline __attribute__((always_inline)) void Multiply(int64_t depth, const T* a, int64_t stride, const T* b,
                                                    int64_t strip, Vector<T> (&tile)[R][S * V]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < S * V; ++v) tile[r][v] = Vector<T>{};
  for (int64_t k = 0; k < depth; ++k, b += V * kLanes<T>) {
    Vector<T> column[S * V];
#pragma GCC unroll 8
    for (int v = 0; v < S * V; ++v) column[v] = Load(b + v / V * strip + v % V * kLanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const T factor = a[r * stride + k];
#pragma GCC unroll 8
      for (int v = 0; v < S * V; ++v) tile[r][v] += factor * column[v];
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
// the weights fit into a core's own cache, or there are none; else by hidden units, with all threads in step.
struct Division {
  bool by_rows;
  int64_t chunks;

  Division(const Shape& shape, int products, int64_t bytes, int64_t threads) {
    const double weights = 4.0 * shape.hidden * shape.hidden;
    if (products == 0) {
      by_rows = true, chunks = std::max<int64_t>(1, std::min(threads, shape.rows));
    } else if (threads < 2 || weights * shape.rows < 1 << 17) {
      by_rows = true, chunks = 1;
    } else if (shape.rows >= 2 * threads && weights * bytes <= 1 << 20) {
      by_rows = true, chunks = threads;
    } else {
      by_rows = false, chunks = 2 * threads;
    }
  }
};

// A part of the work: from `first` on, `count` of them.
struct Range {
  int64_t first, count;

  // That of a chunk.
  Range(int64_t all, int64_t chunk, int64_t chunks)
      : first(all * chunk / chunks), count(all * (chunk + 1) / chunks - first) {}
};

// A recurrence, in either direction: phase 0 packs the weights; then there is one phase per stage of each
// step and a final one, or a single phase if rows are divided.
class Recurrence : public Phases {
 public:
  Recurrence(const Shape& shape, const Masks& masks, const Division& division, int stages)
      : Phases(division.by_rows ? 2 : shape.time * stages + 2, division.chunks),
        shape_(shape),
        masks_(masks),
        count_(stages),
        steps_(shape.time * stages),
        by_rows_(division.by_rows) {}

 protected:
  // Number of panels of the weights of a stage.
  virtual int64_t Panels(int stage) const = 0;
  virtual void Pack(int stage, int64_t panel) = 0;
  virtual void Start(int64_t row, int64_t rows) = 0;
  // Stage number `step` of all steps' in the order of work, for the given rows and panels of the weights.
  virtual void Step(int64_t step, int64_t row, int64_t rows, int64_t panel, int64_t panels) = 0;
  // The work after the last step.
  virtual void Finish(int64_t row, int64_t rows, int64_t panel, int64_t panels) = 0;
  // The stage that has a number in the order of work.
  virtual int StageOf(int64_t step) const = 0;

  const Shape shape_;
  const Masks masks_;
  const int count_;      // of stages
  const int64_t steps_;  // stages of all steps

 private:
  void Do(int64_t phase, int64_t chunk) final {
    const Range rows(shape_.rows, chunk, chunks());
    if (phase == 0) {
      for (int stage = 0; stage < count_; ++stage) {
        const Range panels(Panels(stage), chunk, chunks());
        for (int64_t panel = 0; panel < panels.count; ++panel) Pack(stage, panels.first + panel);
      }
      Start(rows.first, rows.count);
    } else if (by_rows_) {
      for (int64_t step = 0; step < steps_; ++step)
        Step(step, rows.first, rows.count, 0, Panels(StageOf(step)));
      Finish(rows.first, rows.count, 0, Panels(StageOf(steps_)));
    } else {
      const Range panels(Panels(StageOf(phase - 1)), chunk, chunks());
      phase <= steps_ ? Step(phase - 1, 0, shape_.rows, panels.first, panels.count)
                      : Finish(0, shape_.rows, panels.first, panels.count);
    }
  }

  const bool by_rows_;
};

// Call function.template operator()<R>(row) for tiles of at most kRows rows, as even as possible.
template <typename Function>
inline void ForTiles(int64_t row, int64_t rows, Function function) {
  const int64_t end = row + rows;
  for (int64_t tiles = CeilDiv(rows, kRows); tiles > 0; --tiles) {
    const int64_t size = CeilDiv(end - row, tiles);
    [&]<int... R>(std::integer_sequence<int, R...>) {
      ((size == R + 1 ? function.template operator()<R + 1>(row) : void()), ...);
    }(std::make_integer_sequence<int, kRows>());
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

// What a stage is made of. Of the columns of pre-activations (totals), the first `inputs` have a
// projected input, and the products belong to the first of them and to all columns after them.
struct Structure {
  int columns, inputs, products, vectors;
  int before, after;  // leaves of the state

  int Shared() const { return products - (columns - inputs); }
  // Vectors of units beside each other in a panel of the forward product, which is one of whole strips.
  int Units() const {
    if (products == 3) return kVectors == 2 ? 2 : 1;
    return products % 4 == 0 ? 1 : products % 2 == 0 ? 2 : 4;
  }
  // Vectors of a strip of such a panel.
  int Strip() const { return products == 3 ? std::min(kVectors, 3) : kVectors; }
};

// Arrays of `units` numbers each, of one row. Arguments and results are, in order,
//   forward: projected inputs, products, biases of the columns, vectors, the leaves before the stage,
//     to those after it, and, of the last stage, the first of these, the hidden state, once more;
//   keeping: the same, and further to the totals of the columns and the leaves before;
//   backward: totals, vectors, the leaves before, sums over steps of the vectors' gradients, gradients of the
//     leaves after, as what follows passes them on, and, for the last stage, of the states after this step,
//     to gradients of the first totals, those with inputs, of products, the sums, and gradients of the leaves
//     before.
using Elementwise = void (*)(const void* const* in, void* const* out, int64_t units);
constexpr int kArrays = 64;

struct Functions {
  Elementwise forward, keeping, backward;
};

std::mutex functions_mutex;

// Of the stages of each cell.
std::map<std::string, std::vector<Functions>, std::less<>>& AllFunctions() {
  static auto* const all = new std::map<std::string, std::vector<Functions>, std::less<>>;
  return *all;
}

template <typename T>
struct Stage {
  Structure structure;
  Functions functions;
  const T* kernel;   // [hidden, products * hidden]
  const T* bias;     // [columns * hidden]
  const T* vectors;  // [vectors, hidden]
};

// The arrays of one call.
struct Call {
  const void* in[kArrays];
  void* out[kArrays];
  int ins = 0, outs = 0;

  // Arrays a `stride` apart.
  template <typename T>
  void In(const T* from, int64_t stride, int count) {
    for (int i = 0; i < count; ++i) in[ins++] = from + i * stride;
  }
  template <typename T>
  void Out(T* to, int64_t stride, int count) {
    for (int i = 0; i < count; ++i) out[outs++] = to + i * stride;
  }
};

template <typename T>
inline Vector<T> LoadPart(const T* from, int64_t count) {
  return count <= 0 ? Vector<T>{} : Load(from, std::min<int64_t>(kLanes<T>, count));
}

template <typename T>
using Leaves = std::vector<T*>;

inline int64_t Padded(int64_t size, int64_t lanes) {
  return CeilDiv(size, lanes) * lanes;
}

// A stage in the forward pass.
template <typename T>
struct StageForward : Stage<T> {
  const T* projected;
  // Residuals of each step for the backward pass; null and none if none are needed.
  T* totals;
  Leaves<T> before;
};

// Sizes of the stages, at which each one's part of an array begins, and the sum of all at the end.
template <typename Stages, typename Function>
std::vector<int64_t> Places(const Stages& stages, Function size) {
  std::vector<int64_t> places = {0};
  for (const auto& stage : stages) places.push_back(places.back() + size(stage.structure));
  return places;
}

template <typename Stages, typename Function>
int64_t Most(const Stages& stages, Function size) {
  int64_t most = 0;
  for (const auto& stage : stages) most = std::max<int64_t>(most, size(stage.structure));
  return most;
}

template <typename T>
class CellForward final : public Recurrence {
 public:
  // `shown` are the states after each step, null where not asked for.
  CellForward(const Shape& shape, const Masks& masks, const Division& division,
              std::vector<StageForward<T>> stages, Leaves<const T> state, Leaves<T> last, Leaves<T> shown)
      : Recurrence(shape, masks, division, stages.size()),
        stages_(std::move(stages)),
        stride_(Most(stages_, [&](const auto& s) { return Padded(shape.hidden, s.Units() * kLanes<T>); })),
        products_stride_(stride_ * Most(stages_, [](const auto& s) { return s.products; })),
        places_(Places(stages_, [&](const auto& s) { return s.products * stride_ * shape.hidden; })),
        first_(std::move(state)),
        last_(std::move(last)),
        shown_(std::move(shown)),
        packed_(places_.back()),
        hidden_{Buffer<T>(shape.rows * stride_), Buffer<T>(shape.rows * stride_)},
        others_((Most(stages_, [](const auto& s) { return s.before; }) - 1) * shape.rows * stride_),
        products_(shape.rows * products_stride_) {}

 private:
  static int64_t Width(const Structure& structure) { return structure.Units() * kLanes<T>; }
  int64_t Panels(int stage) const override { return CeilDiv(shape_.hidden, Width(stages_[stage].structure)); }
  int StageOf(int64_t step) const override { return step % count_; }
  int64_t TimeOf(int64_t step) const { return shape_.At(step / count_); }
  T* Packed(int stage, int64_t panel) {
    const Structure& structure = stages_[stage].structure;
    return packed_.data() + places_[stage] + panel * shape_.hidden * structure.products * Width(structure);
  }
  T* Products(int64_t row) { return products_.data() + row * products_stride_; }
  // A leaf of a row's state before a stage.
  T* State(int leaf, int64_t row, int64_t step) {
    if (leaf == 0) return hidden_[step % 2].data() + row * stride_;
    return others_.data() + ((leaf - 1) * shape_.rows + row) * stride_;
  }

  void Pack(int stage, int64_t panel) override {
    const Structure& structure = stages_[stage].structure;
    const int products = structure.products, strip = structure.Strip(), units = structure.Units();
    T* to = Packed(stage, panel);
    for (int first = 0; first < products * units; first += strip)
      for (int64_t k = 0; k < shape_.hidden; ++k)
        for (int v = first; v < first + strip; ++v, to += kLanes<T>) {
          const int64_t unit = panel * Width(structure) + v % units * kLanes<T>;
          Store(to, LoadPart(stages_[stage].kernel + (k * products + v / units) * shape_.hidden + unit,
                             shape_.hidden - unit));
        }
  }

  void Start(int64_t row, int64_t rows) override {
    for (int leaf = 0; leaf < stages_[0].structure.before; ++leaf)
      for (int64_t r = row; r < row + rows; ++r) {
        T* const to = State(leaf, r, 0);
        std::memset(to, 0, stride_ * sizeof(T));
        if (shape_.time > 0 && masks_.Fresh(r, shape_.At(0))) continue;
        std::memcpy(to, first_[leaf] + r * shape_.hidden, shape_.hidden * sizeof(T));
      }
  }

  void Step(int64_t step, int64_t row, int64_t rows, int64_t panel, int64_t panels) override {
    const Structure& structure = stages_[StageOf(step)].structure;
    for (int64_t p = panel; p < panel + panels; ++p)
      ForTiles(row, rows, [&]<int R>(int64_t r) {
        bool any = false;
        for (int i = 0; i < R; ++i) any |= masks_.Valid(r + i, TimeOf(step));
        if (!any) return;
        structure.products == 3 ? this->template Panel<R, std::min(kVectors, 3)>(step, r, p)
                                : this->template Panel<R, kVectors>(step, r, p);
      });
    const int64_t width = Width(structure), first = panel * width;
    const int64_t size = std::min(shape_.hidden - first, panels * width);
    for (int64_t r = row; r < row + rows; ++r) Advance(step, r, first, size);
  }

  // The products of R rows with a panel in strips of V vectors.
  template <int R, int V>
  void Panel(int64_t step, int64_t row, int64_t panel) {
    const Structure& structure = stages_[StageOf(step)].structure;
    const int vectors = structure.products * structure.Units();
    int v = 0;
    for (; v + kStrips<R> * V <= vectors; v += kStrips<R> * V) Strips<R, kStrips<R>, V>(step, row, panel, v);
    for (; v < vectors; v += V) Strips<R, 1, V>(step, row, panel, v);
  }

  template <int R, int S, int V>
  void Strips(int64_t step, int64_t row, int64_t panel, int first) {
    Vector<T> tile[R][S * V];
    const int stage = StageOf(step), units = stages_[stage].structure.Units();
    const T* const packed = Packed(stage, panel) + first * shape_.hidden * kLanes<T>;
    Multiply<R, S, V>(shape_.hidden, State(0, row, step), stride_, packed, shape_.hidden * V * kLanes<T>,
                      tile);
    for (int r = 0; r < R; ++r)
      for (int i = 0; i < S * V; ++i)
        Store(Products(row + r) + (first + i) / units * stride_ + panel * units * kLanes<T> +
                  (first + i) % units * kLanes<T>,
              tile[r][i]);
  }

  // The leaves of a row after a stage, in a range of units.
  void Advance(int64_t step, int64_t row, int64_t first, int64_t size) {
    const StageForward<T>& stage = stages_[StageOf(step)];
    const Structure& structure = stage.structure;
    const int64_t hidden = shape_.hidden, t = TimeOf(step), place = row * shape_.time + t;
    const int64_t bytes = size * sizeof(T);
    const bool valid = masks_.Valid(row, t), is_last = StageOf(step) == count_ - 1;
    if (valid) {
      Call call;
      call.In(stage.projected + place * structure.inputs * hidden + first, hidden, structure.inputs);
      call.In(Products(row) + first, stride_, structure.products);
      call.In(stage.bias + first, hidden, structure.columns);
      call.In(stage.vectors + first, hidden, structure.vectors);
      for (int leaf = 0; leaf < structure.before; ++leaf) call.In(State(leaf, row, step) + first, 0, 1);
      for (int leaf = 0; leaf < structure.after; ++leaf) call.Out(State(leaf, row, step + 1) + first, 0, 1);
      if (is_last) call.Out(shown_[0] + place * hidden + first, 0, 1);
      if (stage.totals) {
        call.Out(stage.totals + place * structure.columns * hidden + first, hidden, structure.columns);
        for (T* const before : stage.before) call.Out(before + place * hidden + first, 0, 1);
      }
      (stage.totals ? stage.functions.keeping : stage.functions.forward)(call.in, call.out, size);
    } else {
      // The other leaves stay in their place; those of later stages are of no meaning.
      std::memcpy(State(0, row, step + 1) + first, State(0, row, step) + first, bytes);
      if (is_last) std::memset(shown_[0] + place * hidden + first, 0, bytes);
      if (stage.totals) {
        T* const totals = stage.totals + place * structure.columns * hidden + first;
        for (int c = 0; c < structure.columns; ++c) std::memset(totals + c * hidden, 0, bytes);
        for (T* const before : stage.before) std::memset(before + place * hidden + first, 0, bytes);
      }
    }
    if (!is_last) return;
    const int64_t next = step / count_ + 1;
    const bool clear = next < shape_.time && masks_.Fresh(row, shape_.At(next));
    for (int leaf = 0; leaf < structure.after; ++leaf) {
      T* const after = State(leaf, row, step + 1) + first;
      if (leaf > 0 && shown_[leaf]) {
        T* const to = shown_[leaf] + place * hidden + first;
        valid ? std::memcpy(to, after, bytes) : std::memset(to, 0, bytes);
      }
      if (clear) std::memset(after, 0, bytes);
    }
  }

  void Finish(int64_t row, int64_t rows, int64_t panel, int64_t panels) override {
    const Structure& structure = stages_[StageOf(steps_)].structure;
    const int64_t width = Width(structure), first = panel * width;
    const int64_t size = std::min(shape_.hidden - first, panels * width);
    for (int leaf = 0; leaf < structure.before; ++leaf)
      for (int64_t r = row; r < row + rows; ++r)
        std::memcpy(last_[leaf] + r * shape_.hidden + first, State(leaf, r, steps_) + first,
                    size * sizeof(T));
  }

  const std::vector<StageForward<T>> stages_;
  const int64_t stride_, products_stride_;
  const std::vector<int64_t> places_;
  const Leaves<const T> first_;
  const Leaves<T> last_, shown_;
  Buffer<T> packed_;
  Buffer<T> hidden_[2];  // the first leaf before the stage, and after it
  Buffer<T> others_;     // the other leaves
  Buffer<T> products_;
};

// A stage in the backward pass.
template <typename T>
struct StageBackward : Stage<T> {
  const T* totals;
  Leaves<const T> before;
  T* d_inputs;
  T* d_products;  // null if all columns have both an input and a product, whose gradients are then the same
  T* d_vectors;
};

// The transpose of the linearized recurrence of such a cell: from gradients of the states to those of the
// projected inputs, the products, the vectors (a sum for each row) and the initial state. Stages are taken
// against the direction of the forward pass.
template <typename T>
class CellBackward final : public Recurrence {
 public:
  CellBackward(const Shape& shape, const Masks& masks, const Division& division,
               std::vector<StageBackward<T>> stages, Leaves<const T> d_last, Leaves<const T> d_shown,
               Leaves<T> d_first)
      : Recurrence(shape, masks, division, stages.size()),
        stages_(std::move(stages)),
        stride_(Padded(shape.hidden, kLanes<T>)),
        later_stride_(shape.hidden * Most(stages_, [](const auto& s) { return s.products; })),
        places_(Places(stages_, [&](const auto& s) { return s.products * shape.hidden * stride_; })),
        d_last_(std::move(d_last)),
        d_shown_(std::move(d_shown)),
        d_first_(std::move(d_first)),
        packed_(places_.back()),
        later_{Buffer<T>(shape.rows * later_stride_), Buffer<T>(shape.rows * later_stride_)},
        passed_(Most(stages_, [](const auto& s) { return s.before; }) * shape.rows * stride_),
        zeros_(shape.hidden) {
    std::memset(zeros_.data(), 0, shape.hidden * sizeof(T));
  }

 private:
  static constexpr int64_t kPanel = 4;     // vectors of units
  static constexpr int64_t kDepth = 2048;  // of a product at once: as much of a panel as the caches hold
  static constexpr int64_t kWidth = kPanel * kLanes<T>;

  int64_t Panels(int) const override { return CeilDiv(shape_.hidden, kWidth); }
  int StageOf(int64_t step) const override { return count_ - 1 - step % count_; }
  int64_t TimeOf(int64_t step) const { return shape_.At(shape_.time - 1 - step / count_); }
  int64_t Depth(int stage) const { return stages_[stage].structure.products * shape_.hidden; }
  // The vector after the last one of a panel.
  int64_t End(int64_t panel) const { return std::min((panel + 1) * kPanel, stride_ / kLanes<T>); }
  // The strip of a stage that begins with a vector.
  T* Packed(int stage, int64_t vector) {
    return packed_.data() + places_[stage] + vector * kLanes<T> * Depth(stage);
  }
  // A row's gradients of the products of the stage before `step`. All stages have the same stride: threads
  // that divide the rows do not wait for each other between them.
  T* Later(int64_t row, int64_t step) { return later_[step % 2].data() + row * later_stride_; }
  T* Passed(int leaf, int64_t row) { return passed_.data() + (leaf * shape_.rows + row) * stride_; }

  void Pack(int stage, int64_t panel) override {
    constexpr int64_t kBlock = 16;
    const int64_t depth = Depth(stage);
    for (int64_t first = panel * kPanel; first < End(panel); first += kVectors) {
      const int64_t unit = first * kLanes<T>;
      const int64_t width = std::min<int64_t>(kVectors, End(panel) - first) * kLanes<T>;
      const int64_t size = std::min(width, shape_.hidden - unit);
      T* const to = Packed(stage, first);
      for (int64_t block = 0; block < depth; block += kBlock)
        for (int64_t u = 0; u < width; ++u)
          for (int64_t k = block; k < std::min(block + kBlock, depth); ++k)
            to[k * width + u] = u < size ? stages_[stage].kernel[(unit + u) * depth + k] : T{};
    }
  }

  void Start(int64_t row, int64_t rows) override {
    for (const StageBackward<T>& stage : stages_) {
      const int64_t size = stage.structure.vectors * shape_.hidden;
      if (size) std::memset(stage.d_vectors + row * size, 0, rows * size * sizeof(T));
    }
    for (size_t leaf = 0; leaf < d_last_.size(); ++leaf)
      for (int64_t r = row; r < row + rows; ++r) {
        std::memset(Passed(leaf, r), 0, stride_ * sizeof(T));
        std::memcpy(Passed(leaf, r), d_last_[leaf] + r * shape_.hidden, shape_.hidden * sizeof(T));
      }
  }

  void Step(int64_t step, int64_t row, int64_t rows, int64_t panel, int64_t panels) override {
    Products(step, row, rows, panel, panels);
    const int64_t first = panel * kWidth, size = std::min(shape_.hidden - first, panels * kWidth);
    for (int64_t r = row; r < row + rows; ++r) Retreat(step, r, first, size);
  }

  void Finish(int64_t row, int64_t rows, int64_t panel, int64_t panels) override {
    Products(steps_, row, rows, panel, panels);
    const int64_t first = panel * kWidth, size = std::min(shape_.hidden - first, panels * kWidth);
    for (size_t leaf = 0; leaf < d_first_.size(); ++leaf)
      for (int64_t r = row; r < row + rows; ++r)
        std::memcpy(d_first_[leaf] + r * shape_.hidden + first, Passed(leaf, r) + first, size * sizeof(T));
  }

  // Add to the gradient of the first leaf what the products of the stage before `step`, in the order of work,
  // pass on to it.
  void Products(int64_t step, int64_t row, int64_t rows, int64_t panel, int64_t panels) {
    if (step == 0 || stages_[StageOf(step - 1)].structure.products == 0) return;
    const int64_t depth = Depth(StageOf(step - 1));
    for (int64_t p = panel; p < panel + panels; ++p)
      for (int64_t k = 0; k < depth; k += kDepth)
        ForTiles(row, rows, [&]<int R>(int64_t r) {
          bool any = false;
          for (int i = 0; i < R; ++i) any |= masks_.Valid(r + i, TimeOf(step - 1));
          if (!any) return;
          int64_t v = p * kPanel;
          const int64_t end = End(p);
          for (; v + kStrips<R> * kVectors <= end; v += kStrips<R> * kVectors)
            this->template Strips<R, kStrips<R>, kVectors>(step, r, v, k);
          for (; v + kVectors <= end; v += kVectors) this->template Strips<R, 1, kVectors>(step, r, v, k);
          switch (end - v) {
            case 1:
              return this->template Strips<R, 1, 1>(step, r, v, k);
            case 2:
              return this->template Strips<R, 1, 2>(step, r, v, k);
            case 3:
              return this->template Strips<R, 1, 3>(step, r, v, k);
          }
        });
  }

  template <int R, int S, int V>
  void Strips(int64_t step, int64_t row, int64_t vector, int64_t k) {
    Vector<T> tile[R][S * V];
    const int stage = StageOf(step - 1);
    const int64_t depth = Depth(stage), width = V * kLanes<T>;
    Multiply<R, S, V>(std::min(depth - k, kDepth), Later(row, step) + k, later_stride_,
                      Packed(stage, vector) + k * width, depth * width, tile);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < S * V; ++v) {
        T* const to = Passed(0, row + r) + (vector + v) * kLanes<T>;
        Store(to, Load(to) + tile[r][v]);
      }
  }

  // The gradients of a row's stage, from those of the leaves after it, in a range of units.
  void Retreat(int64_t step, int64_t row, int64_t first, int64_t size) {
    const StageBackward<T>& stage = stages_[StageOf(step)];
    const Structure& structure = stage.structure;
    const int64_t hidden = shape_.hidden, t = TimeOf(step), place = row * shape_.time + t;
    const int64_t bytes = size * sizeof(T), inputs = structure.inputs, products = structure.products;
    const int64_t depth = products * hidden;
    T* const d_inputs = stage.d_inputs + place * inputs * hidden + first;
    T* const later = Later(row, step + 1) + first;
    T* const d_products = stage.d_products ? stage.d_products + place * depth + first : nullptr;
    const auto clear = [&](T* array, int64_t stride, int count) {
      for (int i = 0; i < count; ++i) std::memset(array + i * stride, 0, bytes);
    };
    if (!masks_.Valid(row, t)) {
      clear(d_inputs, hidden, inputs);
      clear(later, hidden, products);
      if (d_products) clear(d_products, hidden, products);
      return;
    }
    Call call;
    call.In(stage.totals + place * structure.columns * hidden + first, hidden, structure.columns);
    call.In(stage.vectors + first, hidden, structure.vectors);
    for (const T* const before : stage.before) call.In(before + place * hidden + first, 0, 1);
    T* const sums = stage.d_vectors + row * structure.vectors * hidden + first;
    call.In(sums, hidden, structure.vectors);
    call.In(Passed(0, row) + first, shape_.rows * stride_, structure.after);
    if (StageOf(step) == count_ - 1)
      for (const T* const shown : d_shown_)
        call.In(shown ? shown + place * hidden + first : zeros_.data() + first, 0, 1);
    call.Out(d_inputs, hidden, inputs);
    call.Out(later, hidden, products);
    call.Out(sums, hidden, structure.vectors);
    call.Out(Passed(0, row) + first, shape_.rows * stride_, structure.before);
    stage.functions.backward(call.in, call.out, size);
    if (d_products)
      for (int i = 0; i < products; ++i) std::memcpy(d_products + i * hidden, later + i * hidden, bytes);
    if (StageOf(step) == 0 && masks_.Fresh(row, t)) {
      clear(later, hidden, products);
      clear(Passed(0, row) + first, shape_.rows * stride_, structure.before);
    }
  }

  const std::vector<StageBackward<T>> stages_;
  const int64_t stride_, later_stride_;
  const std::vector<int64_t> places_;
  const Leaves<const T> d_last_, d_shown_;
  const Leaves<T> d_first_;
  Buffer<T> packed_;
  Buffer<T> later_[2];  // gradients of the products of the stage before, in the order of work
  Buffer<T> passed_;    // gradients of the leaves
  Buffer<T> zeros_;
};

// The call from XLA. Operands are, for a cell with K stages and S leaves of state,
//   forward: kernel, bias, vectors of each stage; projected of each stage; S of the state before;
//   backward: kernel, vectors of each stage; totals and leaves before it of each stage; S gradients of the
//   last state, S of the states after each step;
// and then valid and fresh. Results are
//   forward: S of the last state, S of the states after each step, and, to keep them, totals and leaves
//   before it of each stage;
//   backward: for each stage gradients of projected inputs, and of products if these are others; for each
//   stage gradients of vectors for each row; and S of the initial state.
// Totals may lie where the projected inputs were, and their gradients where the totals were.

template <typename T>
struct Operands {
  ffi::RemainingArgs given;
  ffi::RemainingRets results;
  int64_t model, models;

  // The model's part; null if the array is empty.
  template <typename U>
  U* Part(const ffi::AnyBuffer& array) const {
    const int64_t size = array.element_count() / models;
    return size ? static_cast<U*>(array.untyped_data()) + model * size : nullptr;
  }
  const T* Argument(size_t place) const { return Part<const T>(*given.get<ffi::AnyBuffer>(place)); }
  T* Result(size_t place) const { return Part<T>(**results.get<ffi::AnyBuffer>(place)); }
  Leaves<const T> Arguments(size_t place, int count) const {
    Leaves<const T> all;
    for (int i = 0; i < count; ++i) all.push_back(Argument(place + i));
    return all;
  }
  Leaves<T> Results(size_t place, int count) const {
    Leaves<T> all;
    for (int i = 0; i < count; ++i) all.push_back(Result(place + i));
    return all;
  }
  Masks LastMasks(int64_t time) const {
    const size_t place = given.size() - 2;
    return {Part<const bool>(*given.get<ffi::AnyBuffer>(place)),
            Part<const bool>(*given.get<ffi::AnyBuffer>(place + 1)), time};
  }
};

// The cell of a call.
struct Cell {
  std::vector<Functions> functions;  // of each stage
  ffi::Span<const int64_t> leaves;   // before each stage
  ffi::Span<const int64_t> inputs;   // columns of each stage with an input
  bool reverse;

  int count() const { return functions.size(); }

  // The structure of a stage, from the last axes of its kernel, pre-activations and vectors.
  Structure At(int stage, ffi::Span<const int64_t> kernel, int64_t columns,
               ffi::Span<const int64_t> vectors) const {
    const int64_t hidden = kernel[1];
    return {int(columns / hidden), int(inputs[stage]), int(kernel[2] / hidden),
            int(vectors[1]),       int(leaves[stage]), int(leaves[(stage + 1) % count()])};
  }
};

ffi::ErrorOr<std::vector<Functions>> FunctionsOf(std::string_view name) {
  const std::lock_guard lock(functions_mutex);
  const auto found = AllFunctions().find(name);
  if (found == AllFunctions().end())
    return ffi::Unexpected(
        ffi::Error::Internal("the functions of the cell are not loaded: " + std::string(name)));
  return found->second;
}

template <typename T>
ffi::Error CellForwardOf(ffi::ThreadPool& pool, ffi::RemainingArgs given, ffi::RemainingRets results,
                         const Cell& cell) {
  const auto dimensions = [&](size_t place) { return given.get<ffi::AnyBuffer>(place)->dimensions(); };
  const int count = cell.count(), leaves = cell.leaves[0];
  const auto shown = (*results.get<ffi::AnyBuffer>(leaves))->dimensions();
  const Shape shape = {shown[1], shown[2], shown[3], cell.reverse};
  const bool keeping = results.size() > 2 * size_t(leaves);
  RunModels(shown[0], pool, [=](int64_t model, int64_t threads) {
    const Operands<T> operands = {given, results, model, shown[0]};
    std::vector<StageForward<T>> stages;
    int products = 0;
    for (int k = 0, kept = 2 * leaves; k < count; ++k) {
      const int weights = 3 * k;
      const Structure structure =
          cell.At(k, dimensions(weights), dimensions(weights + 1)[1], dimensions(weights + 2));
      stages.push_back({{structure, cell.functions[k], operands.Argument(weights),
                         operands.Argument(weights + 1), operands.Argument(weights + 2)},
                        operands.Argument(3 * count + k),
                        keeping ? operands.Result(kept) : nullptr,
                        keeping ? operands.Results(kept + 1, structure.before) : Leaves<T>{}});
      kept += 1 + structure.before;
      products += structure.products;
    }
    return std::make_shared<CellForward<T>>(shape, operands.LastMasks(shape.time),
                                            Division(shape, products, sizeof(T), threads), std::move(stages),
                                            operands.Arguments(4 * count, leaves),
                                            operands.Results(0, leaves), operands.Results(leaves, leaves));
  });
  return ffi::Error::Success();
}

template <typename T>
ffi::Error CellBackwardOf(ffi::ThreadPool& pool, ffi::RemainingArgs given, ffi::RemainingRets results,
                          const Cell& cell) {
  const auto dimensions = [&](size_t place) { return given.get<ffi::AnyBuffer>(place)->dimensions(); };
  const int count = cell.count(), leaves = cell.leaves[0];
  const auto before = dimensions(2 * count + 1);
  const Shape shape = {before[1], before[2], before[3], cell.reverse};
  RunModels(before[0], pool, [=](int64_t model, int64_t threads) {
    const Operands<T> operands = {given, results, model, before[0]};
    std::vector<StageBackward<T>> stages;
    int products = 0, kept = 2 * count, terms = 0;
    for (int k = 0; k < count; ++k) {
      const Structure structure =
          cell.At(k, dimensions(2 * k), dimensions(kept).back(), dimensions(2 * k + 1));
      const bool separate = structure.Shared() != structure.columns;
      stages.push_back(
          {{structure, cell.functions[k], operands.Argument(2 * k), nullptr, operands.Argument(2 * k + 1)},
           operands.Argument(kept),
           operands.Arguments(kept + 1, structure.before),
           operands.Result(terms),
           separate ? operands.Result(terms + 1) : nullptr,
           nullptr});
      kept += 1 + structure.before;
      terms += 1 + separate;
      products += structure.products;
    }
    for (StageBackward<T>& stage : stages) stage.d_vectors = operands.Result(terms++);
    return std::make_shared<CellBackward<T>>(
        shape, operands.LastMasks(shape.time), Division(shape, products, sizeof(T), threads),
        std::move(stages), operands.Arguments(kept, leaves), operands.Arguments(kept + leaves, leaves),
        operands.Results(terms, leaves));
  });
  return ffi::Error::Success();
}

ffi::Error RunCell(ffi::ThreadPool pool, std::string_view functions, ffi::Span<const int64_t> leaves,
                   ffi::Span<const int64_t> inputs, bool reverse, bool backward, ffi::RemainingArgs given,
                   ffi::RemainingRets results) {
  const ffi::DataType type = given.get<ffi::AnyBuffer>(0)->element_type();
  const auto found = FunctionsOf(functions);
  if (!found) return found.error();
  const Cell cell = {*found, leaves, inputs, reverse};
  if (type == ffi::F64)
    return backward ? CellBackwardOf<double>(pool, given, results, cell)
                    : CellForwardOf<double>(pool, given, results, cell);
  return backward ? CellBackwardOf<float>(pool, given, results, cell)
                  : CellForwardOf<float>(pool, given, results, cell);
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(cell, RunCell,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<std::string_view>("functions")
                                  .Attr<ffi::Span<const int64_t>>("leaves")
                                  .Attr<ffi::Span<const int64_t>>("inputs")
                                  .Attr<bool>("reverse")
                                  .Attr<bool>("backward")
                                  .RemainingArgs()
                                  .RemainingRets());

// Make the functions of a stage of a cell known, stage by stage.
extern "C" void register_functions(const char* name, int stage, Elementwise forward, Elementwise keeping,
                                   Elementwise backward) {
  const std::lock_guard lock(functions_mutex);
  auto& stages = AllFunctions()[name];
  stages.resize(std::max<size_t>(stages.size(), stage + 1));
  stages[stage] = {forward, keeping, backward};
}
