// Overlap of rotated rectangles to the bit as `detect/rotated_iou.rs` and `detect/nms.rs` have it: operations in the same order, none
// fused. Change both.

struct Point {
    float x;
    float y;
};

__device__ __forceinline__ Point operator-(const Point& a, const Point& b) { return {a.x - b.x, a.y - b.y}; }
__device__ __forceinline__ float cross(const Point& a, const Point& b) { return a.x * b.y - a.y * b.x; }
__device__ __forceinline__ float dot2(const Point& a, const Point& b) { return a.x * b.x + a.y * b.y; }
__device__ __forceinline__ float squared_distance(const Point& a, const Point& b) { return dot2(a - b, a - b); }

// At most sixteen crossings of four edges with four, and eight corners.
#define MOST_POINTS 24

struct Points {
    Point points[MOST_POINTS];
    i32 len;
};

__device__ __forceinline__ void push(Points& to, const Point& p) { to.points[to.len++] = p; }

// A rectangle with all that does not depend on another: `corners` of `iou3d_nms` only.
struct Rect {
    Point center;
    Point half;  // mmcv: the size
    float cosine;  // mmcv: half of it
    float sine;
    float area;
    float radius;  // of a circle around it, drawn so wide that margins and rounding stay inside
    Point circle;  // its centre
    Point corners[4];
};

__device__ __forceinline__ Rect prepare(bool mmcv, const Point& center, float length, float width, float yaw) {
    Rect r;
    r.circle = center;
    r.radius = 1.001f * (elementary_hypot(length, width) / 2.0f) + 0.03f + 1e-5f * (fabsf(center.x) + fabsf(center.y));
    float s, c;
    elementary_sin_cos(yaw, s, c);
    const Point half = {length / 2.0f, width / 2.0f}, low = center - half, high = {center.x + half.x, center.y + half.y};
    if (mmcv) {
        r.center = {(low.x + high.x) / 2.0f, (low.y + high.y) / 2.0f};
        r.half = high - low;
        r.cosine = c * 0.5f;
        r.sine = s * 0.5f;
        r.area = r.half.x * r.half.y;
        return r;
    }
    r.center = center;
    r.half = half;
    r.cosine = c;
    r.sine = s;
    r.area = length * width;
    const Point corners[4] = {low, {high.x, low.y}, high, {low.x, high.y}};
    for (int i = 0; i < 4; i++) {
        const Point d = corners[i] - center;
        r.corners[i] = {d.x * c + d.y * -s + center.x, d.x * s + d.y * c + center.y};
    }
    return r;
}

// Whether a point is in a rectangle or in its margin.
__device__ __forceinline__ bool holds(const Rect& r, const Point& p) {
    const Point d = p - r.center;
    const float along = d.x * r.cosine + d.y * r.sine, across = d.x * -r.sine + d.y * r.cosine;
    return fabsf(along) < r.half.x + 1e-2f && fabsf(across) < r.half.y + 1e-2f;
}

__device__ __forceinline__ float turn(const Point& a, const Point& b, const Point& origin) {
    const Point from = a - origin, to = b - origin;
    return from.x * to.y - to.x * from.y;
}

// Where two segments cross in their interiors, if they do.
__device__ __forceinline__ bool crossing(const Point& p0, const Point& p1, const Point& q0, const Point& q1, Point& at) {
    if (fminf(p0.x, p1.x) > fmaxf(q0.x, q1.x) || fminf(q0.x, q1.x) > fmaxf(p0.x, p1.x)) return false;
    if (fminf(p0.y, p1.y) > fmaxf(q0.y, q1.y) || fminf(q0.y, q1.y) > fmaxf(p0.y, p1.y)) return false;
    const float s1 = turn(q0, p1, p0), s2 = turn(p1, q1, p0), s3 = turn(p0, q1, q0), s4 = turn(q1, p1, q0);
    if (!(s1 * s2 > 0.0f && s3 * s4 > 0.0f)) return false;
    const float s5 = turn(q1, p1, p0);
    if (fabsf(s5 - s1) > 1e-8f) {
        at = {(s5 * q0.x - s1 * q1.x) / (s5 - s1), (s5 * q0.y - s1 * q1.y) / (s5 - s1)};
        return true;
    }
    // Almost parallel: as the intersection of the lines a x + b y + c = 0.
    const float a0 = p0.y - p1.y, b0 = p1.x - p0.x, c0 = p0.x * p1.y - p1.x * p0.y;
    const float a1 = q0.y - q1.y, b1 = q1.x - q0.x, c1 = q0.x * q1.y - q1.x * q0.y;
    const float determinant = a0 * b1 - a1 * b0;
    at = {(b0 * c1 - b1 * c0) / determinant, (a1 * c0 - a0 * c1) / determinant};
    return true;
}

// Stable, ascending.
__device__ __forceinline__ void sort_by_angle(Points& outline, const Point& middle) {
    float angles[MOST_POINTS];
    for (i32 i = 0; i < outline.len; i++) angles[i] = elementary_atan2(outline.points[i].y - middle.y, outline.points[i].x - middle.x);
    for (i32 i = 1; i < outline.len; i++) {
        for (i32 j = i; j > 0 && angles[j - 1] > angles[j]; j--) {
            const float angle = angles[j];
            angles[j] = angles[j - 1];
            angles[j - 1] = angle;
            const Point p = outline.points[j];
            outline.points[j] = outline.points[j - 1];
            outline.points[j - 1] = p;
        }
    }
}

__device__ __forceinline__ float iou3d(const Rect& a, const Rect& b) {
    Points outline;
    outline.len = 0;
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) {
            Point at;
            if (crossing(a.corners[i], a.corners[(i + 1) % 4], b.corners[j], b.corners[(j + 1) % 4], at)) push(outline, at);
        }
    }
    for (int k = 0; k < 4; k++) {
        if (holds(a, b.corners[k])) push(outline, b.corners[k]);
        if (holds(b, a.corners[k])) push(outline, a.corners[k]);
    }
    float overlap = 0.0f;
    if (outline.len > 0) {
        Point sum = outline.points[0];
        for (i32 i = 1; i < outline.len; i++) sum = {sum.x + outline.points[i].x, sum.y + outline.points[i].y};
        sort_by_angle(outline, {sum.x / (float)outline.len, sum.y / (float)outline.len});
        const Point first = outline.points[0];
        float twice = 0.0f;
        for (i32 i = 0; i + 1 < outline.len; i++) twice = twice + cross(outline.points[i] - first, outline.points[i + 1] - first);
        overlap = fabsf(twice) / 2.0f;
    }
    return overlap / fmaxf(a.area + b.area - overlap, 1e-8f);
}

struct Corners {
    Point at[4];
};

// Corners relative to (x, y), a double: the sum of the centres is rounded to a float, its half is not.
__device__ __forceinline__ Corners corners_from(const Rect& r, double origin_x, double origin_y) {
    const float x = (float)((double)r.center.x - origin_x), y = (float)((double)r.center.y - origin_y);
    const Point first = {x - r.sine * r.half.y - r.cosine * r.half.x, y + r.cosine * r.half.y - r.sine * r.half.x};
    const Point second = {x + r.sine * r.half.y - r.cosine * r.half.x, y - r.cosine * r.half.y - r.sine * r.half.x};
    return {{first, second, {2.0f * x - first.x, 2.0f * y - first.y}, {2.0f * x - second.x, 2.0f * y - second.y}}};
}

// Crossings of the edges, ends included.
__device__ __forceinline__ void push_crossings(const Corners& a, const Corners& b, Points& to) {
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) {
            const Point va = a.at[(i + 1) % 4] - a.at[i], vb = b.at[(j + 1) % 4] - b.at[j];
            const float determinant = cross(vb, va);
            if ((double)fabsf(determinant) <= 1e-14) continue;
            const Point between = b.at[j] - a.at[i];
            const float ta = cross(vb, between) / determinant, tb = cross(va, between) / determinant;
            if (ta >= 0.0f && ta <= 1.0f && tb >= 0.0f && tb <= 1.0f) push(to, {a.at[i].x + va.x * ta, a.at[i].y + va.y * ta});
        }
    }
}

// Corners of `a` in `b`, its border included.
__device__ __forceinline__ void push_contained(const Corners& a, const Corners& b, Points& to) {
    const Point ab = b.at[1] - b.at[0], da = b.at[0] - b.at[3];
    const float ab_ab = dot2(ab, ab), da_da = dot2(da, da);
    for (int i = 0; i < 4; i++) {
        const Point from_corner = a.at[i] - b.at[0];
        const float on_ab = dot2(from_corner, ab), on_ad = -dot2(from_corner, da);
        if (on_ab >= 0.0f && on_ad >= 0.0f && on_ab <= ab_ab && on_ad <= da_da) push(to, a.at[i]);
    }
}

// Counter-clockwise, nearer first where the direction is the same.
__device__ __forceinline__ bool comes_before(const Point& a, const Point& b) {
    const float t = a.x * b.y - b.x * a.y;
    return (double)fabsf(t) < 1e-6 ? dot2(a, a) < dot2(b, b) : t > 0.0f;
}

// The points but the first: an insertion sort that looks at its first element first, because the order is no proper one.
__device__ __forceinline__ void sort_by_direction(Points& hull) {
    Point* const points = hull.points + 1;
    for (i32 i = 1; i < hull.len - 1; i++) {
        const Point p = points[i];
        i32 place = 0;
        if (!comes_before(p, points[0])) {
            place = i;
            while (place > 1 && comes_before(p, points[place - 1])) place--;
        }
        for (i32 j = i; j > place; j--) points[j] = points[j - 1];
        points[place] = p;
    }
}

// Convex hull by Graham's scan, relative to its lowest point, of at least one.
__device__ __forceinline__ void convex_hull(Points& hull) {
    Point* const points = hull.points;
    i32 lowest = 0;
    for (i32 i = 1; i < hull.len; i++) {
        const Point a = points[i], b = points[lowest];
        if (a.y < b.y || (a.y == b.y && a.x < b.x)) lowest = i;
    }
    const Point start = points[lowest];
    for (i32 i = 0; i < hull.len; i++) points[i] = points[i] - start;
    const Point first = points[0];
    points[0] = points[lowest];
    points[lowest] = first;
    sort_by_direction(hull);
    i32 second = 1;
    while (second < hull.len && !((double)dot2(points[second], points[second]) > 1e-8)) second++;
    if (second == hull.len) {
        hull.len = 1;
        return;
    }
    points[1] = points[second];
    i32 len = 2;
    for (i32 i = second + 1; i < hull.len; i++) {
        while (len > 1 && cross(points[i] - points[len - 2], points[len - 1] - points[len - 2]) >= 0.0f) len--;
        points[len++] = points[i];
    }
    hull.len = len;
}

__device__ __forceinline__ float mmcv_iou(const Rect& a, const Rect& b) {
    if ((double)a.area < 1e-14 || (double)b.area < 1e-14) return 0.0f;
    const double x = (double)(a.center.x + b.center.x) / 2.0, y = (double)(a.center.y + b.center.y) / 2.0;
    const Corners of_a = corners_from(a, x, y), of_b = corners_from(b, x, y);
    Points points;
    points.len = 0;
    push_crossings(of_a, of_b, points);
    push_contained(of_a, of_b, points);
    push_contained(of_b, of_a, points);
    float overlap = 0.0f;
    if (points.len > 2) {
        convex_hull(points);
        float twice = 0.0f;
        for (i32 i = 1; i + 1 < points.len; i++) {
            twice = twice + fabsf(cross(points.points[i] - points.points[0], points.points[i + 1] - points.points[0]));
        }
        overlap = points.len > 2 ? twice / 2.0f : 0.0f;
    }
    return overlap / (a.area + b.area - overlap);
}

// Whether two boxes are so far apart that they cannot overlap.
__device__ __forceinline__ bool are_apart(const Rect& a, const Rect& b) {
    const float reach = a.radius + b.radius;
    return squared_distance(a.circle, b.circle) > reach * reach;
}
