//! Simulated drives: lidar sweeps, camera images, ground truth, ego motion.
