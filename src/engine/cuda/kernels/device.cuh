// What kernels need of the device, and nothing else: types, matrix products, asynchronous copies, how threads share work, and the
// end of every quantization. No header is included, so NVRTC needs none.
//
// Under SIMT_EMULATOR (tests/cuda/simt.h) the same names are functions of the emulator, and everything else in these files is
// compiled as it stands.

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;

#ifndef SIMT_EMULATOR

#define ARCH __CUDA_ARCH__

// A kernel takes one structure: pointers first, then words of 32 bits, in the order in which the launcher writes them.
#define KERNEL(name, Args, threads) extern "C" __global__ void __launch_bounds__(threads) name(const Args a)

#define SHARED(name, bytes) __shared__ __align__(16) u8 name[bytes]

// The address of shared memory as instructions take it.
__device__ __forceinline__ u32 shared_address(const void* p) {
    u32 address;
    asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(address) : "l"(p));
    return address;
}

#if ARCH >= 800
__device__ __forceinline__ void copy_async16(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}

__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until all but the newest N groups of this thread have arrived.
template <int N>
__device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
#endif

#if ARCH >= 750
// 8x8 matrices of 16-bit numbers: lane l gives the address of row l % 8 of matrix l / 8, and gets numbers 2 (l % 4) and
// 2 (l % 4) + 1 of row l / 4 of each matrix. (PTX ISA, ldmatrix) What it reads was written before a barrier, which it cannot pass.
__device__ __forceinline__ void load_matrices(u32 (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row)));
}

__device__ __forceinline__ void load_matrices(u32 (&to)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "r"(shared_address(row)));
}

__device__ __forceinline__ void load_matrices(u32 (&to)[1], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(to[0]) : "r"(shared_address(row)));
}
#endif

#if ARCH >= 800
// c += a b: 16x32 unsigned bytes times 32x8 signed bytes. (PTX ISA, matrix fragments for mma.m16n8k32)
__device__ __forceinline__ void multiply(i32 (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#elif ARCH >= 750
// c += a b: 8x16 unsigned bytes times 16x8 signed bytes. (PTX ISA, matrix fragments for mma.m8n8k16)
__device__ __forceinline__ void multiply_8x8x16(i32& c0, i32& c1, u32 a, u32 b) {
    asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};" : "+r"(c0), "+r"(c1) : "r"(a), "r"(b));
}
#else
// c + the four products of unsigned bytes and signed ones.
__device__ __forceinline__ i32 dot(u32 bytes, u32 weights, i32 c) {
    i32 sum;
    asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(sum) : "r"(bytes), "r"(weights), "r"(c));
    return sum;
}
#endif

#endif  // SIMT_EMULATOR

#if ARCH < 800
// No asynchronous copies: they happen at once.
__device__ __forceinline__ void copy_async16(void* to, const void* from) { *(uint4*)to = *(const uint4*)from; }
__device__ __forceinline__ void copy_async_commit() {}
template <int N>
__device__ __forceinline__ void copy_async_wait() {}
#endif

#if ARCH >= 750 && ARCH < 800
// The same fragments as one product of 16x32x8 has, from four smaller ones.
__device__ __forceinline__ void multiply(i32 (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    for (int k = 0; k < 2; k++) {
        multiply_8x8x16(c[0], c[1], a[2 * k], b[k]);
        multiply_8x8x16(c[2], c[3], a[2 * k + 1], b[k]);
    }
}
#endif

// Threads of a block, where nothing else is said. They take turns over as much as there is, so that a grid's size is never a matter of
// right or wrong.
#define THREADS 256
#define EACH(i, count) for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < (count); i += gridDim.x * THREADS)

// From a number to the byte that stands for it: clamp to whole bounds, round half to even, shift to the byte of zero.
struct Clamp {
    float low;
    float high;
    i32 zero;
};

__device__ __forceinline__ u8 clamped_byte(const Clamp& clamp, float y) {
    return (u8)(__float2int_rn(fminf(fmaxf(y, clamp.low), clamp.high)) + clamp.zero);
}
