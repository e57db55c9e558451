// A graphics processor in software, for tests: kernels are compiled as they stand, by an ordinary C++ compiler, and every thread of a
// block is a fiber. Fibers go on until they meet their warp (matrix products, shuffles) or their block (barriers), in an order
// that a seed chooses: a kernel that lacks a barrier gives other results in another order.
//
// What the emulator watches over: threads of a warp that meet in different places, barriers that not all threads reach, and
// asynchronous copies that nobody waited for (they happen at once or at the last moment, as the seed says). Shared memory starts as
// rubbish. Compiled with the address and undefined behaviour sanitizers, every access is checked for bounds and alignment.
//
// Fragments of matrices lie as the PTX ISA says, "Matrix multiply-accumulate operation using mma instruction".

#pragma once

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(memory, size)
#endif

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#define SIMT_EMULATOR
#ifndef ARCH
#error "ARCH: the architecture to emulate, for example 800"
#endif

#define __device__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))

namespace simt {

struct Dim {
    unsigned x, y, z;
};

[[noreturn]] inline void fail(const std::string& what) {
    fprintf(stderr, "emulator: %s\n", what.c_str());
    exit(1);
}

constexpr int WARP = 32;
constexpr size_t STACK = 64 << 10;
constexpr size_t MESSAGE = 32;  // bytes that a lane gives to or takes from its warp

struct Copy {
    void* to;
    const void* from;
};

// The emulator's own inner loops are not what is tested.
#define UNCHECKED __attribute__((no_sanitize("address", "undefined")))

// Where a thread of execution stands, and the way from one to another. The system's own (ucontext) asks the kernel each time.
#if defined(__x86_64__)
using Context = void*;
extern "C" void simt_switch(Context* from, Context to);
asm(R"(
.text
simt_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
)");
inline void switch_context(Context& from, Context& to) { simt_switch(&from, to); }
inline void start_context(Context& context, char* stack, size_t size, void (*entry)()) {
    void** top = (void**)((uintptr_t)(stack + size) & ~(uintptr_t)15);
    *--top = nullptr;  // a return address, so that the stack is aligned as after a call
    *--top = (void*)entry;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    context = top;
}
#elif defined(__aarch64__)
using Context = void*;
extern "C" void simt_switch(Context* from, Context to);
asm(R"(
.text
simt_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]; stp x21, x22, [sp, #16]; stp x23, x24, [sp, #32]; stp x25, x26, [sp, #48]; stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]; stp d8, d9, [sp, #96]; stp d10, d11, [sp, #112]; stp d12, d13, [sp, #128]; stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]; ldp x21, x22, [sp, #16]; ldp x23, x24, [sp, #32]; ldp x25, x26, [sp, #48]; ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]; ldp d8, d9, [sp, #96]; ldp d10, d11, [sp, #112]; ldp d12, d13, [sp, #128]; ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
inline void switch_context(Context& from, Context& to) { simt_switch(&from, to); }
inline void start_context(Context& context, char* stack, size_t size, void (*entry)()) {
    void** const top = (void**)((uintptr_t)(stack + size) & ~(uintptr_t)15) - 20;
    for (int i = 0; i < 20; i++) top[i] = nullptr;
    top[11] = (void*)entry;
    context = top;
}
#else
using Context = ucontext_t;
inline void switch_context(Context& from, Context& to) { swapcontext(&from, &to); }
inline void start_context(Context& context, char* stack, size_t size, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = size;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
}
#endif

struct Fiber {
    Context context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    unsigned thread = 0;
    bool done = false;
    bool waits_for_warp = false;
    bool waits_for_block = false;
    unsigned meetings = 0;
    std::vector<std::vector<Copy>> copies;  // groups that were not waited for; the last one is open
};

struct Warp {
    int arrived = 0;
    const char* place = nullptr;
    unsigned char in[2][WARP][MESSAGE];
    unsigned char out[2][WARP][MESSAGE];
};

inline Context scheduler;
inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline Fiber* current = nullptr;
inline Dim block_index, grid_size;
inline unsigned block_size = 0;
inline unsigned barrier_arrived = 0;
inline uint64_t seed = 0;
inline std::map<std::string, unsigned long> shared_of_block;
inline unsigned long block_count = 0;
inline std::function<void()> body;

inline uint64_t random_number() {
    static uint64_t state = 0x9e3779b97f4a7c15;
    state = state * 6364136223846793005u + 1442695040888963407u + seed;
    return state >> 33;
}

inline void wait() { switch_context(current->context, scheduler); }

// All lanes of a warp come together: each gives `in`, the last one computes for all, each gets `out`.
template <typename In, typename Out, typename F>
UNCHECKED Out meet(const char* place, const In& in, F&& compute) {
    static_assert(sizeof(In) <= MESSAGE && sizeof(Out) <= MESSAGE, "messages are small");
    Warp& warp = warps[current->thread / WARP];
    const int lane = current->thread % WARP, side = current->meetings++ % 2;
    memcpy(warp.in[side][lane], &in, sizeof(In));
    if (warp.arrived == 0) warp.place = place;
    if (warp.place != place) fail(std::string("threads of a warp part ways: ") + warp.place + " and " + place);
    if (++warp.arrived < WARP) {
        current->waits_for_warp = true;
        wait();
    } else {
        In ins[WARP];
        Out outs[WARP] = {};
        for (int l = 0; l < WARP; l++) memcpy(&ins[l], warp.in[side][l], sizeof(In));
        compute(ins, outs);
        for (int l = 0; l < WARP; l++) memcpy(warp.out[side][l], &outs[l], sizeof(Out));
        warp.arrived = 0;
        const unsigned first = current->thread / WARP * WARP;
        for (int l = 0; l < WARP; l++) fibers[first + l].waits_for_warp = false;
    }
    Out out;
    memcpy(&out, warp.out[side][lane], sizeof(Out));
    return out;
}

inline void barrier() {
    if (++barrier_arrived < block_size) {
        current->waits_for_block = true;
        wait();
    } else {
        barrier_arrived = 0;
        for (auto& fiber : fibers) fiber.waits_for_block = false;
    }
}

// Rubbish into shared memory, once a block.
inline void declare_shared(const std::string& name, void* memory, size_t bytes) {
    unsigned long& block = shared_of_block[name];
    if (block != block_count) memset(memory, (int)(0x5a + block_count * 37), bytes);
    block = block_count;
}

inline void perform(const Copy& copy) { memcpy(copy.to, copy.from, 16); }

inline void copy_async(void* to, const void* from) {
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16) fail("an asynchronous copy of 16 bytes is not aligned to them");
    if (seed % 2) return perform({to, from});
    if (current->copies.empty()) current->copies.emplace_back();
    current->copies.back().push_back({to, from});
}

inline void copy_async_commit() {
    if (current->copies.empty()) current->copies.emplace_back();
    current->copies.emplace_back();
}

inline void copy_async_wait(size_t newest) {
    auto& groups = current->copies;
    while (groups.size() > newest + 1) {
        for (const Copy& copy : groups.front()) perform(copy);
        groups.erase(groups.begin());
    }
}

[[noreturn]] inline void enter() {
    body();
    current->done = true;
    for (const auto& group : current->copies) {
        if (!group.empty()) fail("a thread ends before its asynchronous copies do");
    }
    wait();
    fail("a thread that has ended goes on");
}

inline void run_block() {
    block_count++;
    barrier_arrived = 0;
    warps.assign((block_size + WARP - 1) / WARP, Warp());
    if (fibers.size() != block_size) fibers = std::vector<Fiber>(block_size);
    for (unsigned t = 0; t < block_size; t++) {
        Fiber& fiber = fibers[t];
        fiber.thread = t;
        fiber.done = fiber.waits_for_warp = fiber.waits_for_block = false;
        fiber.meetings = 0;
        fiber.copies.clear();
        // What the last thread on it left behind.
        ASAN_UNPOISON_MEMORY_REGION(fiber.stack.get(), STACK);
        start_context(fiber.context, fiber.stack.get(), STACK, enter);
    }
    for (unsigned left = block_size; left > 0;) {
        bool any = false;
        // Forwards, backwards, or from somewhere in the middle.
        const unsigned start = seed % 3 == 2 ? random_number() % block_size : 0;
        for (unsigned i = 0; i < block_size; i++) {
            const unsigned at = (start + i) % block_size;
            Fiber& fiber = fibers[seed % 3 == 1 ? block_size - 1 - at : at];
            if (fiber.done || fiber.waits_for_warp || fiber.waits_for_block) continue;
            any = true;
            current = &fiber;
            switch_context(scheduler, fiber.context);
            left -= fiber.done;
        }
        if (!any) fail("threads wait for others that never come (a barrier or a matrix product in a branch that not all take)");
    }
    if (barrier_arrived) fail("a thread ended while others wait for it");
}

struct Kernel {
    unsigned threads;
    size_t args;
    std::function<void(const void*)> call;
};

inline std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

struct Register {
    Register(const char* name, Kernel kernel) { kernels()[name] = std::move(kernel); }
};

// `args` as a launch hands them over.
inline void launch(const std::string& name, Dim grid, unsigned threads, const std::vector<unsigned char>& args) {
    const auto found = kernels().find(name);
    if (found == kernels().end()) fail(name + ": no such kernel");
    const Kernel& kernel = found->second;
    if (kernel.threads != threads) fail(name + ": launched with " + std::to_string(threads) + " threads, made for " + std::to_string(kernel.threads));
    if (kernel.args != args.size()) fail(name + ": " + std::to_string(args.size()) + " bytes of arguments, expected " + std::to_string(kernel.args));
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) fail(name + ": a grid that no device takes");
    grid_size = grid;
    block_size = threads;
    std::vector<uint64_t> aligned((args.size() + 7) / 8);
    memcpy(aligned.data(), args.data(), args.size());
    body = [&] { kernel.call(aligned.data()); };
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) {
                block_index = {x, y, z};
                run_block();
            }
        }
    }
}

}  // namespace simt

// What CUDA C++ knows by itself.

#define threadIdx (simt::Dim{simt::current->thread, 0, 0})
#define blockIdx simt::block_index
#define gridDim simt::grid_size
#define __syncthreads() simt::barrier()

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
inline double __longlong_as_double(long long bits) {
    double x;
    memcpy(&x, &bits, 8);
    return x;
}
inline int __float2int_rn(float x) { return (int)std::nearbyint(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned atomicAdd(unsigned* p, unsigned by) { return std::exchange(*p, *p + by); }
inline unsigned atomicMin(unsigned* p, unsigned by) { return std::exchange(*p, by < *p ? by : *p); }
inline unsigned atomicMax(unsigned* p, unsigned by) { return std::exchange(*p, by > *p ? by : *p); }

inline unsigned __ballot_sync(unsigned, bool vote) {
    return simt::meet<bool, unsigned>("ballot", vote, [](const bool* in, unsigned* out) {
        unsigned votes = 0;
        for (int l = 0; l < simt::WARP; l++) votes |= (unsigned)in[l] << l;
        for (int l = 0; l < simt::WARP; l++) out[l] = votes;
    });
}

struct Shuffled {
    unsigned value, from;
};

// Each lane names the lane from which it takes.
inline unsigned shuffle(const char* place, unsigned value, unsigned from) {
    return simt::meet<Shuffled, unsigned>(place, {value, from}, [](const Shuffled* in, unsigned* out) {
        for (int l = 0; l < simt::WARP; l++) out[l] = in[in[l].from % simt::WARP].value;
    });
}

inline unsigned own_lane() { return simt::current->thread % simt::WARP; }
inline unsigned __shfl_sync(unsigned, unsigned value, int from) { return shuffle("shuffle", value, (unsigned)from); }
inline unsigned __shfl_up_sync(unsigned, unsigned value, unsigned by) {
    return shuffle("shuffle up", value, own_lane() < by ? own_lane() : own_lane() - by);
}
inline unsigned __shfl_xor_sync(unsigned, unsigned value, unsigned by) { return shuffle("shuffle across", value, own_lane() ^ by); }

inline void __syncwarp() {
    simt::meet<bool, bool>("warp barrier", true, [](const bool*, bool*) {});
}

// What device.cuh has for a device.

#define KERNEL(name, Args, threads)                                                                                  \
    void name(const Args& a);                                                                                        \
    static simt::Register register_##name(#name, {threads, sizeof(Args), [](const void* a) { name(*(const Args*)a); }}); \
    void name(const Args& a)

#define SHARED(name, bytes)                                   \
    static __attribute__((aligned(16))) u8 name[bytes];       \
    simt::declare_shared(std::string(__PRETTY_FUNCTION__) + #name, name, bytes)

#if ARCH >= 800
inline void copy_async16(void* to, const void* from) { simt::copy_async(to, from); }
inline void copy_async_commit() { simt::copy_async_commit(); }
template <int N>
inline void copy_async_wait() {
    simt::copy_async_wait(N);
}
#endif

template <int N>
struct Words {
    unsigned w[N];
};

template <int N>
inline void load_matrices(unsigned (&to)[N], const void* row) {
    if ((uintptr_t)row % 16) simt::fail("a row of a matrix is not aligned to 16 bytes");
    const auto got = simt::meet<const void*, Words<N>>("load matrices", row, [](const void* const* rows, Words<N>* out) {
        for (int l = 0; l < simt::WARP; l++) {
            for (int m = 0; m < N; m++) memcpy(&out[l].w[m], (const char*)rows[8 * m + l / 4] + l % 4 * 4, 4);
        }
    });
    memcpy(to, &got, sizeof(got));
}

// K bytes of a row and of a column, spread over the four lanes of each in words; rows 8 and following in `high`.
UNCHECKED inline int unsigned_byte(unsigned word, int i) { return (int)(word >> 8 * i & 255); }
UNCHECKED inline int signed_byte(unsigned word, int i) { return (int)(signed char)(word >> 8 * i & 255); }

struct Factors {
    unsigned a[4], b[2];
};
struct Sums {
    int c[4];
};

inline void multiply_16x8x32(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    Factors own;
    memcpy(own.a, a, sizeof(a));
    memcpy(own.b, b, sizeof(b));
    const Sums sums = simt::meet<Factors, Sums>("multiply 16x8x32", own, [](const Factors* in, Sums* out) UNCHECKED {
        int left[16][32], right[32][8];
        for (int l = 0; l < simt::WARP; l++) {
            const int group = l / 4, in_group = l % 4;
            for (int i = 0; i < 16; i++) {
                const int row = i < 4 || (i >= 8 && i < 12) ? group : group + 8, column = in_group * 4 + i % 4 + (i < 8 ? 0 : 16);
                left[row][column] = unsigned_byte(in[l].a[i / 4], i % 4);
            }
            for (int i = 0; i < 8; i++) {
                right[in_group * 4 + i % 4 + (i < 4 ? 0 : 16)][group] = signed_byte(in[l].b[i / 4], i % 4);
            }
        }
        for (int l = 0; l < simt::WARP; l++) {
            for (int i = 0; i < 4; i++) {
                const int row = i < 2 ? l / 4 : l / 4 + 8, column = l % 4 * 2 + i % 2;
                for (int k = 0; k < 32; k++) out[l].c[i] += left[row][k] * right[k][column];
            }
        }
    });
    for (int i = 0; i < 4; i++) c[i] = (int)((unsigned)c[i] + (unsigned)sums.c[i]);
}

#if ARCH >= 800
inline void multiply(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { multiply_16x8x32(c, a, b); }
#endif

inline void multiply_8x8x16(int& c0, int& c1, unsigned a, unsigned b) {
    struct Pair {
        unsigned a, b;
    };
    const Sums sums = simt::meet<Pair, Sums>("multiply 8x8x16", Pair{a, b}, [](const Pair* in, Sums* out) UNCHECKED {
        int left[8][16], right[16][8];
        for (int l = 0; l < simt::WARP; l++) {
            for (int i = 0; i < 4; i++) {
                left[l / 4][l % 4 * 4 + i] = unsigned_byte(in[l].a, i);
                right[l % 4 * 4 + i][l / 4] = signed_byte(in[l].b, i);
            }
        }
        for (int l = 0; l < simt::WARP; l++) {
            for (int i = 0; i < 2; i++) {
                for (int k = 0; k < 16; k++) out[l].c[i] += left[l / 4][k] * right[k][l % 4 * 2 + i];
            }
        }
    });
    c0 = (int)((unsigned)c0 + (unsigned)sums.c[0]);
    c1 = (int)((unsigned)c1 + (unsigned)sums.c[1]);
}

inline int dot(unsigned bytes, unsigned weights, int c) {
    unsigned sum = (unsigned)c;
    for (int i = 0; i < 4; i++) sum += (unsigned)(unsigned_byte(bytes, i) * signed_byte(weights, i));
    return (int)sum;
}
