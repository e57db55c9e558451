"""Writes nuscenes.json: boxes drawn at random, and what nuscenes-devkit makes of them.

Made with Python 3.11, nuscenes-devkit 1.2.0 and numpy 2.4.6. All numbers are exact in single precision, so that the boxes are
the same on both sides.

A ground-truth box is [class, x, y, z, length, width, height, yaw, vx, vy, points]; a prediction has its score in place of the
points. Unknown velocities are null, and points that nobody counted are null.
"""

import json
import math
import pathlib
import random

import numpy
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import filter_eval_boxes
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.eval.detection.evaluate import DetectionEval
from pyquaternion import Quaternion

CONFIG = config_factory("detection_cvpr_2019")
CLASSES = list(CONFIG.class_names)
SIZES = {"car": (4.5, 2, 1.75), "truck": (7, 2.5, 3), "bus": (11, 3, 3.5), "trailer": (12, 3, 4), "pedestrian": (0.75, 0.75, 1.75)}


def step(value, steps=64):
    """The nearest of the numbers k / steps."""
    return round(value * steps) / steps


class Drawing:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def truth(self, classes, reach=60.0, unknown_velocity=0.1):
        r = self.random
        name = r.choice(classes)
        angle, distance = r.uniform(0, 2 * math.pi), reach * math.sqrt(r.random())
        size = [max(step(s * r.uniform(0.8, 1.2)), 1 / 64) for s in SIZES.get(name, (1.5, 0.75, 1.25))]
        velocity = [step(r.gauss(0, 4)), step(r.gauss(0, 4))]
        if r.random() < unknown_velocity:
            velocity = [None, None]
        points = r.choice([0, 1, 2, 5, 30, None])
        center = [step(distance * math.cos(angle)), step(distance * math.sin(angle)), step(r.uniform(-2, 2))]
        return [name, *center, *size, step(r.uniform(-math.pi, math.pi), 256), *velocity, points]

    def score(self, tied):
        return self.random.randint(1, 6) / 8 if tied else self.random.randint(1, 4095) / 4096

    def near(self, truth, spread, tied):
        """A prediction of this object, or of something like it."""
        r = self.random
        name, x, y, z, length, width, height, yaw, vx, vy, _ = truth
        center = [step(v + r.gauss(0, spread)) for v in (x, y, z)]
        size = [max(step(s * r.uniform(0.7, 1.4)), 1 / 64) for s in (length, width, height)]
        turned = yaw + r.gauss(0, 0.3) + r.choice([0, 0, 0, math.pi])
        velocity = [step((v or 0) + r.gauss(0, 1)) for v in (vx, vy)]
        return [name, *center, *size, step(turned, 256), *velocity, self.score(tied)]

    def frame(self, classes, objects, found=0.8, spread=0.6, clutter=6, tied=False, **drawing):
        truth = [self.truth(classes, **drawing) for _ in range(objects)]
        predictions = [self.near(t, spread, tied) for t in truth for _ in range(2) if self.random.random() < found]
        predictions += [self.near(self.truth(classes), spread, tied) for _ in range(clutter)]
        self.random.shuffle(predictions)
        ego = [step(self.random.uniform(-2, 2)), step(self.random.uniform(-2, 2))]
        return {"ego": ego, "truth": truth, "predictions": predictions}


def cases():
    draw = Drawing(1)
    yield "all classes", [draw.frame(CLASSES, 25) for _ in range(6)]
    yield "equal scores", [draw.frame(CLASSES, 20, tied=True) for _ in range(4)]
    yield "few classes", [draw.frame(["car", "barrier", "traffic_cone"], 15) for _ in range(3)]
    yield "crowd: several near enough", [draw.frame(["pedestrian"], 30, reach=6.0, clutter=10) for _ in range(2)]
    yield "no velocities", [draw.frame(["car", "bus"], 12, unknown_velocity=1.0) for _ in range(2)]
    frames = [draw.frame(CLASSES, 8) for _ in range(2)]
    yield "no predictions", [dict(f, predictions=[]) for f in frames]
    yield "no objects", [dict(f, truth=[]) for f in frames]
    yield "far too few found", [draw.frame(["truck"], 30, found=0.03, clutter=2, reach=30) for _ in range(2)]
    # The surest are wrong in one frame and right in the other.
    good, bad = [draw.frame(["car"], 12, spread=0.2, reach=30) for _ in range(2)]
    for p in bad["predictions"]:
        p[1], p[10] = p[1] + 8, (p[10] * 4096 + 4096) / 8192
    yield "order across frames", [bad, good]


def devkit_box(token, ego, box, is_truth):
    name, x, y, z, length, width, height, yaw, vx, vy, last = box
    return DetectionBox(
        sample_token=token,
        translation=(x, y, z),
        size=(width, length, height),
        rotation=tuple(Quaternion(axis=[0, 0, 1], radians=yaw)),
        velocity=tuple(math.nan if v is None else v for v in (vx, vy)),
        ego_translation=(x - ego[0], y - ego[1], 0.0),
        num_pts=(-1 if last is None else last) if is_truth else -1,
        detection_name=name,
        detection_score=-1.0 if is_truth else float(last),
    )


class NoAnnotations:
    """Stands for the data set where the devkit looks for bicycle racks."""

    def get(self, table, token):
        return {"anns": []}


def judge(frames):
    boxes = {}
    for kind in ["truth", "predictions"]:
        boxes[kind] = EvalBoxes()
        for i, frame in enumerate(frames):
            token = f"frame {i}"
            boxes[kind].add_boxes(token, [devkit_box(token, frame["ego"], b, kind == "truth") for b in frame[kind]])
        if boxes[kind].all:
            boxes[kind] = filter_eval_boxes(NoAnnotations(), boxes[kind], CONFIG.class_range)
    evaluation = DetectionEval.__new__(DetectionEval)
    evaluation.cfg, evaluation.verbose = CONFIG, False
    evaluation.gt_boxes, evaluation.pred_boxes = boxes["truth"], boxes["predictions"]
    return evaluation.evaluate()


def expected(metrics, curves, with_curves):
    def number(v):
        return None if math.isnan(v) else float(f"{v:.12g}")

    classes = {}
    for name in CLASSES:
        classes[name] = {
            "ap": [number(metrics.get_label_ap(name, d)) for d in CONFIG.dist_ths],
            "errors": [number(metrics.get_label_tp(name, e)) for e in ["trans_err", "scale_err", "orient_err", "vel_err"]],
        }
        if with_curves and name in ["car", "barrier"]:
            curve = curves[(name, CONFIG.dist_th_tp)]
            columns = ["precision", "confidence", "trans_err", "scale_err", "orient_err", "vel_err"]
            classes[name]["curve"] = {c: [number(v) for v in getattr(curve, c)] for c in columns}
    errors = [number(metrics.tp_errors[e]) for e in ["trans_err", "scale_err", "orient_err", "vel_err"]]
    return {"classes": classes, "mean_ap": number(metrics.mean_ap), "errors": errors, "nd_score": number(metrics.nd_score)}


def main():
    written = []
    for name, frames in cases():
        metrics, curves = judge(frames)
        written.append({"name": name, "frames": frames, "expected": expected(metrics, curves, name == "equal scores")})
        print(f"{name}: mAP {metrics.mean_ap:.4f}, NDS {metrics.nd_score:.4f}")
    text = json.dumps({"classes": CLASSES, "cases": written}, separators=(",", ":")).replace('{"ego"', '\n{"ego"')
    pathlib.Path(__file__).with_name("nuscenes.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
