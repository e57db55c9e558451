"""Runs launch files without ROS, on stand-ins for `launch` and `launch_ros` that remember what they were given; prints it as JSON.

Usage: check.py FILE. What a launch file hands to the real packages is not checked here beyond its names.
"""
import importlib.util
import json
import sys
import types


class Thing:
    """Any class of these packages: keeps its arguments."""

    made = []

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs
        Thing.made.append(self)


def stand_in(path):
    module = types.ModuleType(path)

    def get(name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (Thing,), {})
        setattr(module, name, made)
        return made

    module.__getattr__ = get
    module.__path__ = []
    return module


for name in (
    "launch",
    "launch.actions",
    "launch.conditions",
    "launch.event_handlers",
    "launch.events",
    "launch.substitutions",
    "launch_ros",
    "launch_ros.actions",
    "launch_ros.parameter_descriptions",
    "launch_ros.substitutions",
):
    sys.modules[name] = stand_in(name)

sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("file", sys.argv[1])
file = importlib.util.module_from_spec(spec)
spec.loader.exec_module(file)
file.generate_launch_description()


def of(kind):
    return [thing for thing in Thing.made if type(thing).__name__ == kind]


arguments = {thing.args[0]: thing.kwargs for thing in of("DeclareLaunchArgument")}
nodes = [thing.kwargs for thing in of("Node")]
paths = [thing.args[0][1:] for thing in of("PathJoinSubstitution") if all(isinstance(part, str) for part in thing.args[0][1:])]
print(
    json.dumps(
        dict(
            doc=file.__doc__ or "",
            arguments={name: kwargs.get("description", "") for name, kwargs in arguments.items()},
            used=[thing.args[0] for thing in of("LaunchConfiguration")],
            executables=[node["executable"] for node in nodes if node["package"] == "lidar_ptq"],
            parameters=[name for node in nodes for given in node.get("parameters", []) if isinstance(given, dict) for name in given],
            remapped=[name for node in nodes if node["package"] == "lidar_ptq" for name, _ in node.get("remappings", [])],
            paths=["/".join(path) for path in paths],
        )
    )
)
