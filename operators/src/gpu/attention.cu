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

// ---- What sees what

// The last key that query i sees.
__device__ __forceinline__ int last_key(int i, int t, int causal, int first) {
    return causal && first + i < t - 1 ? first + i : t - 1;
}

__device__ __forceinline__ int ceil_divide(int a, int b) { return a <= 0 ? 0 : (a + b - 1) / b; }

// ---- A block of queries of one head of one batch item, and the keys they see

template <int TILES, int KEYS> struct Block {
    static constexpr int QUERIES = WARPS * TILES * 16;
    int heads, head, batch;
    int query0, row0;            // of the block, and of the warp in it
    int p, s;                    // as in multiply: row and pair of columns of this lane
    int steps;                   // of KEYS keys
    int warp_first, warp_last;   // the last keys that the first and the last query of the warp see
    int n, t, causal, first;
    size_t query_stride, key_stride, query_at;
    const bf16 *keys, *values;

    __device__ __forceinline__ Block(const bf16* kv, int n, int t, int g, int r, int causal, int first)
        : n(n), t(t), causal(causal), first(first) {
        const int block = causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x;  // long ones first
        heads = g * r, head = blockIdx.y, batch = blockIdx.z;
        query0 = block * QUERIES;
        query_stride = (size_t)heads * HEAD, key_stride = (size_t)2 * g * HEAD;
        query_at = ((size_t)batch * n + query0) * query_stride + (size_t)head * HEAD;
        keys = kv + (size_t)batch * t * key_stride + (size_t)(head / r) * HEAD;
        values = keys + (size_t)g * HEAD;
        p = (threadIdx.x & 31) >> 2, s = threadIdx.x & 3;
        row0 = (threadIdx.x >> 5) * TILES * 16;
        const int query_end = query0 + QUERIES < n ? query0 + QUERIES : n;
        steps = ceil_divide(last_key(query_end - 1, t, causal, first) + 1, KEYS);
        warp_last = last_key(query0 + row0 + TILES * 16 - 1, t, causal, first);
        warp_first = last_key(query0 + row0, t, causal, first);
    }

    // Query of half h of tile m of this lane.
    __device__ __forceinline__ int query(int m, int h) const { return query0 + row0 + m * 16 + h * 8 + p; }

    // Its place in numbers of [b, heads, n].
    __device__ __forceinline__ size_t number(int query) const { return ((size_t)batch * heads + head) * n + query; }

    // Where keys and then values of a step lie, one of two places.
    __device__ __forceinline__ word stage(word stages, int step) const {
        return stages + (step & 1) * 2 * KEYS * ROW_BYTES;
    }

    __device__ __forceinline__ void load(word stages, int step) const {
        const word to = stage(stages, step);
        const int key0 = step * KEYS;
        load_rows<KEYS>(to, keys + key0 * key_stride, key_stride, t - key0);
        load_rows<KEYS>(to + KEYS * ROW_BYTES, values + key0 * key_stride, key_stride, t - key0);
    }

    // Puts `hidden` where a query does not see a key of a step, if there is such a place.
    __device__ __forceinline__ void hide(float (&c)[TILES][KEYS / 8][4], int step, float hidden) const {
        const int key0 = step * KEYS;
        if (key0 + KEYS - 1 <= warp_first) return;
#pragma unroll
        for (int m = 0; m < TILES; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int last = last_key(query(m, h), t, causal, first) - key0;
#pragma unroll
                for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                    for (int e = 0; e < 2; e++)
                        if (j * 8 + s * 2 + e > last) c[m][j][2 * h + e] = hidden;
            }
    }
};

// ---- Forward

// One block: 128 queries of one head of one batch item, over all keys they see.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    attention_forward(const bf16* __restrict__ q, const bf16* __restrict__ kv, bf16* __restrict__ y,
                      float* __restrict__ lse, int n, int t, int g, int r, int causal, int first) {
    constexpr int TILES = FORWARD_TILES, KEYS = FORWARD_KEYS, QUERIES = Block<TILES, KEYS>::QUERIES;
    extern __shared__ __align__(128) unsigned char memory[];
    const Block<TILES, KEYS> own(kv, n, t, g, r, causal, first);
    const Lane lane;
    const word queries = shared_address(memory);
    const word stages = queries + QUERIES * ROW_BYTES;  // two of keys then values
    const float fold = LOG2_E * rsqrtf((float)HEAD);

    float sum[TILES][PIECES][4];
    float top[TILES][2], mass[TILES][2];
    clear(sum);
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) top[m][h] = MINUS_INFINITY, mass[m][h] = 0.0f;

    if (own.steps > 0) {
        load_rows<QUERIES>(queries, q + own.query_at, own.query_stride, n - own.query0);
        own.load(stages, 0);
    }
    for (int step = 0; step < own.steps; step++) {
        copies_done();
        __syncthreads();  // this step's rows are there, and the other stage is free
        if (step + 1 < own.steps) own.load(stages, step + 1);
        if (step * KEYS > own.warp_last) continue;
        const word stage = own.stage(stages, step);

        float c[TILES][KEYS / 8][4];
        multiply_rows(c, queries, own.row0, stage, lane);
        own.hide(c, step, MINUS_INFINITY);
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
            const int query = own.query(m, h);
            if (own.s == 0 && query < n)
                lse[own.number(query)] = all > 0.0f ? (top[m][h] * fold + log2f(all)) * LN_2 : MINUS_INFINITY;
        }
    store_rows(sum, inverse, memory, own.row0, y + own.query_at, own.query_stride, n - own.query0);
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
    constexpr int TILES = DQ_TILES, KEYS = DQ_KEYS, QUERIES = Block<TILES, KEYS>::QUERIES;
    extern __shared__ __align__(128) unsigned char memory[];
    const Block<TILES, KEYS> own(kv, n, t, g, r, causal, first);
    const Lane lane;
    const word queries = shared_address(memory);
    const word grads = queries + QUERIES * ROW_BYTES;
    const word stages = grads + QUERIES * ROW_BYTES;  // two of keys then values
    const float scale = rsqrtf((float)HEAD), fold = LOG2_E * scale;

    float sum[TILES][PIECES][4];
    float level[TILES][2], drop[TILES][2], factor[TILES][2];
    clear(sum);
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int query = own.query(m, h);
            level[m][h] = query < n ? lse[own.number(query)] * LOG2_E : 0.0f;
            drop[m][h] = query < n ? delta[own.number(query)] : 0.0f;
            factor[m][h] = scale;
        }

    if (own.steps > 0) {
        load_rows<QUERIES>(queries, q + own.query_at, own.query_stride, n - own.query0);
        load_rows<QUERIES>(grads, dy + own.query_at, own.query_stride, n - own.query0);
        own.load(stages, 0);
    }
    for (int step = 0; step < own.steps; step++) {
        copies_done();
        __syncthreads();
        if (step + 1 < own.steps) own.load(stages, step + 1);
        if (step * KEYS > own.warp_last) continue;
        const word stage = own.stage(stages, step);

        float c[TILES][KEYS / 8][4], slope[TILES][KEYS / 8][4];
        multiply_rows(c, queries, own.row0, stage, lane);
#pragma unroll
        for (int m = 0; m < TILES; m++)
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                    for (int e = 0; e < 2; e++)
                        c[m][j][2 * h + e] = power_of_two(c[m][j][2 * h + e] * fold - level[m][h]);
        own.hide(c, step, 0.0f);
        multiply_rows(slope, grads, own.row0, stage + KEYS * ROW_BYTES, lane);
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
    store_rows(sum, factor, memory, own.row0, dq + own.query_at, own.query_stride, n - own.query0);
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
