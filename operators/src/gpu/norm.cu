// Layer norm and root-mean-square norm over the last dimension of x [rows, h].
//   layer: y = (x - mean) / sqrt(var + eps) * gain + shift
//   rms:   y = x / sqrt(mean(x * x) + eps) * gain          (rms = 1)
// x, y, g and dx are bf16, gain and shift f32 [h]; statistics are f32. `shift`
// may be null. Rows are read 16 bytes at a time when h is a multiple of 8 (then
// every array must be 16-byte aligned), else one value at a time.
//
// norm_forward    grid ceil(rows / Y), block (X, Y): X threads a row, Y rows a
//                 block; X a multiple of 32 and X * Y <= 1024. No dynamic shared
//                 memory. Good: X = min(512, round up h / 16 to 32), Y = max(1, 128 / X).
// norm_backward   grid slabs = ceil(rows / rows_per_slab), block (X, 1), dynamic
//                 shared memory 8 * h bytes. Block s writes dx of its rows and row
//                 s of dgain_part and dshift_part [slabs, h] f32 (dshift_part may
//                 be null), to be added by add_slabs. Good: rows_per_slab =
//                 max(4, ceil(rows / 1024)).

// Sum over the X threads of this thread's row, in a fixed order. Every thread of
// the block must call it. `room` holds one f32 a warp.
__device__ __forceinline__ float row_sum(float value, float* room) {
    const float own = warp_sum(value);
    if (blockDim.x == 32) return own;
    const int warps = blockDim.x >> 5;
    __syncthreads();
    if ((threadIdx.x & 31) == 0) room[threadIdx.y * warps + (threadIdx.x >> 5)] = own;
    __syncthreads();
    float sum = 0.0f;
    for (int warp = 0; warp < warps; warp++) sum += room[threadIdx.y * warps + warp];
    return sum;
}

// Mean (zero for rms) and reciprocal deviation of one row; h is 0 for no row.
template <int WIDTH>
__device__ __forceinline__ void statistics(const bf16* x, int h, int width, float eps, int rms, float* room,
                                           float& mean, float& inverse) {
    const int step = blockDim.x * WIDTH;
    float v[WIDTH];
    mean = 0.0f;
    if (!rms) {
        float sum = 0.0f;
        for (int c = threadIdx.x * WIDTH; c < h; c += step) {
            read<WIDTH>(x + c, v);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) sum += v[i];
        }
        mean = row_sum(sum, room) / (float)width;
    }
    float squares = 0.0f;
    for (int c = threadIdx.x * WIDTH; c < h; c += step) {
        read<WIDTH>(x + c, v);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) squares += (v[i] - mean) * (v[i] - mean);
    }
    inverse = 1.0f / sqrtf(row_sum(squares, room) / (float)width + eps);
}

template <int WIDTH>
__device__ __forceinline__ void forward_row(const bf16* x, const float* gain, const float* shift, bf16* y, int rows,
                                            int h, float eps, int rms, float* room) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    const int columns = row < rows ? h : 0;
    const size_t at = row < rows ? (size_t)row * h : 0;
    float mean, inverse;
    statistics<WIDTH>(x + at, columns, h, eps, rms, room, mean, inverse);
    for (int c = threadIdx.x * WIDTH; c < columns; c += blockDim.x * WIDTH) {
        float v[WIDTH], a[WIDTH], b[WIDTH];
        read<WIDTH>(x + at + c, v);
        read<WIDTH>(gain + c, a);
        read_or_zero<WIDTH>(shift, c, b);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) v[i] = (v[i] - mean) * inverse * a[i] + b[i];
        write<WIDTH>(y + at + c, v);
    }
}

extern "C" __global__ void norm_forward(const bf16* __restrict__ x, const float* __restrict__ gain,
                                        const float* __restrict__ shift, bf16* __restrict__ y, int rows, int h,
                                        float eps, int rms) {
    __shared__ float room[32];
    if (h % 8 == 0) {
        forward_row<8>(x, gain, shift, y, rows, h, eps, rms, room);
    } else {
        forward_row<1>(x, gain, shift, y, rows, h, eps, rms, room);
    }
}

// With z = (x - mean) * inverse and e = g * gain:
//   dx = inverse * (e - mean(e) - z * mean(e * z)), without mean(e) for rms;
//   dgain = sum over rows of g * z, dshift = sum over rows of g.
// A thread keeps the column sums of its own columns in shared memory.
template <int WIDTH>
__device__ __forceinline__ void backward_slab(const bf16* x, const float* gain, const bf16* g, bf16* dx,
                                              float* dgain_part, float* dshift_part, int rows, int h, float eps,
                                              int rms, int rows_per_slab, float* sums, float* room) {
    const int step = blockDim.x * WIDTH;
    float* gains = sums;
    float* shifts = sums + h;
    float v[WIDTH], u[WIDTH], a[WIDTH], s[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) s[i] = 0.0f;
    for (int c = threadIdx.x * WIDTH; c < h; c += step) {
        write<WIDTH>(gains + c, s);
        write<WIDTH>(shifts + c, s);
    }
    const int start = blockIdx.x * rows_per_slab;
    const int stop = rows - start < rows_per_slab ? rows : start + rows_per_slab;
    for (int row = start; row < stop; row++) {
        const size_t at = (size_t)row * h;
        float mean, inverse;
        statistics<WIDTH>(x + at, h, h, eps, rms, room, mean, inverse);
        float plain = 0.0f, crossed = 0.0f;
        for (int c = threadIdx.x * WIDTH; c < h; c += step) {
            read<WIDTH>(x + at + c, v);
            read<WIDTH>(g + at + c, u);
            read<WIDTH>(gain + c, a);
            read<WIDTH>((const float*)gains + c, s);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                const float z = (v[i] - mean) * inverse;
                plain += u[i] * a[i];
                crossed += u[i] * a[i] * z;
                s[i] += u[i] * z;
            }
            write<WIDTH>(gains + c, s);
            if (dshift_part) {
                read<WIDTH>((const float*)shifts + c, s);
#pragma unroll
                for (int i = 0; i < WIDTH; i++) s[i] += u[i];
                write<WIDTH>(shifts + c, s);
            }
        }
        plain = rms ? 0.0f : row_sum(plain, room) / (float)h;
        crossed = row_sum(crossed, room) / (float)h;
        for (int c = threadIdx.x * WIDTH; c < h; c += step) {
            read<WIDTH>(x + at + c, v);
            read<WIDTH>(g + at + c, u);
            read<WIDTH>(gain + c, a);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                const float z = (v[i] - mean) * inverse;
                u[i] = inverse * (u[i] * a[i] - plain - z * crossed);
            }
            write<WIDTH>(dx + at + c, u);
        }
    }
    const size_t slab = (size_t)blockIdx.x * h;
    for (int c = threadIdx.x * WIDTH; c < h; c += step) {
        read<WIDTH>((const float*)gains + c, s);
        write<WIDTH>(dgain_part + slab + c, s);
        if (dshift_part) {
            read<WIDTH>((const float*)shifts + c, s);
            write<WIDTH>(dshift_part + slab + c, s);
        }
    }
}

extern "C" __global__ void norm_backward(const bf16* __restrict__ x, const float* __restrict__ gain,
                                         const bf16* __restrict__ g, bf16* __restrict__ dx,
                                         float* __restrict__ dgain_part, float* __restrict__ dshift_part, int rows,
                                         int h, float eps, int rms, int rows_per_slab) {
    extern __shared__ __align__(16) float sums[];
    __shared__ float room[32];
    if (h % 8 == 0) {
        backward_slab<8>(x, gain, g, dx, dgain_part, dshift_part, rows, h, eps, rms, rows_per_slab, sums, room);
    } else {
        backward_slab<1>(x, gain, g, dx, dgain_part, dshift_part, rows, h, eps, rms, rows_per_slab, sums, room);
    }
}
