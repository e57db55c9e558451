//! What the two nodes do, written against frames and messages rather than against ROS.
