// Tiles of products of rows of HEAD bf16 values, in registers and in shared memory:
// four warps a block, each of which owns some rows.

#ifndef HEAD
#define HEAD 64
#endif

#define WARPS 4
#define THREADS (WARPS * 32)

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
