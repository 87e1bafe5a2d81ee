// Sums that several blocks made parts of.
//
// total[c] = sum over s of part[s, c], for part [slabs, columns]: lane y of the
// block adds slabs y, y + 32, ...; the 32 lanes are then added in order.
// Grid ceil(columns / 32), block (32, 32), no dynamic shared memory.
extern "C" __global__ void add_slabs(const float* __restrict__ part, float* __restrict__ total, int slabs,
                                     int columns) {
    __shared__ float lanes[32][33];
    const int column = blockIdx.x * 32 + threadIdx.x;
    float sum = 0.0f;
    if (column < columns) {
#pragma unroll 4
        for (int slab = threadIdx.y; slab < slabs; slab += 32) sum += part[(size_t)slab * columns + column];
    }
    lanes[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && column < columns) {
        float all = 0.0f;
        for (int lane = 0; lane < 32; lane++) all += lanes[lane][threadIdx.x];
        total[column] = all;
    }
}
