"""A second, independent participant for tests/dds/main.rs: Eclipse Cyclone DDS with ROS 2's names and types.

Publishes clouds (files of CDR with encapsulation) and prints what the node answers, a JSON object a line.
"""
import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import new_class

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import array, float64, int32, int64, sequence, uint8, uint32, uint64
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration


def message(name):
    """A struct under the name that ROS 2 gives it on DDS."""
    package, kind, base = name.split("/")
    return dict(typename=f"{package}::{kind}::dds_::{base}_")


def service(name, request, response):
    """Request and response types of a service, with rmw_cyclonedds_cpp's header. A request without fields has a byte: DDS has no empty struct."""

    def struct(suffix, fields):
        annotations = dict(client=uint64, number=int64, **fields)
        base = f"{name.rsplit('/')[-1]}_{suffix}"
        typename = message(f"{name}_{suffix}")
        return dataclass(new_class(base, (IdlStruct,), typename, lambda space: space.update(__annotations__=annotations)))

    return struct("Request", request or dict(structure_needs_at_least_one_member=uint8)), struct("Response", response)


@dataclass
class Time(IdlStruct, **message("builtin_interfaces/msg/Time")):
    sec: int32
    nanosec: uint32


@dataclass
class Header(IdlStruct, **message("std_msgs/msg/Header")):
    stamp: Time
    frame_id: str


@dataclass
class PointField(IdlStruct, **message("sensor_msgs/msg/PointField")):
    name: str
    offset: uint32
    datatype: uint8
    count: uint32


@dataclass
class PointCloud2(IdlStruct, **message("sensor_msgs/msg/PointCloud2")):
    header: Header
    height: uint32
    width: uint32
    fields: sequence[PointField]
    is_bigendian: bool
    point_step: uint32
    row_step: uint32
    data: sequence[uint8]
    is_dense: bool


@dataclass
class Point(IdlStruct, **message("geometry_msgs/msg/Point")):
    x: float64
    y: float64
    z: float64


@dataclass
class Quaternion(IdlStruct, **message("geometry_msgs/msg/Quaternion")):
    x: float64
    y: float64
    z: float64
    w: float64


@dataclass
class Pose(IdlStruct, **message("geometry_msgs/msg/Pose")):
    position: Point
    orientation: Quaternion


@dataclass
class PoseWithCovariance(IdlStruct, **message("geometry_msgs/msg/PoseWithCovariance")):
    pose: Pose
    covariance: array[float64, 36]


@dataclass
class Vector3(IdlStruct, **message("geometry_msgs/msg/Vector3")):
    x: float64
    y: float64
    z: float64


@dataclass
class ObjectHypothesis(IdlStruct, **message("vision_msgs/msg/ObjectHypothesis")):
    class_id: str
    score: float64


@dataclass
class ObjectHypothesisWithPose(IdlStruct, **message("vision_msgs/msg/ObjectHypothesisWithPose")):
    hypothesis: ObjectHypothesis
    pose: PoseWithCovariance


@dataclass
class BoundingBox3D(IdlStruct, **message("vision_msgs/msg/BoundingBox3D")):
    center: Pose
    size: Vector3


@dataclass
class Detection3D(IdlStruct, **message("vision_msgs/msg/Detection3D")):
    header: Header
    results: sequence[ObjectHypothesisWithPose]
    bbox: BoundingBox3D
    id: str


@dataclass
class Detection3DArray(IdlStruct, **message("vision_msgs/msg/Detection3DArray")):
    header: Header
    detections: sequence[Detection3D]


@dataclass
class KeyValue(IdlStruct, **message("diagnostic_msgs/msg/KeyValue")):
    key: str
    value: str


@dataclass
class DiagnosticStatus(IdlStruct, **message("diagnostic_msgs/msg/DiagnosticStatus")):
    level: uint8
    name: str
    message: str
    hardware_id: str
    values: sequence[KeyValue]


@dataclass
class DiagnosticArray(IdlStruct, **message("diagnostic_msgs/msg/DiagnosticArray")):
    header: Header
    status: sequence[DiagnosticStatus]


@dataclass
class LoadModelRequest(IdlStruct, typename="lidar_ptq_msgs::srv::dds_::LoadModel_Request_"):
    # rmw_cyclonedds_cpp's header: half of the caller's identifier, and the number of the call.
    client: uint64
    number: int64
    path: str


@dataclass
class LoadModelResponse(IdlStruct, typename="lidar_ptq_msgs::srv::dds_::LoadModel_Response_"):
    client: uint64
    number: int64
    success: bool
    message: str


def qos(reliable):
    reliability = Policy.Reliability.Reliable(duration(milliseconds=200)) if reliable else Policy.Reliability.BestEffort
    return Qos(
        reliability,
        Policy.Durability.Volatile,
        Policy.History.KeepLast(10),
        Policy.DataRepresentation(use_cdrv0_representation=True),
    )


def say(**what):
    print(json.dumps(what), flush=True)


def seconds(stamp):
    return [stamp.sec, stamp.nanosec]


def tell_boxes(reader):
    for array_ in reader.take(N=100):
        boxes = [
            dict(
                label=d.results[0].hypothesis.class_id,
                score=d.results[0].hypothesis.score,
                center=[d.bbox.center.position.x, d.bbox.center.position.y, d.bbox.center.position.z],
                size=[d.bbox.size.x, d.bbox.size.y, d.bbox.size.z],
                orientation=[d.bbox.center.orientation.z, d.bbox.center.orientation.w],
            )
            for d in array_.detections
        ]
        say(detections=boxes, stamp=seconds(array_.header.stamp), frame_id=array_.header.frame_id)


ACCOUNTED = ("answered", "dropped_for_newer", "skipped", "lost_on_the_way")


def tell_diagnostics(reader):
    """Of how many clouds the node knows what became; None without news."""
    accounted = None
    for array_ in reader.take(N=100):
        for s in array_.status:
            values = {v.key: v.value for v in s.values}
            say(diagnostic=s.name, level=s.level, message=s.message, values=values)
            if s.name.endswith(": input"):
                accounted = sum(int(values[key]) for key in ACCOUNTED)
    return accounted


def read_cloud(path):
    """Small clouds are encoded anew by the package; byte for byte in Python, it is too slow for large ones."""
    encoded = path.read_bytes()
    if len(encoded) < 100_000:
        return PointCloud2.deserialize(encoded)
    cloud = PointCloud2(Header(Time(0, 0), ""), 0, 0, [], False, 0, 0, [], False)
    cloud.serialize = lambda **_: encoded
    return cloud


class Client:
    """Calls a service as rmw_cyclonedds_cpp does: half of the caller's identifier and the number of the call stand first."""

    IDENTIFIER = 0x0123456789ABCDEF
    PATIENCE = 20.0

    def __init__(self, participant, service, request, response):
        reliable = qos(True)
        self.service, self.request, self.number = service, request, 0
        self.requests = DataWriter(participant, Topic(participant, f"rq{service}Request", request, qos=reliable), qos=reliable)
        self.responses = DataReader(participant, Topic(participant, f"rr{service}Reply", response, qos=reliable), qos=reliable)
        until = time.monotonic() + self.PATIENCE
        while not self.requests.get_matched_subscriptions() or not self.responses.get_matched_publications():
            if time.monotonic() > until:
                sys.exit(f"{service} did not appear within {self.PATIENCE} s")
            time.sleep(0.02)

    def ask(self, *fields):
        """The number of the call."""
        self.number += 1
        self.requests.write(self.request(self.IDENTIFIER, self.number, *fields))
        return self.number

    def answer(self, number):
        """None if it has not come."""
        for response in self.responses.take(N=10):
            if (response.client, response.number) == (self.IDENTIFIER, number):
                return response
        return None

    def call(self, *fields):
        number = self.ask(*fields)
        until = time.monotonic() + self.PATIENCE
        while time.monotonic() < until:
            if (response := self.answer(number)) is not None:
                return response
            time.sleep(0.01)
        sys.exit(f"{self.service} did not answer within {self.PATIENCE} s")


def load_models(participant, service, paths):
    client = Client(participant, service, LoadModelRequest, LoadModelResponse)
    for path in paths:
        answer = client.call(path)
        say(loaded=answer.success, message=answer.message)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--domain", type=int, required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--detections", required=True)
    parser.add_argument("--diagnostics", default="/diagnostics")
    parser.add_argument("--best-effort", action="store_true")
    parser.add_argument("--period", type=float, default=0.1)
    parser.add_argument("--linger", type=float, default=20.0, help="seconds to listen after the last cloud at most")
    parser.add_argument("--service", help="of LoadModel")
    parser.add_argument("--load-model", action="append", default=[])
    parser.add_argument("clouds", nargs="+", type=Path)
    args = parser.parse_args()

    clouds = [read_cloud(path) for path in args.clouds]
    participant = DomainParticipant(args.domain)
    reliable = qos(True)
    detections = DataReader(participant, Topic(participant, f"rt{args.detections}", Detection3DArray, qos=reliable), qos=reliable)
    diagnostics = DataReader(participant, Topic(participant, f"rt{args.diagnostics}", DiagnosticArray, qos=reliable), qos=reliable)
    offered = qos(not args.best_effort)
    writer = DataWriter(participant, Topic(participant, f"rt{args.input}", PointCloud2, qos=offered), qos=offered)

    until = time.monotonic() + 20
    while not writer.get_matched_subscriptions() or not detections.get_matched_publications():
        if time.monotonic() > until:
            sys.exit("the node did not appear within 20 s")
        time.sleep(0.05)
    # Until the node has seen what is offered here.
    time.sleep(1.0)
    if args.load_model:
        load_models(participant, args.service, args.load_model)

    before, until = None, time.monotonic() + 20
    while before is None and time.monotonic() < until:
        before = tell_diagnostics(diagnostics)
        time.sleep(0.01)
    say(before=before)
    accounted = before
    due = time.monotonic()
    for cloud in clouds:
        writer.write(cloud)
        due += args.period
        while True:
            tell_boxes(detections)
            accounted = tell_diagnostics(diagnostics) or accounted
            if time.monotonic() >= due:
                break
            time.sleep(0.005)
    until = time.monotonic() + args.linger
    while time.monotonic() < until and accounted - before < len(clouds):
        tell_boxes(detections)
        accounted = tell_diagnostics(diagnostics) or accounted
        time.sleep(0.01)
    # The answers come on a topic of their own.
    time.sleep(0.5)
    tell_boxes(detections)


if __name__ == "__main__":
    main()
