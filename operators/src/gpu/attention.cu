// Attention with the softmax kept on chip, after Dao 2023, "FlashAttention-2:
// Faster Attention with Better Parallelism and Work Partitioning". Here the
// backward pass has one kernel for dq and one for dk and dv, so that no sum is
// made by atomics and every result repeats bit for bit.
//
// Row-major, contiguous, 16-byte aligned arrays; d is the macro HEAD (32, 64, 96
// or 128):
//   q, y, dy, dq    bf16 [b, n, g, r, d]   head = group * r + place in the group
//   kv, dkv         bf16 [b, t, 2, g, d]   index 0 holds keys, 1 values
//   lse, delta      f32  [b, g * r, n]
// Query i stands at position first + i and, when causal is 1, sees keys 0 to
// first + i; else it sees all t keys. scale = 1 / sqrt(d). A query that sees no
// key gets y = 0 and lse = -inf; otherwise lse = log(sum(exp(scale * score))).
//
//   attention_forward  grid (ceil(n / 128), g * r, b), block 128,
//                      dynamic shared memory 2 * d * (128 + 4 * 64) = 768 * d bytes
//   attention_delta    grid ceil(b * n * g * r / 8), block 256, no shared memory;
//                      delta = sum over d of dy * y
//   attention_dq       grid (ceil(n / 128), g * r, b), block 128, after delta,
//                      2 * d * (2 * 128 + 4 * K) bytes, K = 64 keys a step for
//                      d <= 64, else 32: 1024 * d or 768 * d
//   attention_dkv      grid (ceil(t / B), g, b), block 128, after delta;
//                      B = 128 keys a block for d <= 64, else 64; Q = 32 queries a
//                      step for d <= 64, else 64;
//                      2 * d * (2 * B + 4 * Q) + 16 * Q bytes: 768 * d + 512 for
//                      d <= 64, 768 * d + 1024 above
// Four warps a block; each owns TILES * 16 rows and holds their sums in registers.

#ifndef HEAD
#define HEAD 64
#endif

#define WARPS 4
#define THREADS (WARPS * 32)

#define FORWARD_TILES 2
#define FORWARD_KEYS 64
#define DQ_TILES 2
#if HEAD <= 64
#define DQ_KEYS 64
#define DKV_TILES 2
#define DKV_QUERIES 32
#else
#define DQ_KEYS 32
#define DKV_TILES 1
#define DKV_QUERIES 64
#endif

#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f
#define MINUS_INFINITY __int_as_float(0xff800000)

#define ROW_BYTES (HEAD * 2)
#define PIECES (HEAD / 8)   // 16-byte pieces of a row
#define DEPTHS (HEAD / 16)  // steps of 16 along a row

// ---- Warp primitives

__device__ __forceinline__ word shared_address(const void* pointer) {
    return (word)__cvta_generic_to_shared(pointer);
}

// Four 8 x 8 matrices; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_matrices(word (&to)[4], word address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void load_transposed(word (&to)[4], word address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// c [16, 8] += a [16, 16] b [16, 8]. With lane = 4 * p + s, c holds row p columns
// 2s, 2s + 1, then row p + 8; a holds (p, 2s), (p + 8, 2s), (p, 2s + 8),
// (p + 8, 2s + 8) with the right neighbour of each; b holds (2s, p), (2s + 8, p)
// with the lower neighbour of each.
__device__ __forceinline__ void multiply(float (&c)[4], const word (&a)[4], word b0, word b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Starts a copy of 16 bytes, or of 4, to shared memory; zeros where not valid.
__device__ __forceinline__ void copy_16(word to, const void* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" : : "r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
}

__device__ __forceinline__ void copy_4(word to, const void* from, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" : : "r"(to), "l"(from), "r"(valid ? 4 : 0) : "memory");
}

// Waits for all copies of this thread.
__device__ __forceinline__ void copies_done() { asm volatile("cp.async.wait_all;" : : : "memory"); }

__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ---- Shared memory: rows of HEAD values whose 16-byte pieces are permuted so
// that eight neighbouring rows read at one piece touch all banks.

__device__ __forceinline__ int turn(int row) { return PIECES % 8 == 0 ? row & 7 : (row >> 1) & 3; }

__device__ __forceinline__ word place(int row, int piece) {
    return (word)(row * ROW_BYTES + ((piece ^ turn(row)) << 4));
}

// Where this lane reads in the 16 x 16 square at row0 (a multiple of 16) and
// depth: matrices 0 to 3 are the squares of 8 at (0, 0), (8, 0), (0, 8), (8, 8).
// So, unturned: a fragment as it is, or b0, b0', b1, b1' of two neighbouring
// tiles of 8 rows; transposed: b0, b1 of columns 0 to 7, then of 8 to 15.
struct Lane {
    word row, turned;
    __device__ __forceinline__ Lane() {
        const int lane = threadIdx.x & 31;
        row = (lane & 15) * ROW_BYTES;
        turned = (word)(((lane >> 4) ^ turn(lane & 15)) << 4);
    }
    __device__ __forceinline__ word at(word base, int row0, int depth) const {
        return base + row0 * ROW_BYTES + row + (turned ^ (word)(depth << 5));
    }
};

// Starts copying ROWS rows, `stride` values apart, to shared memory; rows from
// `valid` on become zeros. `from` must be readable.
template <int ROWS>
__device__ __forceinline__ void load_rows(word to, const bf16* from, size_t stride, int valid) {
    static_assert(ROWS * PIECES % THREADS == 0, "whole rounds of copies");
#pragma unroll
    for (int i = 0; i < ROWS * PIECES / THREADS; i++) {
        const int index = i * THREADS + threadIdx.x;
        const int row = index / PIECES, piece = index % PIECES;
        const bool inside = row < valid;
        copy_16(to + place(row, piece), from + (inside ? row * stride : 0) + piece * 8, inside);
    }
}

// ---- Register tiles

template <int TILES, int COLUMNS> __device__ __forceinline__ void clear(float (&c)[TILES][COLUMNS][4]) {
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) c[m][j][e] = 0.0f;
}

// c = a b^T for the warp's rows at row0 of a and the first COLUMNS * 8 rows of b.
template <int TILES, int COLUMNS>
__device__ __forceinline__ void multiply_rows(float (&c)[TILES][COLUMNS][4], word a, int row0, word b,
                                              const Lane& lane) {
    clear(c);
#pragma unroll
    for (int depth = 0; depth < DEPTHS; depth++) {
        word left[TILES][4];
#pragma unroll
        for (int m = 0; m < TILES; m++) load_matrices(left[m], lane.at(a, row0 + m * 16, depth));
#pragma unroll
        for (int j = 0; j < COLUMNS; j += 2) {
            word right[4];
            load_matrices(right, lane.at(b, j * 8, depth));
#pragma unroll
            for (int m = 0; m < TILES; m++) {
                multiply(c[m][j], left[m], right[0], right[2]);
                multiply(c[m][j + 1], left[m], right[1], right[3]);
            }
        }
    }
}

// Rounds c to bf16 as left factors: square k of tile m covers columns 16k to 16k + 15.
template <int TILES, int COLUMNS>
__device__ __forceinline__ void round_tile(word (&to)[TILES][COLUMNS / 2][4], const float (&c)[TILES][COLUMNS][4]) {
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int k = 0; k < COLUMNS / 2; k++) {
            to[m][k][0] = pack(c[m][2 * k][0], c[m][2 * k][1]);
            to[m][k][1] = pack(c[m][2 * k][2], c[m][2 * k][3]);
            to[m][k][2] = pack(c[m][2 * k + 1][0], c[m][2 * k + 1][1]);
            to[m][k][3] = pack(c[m][2 * k + 1][2], c[m][2 * k + 1][3]);
        }
}

// sum += left b for the first SQUARES * 16 rows of b.
template <int TILES, int SQUARES>
__device__ __forceinline__ void add_product(float (&sum)[TILES][PIECES][4], const word (&left)[TILES][SQUARES][4],
                                            word b, const Lane& lane) {
#pragma unroll
    for (int k = 0; k < SQUARES; k++)
#pragma unroll
        for (int depth = 0; depth < DEPTHS; depth++) {
            word right[4];
            load_transposed(right, lane.at(b, k * 16, depth));
#pragma unroll
            for (int m = 0; m < TILES; m++) {
                multiply(sum[m][2 * depth], left[m][k], right[0], right[1]);
                multiply(sum[m][2 * depth + 1], left[m][k], right[2], right[3]);
            }
        }
}

// Writes the warp's rows as bf16 through its own rows of shared memory at `room`,
// then 16 bytes at a time to rows `stride` apart from `to`; only rows < valid.
// factor[m][h] multiplies row m * 16 + h * 8 + p.
template <int TILES>
__device__ __forceinline__ void store_rows(const float (&sum)[TILES][PIECES][4], const float (&factor)[TILES][2],
                                           unsigned char* room, int row0, bf16* to, size_t stride, int valid) {
    const int lane = threadIdx.x & 31;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int row = row0 + m * 16 + h * 8 + (lane >> 2);
#pragma unroll
            for (int j = 0; j < PIECES; j++)
                *reinterpret_cast<word*>(room + place(row, j) + (lane & 3) * 4) =
                    pack(sum[m][j][2 * h] * factor[m][h], sum[m][j][2 * h + 1] * factor[m][h]);
        }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < TILES * 16 * PIECES / 32; i++) {
        const int index = i * 32 + lane;
        const int row = row0 + index / PIECES, piece = index % PIECES;
        if (row < valid)
            *reinterpret_cast<uint4*>(to + row * stride + piece * 8) =
                *reinterpret_cast<const uint4*>(room + place(row, piece));
    }
}

// ---- What sees what

// The last key that query i sees.
__device__ __forceinline__ int last_key(int i, int t, int causal, int first) {
    return causal && first + i < t - 1 ? first + i : t - 1;
}

__device__ __forceinline__ int ceil_divide(int a, int b) { return a <= 0 ? 0 : (a + b - 1) / b; }

// ---- Forward

// One block: 128 queries of one head of one batch item, over all keys they see.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    attention_forward(const bf16* __restrict__ q, const bf16* __restrict__ kv, bf16* __restrict__ y,
                      float* __restrict__ lse, int n, int t, int g, int r, int causal, int first) {
    constexpr int TILES = FORWARD_TILES, KEYS = FORWARD_KEYS, QUERIES = WARPS * TILES * 16;
    extern __shared__ __align__(128) unsigned char memory[];
    const word queries = shared_address(memory);
    const word stages = queries + QUERIES * ROW_BYTES;  // two of keys then values

    const int block = causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x;  // long ones first
    const int heads = g * r, head = blockIdx.y, batch = blockIdx.z;
    const int query0 = block * QUERIES;
    const size_t query_stride = (size_t)heads * HEAD, key_stride = (size_t)2 * g * HEAD;
    const size_t query_at = ((size_t)batch * n + query0) * query_stride + (size_t)head * HEAD;
    const bf16* keys = kv + (size_t)batch * t * key_stride + (size_t)(head / r) * HEAD;
    const bf16* values = keys + (size_t)g * HEAD;

    const Lane lane;
    const int p = (threadIdx.x & 31) >> 2, s = threadIdx.x & 3;
    const int row0 = (threadIdx.x >> 5) * TILES * 16;
    const int query_end = query0 + QUERIES < n ? query0 + QUERIES : n;
    const int steps = ceil_divide(last_key(query_end - 1, t, causal, first) + 1, KEYS);
    const int warp_last = last_key(query0 + row0 + TILES * 16 - 1, t, causal, first);
    const int warp_first = last_key(query0 + row0, t, causal, first);
    const float fold = LOG2_E * rsqrtf((float)HEAD);

    float sum[TILES][PIECES][4];
    float top[TILES][2], mass[TILES][2];
    clear(sum);
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) top[m][h] = MINUS_INFINITY, mass[m][h] = 0.0f;

    auto load = [&](int step) {
        const word stage = stages + (step & 1) * 2 * KEYS * ROW_BYTES;
        const int key0 = step * KEYS;
        load_rows<KEYS>(stage, keys + key0 * key_stride, key_stride, t - key0);
        load_rows<KEYS>(stage + KEYS * ROW_BYTES, values + key0 * key_stride, key_stride, t - key0);
    };
    if (steps > 0) {
        load_rows<QUERIES>(queries, q + query_at, query_stride, n - query0);
        load(0);
    }
    for (int step = 0; step < steps; step++) {
        copies_done();
        __syncthreads();  // this step's rows are there, and the other stage is free
        if (step + 1 < steps) load(step + 1);
        const int key0 = step * KEYS;
        if (key0 > warp_last) continue;
        const word stage = stages + (step & 1) * 2 * KEYS * ROW_BYTES;

        float c[TILES][KEYS / 8][4];
        multiply_rows(c, queries, row0, stage, lane);
        if (key0 + KEYS - 1 > warp_first) {
#pragma unroll
            for (int m = 0; m < TILES; m++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int last = last_key(query0 + row0 + m * 16 + h * 8 + p, t, causal, first) - key0;
#pragma unroll
                    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                        for (int e = 0; e < 2; e++)
                            if (j * 8 + s * 2 + e > last) c[m][j][2 * h + e] = MINUS_INFINITY;
                }
        }
#pragma unroll
        for (int m = 0; m < TILES; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float high = top[m][h];
#pragma unroll
                for (int j = 0; j < KEYS / 8; j++)
                    high = fmaxf(high, fmaxf(c[m][j][2 * h], c[m][j][2 * h + 1]));
                high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 1));
                high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 2));
                const float offset = high == MINUS_INFINITY ? 0.0f : high * fold;
                const float shrink = power_of_two(top[m][h] * fold - offset);
                top[m][h] = high;
                float added = 0.0f;
#pragma unroll
                for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        const float weight = power_of_two(c[m][j][2 * h + e] * fold - offset);
                        c[m][j][2 * h + e] = weight;
                        added += weight;
                    }
                mass[m][h] = mass[m][h] * shrink + added;
#pragma unroll
                for (int j = 0; j < PIECES; j++) {
                    sum[m][j][2 * h] *= shrink;
                    sum[m][j][2 * h + 1] *= shrink;
                }
            }
        word weights[TILES][KEYS / 16][4];
        round_tile(weights, c);
        add_product(sum, weights, stage + KEYS * ROW_BYTES, lane);
    }

    float inverse[TILES][2];
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float all = mass[m][h];
            all += __shfl_xor_sync(0xffffffffu, all, 1);
            all += __shfl_xor_sync(0xffffffffu, all, 2);
            inverse[m][h] = all > 0.0f ? 1.0f / all : 0.0f;
            const int query = query0 + row0 + m * 16 + h * 8 + p;
            if (s == 0 && query < n)
                lse[((size_t)batch * heads + head) * n + query] =
                    all > 0.0f ? (top[m][h] * fold + log2f(all)) * LN_2 : MINUS_INFINITY;
        }
    store_rows(sum, inverse, memory, row0, y + query_at, query_stride, n - query0);
}

// ---- Backward

// One warp: delta of one row of [b, n, g * r].
extern "C" __global__ void attention_delta(const bf16* __restrict__ y, const bf16* __restrict__ dy,
                                           float* __restrict__ delta, int b, int n, int heads) {
    const size_t row = (size_t)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (row >= (size_t)b * n * heads) return;
    const int lane = threadIdx.x & 31;
    float sum = 0.0f;
    for (int c = lane * 2; c < HEAD; c += 64) {
        float one, two, three, four;
        unpack(*reinterpret_cast<const word*>(y + row * HEAD + c), one, two);
        unpack(*reinterpret_cast<const word*>(dy + row * HEAD + c), three, four);
        sum += one * three + two * four;
    }
    sum = warp_sum(sum);
    if (lane == 0) {
        const size_t head = row % heads, item = row / heads;
        delta[((item / n) * heads + head) * n + item % n] = sum;
    }
}

// One block: dq of 128 queries of one head of one batch item.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    attention_dq(const bf16* __restrict__ q, const bf16* __restrict__ kv, const float* __restrict__ lse,
                 const bf16* __restrict__ dy, const float* __restrict__ delta, bf16* __restrict__ dq, int n, int t,
                 int g, int r, int causal, int first) {
    constexpr int TILES = DQ_TILES, KEYS = DQ_KEYS, QUERIES = WARPS * TILES * 16;
    extern __shared__ __align__(128) unsigned char memory[];
    const word queries = shared_address(memory);
    const word grads = queries + QUERIES * ROW_BYTES;
    const word stages = grads + QUERIES * ROW_BYTES;  // two of keys then values

    const int block = causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
    const int heads = g * r, head = blockIdx.y, batch = blockIdx.z;
    const int query0 = block * QUERIES;
    const size_t query_stride = (size_t)heads * HEAD, key_stride = (size_t)2 * g * HEAD;
    const size_t query_at = ((size_t)batch * n + query0) * query_stride + (size_t)head * HEAD;
    const bf16* keys = kv + (size_t)batch * t * key_stride + (size_t)(head / r) * HEAD;
    const bf16* values = keys + (size_t)g * HEAD;

    const Lane lane;
    const int p = (threadIdx.x & 31) >> 2, s = threadIdx.x & 3;
    const int row0 = (threadIdx.x >> 5) * TILES * 16;
    const int query_end = query0 + QUERIES < n ? query0 + QUERIES : n;
    const int steps = ceil_divide(last_key(query_end - 1, t, causal, first) + 1, KEYS);
    const int warp_last = last_key(query0 + row0 + TILES * 16 - 1, t, causal, first);
    const int warp_first = last_key(query0 + row0, t, causal, first);
    const float scale = rsqrtf((float)HEAD), fold = LOG2_E * scale;

    float sum[TILES][PIECES][4];
    float level[TILES][2], drop[TILES][2], factor[TILES][2];
    clear(sum);
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int query = query0 + row0 + m * 16 + h * 8 + p;
            const size_t at = ((size_t)batch * heads + head) * n + query;
            level[m][h] = query < n ? lse[at] * LOG2_E : 0.0f;
            drop[m][h] = query < n ? delta[at] : 0.0f;
            factor[m][h] = scale;
        }

    auto load = [&](int step) {
        const word stage = stages + (step & 1) * 2 * KEYS * ROW_BYTES;
        const int key0 = step * KEYS;
        load_rows<KEYS>(stage, keys + key0 * key_stride, key_stride, t - key0);
        load_rows<KEYS>(stage + KEYS * ROW_BYTES, values + key0 * key_stride, key_stride, t - key0);
    };
    if (steps > 0) {
        load_rows<QUERIES>(queries, q + query_at, query_stride, n - query0);
        load_rows<QUERIES>(grads, dy + query_at, query_stride, n - query0);
        load(0);
    }
    for (int step = 0; step < steps; step++) {
        copies_done();
        __syncthreads();
        if (step + 1 < steps) load(step + 1);
        const int key0 = step * KEYS;
        if (key0 > warp_last) continue;
        const word stage = stages + (step & 1) * 2 * KEYS * ROW_BYTES;

        float c[TILES][KEYS / 8][4], slope[TILES][KEYS / 8][4];
        multiply_rows(c, queries, row0, stage, lane);
        const bool edge = key0 + KEYS - 1 > warp_first;
#pragma unroll
        for (int m = 0; m < TILES; m++)
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                    for (int e = 0; e < 2; e++)
                        c[m][j][2 * h + e] = power_of_two(c[m][j][2 * h + e] * fold - level[m][h]);
        if (edge) {
#pragma unroll
            for (int m = 0; m < TILES; m++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int last = last_key(query0 + row0 + m * 16 + h * 8 + p, t, causal, first) - key0;
#pragma unroll
                    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                        for (int e = 0; e < 2; e++)
                            if (j * 8 + s * 2 + e > last) c[m][j][2 * h + e] = 0.0f;
                }
        }
        multiply_rows(slope, grads, row0, stage + KEYS * ROW_BYTES, lane);
#pragma unroll
        for (int m = 0; m < TILES; m++)
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                    for (int e = 0; e < 2; e++)
                        slope[m][j][2 * h + e] = c[m][j][2 * h + e] * (slope[m][j][2 * h + e] - drop[m][h]);
        word left[TILES][KEYS / 16][4];
        round_tile(left, slope);
        add_product(sum, left, stage, lane);
    }
    store_rows(sum, factor, memory, row0, dq + query_at, query_stride, n - query0);
}

// One block: dk and dv of 64 or 128 keys of one group of one batch item, over the
// r heads of the group and the queries that see them. Scores are held transposed,
// with keys as rows.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    attention_dkv(const bf16* __restrict__ q, const bf16* __restrict__ kv, const float* __restrict__ lse,
                  const bf16* __restrict__ dy, const float* __restrict__ delta, bf16* __restrict__ dkv, int n, int t,
                  int g, int r, int causal, int first) {
    constexpr int TILES = DKV_TILES, QUERIES = DKV_QUERIES, KEYS = WARPS * TILES * 16;
    constexpr int STAGE = 2 * QUERIES * ROW_BYTES;  // queries then output gradients
    extern __shared__ __align__(128) unsigned char memory[];
    const word keys = shared_address(memory);
    const word values = keys + KEYS * ROW_BYTES;
    const word stages = values + KEYS * ROW_BYTES;
    const word stage_numbers = stages + 2 * STAGE;  // two of lse then delta
    const float* numbers = reinterpret_cast<const float*>(memory + 2 * KEYS * ROW_BYTES + 2 * STAGE);

    const int heads = g * r, group = blockIdx.y, batch = blockIdx.z;
    const int key0 = blockIdx.x * KEYS;
    const size_t query_stride = (size_t)heads * HEAD, key_stride = (size_t)2 * g * HEAD;
    const size_t key_at = ((size_t)batch * t + key0) * key_stride + (size_t)group * HEAD;
    const size_t value_at = key_at + (size_t)g * HEAD;

    const Lane lane;
    const int p = (threadIdx.x & 31) >> 2, s = threadIdx.x & 3;
    const int row0 = (threadIdx.x >> 5) * TILES * 16;
    const float scale = rsqrtf((float)HEAD), fold = LOG2_E * scale;

    // Steps over the query tiles of one head, from the first that sees key0.
    const int all = ceil_divide(n, QUERIES);
    int start = causal && key0 > first ? (key0 - first) / QUERIES : 0;
    if (start > all) start = all;
    const int head_steps = all - start, steps = r * head_steps;

    float sum_keys[TILES][PIECES][4], sum_values[TILES][PIECES][4];
    clear(sum_keys);
    clear(sum_values);

    auto load = [&](int step) {
        const int head = group * r + step / head_steps;
        const int query0 = (start + step % head_steps) * QUERIES;
        const size_t at = ((size_t)batch * n + query0) * query_stride + (size_t)head * HEAD;
        const word stage = stages + (step & 1) * STAGE;
        load_rows<QUERIES>(stage, q + at, query_stride, n - query0);
        load_rows<QUERIES>(stage + QUERIES * ROW_BYTES, dy + at, query_stride, n - query0);
        if (threadIdx.x < 2 * QUERIES) {
            const int row = threadIdx.x % QUERIES;
            const bool inside = query0 + row < n;
            const float* from = (threadIdx.x < QUERIES ? lse : delta) + ((size_t)batch * heads + head) * n;
            copy_4(stage_numbers + ((step & 1) * 2 * QUERIES + threadIdx.x) * 4, from + (inside ? query0 + row : 0),
                   inside);
        }
    };
    if (steps > 0) {
        load_rows<KEYS>(keys, kv + key_at, key_stride, t - key0);
        load_rows<KEYS>(values, kv + value_at, key_stride, t - key0);
        load(0);
    }
    for (int step = 0; step < steps; step++) {
        copies_done();
        __syncthreads();
        if (step + 1 < steps) load(step + 1);
        const int query0 = (start + step % head_steps) * QUERIES;
        if (causal && key0 + row0 > first + query0 + QUERIES - 1) continue;
        const word stage = stages + (step & 1) * STAGE;
        const float* levels = numbers + (step & 1) * 2 * QUERIES;
        const float* drops = levels + QUERIES;

        // Queries past n hold zeros, lse and delta 0: they add exact zeros.
        float c[TILES][QUERIES / 8][4];
        multiply_rows(c, keys, row0, stage, lane);
#pragma unroll
        for (int j = 0; j < QUERIES / 8; j++) {
            const float2 level = *reinterpret_cast<const float2*>(levels + j * 8 + s * 2);
            const float low = level.x * LOG2_E, high = level.y * LOG2_E;
#pragma unroll
            for (int m = 0; m < TILES; m++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    c[m][j][2 * h] = power_of_two(c[m][j][2 * h] * fold - low);
                    c[m][j][2 * h + 1] = power_of_two(c[m][j][2 * h + 1] * fold - high);
                }
        }
        if (causal && key0 + row0 + TILES * 16 - 1 > first + query0) {
#pragma unroll
            for (int m = 0; m < TILES; m++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int soonest = key0 + row0 + m * 16 + h * 8 + p - first - query0;
#pragma unroll
                    for (int j = 0; j < QUERIES / 8; j++)
#pragma unroll
                        for (int e = 0; e < 2; e++)
                            if (j * 8 + s * 2 + e < soonest) c[m][j][2 * h + e] = 0.0f;
                }
        }
        word left[TILES][QUERIES / 16][4];
        round_tile(left, c);
        add_product(sum_values, left, stage + QUERIES * ROW_BYTES, lane);

        float slope[TILES][QUERIES / 8][4];
        multiply_rows(slope, values, row0, stage + QUERIES * ROW_BYTES, lane);
#pragma unroll
        for (int j = 0; j < QUERIES / 8; j++) {
            const float2 drop = *reinterpret_cast<const float2*>(drops + j * 8 + s * 2);
#pragma unroll
            for (int m = 0; m < TILES; m++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    slope[m][j][2 * h] = c[m][j][2 * h] * (slope[m][j][2 * h] - drop.x);
                    slope[m][j][2 * h + 1] = c[m][j][2 * h + 1] * (slope[m][j][2 * h + 1] - drop.y);
                }
        }
        round_tile(left, slope);
        add_product(sum_keys, left, stage, lane);
    }

    float scales[TILES][2], ones[TILES][2];
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) scales[m][h] = scale, ones[m][h] = 1.0f;
    store_rows(sum_keys, scales, memory, row0, dkv + key_at, key_stride, t - key0);
    store_rows(sum_values, ones, memory + KEYS * ROW_BYTES, row0, dkv + value_at, key_stride, t - key0);
}
