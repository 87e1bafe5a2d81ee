// What ends a product: y = f(u + b), z = x + y + b, and the gated f(a) * b, with
// their backward passes. Arrays are bf16 [rows, m], the bias f32 [m] (may be
// null); all sums and functions are f32.
// f: 0 identity, 1 gelu (tanh form), 2 silu, 3 sigmoid, 4 relu, 5 tanh.
//
// Column kernels (all but the gated ones): with W = 8 when m is a multiple of 8
// (arrays then 16-byte aligned), else 1, a thread owns W neighbouring columns and
// walks over rows lane, lane + lanes, ..., where lanes = gridDim.y * blockDim.y.
//   block (X, Y): X = least power of two >= m / W, at most 256; Y = 256 / X.
//   grid  (ceil(m / W / X), Q): Q = ceil(rows / (Y * 16)), at least 1 and at most
//         max(1, 1024 / gridDim.x); no dynamic shared memory.
// Kernels with a `part` argument write column sums to part [slabs, m] f32 with
// slabs = Q * Y (every row of it is written), to be added by add_slabs. A null
// part writes no sums.
//   ended_forward          u, b -> y = f(u + b)
//   ended_backward         u, b, g -> du = g * f'(u + b), part (sums of f32 du)
//   ended_residual         x, y, b -> z = x + y + b
//   ended_residual_column  g -> part (sums of g)
// Gated kernels: block 256, grid min(ceil(count / 2048), 4096), at least 1; count
// values in all; arrays 16-byte aligned.
//   ended_gated            a, b -> y = f(a) * b
//   ended_gated_backward   a, b, g -> da = g * b * f'(a), db = g * f(a)

#define IDENTITY 0
#define GELU 1
#define SILU 2
#define SIGMOID 3
#define RELU 4
#define TANH 5

#define GELU_SLOPE 0.7978845608028654f
#define GELU_CUBIC 0.044715f

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

// f(x) and f'(x). The gelu uses (1 + tanh(z)) / 2 = sigmoid(2 z).
template <int F> __device__ __forceinline__ void apply(float x, float& value, float& slope) {
    if constexpr (F == GELU) {
        const float s = sigmoid(2.0f * GELU_SLOPE * (x + GELU_CUBIC * x * x * x));
        value = x * s;
        slope = s + x * s * (1.0f - s) * (2.0f * GELU_SLOPE) * (1.0f + 3.0f * GELU_CUBIC * x * x);
    } else if constexpr (F == SILU) {
        const float s = sigmoid(x);
        value = x * s;
        slope = s * (1.0f + x * (1.0f - s));
    } else if constexpr (F == SIGMOID) {
        value = sigmoid(x);
        slope = value * (1.0f - value);
    } else if constexpr (F == RELU) {
        value = x < 0.0f ? 0.0f : x;
        slope = x > 0.0f ? 1.0f : 0.0f;
    } else if constexpr (F == TANH) {
        value = tanhf(x);
        slope = 1.0f - value * value;
    } else {
        value = x;
        slope = 1.0f;
    }
}

// Calls `body` with the function number known while compiling.
#define CHOOSE(f, body)                  \
    switch (f) {                         \
        case GELU: body(GELU); break;    \
        case SILU: body(SILU); break;    \
        case SIGMOID: body(SIGMOID); break; \
        case RELU: body(RELU); break;    \
        case TANH: body(TANH); break;    \
        default: body(IDENTITY); break;  \
    }

// Calls body(at) with the place of this thread's columns in each of its rows, if it has any.
template <class Body>
__device__ __forceinline__ void walk(int column, int rows, int m, const Body& body) {
    const int lanes = gridDim.y * blockDim.y;
#pragma unroll 4
    for (long long row = blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += lanes)
        body((size_t)row * m + column);
}

// This thread's columns, and where its sums of them go.
template <int WIDTH> struct Columns {
    int first;
    size_t sums;
    __device__ __forceinline__ explicit Columns(int m) {
        first = (blockIdx.x * blockDim.x + threadIdx.x) * WIDTH;
        sums = (size_t)(blockIdx.y * blockDim.y + threadIdx.y) * m + first;
    }
};

template <int WIDTH> __device__ __forceinline__ void nothing(float (&to)[WIDTH]) {
#pragma unroll
    for (int i = 0; i < WIDTH; i++) to[i] = 0.0f;
}

template <int F, int WIDTH>
__device__ __forceinline__ void forward_columns(const bf16* u, const float* b, bf16* y, int rows, int m) {
    const Columns<WIDTH> own(m);
    if (own.first >= m) return;
    float bias[WIDTH];
    read_or_zero<WIDTH>(b, own.first, bias);
    walk(own.first, rows, m, [&](size_t at) {
        float v[WIDTH];
        read<WIDTH>(u + at, v);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
            float slope;
            apply<F>(v[i] + bias[i], v[i], slope);
        }
        write<WIDTH>(y + at, v);
    });
}

extern "C" __global__ void ended_forward(const bf16* __restrict__ u, const float* __restrict__ b,
                                         bf16* __restrict__ y, int rows, int m, int f) {
#define BODY(F) m % 8 == 0 ? forward_columns<F, 8>(u, b, y, rows, m) : forward_columns<F, 1>(u, b, y, rows, m)
    CHOOSE(f, BODY)
#undef BODY
}

template <int F, int WIDTH>
__device__ __forceinline__ void backward_columns(const bf16* u, const float* b, const bf16* g, bf16* du, float* part,
                                                 int rows, int m) {
    const Columns<WIDTH> own(m);
    if (own.first >= m) return;
    float bias[WIDTH], sum[WIDTH];
    read_or_zero<WIDTH>(b, own.first, bias);
    nothing<WIDTH>(sum);
    walk(own.first, rows, m, [&](size_t at) {
        float v[WIDTH], d[WIDTH];
        read<WIDTH>(u + at, v);
        read<WIDTH>(g + at, d);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
            float value, slope;
            apply<F>(v[i] + bias[i], value, slope);
            d[i] *= slope;
            sum[i] += d[i];
        }
        write<WIDTH>(du + at, d);
    });
    if (part) write<WIDTH>(part + own.sums, sum);
}

extern "C" __global__ void ended_backward(const bf16* __restrict__ u, const float* __restrict__ b,
                                          const bf16* __restrict__ g, bf16* __restrict__ du,
                                          float* __restrict__ part, int rows, int m, int f) {
#define BODY(F)                                                      \
    m % 8 == 0 ? backward_columns<F, 8>(u, b, g, du, part, rows, m) \
               : backward_columns<F, 1>(u, b, g, du, part, rows, m)
    CHOOSE(f, BODY)
#undef BODY
}

template <int WIDTH>
__device__ __forceinline__ void residual_columns(const bf16* x, const bf16* y, const float* b, bf16* z, int rows,
                                                 int m) {
    const Columns<WIDTH> own(m);
    if (own.first >= m) return;
    float bias[WIDTH];
    read_or_zero<WIDTH>(b, own.first, bias);
    walk(own.first, rows, m, [&](size_t at) {
        float v[WIDTH], w[WIDTH];
        read<WIDTH>(x + at, v);
        read<WIDTH>(y + at, w);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) v[i] = v[i] + w[i] + bias[i];
        write<WIDTH>(z + at, v);
    });
}

extern "C" __global__ void ended_residual(const bf16* __restrict__ x, const bf16* __restrict__ y,
                                          const float* __restrict__ b, bf16* __restrict__ z, int rows, int m) {
    m % 8 == 0 ? residual_columns<8>(x, y, b, z, rows, m) : residual_columns<1>(x, y, b, z, rows, m);
}

template <int WIDTH>
__device__ __forceinline__ void column_sums(const bf16* g, float* part, int rows, int m) {
    const Columns<WIDTH> own(m);
    if (own.first >= m) return;
    float sum[WIDTH];
    nothing<WIDTH>(sum);
    walk(own.first, rows, m, [&](size_t at) {
        float v[WIDTH];
        read<WIDTH>(g + at, v);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) sum[i] += v[i];
    });
    write<WIDTH>(part + own.sums, sum);
}

extern "C" __global__ void ended_residual_column(const bf16* __restrict__ g, float* __restrict__ part, int rows,
                                                 int m) {
    m % 8 == 0 ? column_sums<8>(g, part, rows, m) : column_sums<1>(g, part, rows, m);
}

template <int F, int WIDTH>
__device__ __forceinline__ void gated_piece(const bf16* a, const bf16* b, bf16* y, size_t at) {
    float v[WIDTH], w[WIDTH];
    read<WIDTH>(a + at, v);
    read<WIDTH>(b + at, w);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        float value, slope;
        apply<F>(v[i], value, slope);
        v[i] = value * w[i];
    }
    write<WIDTH>(y + at, v);
}

template <int F, int WIDTH>
__device__ __forceinline__ void gated_piece_backward(const bf16* a, const bf16* b, const bf16* g, bf16* da, bf16* db,
                                                     size_t at) {
    float v[WIDTH], w[WIDTH], d[WIDTH];
    read<WIDTH>(a + at, v);
    read<WIDTH>(b + at, w);
    read<WIDTH>(g + at, d);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        float value, slope;
        apply<F>(v[i], value, slope);
        v[i] = d[i] * w[i] * slope;
        w[i] = d[i] * value;
    }
    write<WIDTH>(da + at, v);
    write<WIDTH>(db + at, w);
}

// All whole pieces of 8 over the grid, then the last few values one by one.
template <int F>
__device__ __forceinline__ void gated_all(const bf16* a, const bf16* b, bf16* y, unsigned long long count) {
    const size_t thread = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    const size_t threads = (size_t)gridDim.x * blockDim.x;
    const size_t whole = count / 8;
    for (size_t piece = thread; piece < whole; piece += threads) gated_piece<F, 8>(a, b, y, piece * 8);
    if (whole * 8 + thread < count) gated_piece<F, 1>(a, b, y, whole * 8 + thread);
}

template <int F>
__device__ __forceinline__ void gated_all_backward(const bf16* a, const bf16* b, const bf16* g, bf16* da, bf16* db,
                                                   unsigned long long count) {
    const size_t thread = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    const size_t threads = (size_t)gridDim.x * blockDim.x;
    const size_t whole = count / 8;
    for (size_t piece = thread; piece < whole; piece += threads)
        gated_piece_backward<F, 8>(a, b, g, da, db, piece * 8);
    if (whole * 8 + thread < count) gated_piece_backward<F, 1>(a, b, g, da, db, whole * 8 + thread);
}

extern "C" __global__ void ended_gated(const bf16* __restrict__ a, const bf16* __restrict__ b, bf16* __restrict__ y,
                                       unsigned long long count, int f) {
#define BODY(F) gated_all<F>(a, b, y, count)
    CHOOSE(f, BODY)
#undef BODY
}

extern "C" __global__ void ended_gated_backward(const bf16* __restrict__ a, const bf16* __restrict__ b,
                                                const bf16* __restrict__ g, bf16* __restrict__ da,
                                                bf16* __restrict__ db, unsigned long long count, int f) {
#define BODY(F) gated_all_backward<F>(a, b, g, da, db, count)
    CHOOSE(f, BODY)
#undef BODY
}
