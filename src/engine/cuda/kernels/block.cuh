// What the threads of a block work out together: prefix sums and the best of many, always in the order of threads.

#define ALL_LANES 0xffffffffu

// The sum of `x` over the threads before this one, and over all. `sums` is shared memory for a word a warp.
template <int THREADS_OF_BLOCK>
__device__ __forceinline__ u32 before_in_block(u32 x, u32* sums, u32& total) {
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 sum = x;
    for (u32 by = 1; by < 32; by *= 2) {
        const u32 other = __shfl_up_sync(ALL_LANES, sum, by);
        if (lane >= by) sum += other;
    }
    if (lane == 31) sums[warp] = sum;
    __syncthreads();
    u32 before = 0;
    total = 0;
    for (u32 w = 0; w < THREADS_OF_BLOCK / 32; w++) {
        if (w == warp) before = total;
        total += sums[w];
    }
    __syncthreads();  // `sums` may be used again
    return before + sum - x;
}

// What is counted in the tiles before this one, and in all.
template <int THREADS_OF_BLOCK>
__device__ __forceinline__ u32 before_in_tiles(const u32* counts, u32 tile, u32 tiles, u32* sums, u32& total) {
    u32 own = 0, all = 0;
    for (u32 t = threadIdx.x; t < tiles; t += THREADS_OF_BLOCK) {
        if (t < tile) own += counts[t];
        all += counts[t];
    }
    u32 before;
    before_in_block<THREADS_OF_BLOCK>(own, sums, before);
    before_in_block<THREADS_OF_BLOCK>(all, sums, total);
    return before;
}

// The largest key; of equal ones the smallest position.
struct Best {
    u64 key;  // 0: none
    u32 at;
};

__device__ __forceinline__ Best better(const Best& a, const Best& b) {
    return b.key > a.key || (b.key == a.key && b.at < a.at) ? b : a;
}

// `shared` is shared memory for a Best a warp.
template <int THREADS_OF_BLOCK>
__device__ __forceinline__ Best best_in_block(Best best, Best* shared) {
    for (u32 by = 16; by > 0; by /= 2) {
        Best other;
        other.key = (u64)__shfl_xor_sync(ALL_LANES, (u32)(best.key >> 32), by) << 32;
        other.key |= __shfl_xor_sync(ALL_LANES, (u32)best.key, by);
        other.at = __shfl_xor_sync(ALL_LANES, best.at, by);
        best = better(best, other);
    }
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = best;
    __syncthreads();
    for (u32 w = 0; w < THREADS_OF_BLOCK / 32; w++) best = better(best, shared[w]);
    __syncthreads();
    return best;
}
