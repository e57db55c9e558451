// From points to pillars, as `detect/pillars.rs` does it: which points form which pillar, in which order, and the features with which
// they enter the network. Numbers of things are sums, and places are prefix sums and a stable sort, so the order in which threads run decides
// nothing.

#define EMPTY 0xffffffffu
// What a block takes of a list whose places are summed up: each thread takes TILE / THREADS items that stand side by side.
#define TILE 2048
#define DIGITS 256

// Numbers of a frame, as the host reads them.
struct Totals {
    u32 non_finite;
    u32 in_range;
    u32 assigned;  // points within the grid whose pillar is one
    u32 kept;      // of those, the ones that are in the rows
    u32 full;      // hard pillars that hold as many points as they may
    u32 pillars;
    u32 rows;
    u32 unused;
};

struct VoxelArgs {
    const float* points;  // [points][channels]
    const u32* count;     // of points
    Totals* totals;
    u32* first;           // by cell: the first point in it
    u32* pillar_of_cell;  // where there is a point
    u32* cell_of_point;
    u32* cell_of_pillar;
    u32* tiles;           // what is counted in each tile
    u32* keys;            // pillars, by point
    u32* starts;          // by pillar: its first and behind its last one among the sorted points
    u32* ends;
    u32* scatter_cells;   // y * width + x by pillar
    u32* scatter_count;
    u32* offsets;         // by pillar: its first row
    u32* index_counts;    // pillars and rows
    const u32* sorted_keys;
    const u32* sorted_points;
    float* features;      // [rows][channels + 3 + center_offsets]
    u32 channels;
    u32 center_offsets;
    u32 hard;             // else dynamic
    u32 test_z;
    u32 max_points;
    u32 max_pillars;
    u32 cells_x;
    u32 cells_y;
    float min[3];
    float max[2];
    float voxel[3];
    float first_center[3];
};

// The table of cells and all numbers, before a frame.
KERNEL(voxel_clear, VoxelArgs, THREADS) {
    EACH(i, a.cells_x * a.cells_y) a.first[i] = EMPTY;
    if (blockIdx.x == 0 && threadIdx.x < sizeof(Totals) / 4) ((u32*)a.totals)[threadIdx.x] = 0;
}

// The cell of a coordinate in an axis, if there is one. True divisions: a product with the inverse puts points on an edge elsewhere.
__device__ __forceinline__ bool cell_along(float x, float min, float voxel, u32 cells, u32& cell) {
    const float position = (x - min) / voxel;
    if (!(position >= 0.0f && position < (float)cells)) return false;
    cell = (u32)position;
    return true;
}

// Cells of points, and the first point of each cell.
KERNEL(voxel_cells, VoxelArgs, THREADS) {
    const u32 count = *a.count, lane = threadIdx.x % 32;
    // Whole warps stay together: they count as one.
    for (u32 first = blockIdx.x * THREADS + threadIdx.x - lane; first < count; first += gridDim.x * THREADS) {
        const u32 i = first + lane;
        u32 cell = EMPTY;
        bool finite = true;
        if (i < count) {
            const float* const point = a.points + (u64)i * a.channels;
            for (u32 c = 0; c < a.channels; c++) finite = finite && is_finite(point[c]);
            u32 x = 0, y = 0, z = 0;
            bool inside = finite;
            if (!a.hard) inside = inside && point[0] >= a.min[0] && point[0] <= a.max[0] && point[1] >= a.min[1] && point[1] <= a.max[1];
            if (a.test_z) inside = inside && cell_along(point[2], a.min[2], a.voxel[2], 1, z);
            inside = inside && cell_along(point[0], a.min[0], a.voxel[0], a.cells_x, x);
            inside = inside && cell_along(point[1], a.min[1], a.voxel[1], a.cells_y, y);
            if (inside) {
                cell = x * a.cells_y + y;
                atomicMin(a.first + cell, i);
            }
            a.cell_of_point[i] = cell;
        }
        const u32 not_finite = __popc(__ballot_sync(ALL_LANES, !finite)), in_range = __popc(__ballot_sync(ALL_LANES, cell != EMPTY));
        if (lane == 0 && not_finite) atomicAdd(&a.totals->non_finite, not_finite);
        if (lane == 0 && in_range) atomicAdd(&a.totals->in_range, in_range);
    }
}

// Hard pillars are opened by points, in their order; dynamic ones stand in the order of cells. The cell that an item opens, if any.
__device__ __forceinline__ u32 opened(const VoxelArgs& a, u32 i) {
    if (!a.hard) return i < a.cells_x * a.cells_y && a.first[i] != EMPTY ? i : EMPTY;
    const u32 cell = i < *a.count ? a.cell_of_point[i] : EMPTY;
    return cell != EMPTY && a.first[cell] == i ? cell : EMPTY;
}

// Pillars that each tile of points or of cells opens.
KERNEL(pillars_count, VoxelArgs, THREADS) {
    SHARED(sums, THREADS / 32 * 4);
    const u32 first = blockIdx.x * TILE + threadIdx.x * (TILE / THREADS);
    u32 own = 0, total;
    for (u32 i = 0; i < TILE / THREADS; i++) own += opened(a, first + i) != EMPTY;
    before_in_block<THREADS>(own, (u32*)sums, total);
    if (threadIdx.x == 0) a.tiles[blockIdx.x] = total;
}

// Numbers pillars. Those behind the last that there may be are none.
KERNEL(pillars_place, VoxelArgs, THREADS) {
    SHARED(sums, THREADS / 32 * 4);
    const u32 first = blockIdx.x * TILE + threadIdx.x * (TILE / THREADS);
    u32 own = 0, total, in_tile;
    u32 pillar = before_in_tiles<THREADS>(a.tiles, blockIdx.x, gridDim.x, (u32*)sums, total);
    for (u32 i = 0; i < TILE / THREADS; i++) own += opened(a, first + i) != EMPTY;
    pillar += before_in_block<THREADS>(own, (u32*)sums, in_tile);
    for (u32 i = 0; i < TILE / THREADS; i++) {
        const u32 cell = opened(a, first + i);
        if (cell == EMPTY) continue;
        a.pillar_of_cell[cell] = pillar < a.max_pillars ? pillar : EMPTY;
        if (pillar < a.max_pillars) {
            a.cell_of_pillar[pillar] = cell;
            a.scatter_cells[pillar] = cell % a.cells_y * a.cells_x + cell / a.cells_y;
        }
        pillar++;
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        a.totals->pillars = *a.scatter_count = a.index_counts[0] = min(total, a.max_pillars);
    }
}

// The pillar of each point, by which points are then sorted.
KERNEL(voxel_keys, VoxelArgs, THREADS) {
    EACH(i, *a.count) {
        const u32 cell = a.cell_of_point[i];
        a.keys[i] = cell == EMPTY ? EMPTY : a.pillar_of_cell[cell];
    }
}

struct SortArgs {
    const u32* keys;
    const u32* values;  // null: each item's place
    const u32* count;
    u32* to_keys;
    u32* to_values;
    u32* digits;  // [tiles][DIGITS]: how many of a tile; then where the first of them goes
    u32 shift;
    u32 tiles;
};

// How often each digit stands in each tile.
KERNEL(sort_count, SortArgs, THREADS) {
    SHARED(shared, DIGITS * 4);
    u32* const counts = (u32*)shared;
    counts[threadIdx.x] = 0;
    __syncthreads();
    for (u32 i = threadIdx.x; i < TILE; i += THREADS) {
        const u32 at = blockIdx.x * TILE + i;
        if (at < *a.count) atomicAdd(counts + (a.keys[at] >> a.shift) % DIGITS, 1u);
    }
    __syncthreads();
    a.digits[blockIdx.x * DIGITS + threadIdx.x] = counts[threadIdx.x];
}

// Where each digit of each tile goes. One block, whose threads are digits.
KERNEL(sort_offsets, SortArgs, THREADS) {
    SHARED(sums, THREADS / 32 * 4);
    u32 own = 0, total;
    for (u32 t = 0; t < a.tiles; t++) own += a.digits[t * DIGITS + threadIdx.x];
    u32 next = before_in_block<THREADS>(own, (u32*)sums, total);
    for (u32 t = 0; t < a.tiles; t++) {
        const u32 here = a.digits[t * DIGITS + threadIdx.x];
        a.digits[t * DIGITS + threadIdx.x] = next;
        next += here;
    }
}

// Moves items to where their digits go; equal ones stay in order. Each warp has a part of the tile, 32 items at a time.
KERNEL(sort_place, SortArgs, THREADS) {
    constexpr u32 WARPS = THREADS / 32, ROUNDS = TILE / THREADS;
    SHARED(shared, WARPS * DIGITS * 4);
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, count = *a.count;
    u32* const counts = (u32*)shared + warp * DIGITS;
    for (u32 d = lane; d < DIGITS; d += 32) counts[d] = 0;
    __syncwarp();
    u32 keys[ROUNDS], ranks[ROUNDS];
#pragma unroll
    for (u32 r = 0; r < ROUNDS; r++) {
        const u32 at = blockIdx.x * TILE + (warp * ROUNDS + r) * 32 + lane;
        const bool is_there = at < count;
        keys[r] = is_there ? a.keys[at] : EMPTY;
        const u32 digit = (keys[r] >> a.shift) % DIGITS;
        // The lanes with the same digit.
        u32 alike = __ballot_sync(ALL_LANES, is_there);
        for (u32 bit = 1; bit < DIGITS; bit *= 2) {
            const u32 set = __ballot_sync(ALL_LANES, (digit & bit) != 0);
            alike &= digit & bit ? set : ~set;
        }
        const u32 before = is_there ? counts[digit] : 0;
        ranks[r] = before + __popc(alike & ((1u << lane) - 1));
        __syncwarp();
        if (is_there && (alike & ((1u << lane) - 1)) == 0) counts[digit] = before + __popc(alike);
        __syncwarp();
    }
    __syncthreads();
    u32 next = a.digits[blockIdx.x * DIGITS + threadIdx.x];
    for (u32 w = 0; w < WARPS; w++) {
        u32* const of_warp = (u32*)shared + w * DIGITS + threadIdx.x;
        const u32 here = *of_warp;
        *of_warp = next;
        next += here;
    }
    __syncthreads();
#pragma unroll
    for (u32 r = 0; r < ROUNDS; r++) {
        const u32 at = blockIdx.x * TILE + (warp * ROUNDS + r) * 32 + lane;
        if (at >= count) continue;
        const u32 to = counts[(keys[r] >> a.shift) % DIGITS] + ranks[r];
        a.to_keys[to] = keys[r];
        a.to_values[to] = a.values ? a.values[at] : at;
    }
}

// Where each pillar's points are.
KERNEL(pillar_bounds, VoxelArgs, THREADS) {
    const u32 count = *a.count;
    EACH(i, count) {
        const u32 pillar = a.sorted_keys[i];
        if (pillar == EMPTY) continue;
        if (i == 0 || a.sorted_keys[i - 1] != pillar) a.starts[pillar] = i;
        if (i + 1 == count || a.sorted_keys[i + 1] != pillar) a.ends[pillar] = i + 1;
    }
}

__device__ __forceinline__ u32 points_of(const VoxelArgs& a, u32 pillar) { return min(a.ends[pillar] - a.starts[pillar], a.max_points); }

// A hard pillar that is not full has a row of zeros behind its points.
__device__ __forceinline__ u32 rows_of(const VoxelArgs& a, u32 pillar) {
    if (pillar >= a.totals->pillars) return 0;
    const u32 points = points_of(a, pillar);
    return points + (a.hard && points < a.max_points);
}

KERNEL(rows_count, VoxelArgs, THREADS) {
    SHARED(sums, THREADS / 32 * 4);
    const u32 first = blockIdx.x * TILE + threadIdx.x * (TILE / THREADS), pillars = a.totals->pillars;
    u32 rows = 0, assigned = 0, kept = 0, full = 0, total;
    for (u32 p = first; p < min(first + TILE / THREADS, pillars); p++) {
        const u32 points = points_of(a, p);
        rows += rows_of(a, p);
        assigned += a.ends[p] - a.starts[p];
        kept += points;
        full += a.hard && points == a.max_points;
    }
    before_in_block<THREADS>(rows, (u32*)sums, total);
    if (threadIdx.x == 0) a.tiles[blockIdx.x] = total;
    if (assigned) atomicAdd(&a.totals->assigned, assigned);
    if (kept) atomicAdd(&a.totals->kept, kept);
    if (full) atomicAdd(&a.totals->full, full);
}

KERNEL(rows_place, VoxelArgs, THREADS) {
    SHARED(sums, THREADS / 32 * 4);
    const u32 first = blockIdx.x * TILE + threadIdx.x * (TILE / THREADS), pillars = a.totals->pillars;
    u32 own = 0, total, in_tile;
    u32 row = before_in_tiles<THREADS>(a.tiles, blockIdx.x, gridDim.x, (u32*)sums, total);
    for (u32 i = 0; i < TILE / THREADS; i++) own += rows_of(a, first + i);
    row += before_in_block<THREADS>(own, (u32*)sums, in_tile);
    for (u32 p = first; p < min(first + TILE / THREADS, pillars); p++) {
        a.offsets[p] = row;
        row += rows_of(a, p);
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) a.totals->rows = a.index_counts[1] = a.offsets[pillars] = total;
}

// Rows of the network's input. A warp takes a pillar; sums run in the order of points.
KERNEL(pillar_features, VoxelArgs, THREADS) {
    const u32 lane = threadIdx.x % 32, width = a.channels + 3 + a.center_offsets, pillars = a.totals->pillars;
    for (u32 p = (blockIdx.x * THREADS + threadIdx.x) / 32; p < pillars; p += gridDim.x * (THREADS / 32)) {
        const u32 points = points_of(a, p), rows = rows_of(a, p), cell = a.cell_of_pillar[p];
        const u32* const members = a.sorted_points + a.starts[p];
        float* const features = a.features + (u64)a.offsets[p] * width;
        float sum = 0.0f;
        if (lane < 3) {
            for (u32 i = 0; i < points; i++) sum = __fadd_rn(sum, a.points[(u64)members[i] * a.channels + lane]);
        }
        const float own_mean = __fdiv_rn(sum, (float)points);
        float mean[3], center[3];
#pragma unroll
        for (int axis = 0; axis < 3; axis++) {
            mean[axis] = float_of(__shfl_sync(ALL_LANES, bits_of(own_mean), axis));
            const float at = axis == 0 ? (float)(cell / a.cells_y) : axis == 1 ? (float)(cell % a.cells_y) : 0.0f;
            center[axis] = __fmaf_rn(at, a.voxel[axis], a.first_center[axis]);
        }
        for (u32 i = lane; i < rows; i += 32) {
            float* const row = features + (u64)i * width;
            if (i >= points) {
                for (u32 c = 0; c < width; c++) row[c] = 0.0f;
                continue;
            }
            const float* const point = a.points + (u64)members[i] * a.channels;
            for (u32 c = 0; c < a.channels; c++) row[c] = point[c];
#pragma unroll
            for (int axis = 0; axis < 3; axis++) {
                row[a.channels + axis] = point[axis] - mean[axis];
                if ((u32)axis < a.center_offsets) row[a.channels + 3 + axis] = point[axis] - center[axis];
            }
        }
    }
}
