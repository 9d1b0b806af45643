//! The I/O around `tepui-coordination`: sessions with ZooKeeper, the election, detection.
