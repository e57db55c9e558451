"""Random labels and detections, and what a public KITTI evaluator says of them.

    python make_metric.py KITTI_OBJECT_EVAL_PYTHON metric.json

KITTI_OBJECT_EVAL_PYTHON is a checkout of traveller59/kitti-object-eval-python. Needs numpy, numba, scipy, shapely. Its rotated
overlap runs on CUDA in single precision; here shapely's polygons in double precision stand in for it.
"""

import json
import sys
import types

import numpy as np
from shapely.geometry import Polygon

FRAMES, SEED = 32, 20251


def footprint(box):
    x, z, length, width, turn = box
    cos, sin = np.cos(turn), np.sin(turn)
    corners = [(a * length / 2, b * width / 2) for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    return Polygon([(x + cos * a + sin * b, z - sin * a + cos * b) for a, b in corners])


def rotated_overlap(boxes, others, criterion=-1, device_id=0):
    shares = np.zeros((len(boxes), len(others)))
    a, b = [footprint(x) for x in boxes], [footprint(x) for x in others]
    for i, p in enumerate(a):
        for j, q in enumerate(b):
            if abs(boxes[i][0] - others[j][0]) + abs(boxes[i][1] - others[j][1]) < 30:
                shared = p.intersection(q).area
                shares[i, j] = shared if criterion == 2 else shared / (p.area + q.area - shared)
    return shares


SIZES = {  # height, width, length
    "Car": (1.5, 1.6, 3.9), "Van": (2.2, 1.9, 5.0), "Truck": (3.2, 2.6, 10.0), "Pedestrian": (1.75, 0.65, 0.85),
    "Person_sitting": (1.3, 0.6, 0.8), "Cyclist": (1.7, 0.6, 1.75), "Tram": (3.5, 2.5, 16.0), "Misc": (1.8, 1.6, 3.0),
}
CLASSES = list(SIZES)
NEIGHBOURS = {"Van": "Car", "Person_sitting": "Pedestrian"}  # taking one for the other is no mistake
SHARES = [0.36, 0.1, 0.04, 0.2, 0.08, 0.16, 0.02, 0.04]


def image_box(h, w, length, x, y, z, rng):
    reach = 0.35 * (w + length)
    scale = 721.5 / z
    box = [609.6 + scale * (x - reach), 172.9 + scale * (y - h), 609.6 + scale * (x + reach), 172.9 + scale * y]
    return np.array(box) + rng.normal(0, 1.0, 4)


def make_frame(rng):
    labels, found = [], []
    for _ in range(rng.integers(3, 14)):
        name = rng.choice(CLASSES, p=SHARES)
        h, w, length = np.array(SIZES[name]) * rng.uniform(0.85, 1.15, 3)
        z = rng.uniform(6, 60)
        x, y, turn = rng.uniform(-0.6, 0.6) * z, rng.normal(1.65, 0.1), rng.uniform(-np.pi, np.pi)
        occlusion, truncation = rng.choice([0, 1, 2, 3], p=[0.55, 0.2, 0.15, 0.1]), max(0, rng.uniform(-1.0, 0.7))
        labels.append([name, truncation, occlusion, turn, *image_box(h, w, length, x, y, z, rng), h, w, length, x, y, z, turn])
        if rng.random() < 0.85:
            for _ in range(1 + (rng.random() < 0.25)):
                spread = rng.choice([0.25, 1.0, 2.5])
                reach = spread * min(w, length)
                hd, wd, ld = np.array([h, w, length]) * rng.normal(1, 0.05 * spread, 3)
                xd, yd, zd = x + rng.normal(0, 0.08) * reach, y + rng.normal(0, 0.04) * spread, z + rng.normal(0, 0.08) * reach
                guess = name if rng.random() < 0.85 else rng.choice(CLASSES)
                if name in NEIGHBOURS and rng.random() < 0.7:
                    guess = NEIGHBOURS[name]
                box = image_box(hd, wd, ld, xd, yd, zd, rng)
                score = np.clip(rng.normal(0.75 - 0.12 * spread, 0.2), 0.01, 0.99)
                found.append([guess, -1, -1, -10, *box, hd, wd, ld, xd, yd, zd, turn + rng.normal(0, 0.06) * spread, score])
    for _ in range(rng.integers(0, 4)):  # regions, and detections in and beside them
        left, top = rng.uniform(0, 1000), rng.uniform(120, 180)
        region = [left, top, left + rng.uniform(40, 200), top + rng.uniform(30, 90)]
        labels.append(["DontCare", -1, -1, -10, *region, -1, -1, -1, -1000, -1000, -1000, -10])
        box = np.array(region) + rng.normal(0, 15, 4)
        found.append([rng.choice(CLASSES[:1] + ["Pedestrian", "Cyclist"]), -1, -1, -10, *box, 1.5, 1.6, 3.9, 0, 1.6, 70, 0, rng.uniform(0.05, 0.9)])
    for _ in range(rng.integers(0, 5)):  # things that are not there
        name = rng.choice(["Car", "Pedestrian", "Cyclist"])
        h, w, length = SIZES[name]
        z = rng.uniform(6, 60)
        x = rng.uniform(-0.6, 0.6) * z
        found.append([name, -1, -1, -10, *image_box(h, w, length, x, 1.65, z, rng), h, w, length, x, 1.65, z, rng.uniform(-3, 3), rng.uniform(0.01, 0.8)])
    return ["\n".join(f"{n[0]} " + " ".join(f"{v:.2f}" if i != 1 else str(int(v)) for i, v in enumerate(n[1:])) for n in rows) for rows in (labels, found)]


def annotation(text):
    rows = [line.split() for line in text.splitlines()]
    numbers = np.array([[float(v) for v in row[1:]] for row in rows]).reshape(len(rows), -1)
    return {
        "name": np.array([row[0] for row in rows]), "truncated": numbers[:, 0], "occluded": numbers[:, 1].astype(int),
        "alpha": numbers[:, 2], "bbox": numbers[:, 3:7], "dimensions": numbers[:, 7:10][:, [2, 0, 1]],
        "location": numbers[:, 10:13], "rotation_y": numbers[:, 13], "score": numbers[:, 14] if numbers.shape[1] > 14 else np.zeros(len(rows)),
    }


def main():
    evaluator, out = sys.argv[1:]
    stand_in = types.ModuleType("second.core.non_max_suppression.nms_gpu")
    stand_in.rotate_iou_gpu_eval = rotated_overlap
    for name in ("second", "second.core", "second.core.non_max_suppression"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules[stand_in.__name__] = stand_in
    sys.path.insert(0, evaluator)
    import eval as kitti

    rng = np.random.default_rng(SEED)
    frames = [make_frame(rng) for _ in range(FRAMES)]
    labels, found = [annotation(f[0]) for f in frames], [annotation(f[1]) for f in frames]
    thresholds = np.array([[[0.7, 0.5, 0.5]] * 3, [[0.7, 0.5, 0.5], [0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]])
    expected = []
    for metric, overlap in enumerate(["image", "birds_eye", "volume"]):
        got = kitti.eval_class(labels, found, [0, 1, 2], [0, 1, 2], metric, thresholds, num_parts=4)
        for c, name in enumerate(["Car", "Pedestrian", "Cyclist"]):
            for k in range(2):
                curves = got["precision"][c, :, k]
                expected.append({
                    "class": name, "overlap": overlap, "min_overlap": thresholds[k, metric, c],
                    "r11": list(curves[:, ::4].sum(1) / 11), "r40": list(curves[:, 1:].sum(1) / 40),
                })
    with open(out, "w") as file:
        json.dump({"frames": [{"labels": f[0], "detections": f[1]} for f in frames], "expected": expected}, file, indent=0)


main()
