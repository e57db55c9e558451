//! From the categories of the annotations to the ten classes of the detection benchmark.

/// In the benchmark's order.
pub const DETECTION_CLASSES: [&str; 10] =
    ["car", "truck", "bus", "trailer", "construction_vehicle", "pedestrian", "motorcycle", "bicycle", "traffic_cone", "barrier"];

/// The detection class of a category, if it has one (the benchmark's mapping: strollers, wheelchairs and personal mobility are
/// no pedestrians, and emergency vehicles no cars).
pub fn detection_name(category: &str) -> Option<&'static str> {
    Some(match category {
        "vehicle.car" => "car",
        "vehicle.truck" => "truck",
        "vehicle.bus.bendy" | "vehicle.bus.rigid" => "bus",
        "vehicle.trailer" => "trailer",
        "vehicle.construction" => "construction_vehicle",
        "human.pedestrian.adult"
        | "human.pedestrian.child"
        | "human.pedestrian.construction_worker"
        | "human.pedestrian.police_officer" => "pedestrian",
        "vehicle.motorcycle" => "motorcycle",
        "vehicle.bicycle" => "bicycle",
        "movable_object.trafficcone" => "traffic_cone",
        "movable_object.barrier" => "barrier",
        _ => return None,
    })
}
