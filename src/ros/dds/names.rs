//! ROS' names as they appear on DDS (<https://design.ros2.org/articles/topic_and_service_names.html>).

/// `/points` is `rt/points`.
pub(super) fn topic(ros: &str) -> String {
    format!("rt{ros}")
}

/// Where a service's requests come in.
pub(super) fn request_topic(service: &str) -> String {
    format!("rq{service}Request")
}

/// Where its answers go out.
pub(super) fn reply_topic(service: &str) -> String {
    format!("rr{service}Reply")
}

/// `sensor_msgs/msg/PointCloud2` is `sensor_msgs::msg::dds_::PointCloud2_`; `suffix` is empty for a message, and `_Request` or
/// `_Response` for a service's.
pub(super) fn type_name(ros: &str, suffix: &str) -> String {
    let (package, name) = ros.rsplit_once('/').unwrap_or(("", ros));
    format!("{}::dds_::{name}{suffix}_", package.replace('/', "::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_public_middlewares() {
        assert_eq!(topic("/lidar/points"), "rt/lidar/points");
        assert_eq!(request_topic("/talker/set_parameters"), "rq/talker/set_parametersRequest");
        assert_eq!(reply_topic("/talker/set_parameters"), "rr/talker/set_parametersReply");
        assert_eq!(type_name("sensor_msgs/msg/PointCloud2", ""), "sensor_msgs::msg::dds_::PointCloud2_");
        assert_eq!(type_name("std_srvs/srv/Trigger", "_Request"), "std_srvs::srv::dds_::Trigger_Request_");
        assert_eq!(type_name("std_srvs/srv/Trigger", "_Response"), "std_srvs::srv::dds_::Trigger_Response_");
    }
}
