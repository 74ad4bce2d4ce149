//! The pretend cluster.
