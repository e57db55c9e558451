"""Sends goals to a calibration node as ROS 2's action clients do, over Eclipse Cyclone DDS; prints what it answers, a JSON object a line.

A goal is a JSON object; with "cancel" it is cancelled when its first feedback has come.
"""
import argparse
import json
import sys
import time
from dataclasses import dataclass

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import array, float64, int8, int64, sequence, uint8, uint32, uint64
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from peer import Client, Time, message, qos, say

PATIENCE = 60.0


def action(name):
    return dict(typename=f"lidar_ptq_msgs::action::dds_::{name}_")


@dataclass
class UUID(IdlStruct, **message("unique_identifier_msgs/msg/UUID")):
    uuid: array[uint8, 16]


@dataclass
class GoalInfo(IdlStruct, **message("action_msgs/msg/GoalInfo")):
    goal_id: UUID
    stamp: Time


@dataclass
class GoalStatus(IdlStruct, **message("action_msgs/msg/GoalStatus")):
    goal_info: GoalInfo
    status: int8


@dataclass
class GoalStatusArray(IdlStruct, **message("action_msgs/msg/GoalStatusArray")):
    status_list: sequence[GoalStatus]


@dataclass
class CancelRequest(IdlStruct, typename="action_msgs::srv::dds_::CancelGoal_Request_"):
    client: uint64
    number: int64
    goal_info: GoalInfo


@dataclass
class CancelResponse(IdlStruct, typename="action_msgs::srv::dds_::CancelGoal_Response_"):
    client: uint64
    number: int64
    return_code: int8
    goals_canceling: sequence[GoalInfo]


@dataclass
class Goal(IdlStruct, **action("Calibrate_Goal")):
    bag: str
    record_minutes: float64
    model: str
    output: str
    load: bool


@dataclass
class SendRequest(IdlStruct, **action("Calibrate_SendGoal_Request")):
    client: uint64
    number: int64
    goal_id: UUID
    goal: Goal


@dataclass
class SendResponse(IdlStruct, **action("Calibrate_SendGoal_Response")):
    client: uint64
    number: int64
    accepted: bool
    stamp: Time


@dataclass
class ResultRequest(IdlStruct, **action("Calibrate_GetResult_Request")):
    client: uint64
    number: int64
    goal_id: UUID


@dataclass
class Result(IdlStruct, **action("Calibrate_Result")):
    success: bool
    message: str
    model: str
    loaded: bool
    agreement: float64
    report: str


@dataclass
class ResultResponse(IdlStruct, **action("Calibrate_GetResult_Response")):
    client: uint64
    number: int64
    status: int8
    result: Result


@dataclass
class Feedback(IdlStruct, **action("Calibrate_Feedback")):
    stage: str
    done: uint32
    of: uint32


@dataclass
class FeedbackMessage(IdlStruct, **action("Calibrate_FeedbackMessage")):
    goal_id: UUID
    feedback: Feedback


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--domain", type=int, required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("goals", nargs="+", type=json.loads)
    args = parser.parse_args()
    participant = DomainParticipant(args.domain)
    name = f"{args.node}/calibrate/_action"
    reliable = qos(True)
    feedback = DataReader(participant, Topic(participant, f"rt{name}/feedback", FeedbackMessage, qos=reliable), qos=reliable)
    latched = Qos(
        Policy.Reliability.Reliable(duration(milliseconds=200)),
        Policy.Durability.TransientLocal,
        Policy.History.KeepLast(1),
        Policy.DataRepresentation(use_cdrv0_representation=True),
    )
    send = Client(participant, f"{name}/send_goal", SendRequest, SendResponse)
    cancel = Client(participant, f"{name}/cancel_goal", CancelRequest, CancelResponse)
    result = Client(participant, f"{name}/get_result", ResultRequest, ResultResponse)

    for number, goal in enumerate(args.goals, start=1):
        identifier = UUID([number] * 16)
        fields = Goal(goal.get("bag", ""), goal.get("record_minutes", 0.0), goal.get("model", ""), goal.get("output", ""), goal.get("load", False))
        answer = send.call(identifier, fields)
        say(accepted=answer.accepted)
        if not answer.accepted:
            continue
        asked = result.ask(identifier)
        stages, cancelled, until = [], False, time.monotonic() + PATIENCE
        while (response := result.answer(asked)) is None:
            for heard in feedback.take(N=100):
                if list(heard.goal_id.uuid) == list(identifier.uuid):
                    stages.append([heard.feedback.stage, heard.feedback.done, heard.feedback.of])
            if goal.get("cancel") and stages and not cancelled:
                cancelled = True
                # Another goal is refused while one is worked on.
                say(second=send.call(UUID([99] * 16), fields).accepted)
                code = cancel.call(GoalInfo(identifier, Time(0, 0))).return_code
                say(cancelled=code)
            if time.monotonic() > until:
                sys.exit(f"no result within {PATIENCE} s")
            time.sleep(0.01)
        fields = {key: getattr(response.result, key) for key in ("success", "message", "model", "loaded", "agreement", "report")}
        say(status=response.status, stages=stages, **fields)

    status = DataReader(participant, Topic(participant, f"rt{name}/status", GoalStatusArray, qos=latched), qos=latched)
    until, told = time.monotonic() + PATIENCE, []
    while not told and time.monotonic() < until:
        told = [[s.status for s in array_.status_list] for array_ in status.take(N=10)]
        time.sleep(0.02)
    say(statuses=told[-1])
    unknown = result.call(UUID([77] * 16))
    say(unknown=unknown.status)


if __name__ == "__main__":
    main()
