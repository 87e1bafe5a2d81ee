// Shared by every kernel file here; the host puts this text before theirs.
// bf16 values are held as 16-bit words: the upper half of an f32.

typedef unsigned short bf16;
typedef unsigned int word;

__device__ __forceinline__ float widen(word bits) { return __uint_as_float(bits << 16); }

// Rounds two values to nearest even and packs them, the first in the lower half.
__device__ __forceinline__ word pack(float low, float high) {
    word both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

__device__ __forceinline__ void unpack(word both, float& low, float& high) {
    low = __uint_as_float(both << 16);
    high = __uint_as_float(both & 0xffff0000u);
}

// Reads and writes WIDTH neighbours: 8 as aligned 16-byte accesses, or 1.
template <int WIDTH> __device__ __forceinline__ void read(const bf16* from, float (&to)[WIDTH]) {
    if constexpr (WIDTH == 8) {
        const uint4 words = *reinterpret_cast<const uint4*>(from);
        unpack(words.x, to[0], to[1]);
        unpack(words.y, to[2], to[3]);
        unpack(words.z, to[4], to[5]);
        unpack(words.w, to[6], to[7]);
    } else {
        to[0] = widen(from[0]);
    }
}

template <int WIDTH> __device__ __forceinline__ void read(const float* from, float (&to)[WIDTH]) {
    if constexpr (WIDTH == 8) {
        const float4 one = *reinterpret_cast<const float4*>(from);
        const float4 two = *reinterpret_cast<const float4*>(from + 4);
        to[0] = one.x; to[1] = one.y; to[2] = one.z; to[3] = one.w;
        to[4] = two.x; to[5] = two.y; to[6] = two.z; to[7] = two.w;
    } else {
        to[0] = from[0];
    }
}

// As read, with zeros where there is no array.
template <int WIDTH> __device__ __forceinline__ void read_or_zero(const float* from, int at, float (&to)[WIDTH]) {
    if (from) {
        read<WIDTH>(from + at, to);
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH; i++) to[i] = 0.0f;
    }
}

template <int WIDTH> __device__ __forceinline__ void write(bf16* to, const float (&from)[WIDTH]) {
    if constexpr (WIDTH == 8) {
        uint4 words;
        words.x = pack(from[0], from[1]);
        words.y = pack(from[2], from[3]);
        words.z = pack(from[4], from[5]);
        words.w = pack(from[6], from[7]);
        *reinterpret_cast<uint4*>(to) = words;
    } else {
        to[0] = (bf16)(pack(from[0], 0.0f) & 0xffffu);
    }
}

template <int WIDTH> __device__ __forceinline__ void write(float* to, const float (&from)[WIDTH]) {
    if constexpr (WIDTH == 8) {
        *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
        *reinterpret_cast<float4*>(to + 4) = make_float4(from[4], from[5], from[6], from[7]);
    } else {
        to[0] = from[0];
    }
}

// Every lane gets the sum over the warp, added in a fixed order.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}
