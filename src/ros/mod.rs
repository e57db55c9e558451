//! ROS 2 at the edge: messages as plain structs, CDR, and the transports that carry them.
