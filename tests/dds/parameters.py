"""Reads and sets the parameters of a node as ROS 2's tools do, over Eclipse Cyclone DDS; prints what it answers, a JSON object a line."""
import argparse
import time
from dataclasses import dataclass

from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import float64, int64, sequence, uint8, uint64
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from peer import Client, Time, message, qos, say, service

INTEGER, DOUBLE, STRING, BOOL_ARRAY, STRING_ARRAY = 2, 3, 4, 6, 9


@dataclass
class ParameterValue(IdlStruct, **message("rcl_interfaces/msg/ParameterValue")):
    type: uint8 = 0
    bool_value: bool = False
    integer_value: int64 = 0
    double_value: float64 = 0.0
    string_value: str = ""
    byte_array_value: sequence[uint8] = ()
    bool_array_value: sequence[bool] = ()
    integer_array_value: sequence[int64] = ()
    double_array_value: sequence[float64] = ()
    string_array_value: sequence[str] = ()


@dataclass
class Parameter(IdlStruct, **message("rcl_interfaces/msg/Parameter")):
    name: str
    value: ParameterValue


@dataclass
class ParameterEvent(IdlStruct, **message("rcl_interfaces/msg/ParameterEvent")):
    stamp: Time
    node: str
    new_parameters: sequence[Parameter]
    changed_parameters: sequence[Parameter]
    deleted_parameters: sequence[Parameter]


@dataclass
class FloatingPointRange(IdlStruct, **message("rcl_interfaces/msg/FloatingPointRange")):
    from_value: float64
    to_value: float64
    step: float64


@dataclass
class IntegerRange(IdlStruct, **message("rcl_interfaces/msg/IntegerRange")):
    from_value: int64
    to_value: int64
    step: uint64


@dataclass
class ParameterDescriptor(IdlStruct, **message("rcl_interfaces/msg/ParameterDescriptor")):
    name: str
    type: uint8
    description: str
    additional_constraints: str
    read_only: bool
    dynamic_typing: bool
    floating_point_range: sequence[FloatingPointRange, 1]
    integer_range: sequence[IntegerRange, 1]


@dataclass
class SetParametersResult(IdlStruct, **message("rcl_interfaces/msg/SetParametersResult")):
    successful: bool
    reason: str


@dataclass
class ListParametersResult(IdlStruct, **message("rcl_interfaces/msg/ListParametersResult")):
    names: sequence[str]
    prefixes: sequence[str]


GET = service("rcl_interfaces/srv/GetParameters", dict(names=sequence[str]), dict(values=sequence[ParameterValue]))
TYPES = service("rcl_interfaces/srv/GetParameterTypes", dict(names=sequence[str]), dict(types=sequence[uint8]))
LIST = service("rcl_interfaces/srv/ListParameters", dict(prefixes=sequence[str], depth=uint64), dict(result=ListParametersResult))
DESCRIBE = service("rcl_interfaces/srv/DescribeParameters", dict(names=sequence[str]), dict(descriptors=sequence[ParameterDescriptor]))
SET = service("rcl_interfaces/srv/SetParameters", dict(parameters=sequence[Parameter]), dict(results=sequence[SetParametersResult]))
ATOMICALLY = service("rcl_interfaces/srv/SetParametersAtomically", dict(parameters=sequence[Parameter]), dict(result=SetParametersResult))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--domain", type=int, required=True)
    parser.add_argument("--node", required=True)
    args = parser.parse_args()
    participant = DomainParticipant(args.domain)
    reliable = qos(True)
    events = DataReader(participant, Topic(participant, "rt/parameter_events", ParameterEvent, qos=reliable), qos=reliable)

    def client(name, types):
        return Client(participant, f"{args.node}/{name}", *types)

    listed = client("list_parameters", LIST).call(["markers", "densification_params"], 1).result
    say(names=listed.names, prefixes=listed.prefixes)
    say(types=list(client("get_parameter_types", TYPES).call(["threads", "score_threshold", "model_path", "nothing"]).types))
    for d in client("describe_parameters", DESCRIBE).call(["score_threshold", "threads"]).descriptors:
        floats = [[r.from_value, r.to_value] for r in d.floating_point_range]
        integers = [[r.from_value, r.to_value] for r in d.integer_range]
        say(described=d.name, type=d.type, read_only=d.read_only, constraints=d.additional_constraints, floats=floats, integers=integers)

    setter = client("set_parameters", SET)
    results = setter.call(
        [
            Parameter("score_threshold", ParameterValue(INTEGER, integer_value=1)),
            Parameter("markers.alpha", ParameterValue(DOUBLE, double_value=7.0)),
            Parameter("model_path", ParameterValue(STRING, string_value="other")),
            Parameter("no.such", ParameterValue(DOUBLE, double_value=7.0)),
            Parameter("class_thresholds", ParameterValue(STRING_ARRAY, string_array_value=["unicorn=0.5"])),
            Parameter("class_thresholds", ParameterValue(BOOL_ARRAY)),
        ]
    ).results
    say(set=[r.successful for r in results], reasons=[r.reason for r in results])
    together = client("set_parameters_atomically", ATOMICALLY).call(
        [Parameter("markers.lifetime", ParameterValue(DOUBLE, double_value=1.5)), Parameter("threads", ParameterValue(INTEGER, integer_value=3))]
    ).result
    say(set=[together.successful], reasons=[together.reason])
    values = client("get_parameters", GET).call(["score_threshold", "markers.lifetime", "nothing"]).values
    say(values=[[v.type, v.double_value] for v in values])

    until = time.monotonic() + 5
    changed = []
    while time.monotonic() < until and len(changed) < 2:
        for event in events.take(N=10):
            if event.node == args.node:
                changed += [p.name for p in event.changed_parameters]
        time.sleep(0.02)
    say(changed=changed)


if __name__ == "__main__":
    main()
