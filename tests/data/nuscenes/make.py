"""A small made-up data set in nuScenes' layout, and what the nuscenes-devkit reads from it.

    python make.py .        # needs nuscenes-devkit

Two scenes, one with sweeps between its key frames, one whose key frames lie so far apart that velocities run out.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from pyquaternion import Quaternion

VERSION, POINTS, SWEEPS = "v1.0-mini", 40, 6
CATEGORIES = [
    "human.pedestrian.adult", "human.pedestrian.police_officer", "human.pedestrian.stroller", "animal", "vehicle.car",
    "vehicle.bus.bendy", "vehicle.construction", "vehicle.bicycle", "movable_object.trafficcone", "static_object.bicycle_rack",
]
# Scene, times of its key frames and of the sweeps between them, seconds.
SCENES = [("scene-0001", [0.0, 0.5, 1.0], [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]), ("scene-0002", [0.0, 1.2, 2.4, 4.5], [])]

rng = np.random.default_rng(11)


def token():
    return rng.bytes(16).hex()


def rotation(yaw, tilt=0.03):
    q = Quaternion(axis=[0, 0, 1], radians=yaw) * Quaternion(axis=[1, 0, 0], radians=rng.normal(0, tilt)) * Quaternion(axis=[0, 1, 0], radians=rng.normal(0, tilt))
    return [float(v) for v in q.elements]


def make(root):
    tables = {name: [] for name in [
        "category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose", "log", "scene", "sample",
        "sample_data", "sample_annotation", "map",
    ]}
    categories = {name: token() for name in CATEGORIES}
    tables["category"] = [{"token": t, "name": n, "description": ""} for n, t in categories.items()]
    sensors = {}
    for channel, modality in [("CAM_FRONT", "camera"), ("LIDAR_TOP", "lidar")]:
        sensors[channel] = token()
        tables["sensor"].append({"token": sensors[channel], "channel": channel, "modality": modality})
    start = 1_530_000_000_000_000
    for name, keys, others in SCENES:
        scene, log = token(), token()
        start += 100_000_000
        mounts = {}
        for channel, place, yaw in [("LIDAR_TOP", [0.94, 0.0, 1.84], -1.57), ("CAM_FRONT", [1.7, 0.0, 1.5], 0.0)]:
            mounts[channel] = token()
            tables["calibrated_sensor"].append({
                "token": mounts[channel], "sensor_token": sensors[channel], "translation": place, "rotation": rotation(yaw), "camera_intrinsic": [],
            })
        samples = [{"token": token(), "timestamp": start + round(1e6 * t), "prev": "", "next": "", "scene_token": scene} for t in keys]
        for a, b in zip(samples, samples[1:]):
            a["next"], b["prev"] = b["token"], a["token"]
        tables["sample"] += samples
        tables["scene"].append({
            "token": scene, "log_token": log, "nbr_samples": len(samples), "first_sample_token": samples[0]["token"],
            "last_sample_token": samples[-1]["token"], "name": name, "description": "",
        })
        tables["log"].append({"token": log, "logfile": name, "vehicle": "n000", "date_captured": "2018-06-26", "location": "nowhere"})
        for channel, times in [("LIDAR_TOP", sorted(keys + others)), ("CAM_FRONT", keys)]:
            before = None
            for t in times:
                is_key, stamp = t in keys, start + round(1e6 * t)
                pose = {
                    "token": token(), "timestamp": stamp, "rotation": rotation(0.4 + 0.3 * t),
                    "translation": [float(v) for v in np.array([400 + 8 * t, 1100 + 3 * t, 0.1 * t])],
                }
                folder = ("samples" if is_key else "sweeps") + f"/{channel}"
                end = "pcd.bin" if channel == "LIDAR_TOP" else "jpg"
                row = {
                    "token": token(), "sample_token": next(s["token"] for s, k in zip(samples, keys) if k >= t), "ego_pose_token": pose["token"],
                    "calibrated_sensor_token": mounts[channel], "timestamp": stamp, "fileformat": "pcd", "is_key_frame": is_key,
                    "height": 0, "width": 0, "filename": f"{folder}/n000__{channel}__{stamp}.{end}", "prev": "", "next": "",
                }
                if before is not None:
                    before["next"], row["prev"] = row["token"], before["token"]
                before = row
                tables["ego_pose"].append(pose)
                tables["sample_data"].append(row)
                if channel == "LIDAR_TOP":
                    points = np.column_stack([rng.uniform(-50, 50, (POINTS, 2)), rng.normal(-1, 1, POINTS), rng.integers(0, 256, POINTS), np.arange(POINTS) % 32])
                    # The devkit drops points near the vehicle from all sweeps, this program from the older ones: key frames have none.
                    near = np.abs(points[:, :2]).max(1) < 1.5
                    points[near, :2] += 5
                    if not is_key:
                        points[:3, :2] = [[0.2, 0.3], [-0.9, 0.9], [-0.5, 3.0]]
                    path = root / row["filename"]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    points.astype("<f4").tofile(path)
        for number, category in enumerate(CATEGORIES):
            instance, first = token(), None
            place, speed = np.append(rng.uniform(-40, 40, 2) + [400, 1100], rng.normal(1, 0.5)), rng.normal(0, 4, 3) * [1, 1, 0.1]
            seen = samples if number % 4 else samples[number % 3 : number % 3 + 1]
            rows = []
            for sample in seen:
                t = 1e-6 * (sample["timestamp"] - start)
                rows.append({
                    "token": token(), "sample_token": sample["token"], "instance_token": instance, "visibility_token": "4", "attribute_tokens": [],
                    "translation": [float(v) for v in place + speed * t], "size": [float(v) for v in rng.uniform(0.5, 5, 3)],
                    "rotation": rotation(rng.uniform(-3, 3), 0.0), "prev": "", "next": "", "num_lidar_pts": int(rng.integers(0, 90)),
                    "num_radar_pts": int(rng.integers(0, 5)),
                })
            for a, b in zip(rows, rows[1:]):
                a["next"], b["prev"] = b["token"], a["token"]
            tables["sample_annotation"] += rows
            tables["instance"].append({
                "token": instance, "category_token": categories[category], "nbr_annotations": len(rows),
                "first_annotation_token": rows[0]["token"], "last_annotation_token": rows[-1]["token"],
            })
    # The devkit wants a map for every log; it only looks whether the file is there.
    logs = [row["token"] for row in tables["log"]]
    tables["map"] = [{"token": token(), "log_tokens": logs, "category": "", "filename": f"{VERSION}/map.json"}]
    (root / VERSION).mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        lines = ",\n".join(json.dumps(row) for row in rows)
        (root / VERSION / f"{name}.json").write_text(f"[\n{lines}\n]\n")


def read(root):
    nusc = NuScenes(version=VERSION, dataroot=str(root), verbose=False)
    frames = []
    for sample in nusc.sample:
        lidar = sample["data"]["LIDAR_TOP"]
        record = nusc.get("sample_data", lidar)
        mount, pose = nusc.get("calibrated_sensor", record["calibrated_sensor_token"]), nusc.get("ego_pose", record["ego_pose_token"])
        _, boxes, _ = nusc.get_sample_data(lidar)
        objects = []
        for box in boxes:
            row = nusc.get("sample_annotation", box.token)
            velocity = nusc.box_velocity(box.token)
            for q in (pose["rotation"], mount["rotation"]):
                velocity = Quaternion(q).inverse.rotate(velocity)
            w, length, h = box.wlh
            ahead = box.orientation.rotate([1, 0, 0])
            objects.append({
                "class": category_to_detection_name(row["category_name"]) or row["category_name"], "center": list(box.center),
                "size": [length, w, h], "heading": [ahead[0], ahead[1]], "velocity": [None if np.isnan(v) else v for v in velocity[:2]],
                "points": row["num_lidar_pts"], "radar_points": row["num_radar_pts"],
            })
        cloud, lags = LidarPointCloud.from_file_multisweep(nusc, sample, "LIDAR_TOP", "LIDAR_TOP", nsweeps=SWEEPS, min_distance=1.0)
        points = np.vstack([cloud.points, lags]).T
        frames.append({
            "token": sample["token"], "scene": nusc.get("scene", sample["scene_token"])["name"], "objects": objects,
            "points": [[round(float(v), 5) for v in p] for p in points],
        })
    return {"sweeps": SWEEPS, "frames": frames}


def main():
    root = Path(sys.argv[1]) / "dataset"
    shutil.rmtree(root, ignore_errors=True)
    make(root)
    expected = read(root)
    for unused in ("attribute", "visibility", "log", "map"):
        (root / VERSION / f"{unused}.json").unlink()
    with open(root.parent / "expected.json", "w") as file:
        json.dump(expected, file)


main()
